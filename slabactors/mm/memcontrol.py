"""memcgs and their child caches: create, charge, bind, release, offline (mm/memcontrol.c, v3.8 and the v5 series).

What a generation of the protocol decides (who marks, who queues, who shrinks, who destroys) is in
`slabactors.lifecycle`; here is what they share.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from slabactors.actors import Actor, Clock, CountsDown, Narrow, choose, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.cgroup import CgroupSubsysState, css_create, kill_css
from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.locking import Mutex
from slabactors.kernel.rcu import call_rcu
from slabactors.kernel.workqueue import Work, queue_work
from slabactors.mm.memcg_caches import cache_from_memcg, clear_slot, memcg_update_all_caches, set_slot
from slabactors.mm.page_alloc import PAGE_SIZE
from slabactors.mm.slub_sysfs import sysfs_slab_add

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.debugobjects import DebugObjects
    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache

__all__ = [
    "MemCgroup",
    "MemcgCacheParams",
    "Task",
    "kmem_cache_create_memcg",
    "mem_cgroup_create",
    "mem_cgroup_rmdir",
    "memcg_create_kmem_cache",
    "memcg_update_kmem_limit",
]


class ChildNames(Enum):
    """Which number of a group is in the names of its children.

    Only sysfs minds when two have the same name; on a machine without it all go by their slots.
    """

    SLOT = "the slot that they have in the arrays"
    CSS_ID = "the id of the css, which is given back when the css has been freed"
    CSS_ID_EARLY = "the id of the css, which is given back with the last reference"
    SERIAL = "a number that no other group ever gets"


class MemcgCacheParams(Actor):
    """``struct memcg_cache_params`` of one child cache (include/linux/slab.h, v3.8).

    Args:
        cache: the child it belongs to.
        memcg: whose child that is.
        root: the root cache.
        clock: virtual time, for the work's timer.
        debug: debugobjects.
        embedded: it is part of the cache's own memory (4.0).
    """

    role = "memcg_cache_params"
    reports = ("bound",)

    def __init__(
        self,
        cache: KmemCache,
        memcg: MemCgroup,
        root: KmemCache,
        clock: Clock,
        debug: DebugObjects,
        *,
        embedded: bool = False,
    ) -> None:
        super().__init__(f"{cache.name}.params", cache if embedded else None)
        self.cache = cache
        self.memcg = memcg
        self.charged: MemCgroup | None = memcg
        """Whom its pages are charged to, from 5.3 on: its group, then whoever inherits them."""
        self.root = root
        self.dead = False
        self.pages = 0
        self.bound = 0
        """Pages that it has ever had; for reports."""
        self.destroy = Work(f"{cache.name}.destroy", clock, debug, self, lock_class="memcg_cache_params.destroy")

    @property
    def orphaned(self) -> bool:
        """Its group has been removed.  For reports and checkers."""
        return not self.memcg.online

    @operation(writes="memcg")
    def set_memcg(self, memcg: MemCgroup | None) -> None:
        """``WRITE_ONCE(s->memcg_params.memcg, memcg)``: whom its pages are charged to from here on."""
        self.charged = memcg

    @operation(reads="memcg")
    def read_memcg(self) -> MemCgroup | None:
        """``READ_ONCE(s->memcg_params.memcg)``."""
        return self.charged

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
        """``atomic_set(&params->nr_pages, 0)``.

        Raises:
            KernelBug: ``accounting`` when somebody has found the cache before it was set up, and bound pages to it.
        """
        if self.pages:
            raise KernelBug(
                Kind.ACCOUNTING,
                f"nr_pages of {self.cache.name} is set to 0 when {self.pages} pages are bound: it was reachable before "
                "it was initialised",
                clause="nr_pages initialised with pages bound",
            )
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
        clock: virtual time, for the work that frees it.
        debug: debugobjects.

    Attributes:
        id: the index of its children in every root's array; -1 as long as kernel memory is not accounted.
        active: kernel memory is accounted.  Switched on while the group has no tasks, so that no task of it sees that
            change.
        limit: of kernel memory, in bytes; None for none.
        usage: bytes of kernel memory charged.
        cgroups: who gets the number back when the group is freed; None when it is not given back.
        static_key: who counts the groups that are accounted, where arrays of children move.
        css: whose references keep the group, where the lifecycle has those; `references` are not used then.
    """

    role = "mem_cgroup"
    reports = ("failcnt", "max_usage", "removed_at")

    def __init__(self, name: str, clock: Clock, debug: DebugObjects) -> None:
        super().__init__(f"memcg {name}")
        self.label = name
        self.id = -1
        self.number: int | None = None
        """What is in the names of its children, where that is not their slot."""
        self.active = False
        self.cgroups: Cgroups | None = None
        self.static_key: Cgroups | None = None
        self.limit: int | None = None
        self.usage = 0
        self.max_usage = 0
        self.failcnt = 0
        self.online = True
        self.removed_at = 0
        """Jiffies; for reports."""
        self.dead = False
        self.kmem_reference = False
        self.kmem_online = True
        self.references = 1
        self.slab_caches_mutex = Mutex(
            f"{self.name}.slab_caches_mutex", self, lock_class="mem_cgroup.slab_caches_mutex"
        )
        self.work_freeing = Work(f"{self.name}.work_freeing", clock, debug, self, lock_class="mem_cgroup.work_freeing")
        self.caches: list[KmemCache] = []
        self.css: CgroupSubsysState | None = None

    @property
    def named_by(self) -> int:
        """The number in the names of its children."""
        return self.id if self.number is None else self.number

    @operation
    def activate(self, number: int, limit: int | None, cgroups: Cgroups | None, pinned: bool = True) -> None:
        """``memcg_kmem_set_active(memcg)``: kernel memory is accounted from here on, and pins the group.

        Args:
            number: the index of its children.
            limit: bytes; None for none.
            cgroups: who gets the number back, if it is given back.
            pinned: one reference of the group stands for whatever it has charged.
        """
        self.account(number, limit, cgroups, pinned=pinned)

    def account(self, number: int, limit: int | None, cgroups: Cgroups | None, *, pinned: bool = True) -> None:
        """As `activate`, for a group that nobody has seen yet.

        Args:
            number: as for `activate`.
            limit: as for `activate`.
            cgroups: as for `activate`.
            pinned: one reference of the group stands for whatever it has charged.
        """
        self.id, self.limit, self.cgroups = number, limit, cgroups
        self.active = True
        self.kmem_reference = pinned
        self.references += pinned

    @operation(writes="limit", reads="active usage")
    def set_limit(self, limit: int | None) -> bool:
        """``res_counter_set_limit(&memcg->kmem)``: false when more than that is charged."""
        if limit is not None and self.usage > limit:
            return False
        self.limit = limit
        return True

    @operation(writes="kmem_online")
    def kmem_offline(self) -> None:
        """``memcg->kmem_acct_active = false``: no child is made any more, and none found by its number."""
        self.kmem_online = False

    @operation(reads="kmem_online")
    def kmem_is_online(self) -> bool:
        """``memcg_kmem_is_active()`` of 4.0, ``kmem_state == KMEM_ONLINE`` later."""
        return self.kmem_online

    @operation(reads="active")
    def is_active(self) -> bool:
        """``memcg_kmem_is_active()``."""
        return self.active

    @operation(writes="usage", reads="limit")
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
    def get(self, count: int = 1) -> None:
        """``mem_cgroup_get()``, ``css_get_many()`` later."""
        self.references += count

    def _references(self, *_: int) -> int:
        return self.references

    def _dropped(self, count: int = 1) -> int:
        return count

    @operation(writes="references", narrow=[CountsDown("references", _references, _dropped)])
    def put(self, count: int = 1) -> bool:
        """``mem_cgroup_put()``, ``css_put_many()`` later: true when the last reference went."""
        self.references -= count
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


class Task(Actor):
    """``struct task_struct``, as far as its memcg goes: for stories in which it is moved to another one.

    Args:
        name: how reports call it.
        memcg: its group; None for the root group.
    """

    role = "task_struct"

    def __init__(self, name: str, memcg: MemCgroup | None) -> None:
        super().__init__(name)
        self.memcg = memcg

    @operation(reads="cgroups")
    def mem_cgroup_from_task(self) -> MemCgroup | None:
        """``mem_cgroup_from_task(rcu_dereference(mm->owner))``: its group now; in a read-side section."""
        return self.memcg

    @operation(writes="cgroups")
    def attach(self, memcg: MemCgroup | None) -> None:
        """``rcu_assign_pointer(tsk->cgroups, newcg)``: it is in another group from here on."""
        self.memcg = memcg


class Cgroups(Actor):
    """The cgroup hierarchy: hands out ids."""

    role = "cgroups"

    def __init__(self) -> None:
        super().__init__("cgroups")
        self.made = 0
        self.limited: list[int] = []
        """Numbers of groups with kernel memory accounting, where these have numbers of their own."""
        self.accounted = 0
        self.slots = 0

    @operation(writes="accounted")
    def enable_kmem(self) -> None:
        """``static_key_slow_inc(&memcg_kmem_enabled_key)``: kernel memory of one more group is accounted."""
        self.accounted += 1

    @operation(writes="accounted")
    def disable_kmem(self) -> None:
        """``static_key_slow_dec(&memcg_kmem_enabled_key)``: such a group has been freed."""
        self.accounted -= 1

    @operation(reads="accounted")
    def kmem_enabled(self) -> bool:
        """``memcg_kmem_enabled()``: kernel memory of any group is accounted."""
        return self.accounted > 0

    @operation(reads="array_size")
    def array_size(self) -> int:
        """``memcg_limited_groups_array_size``: slots of every root's array; it never becomes smaller."""
        return self.slots

    @operation(writes="array_size")
    def update_array_size(self, slots: int) -> None:
        """``memcg_update_array_size()``: the arrays have so many slots from here on."""
        self.slots = slots

    @operation(writes="css_ids")
    def new_id(self, group: str) -> int:
        """``alloc_css_id()``: never reused in a run.

        Args:
            group: whose it is, for those who read the log.
        """
        self.made += 1
        return self.made

    @operation(writes="kmemcg_ids")
    def reserve_id(self, group: str) -> int:
        """``ida_simple_get(&kmem_limited_groups)``: the smallest free number, from 0.

        Args:
            group: whose it is, for those who read the log.
        """
        number = next(number for number in range(len(self.limited) + 1) if number not in self.limited)
        self.limited = sorted([*self.limited, number])
        return number

    @operation(writes="kmemcg_ids")
    def release_id(self, number: int) -> None:
        """``ida_simple_remove(&kmem_limited_groups)``: another group may have the number from here on."""
        self.limited.remove(number)


async def mem_cgroup_create(cpu: Cpu, name: str, limit: int | None = None, *, accounted: bool = True) -> MemCgroup:
    """Make a memcg, with kernel memory accounting on unless told otherwise.

    Models mem_cgroup_css_alloc() and memcg_propagate_kmem() (mm/memcontrol.c, v3.8), which switches accounting on in a
    group whose parent has it.

    Args:
        cpu: where the task runs.
        name: the directory's name.
        limit: of kernel memory, in bytes; None for none.
        accounted: kernel memory is accounted from the start; otherwise from the first limit on, see
            `memcg_update_kmem_limit`.
    """
    machine = cpu.machine
    memcg = MemCgroup(name, machine.clock, machine.debugobjects)
    if accounted:
        moving = machine.arrays_move
        if moving:
            await machine.set_limit_mutex.lock()
        number, cgroups = await _number(cpu, memcg)
        memcg.account(number, limit, cgroups, pinned=machine.lifecycle.kmem_pins_memcg)
        if moving:
            await machine.set_limit_mutex.unlock()
    if machine.lifecycle.css is not None:
        hooks = _MemcgHooks(machine, memcg)
        memcg.css = await css_create(cpu, f"{memcg.name}.css", hooks, memcg, machine.lifecycle.css)
    if machine.config.sysfs:
        memcg.number = await _number_in_names(machine, memcg)
    machine.memcgs.append(memcg)
    return memcg


async def _number_in_names(machine: Machine, memcg: MemCgroup) -> int | None:
    match machine.lifecycle.child_names:
        case ChildNames.SLOT:
            return None
        case ChildNames.SERIAL:
            return await machine.cgroups.new_id(memcg.label)
        case _:
            return await machine.css_idr.alloc(memcg.name)


class _MemcgHooks:
    """``struct cgroup_subsys mem_cgroup_subsys``: what the controller does with a group's css."""

    def __init__(self, machine: Machine, memcg: MemCgroup) -> None:
        self.machine = machine
        self.memcg = memcg

    async def css_offline(self, cpu: Cpu) -> None:
        """Models mem_cgroup_css_offline() (mm/memcontrol.c, v3.14)."""
        await self.machine.lifecycle.offline(cpu, self.memcg)

    async def css_free(self, cpu: Cpu) -> None:
        """Models mem_cgroup_css_free() (mm/memcontrol.c, v3.14)."""
        await self.machine.lifecycle.css_free(cpu, self.memcg)


async def _number(cpu: Cpu, memcg: MemCgroup) -> tuple[int, Cgroups | None]:
    """The index that a group's children get, and who gets it back when the group is freed.

    Where arrays move, every root has room for it from here on.  Models memcg_update_cache_sizes() (mm/memcontrol.c,
    v3.8).
    """
    machine = cpu.machine
    cgroups = machine.cgroups
    own = machine.lifecycle.kmemcg_ids
    number = await (cgroups.reserve_id(memcg.label) if own else cgroups.new_id(memcg.label))
    if machine.arrays_move:
        await memcg_update_all_caches(cpu, number + 1)
        await cgroups.enable_kmem()
        memcg.static_key = cgroups
    return number, cgroups if own else None


async def memcg_update_kmem_limit(cpu: Cpu, memcg: MemCgroup, limit: int | None) -> bool:
    """Set the limit of kernel memory; the first one switches accounting on.  Sleeps.

    Models memcg_update_kmem_limit() (mm/memcontrol.c, v3.8).
    Deviation: whether the group has tasks or children, which forbid the first limit, is for the caller to know.

    Args:
        cpu: where the task runs.
        memcg: the group.
        limit: bytes; None for none, which switches nothing on.

    Returns:
        False when the group has charged more than that.
    """
    machine = cpu.machine
    await machine.set_limit_mutex.lock()
    if await memcg.is_active():
        done = await memcg.set_limit(limit)
    else:
        done = True
        if limit is not None:
            number, cgroups = await _number(cpu, memcg)
            await memcg.activate(number, limit, cgroups, machine.lifecycle.kmem_pins_memcg)
    await machine.set_limit_mutex.unlock()
    return done


async def mem_cgroup_put(cpu: Cpu, memcg: MemCgroup, count: int = 1) -> None:
    """Drop references; with the last the memcg is freed, at once or by a kworker.  Any context.

    Models mem_cgroup_put(), free_rcu() and free_work() (mm/memcontrol.c, v3.8).
    Deviation: a grace period passes before that work is queued only where the story has a `Task`, and in the releases
    of which other code looks a memcg up under RCU.
    """
    if not await memcg.put(count):
        return
    lifecycle = cpu.machine.lifecycle
    if memcg.number is not None and lifecycle.child_names is ChildNames.CSS_ID_EARLY:
        await cpu.machine.css_idr.remove(memcg.number)
        # Window: another group may have the id, and the caches that are named by it are still there.
    if not lifecycle.frees_memcg_by_work:
        await lifecycle.css_free(cpu, memcg)
        return

    async def free_work(cpu: Cpu) -> None:
        number = memcg.number
        await lifecycle.css_free(cpu, memcg)
        if number is not None and lifecycle.child_names is ChildNames.CSS_ID:
            await cpu.machine.css_idr.remove(number)

    async def free_rcu() -> None:
        await memcg.work_freeing.init(free_work)
        await queue_work(cpu, cpu.machine.system_wq, memcg.work_freeing)

    if cpu.machine.tasks or lifecycle.frees_memcg_by_rcu:
        await call_rcu(cpu, free_rcu)
    else:
        await free_rcu()


async def mem_cgroup_free(memcg: MemCgroup, *, with_id: bool = True) -> None:
    """Give back the memcg's number, then its memory.  Models __mem_cgroup_free() (mm/memcontrol.c, v3.8).

    Args:
        memcg: the group.
        with_id: it still has its number; from 4.0 on that went back when the group went offline.
    """
    if memcg.static_key is not None:
        await memcg.static_key.disable_kmem()
    if with_id and memcg.cgroups is not None:
        await memcg.cgroups.release_id(memcg.id)
    await memcg.free()


async def mem_cgroup_rmdir(cpu: Cpu, memcg: MemCgroup) -> None:
    """Remove a memcg's directory: its caches are to go away.  Sleeps.

    Models mem_cgroup_pre_destroy() or mem_cgroup_css_offline(), as the lifecycle has it, then mem_cgroup_css_free().
    Where a css has references of its own, both follow in kworkers: see `slabactors.kernel.cgroup.kill_css`.
    """
    memcg.removed_at = cpu.machine.clock.now
    if memcg.css is not None:
        await kill_css(cpu, memcg.css)
        return
    await cpu.machine.lifecycle.offline(cpu, memcg)
    if await memcg.mark_dead():
        await mem_cgroup_put(cpu, memcg)
    # Window: the group has no name any more; its children, their pages and queued creations keep it.
    await mem_cgroup_put(cpu, memcg)


# -- child caches ------------------------------------------------------------------------------------------------------


async def memcg_kmem_get_cache(cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
    """The cache that serves an allocation of a task in a memcg: its child, once that exists.

    Models __memcg_kmem_get_cache() (mm/memcontrol.c, v3.8; v5 creates in place when the caller may sleep).
    """
    if not memcg.active:
        return root
    child = await cache_from_memcg(cpu, root, memcg.id)
    if child is not None:
        return child
    if may_sleep and cpu.machine.lifecycle.creates_in_place:
        return await memcg_create_kmem_cache(cpu, root, memcg)
    await memcg_create_cache_enqueue(cpu, root, memcg)
    return root


async def memcg_kmem_get_cache_of_task(
    cpu: Cpu, root: KmemCache, task: Task, *, may_sleep: bool
) -> tuple[KmemCache, MemCgroup | None]:
    """As `memcg_kmem_get_cache`, for a task that others may move meanwhile; with the group that it was in.

    Models __memcg_kmem_get_cache() (mm/memcontrol.c, v3.8 and v3.10).
    """
    machine = cpu.machine
    section = await machine.rcu.read_lock()
    memcg = await task.mem_cgroup_from_task()
    if not machine.lifecycle.looks_up_under_rcu:
        await machine.rcu.read_unlock(section)
        # Window: the task may be moved, and its group freed.
    cache = root
    if memcg is not None:
        cache = await machine.lifecycle.get_cache(cpu, root, memcg, may_sleep=may_sleep)
    if machine.lifecycle.looks_up_under_rcu:
        await machine.rcu.read_unlock(section)
    return cache, memcg


async def memcg_create_cache_enqueue(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> None:
    """Ask a kworker to create the child; this allocation goes to the root cache.

    Models memcg_create_cache_enqueue() and memcg_create_cache_work_func() (mm/memcontrol.c, v3.8).
    """
    machine = cpu.machine
    if not await memcg.css_tryget():
        return
    if machine.config.failslab and await choose(2):
        # There is no memory for the request.
        if machine.lifecycle.puts_memcg_without_request:
            await mem_cgroup_put(cpu, memcg)
        return

    request = Work(
        f"create {root.name}({memcg.id}:{memcg.label})",
        machine.clock,
        machine.debugobjects,
        lock_class="create_work.work",
    )

    async def memcg_create_cache_work_func(cpu: Cpu) -> None:
        await machine.lifecycle.create_child(cpu, root, memcg)
        if not machine.lifecycle.hands_reference_on:
            await mem_cgroup_put(cpu, memcg)

    await request.init(memcg_create_cache_work_func)
    await queue_work(cpu, machine.workqueue(machine.lifecycle.creation_workqueue), request)


async def memcg_create_kmem_cache(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
    """Create and publish the child of a root for a memcg, unless somebody was faster.  Sleeps.

    Models memcg_create_kmem_cache() (mm/memcontrol.c) of the lifecycle's generation.

    Returns:
        The child, or the root where the generation refuses to make one.
    """
    if cpu.machine.lifecycle.hands_reference_on:
        await memcg.get()
    return await cpu.machine.lifecycle.create_child(cpu, root, memcg)


async def kmem_cache_create_memcg(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
    """What `memcg_create_kmem_cache` is up to 3.15.  Sleeps.

    Models memcg_create_kmem_cache() and kmem_cache_create_memcg() (mm/memcontrol.c, mm/slab_common.c, v3.8); up to 3.15
    nothing here looks whether the memcg is still online.
    """
    machine = cpu.machine
    lifecycle = machine.lifecycle
    if lifecycle.slot_outlives_list:
        return await create_under_slab_mutex(cpu, root, memcg)
    await machine.memcg_cache_mutex.lock()
    existing = await cache_from_memcg(cpu, root, memcg.id)
    if existing is not None:
        if lifecycle.hands_reference_on:
            await mem_cgroup_put(cpu, memcg)
        await machine.memcg_cache_mutex.unlock()
        return existing
    await hold_hotplug(cpu)
    await machine.slab_mutex.lock()
    if lifecycle.creation_checks_online and not await memcg.is_online():
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await machine.memcg_cache_mutex.unlock()
        return root
    child = await new_child(machine, root, memcg)
    assert child.params is not None
    await lifecycle.register_cache(cpu, child)
    await sysfs_slab_add(cpu, child)
    machine.list_new(child)
    await memcg.slab_caches_mutex.lock()
    await memcg.link(child)
    await memcg.slab_caches_mutex.unlock()
    # Window: on the memcg's list, and not in the root's array yet.
    if not lifecycle.hands_reference_on:
        await memcg.get()
    if lifecycle.publishes_early:
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await set_slot(cpu, root, memcg.id, child)
        # Window: allocations find the child before its page counter is set up.
        await child.params.init_nr_pages()
    elif lifecycle.publishes_locked:
        await child.params.init_nr_pages()
        await set_slot(cpu, root, memcg.id, child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
    else:
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await child.params.init_nr_pages()
        await set_slot(cpu, root, memcg.id, child)
    await machine.memcg_cache_mutex.unlock()
    return child


async def new_child(machine: Machine, root: KmemCache, memcg: MemCgroup) -> KmemCache:
    """A child that is not on the list of caches yet, with structures for every node that has memory.

    Under slab_mutex.
    """
    child = machine.new_child(root, memcg, listed=False)
    if machine.config.memoryless_nodes:
        machine.allocator.leave_out(child, await machine.node_states.for_each())
    return child


async def create_under_slab_mutex(cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
    """As `kmem_cache_create_memcg` is in 3.14 and 3.15: looked for, made and published under one mutex.  Sleeps.

    Models kmem_cache_create_memcg() (mm/slab_common.c, v3.14 and v3.15).
    """
    machine = cpu.machine
    lifecycle = machine.lifecycle
    await hold_hotplug(cpu)
    await machine.slab_mutex.lock()
    existing = await cache_from_memcg(cpu, root, memcg.id)
    if existing is not None:
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return existing
    if lifecycle.creation_checks_online and not await memcg.is_online():
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return root
    child = await new_child(machine, root, memcg)
    assert child.params is not None
    if lifecycle.params_hold_memcg:
        await memcg.get()
    await lifecycle.register_cache(cpu, child)
    await sysfs_slab_add(cpu, child)
    machine.list_new(child)
    await child.params.init_nr_pages()
    await memcg_register_cache(cpu, child.params)
    await machine.slab_mutex.unlock()
    await release_hotplug(cpu)
    return child


async def memcg_register_cache(cpu: Cpu, params: MemcgCacheParams) -> None:
    """Let others find a child: through its slot, then through the list of its memcg.  Under slab_mutex.

    Models memcg_register_cache() (mm/memcontrol.c, v3.14).
    """
    memcg = params.memcg
    if not cpu.machine.lifecycle.params_hold_memcg:
        await memcg.get()
    await set_slot(cpu, params.root, memcg.id, params.cache)
    await memcg.slab_caches_mutex.lock()
    await memcg.link(params.cache)
    await memcg.slab_caches_mutex.unlock()


async def memcg_unregister_cache(cpu: Cpu, params: MemcgCacheParams) -> None:
    """Let nobody find a child any more: the other way round.  Under slab_mutex.

    Models memcg_unregister_cache() (mm/memcontrol.c, v3.14).
    """
    memcg = params.memcg
    await memcg.slab_caches_mutex.lock()
    await memcg.unlink(params.cache)
    await memcg.slab_caches_mutex.unlock()
    await clear_slot(cpu, params.root, memcg.id)
    if not cpu.machine.lifecycle.params_hold_memcg:
        await mem_cgroup_put(cpu, memcg)


async def memcg_release_cache(cpu: Cpu, cache: KmemCache) -> None:
    """Forget a child that was shut down: array slot, list entry, reference, parameters.

    Models memcg_release_cache() (mm/memcontrol.c, v3.10: the memcg is put last; v3.8 as the lifecycle has it).
    """
    params = cache.params
    assert params is not None
    memcg = params.memcg
    last = cpu.machine.lifecycle.puts_memcg_last
    await clear_slot(cpu, params.root, memcg.id)
    # Window: on the memcg's list, and not in the root's array any more.
    if not last:
        await mem_cgroup_put(cpu, memcg)
        # Window: if that was the last reference, the memcg and its mutex are gone.
    await memcg.slab_caches_mutex.lock()
    await memcg.unlink(cache)
    await memcg.slab_caches_mutex.unlock()
    await params.free()
    if last:
        await mem_cgroup_put(cpu, memcg)


# -- pages -------------------------------------------------------------------------------------------------------------


async def memcg_charge_slab(cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, order: int) -> bool:
    """Charge a child's new pages to the memcg of the task; false at its limit.  Roots are not charged.

    Models __memcg_kmem_newpage_charge() (mm/memcontrol.c, v3.8).
    """
    if cache.params is None or memcg is None:
        return True
    return await cpu.machine.lifecycle.charge_slab(cpu, cache, memcg, order)


async def memcg_uncharge_slab(cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, order: int) -> None:
    """Uncharge pages; the last page of a dead memcg gives up the kmem reference.

    Models memcg_uncharge_kmem() (mm/memcontrol.c, v3.8).
    """
    if cache.params is not None and memcg is not None:
        await cpu.machine.lifecycle.uncharge_slab(cpu, cache, memcg, order)


async def memcg_bind_pages(cpu: Cpu, cache: KmemCache, order: int) -> None:
    """Count new pages of a child.  Models memcg_bind_pages() (mm/slab.h, v3.8)."""
    if cache.params is not None:
        await cpu.machine.lifecycle.bind_pages(cpu, cache, order)


async def memcg_release_pages(cpu: Cpu, cache: KmemCache, order: int) -> None:
    """Uncount pages of a child; whoever releases the last one tells the lifecycle.  Any context.

    Models memcg_release_pages() (mm/slab.h, v3.8).
    """
    if cache.params is not None:
        await cpu.machine.lifecycle.release_pages(cpu, cache, order)
