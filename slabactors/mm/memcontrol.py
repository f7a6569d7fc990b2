"""memcgs and their child caches: create, charge, bind, release, offline (mm/memcontrol.c, v3.8 and the v5 series).

What a generation of the protocol decides (who marks, who queues, who shrinks, who destroys) is in
`slabactors.lifecycle`; here is what they share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, Clock, CountsDown, Narrow, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.locking import Mutex
from slabactors.kernel.workqueue import Work, queue_work
from slabactors.mm.page_alloc import PAGE_SIZE

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.debugobjects import DebugObjects
    from slabactors.mm.slab_common import KmemCache


class MemcgCacheParams(Actor):
    """``struct memcg_cache_params`` of one child cache (include/linux/slab.h, v3.8).

    Args:
        cache: the child it belongs to.
        memcg: whose child that is.
        root: the root cache.
        clock: virtual time, for the work's timer.
        debug: debugobjects.
    """

    role = "memcg_cache_params"
    reports = ("bound",)

    def __init__(self, cache: KmemCache, memcg: MemCgroup, root: KmemCache, clock: Clock, debug: DebugObjects) -> None:
        super().__init__(f"{cache.name}.params")
        self.cache = cache
        self.memcg = memcg
        self.root = root
        self.dead = False
        self.pages = 0
        self.bound = 0
        """Pages that it has ever had; for reports."""
        self.destroy = Work(f"{cache.name}.destroy", clock, debug, self)

    @operation(writes="dead")
    def set_dead(self, dead: bool = True) -> None:
        """``params->dead = true``: a plain store."""
        self.dead = dead

    @operation(reads="dead")
    def is_dead(self) -> bool:
        """``if (params->dead)``: a plain load."""
        return self.dead

    def _pages(self) -> int:
        return self.pages

    def _none(self) -> int:
        return 0

    def _given(self, pages: int) -> int:
        return pages

    @operation(reads="nr_pages")
    def nr_pages(self) -> int:
        """``atomic_read(&params->nr_pages)``."""
        return self.pages

    @operation(reads="nr_pages", narrow=[CountsDown("nr_pages", _pages, _none)])
    def no_pages(self) -> bool:
        """``atomic_read(&params->nr_pages) == 0``: asking only that commutes with releases of other than the last."""
        return self.pages == 0

    @operation(writes="nr_pages")
    def init_nr_pages(self) -> None:
        """``atomic_set(&params->nr_pages, 0)``."""
        self.pages = 0

    @operation(writes="nr_pages")
    def add_pages(self, pages: int) -> None:
        """``atomic_add(pages, &params->nr_pages)``."""
        self.pages += pages
        self.bound += pages

    @operation(writes="nr_pages", narrow=[CountsDown("nr_pages", _pages, _given)])
    def sub_and_test(self, pages: int) -> bool:
        """``atomic_sub_and_test(pages, &params->nr_pages)``: true when the last page went.

        Raises:
            KernelBug: ``accounting`` when more pages are released than were bound.
        """
        self.pages -= pages
        if self.pages < 0:
            raise KernelBug(
                Kind.ACCOUNTING, f"nr_pages of {self.cache.name} fell to {self.pages}", clause="nr_pages is negative"
            )
        return self.pages == 0

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(params)``.

        Raises:
            KernelBug: ``freed-active-work`` when the destroy work is queued or its timer armed.
        """
        work = self.destroy
        if work.initialised and work.active:
            work.debug.free_active(work.name)


class MemCgroup(Actor):
    """``struct mem_cgroup``: its kmem counter, its references, and the list of its child caches.

    References: one of the group itself, one a child cache, one while kmem pages are charged, one a queued creation.

    Args:
        name: the directory's name.
        number: the index of its children in every root's array.
        limit: of kernel memory, in bytes; None for none.
    """

    role = "mem_cgroup"
    reports = ("failcnt", "max_usage", "removed_at")

    def __init__(self, name: str, number: int, limit: int | None) -> None:
        super().__init__(f"memcg {name}")
        self.label = name
        self.id = number
        self.limit = limit
        self.usage = 0
        self.max_usage = 0
        self.failcnt = 0
        self.online = True
        self.removed_at = 0
        """Jiffies; for reports."""
        self.dead = False
        self.kmem_reference = True
        self.references = 2
        self.slab_caches_mutex = Mutex(f"{self.name}.slab_caches_mutex", self)
        self.caches: list[KmemCache] = []

    @operation(writes="usage")
    def charge(self, pages: int) -> bool:
        """``res_counter_charge(&memcg->kmem)``: false at the limit."""
        bytes_charged = pages * PAGE_SIZE
        if self.limit is not None and self.usage + bytes_charged > self.limit:
            self.failcnt += 1
            return False
        self.usage += bytes_charged
        self.max_usage = max(self.max_usage, self.usage)
        return True

    def _usage(self) -> int:
        return self.usage

    def _in_bytes(self, pages: int) -> int:
        return pages * PAGE_SIZE

    def _none(self) -> int:
        return 0

    def _alive(self, pages: int) -> bool:
        return not self.dead

    @operation(
        reads="dead",
        writes="usage kmem_reference",
        narrow=[CountsDown("usage", _usage, _in_bytes), Narrow(_alive, reads="dead", writes="usage")],
    )
    def uncharge(self, pages: int) -> bool:
        """``res_counter_uncharge(&memcg->kmem)``: true when a dead group's last page went and it has to be put."""
        self.usage -= pages * PAGE_SIZE
        if self.usage < 0:
            raise KernelBug(Kind.ACCOUNTING, f"kmem usage of {self.name} fell below zero", clause="usage is negative")
        return self._drop_kmem()

    def _drop_kmem(self) -> bool:
        if self.dead and self.usage == 0 and self.kmem_reference:
            self.kmem_reference = False
            return True
        return False

    @operation(writes="online")
    def css_offline(self) -> None:
        """``css->flags &= ~CSS_ONLINE``: no new reference by ``css_tryget()`` from here on."""
        self.online = False

    @operation(reads="usage", writes="dead kmem_reference", narrow=[CountsDown("usage", _usage, _none, writes="dead")])
    def mark_dead(self) -> bool:
        """``memcg_kmem_mark_dead()``: true when nothing is charged and the kmem reference has to be put."""
        self.dead = True
        return self._drop_kmem()

    def _offline(self) -> bool:
        return not self.online

    @operation(reads="online", writes="references", narrow=[Narrow(_offline, reads="online")])
    def css_tryget(self) -> bool:
        """``css_tryget(&memcg->css)``: a reference, unless the group is going away."""
        if self.online:
            self.references += 1
        return self.online

    @operation(reads="online")
    def is_online(self) -> bool:
        """``css_is_online()``."""
        return self.online

    @operation(writes="references")
    def get(self) -> None:
        """``mem_cgroup_get()``."""
        self.references += 1

    def _references(self) -> int:
        return self.references

    def _one(self) -> int:
        return 1

    @operation(writes="references", narrow=[CountsDown("references", _references, _one)])
    def put(self) -> bool:
        """``mem_cgroup_put()``: true when that was the last reference."""
        self.references -= 1
        if self.references < 0:
            raise KernelBug(Kind.ACCOUNTING, f"{self.name} was put too often", clause="references are negative")
        return self.references == 0

    @operation(writes="caches")
    def link(self, cache: KmemCache) -> None:
        """``list_add(&cachep->list, &memcg->memcg_slab_caches)``."""
        self.caches.insert(0, cache)

    @operation(writes="caches")
    def unlink(self, cache: KmemCache) -> None:
        """``list_del(&cachep->list)``."""
        self.caches.remove(cache)

    @operation(reads="caches")
    def slab_caches(self) -> list[KmemCache]:
        """``list_for_each_entry(cachep, &memcg->memcg_slab_caches)``: newest first."""
        return list(self.caches)

    @operation(frees=True)
    def free(self) -> None:
        """``mem_cgroup_free()``."""


class Cgroups(Actor):
    """The cgroup hierarchy: hands out ids."""

    role = "cgroups"

    def __init__(self) -> None:
        super().__init__("cgroups")
        self.made = 0

    @operation
    def new_id(self) -> int:
        """``alloc_css_id()``: never reused in a run."""
        self.made += 1
        return self.made


async def mem_cgroup_create(cpu: Cpu, name: str, limit: int | None = None) -> MemCgroup:
    """Make a memcg with kernel memory accounting on.

    Args:
        cpu: where the task runs.
        name: the directory's name.
        limit: of kernel memory, in bytes; None for none.
    """
    number = await cpu.machine.cgroups.new_id()
    memcg = MemCgroup(name, number, limit)
    cpu.machine.memcgs.append(memcg)
    return memcg


async def mem_cgroup_put(memcg: MemCgroup) -> None:
    """Drop a reference and free the memcg with the last.  Models mem_cgroup_put() (mm/memcontrol.c, v3.8)."""
    if await memcg.put():
        await memcg.free()


async def mem_cgroup_rmdir(cpu: Cpu, memcg: MemCgroup) -> None:
    """Remove a memcg's directory: its caches are to go away.  Sleeps.

    Models mem_cgroup_pre_destroy() or mem_cgroup_css_offline(), as the lifecycle has it, then mem_cgroup_css_free().
    """
    memcg.removed_at = cpu.machine.clock.now
    await cpu.machine.lifecycle.offline(cpu, memcg)
    if await memcg.mark_dead():
        await mem_cgroup_put(memcg)
    # Window: the group has no name any more; its children, their pages and queued creations keep it.
    await mem_cgroup_put(memcg)


# -- child caches ------------------------------------------------------------------------------------------------------


async def memcg_kmem_get_cache(cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
    """The cache that serves an allocation of a task in a memcg: its child, once that exists.

    Models __memcg_kmem_get_cache() (mm/memcontrol.c, v3.8; v5 creates in place when the caller may sleep).
    """
    child = await root.read_slot(memcg.id)
    if child is not None:
        return child
    if may_sleep and cpu.machine.lifecycle.creates_in_place:
        return await memcg_create_kmem_cache(cpu, root, memcg)
    await memcg_create_cache_enqueue(cpu, root, memcg)
    return root


async def memcg_create_cache_enqueue(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> None:
    """Ask a kworker to create the child; this allocation goes to the root cache.

    Models memcg_create_cache_enqueue() and memcg_create_cache_work_func() (mm/memcontrol.c, v3.8).
    """
    machine = cpu.machine
    if not await memcg.css_tryget():
        return

    request = Work(f"create {root.name}({memcg.id}:{memcg.label})", machine.clock, machine.debugobjects)

    async def memcg_create_cache_work_func(cpu: Cpu) -> None:
        await memcg_create_kmem_cache(cpu, root, memcg)
        await mem_cgroup_put(memcg)

    await request.init(memcg_create_cache_work_func)
    await queue_work(cpu, machine.system_wq, request)


async def memcg_create_kmem_cache(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
    """Create and publish the child of a root for a memcg, unless somebody was faster.  Sleeps.

    Models memcg_create_kmem_cache() and kmem_cache_create_memcg() (mm/memcontrol.c, mm/slab_common.c) of the
    lifecycle's generation; in v5 and 3.8 nothing here looks whether the memcg is still online.
    """
    machine = cpu.machine
    await machine.memcg_cache_mutex.lock()
    existing = await root.read_slot(memcg.id)
    if existing is not None:
        await machine.memcg_cache_mutex.unlock()
        return existing
    await machine.slab_mutex.lock()
    if machine.lifecycle.creation_checks_online and not await memcg.is_online():
        await machine.slab_mutex.unlock()
        await machine.memcg_cache_mutex.unlock()
        return root
    child = machine.new_child(root, memcg)
    assert child.params is not None
    await machine.lifecycle.register_cache(cpu, child)
    await memcg.slab_caches_mutex.lock()
    await memcg.link(child)
    await memcg.slab_caches_mutex.unlock()
    # Window: on the memcg's list, and not in the root's array yet.
    await memcg.get()
    if machine.lifecycle.publishes_early:
        await machine.slab_mutex.unlock()
        await root.publish(memcg.id, child)
        # Window: allocations find the child before its page counter is set up.
        await child.params.init_nr_pages()
    else:
        await child.params.init_nr_pages()
        await root.publish(memcg.id, child)
        await machine.slab_mutex.unlock()
    await machine.memcg_cache_mutex.unlock()
    return child


async def memcg_release_cache(cpu: Cpu, cache: KmemCache) -> None:
    """Forget a child that was shut down: array slot, list entry, reference, parameters.

    Models memcg_release_cache() (mm/memcontrol.c, v3.10: the memcg is put last).
    """
    params = cache.params
    assert params is not None
    memcg = params.memcg
    await params.root.clear_slot(memcg.id)
    await memcg.slab_caches_mutex.lock()
    await memcg.unlink(cache)
    await memcg.slab_caches_mutex.unlock()
    await params.free()
    await mem_cgroup_put(memcg)


# -- pages -------------------------------------------------------------------------------------------------------------


async def memcg_charge_slab(cache: KmemCache, memcg: MemCgroup | None, order: int) -> bool:
    """Charge a child's new pages to the memcg of the task; false at its limit.  Roots are not charged.

    Models __memcg_kmem_newpage_charge() (mm/memcontrol.c, v3.8).
    """
    if cache.params is None or memcg is None:
        return True
    return await memcg.charge(1 << order)


async def memcg_uncharge_slab(cpu: Cpu, memcg: MemCgroup | None, order: int) -> None:
    """Uncharge pages; the last page of a dead memcg gives up the kmem reference.

    Models memcg_uncharge_kmem() (mm/memcontrol.c, v3.8).
    """
    if memcg is not None and await memcg.uncharge(1 << order):
        await mem_cgroup_put(memcg)


async def memcg_bind_pages(cache: KmemCache, order: int) -> None:
    """Count new pages of a child.  Models memcg_bind_pages() (mm/slab.h, v3.8)."""
    if cache.params is not None:
        await cache.params.add_pages(1 << order)


async def memcg_release_pages(cpu: Cpu, cache: KmemCache, order: int) -> None:
    """Uncount pages of a child; whoever releases the last one tells the lifecycle.  Any context.

    Models memcg_release_pages() (mm/slab.h, v3.8).
    """
    if cache.params is not None and await cache.params.sub_and_test(1 << order):
        # Window: nr_pages is zero, and the cache can be gone before the next line.
        await cpu.machine.lifecycle.last_page_released(cpu, cache)
