"""What a generation of the protocol decides: who marks, who queues, who shrinks, who destroys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from slabactors.kernel.workqueue import WorkFunction, WorkqueueSpec
from slabactors.mm import memcontrol, slab_common
from slabactors.mm.memcg_caches import Relocation, all_children
from slabactors.mm.memcontrol import ChildNames, MemcgCacheParams
from slabactors.mm.slab_common import try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cgroup import CssPolicy
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.allocator import CacheSpec
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class Lifecycle(ABC):
    """One generation of the teardown protocol.  Stateless: all state is in actors.

    Three methods say how dead caches are taken down in the generations that have a destroy work (to 3.15), and have to
    be there.  The others are what the rest of the machine asks of its generation; each does by default what 3.8 does,
    with the flags below, and the later a generation is the more of them it replaces.

    Attributes:
        name: how the command line calls it.
        release: where it comes from.
        verifies_every_free: `object_freed` is called after every free on a child cache (an extra step in a hot path).
        creates_in_place: an allocation that finds no child creates it itself when it may sleep (v5), instead of
            asking a kworker and using the root cache meanwhile (3.8).
        publishes_early: the child is in the root's array before its page counter is set up (v5).
        publishes_locked: it gets there under ``slab_mutex``, not after that was given back (v5, 3.8).
        slot_outlives_list: a child is in the root's array before it is on the list of its memcg, and leaves the list
            first, both under ``slab_mutex``, which alone keeps two creators apart (3.14); before, it is the other way
            round, and creators have a mutex of their own.
        puts_memcg_last: a child that was shut down gives back its memcg when it is done with it (3.10); 3.8 unlinks
            the child afterwards, under a mutex in the memcg.
        hands_reference_on: a child keeps the reference of its group that was taken when its creation was queued (3.11).
        params_hold_memcg: what a child knows of its group holds that until it is freed, and not as long only as the
            child can be found (3.15).
        frees_memcg_by_work: whoever drops the last reference of a memcg leaves freeing it to a kworker.
        frees_memcg_by_rcu: a grace period passes before that, for those who use a memcg under RCU only (5.3).
        kmemcg_ids: groups have a number of their own in the arrays of their children, the smallest free one from 0
            (3.8), and not the id of their css (v5).
        consolidated_rcu: there is one RCU, which waits for readers and for who stays on a CPU alike (4.20 and later).
        creation_workqueue: the name of the one of them that children are created by; system_wq unless there is one.
        workqueues: workqueues that are there from boot on, beside system_wq.
        fair_hotplug_locks: who plugs a CPU or memory, and waits, holds up who comes later and wants it to stay (4.13).
        locks_memory_hotplug: creating, destroying and shrinking a cache keeps memory from coming online (3.16).
        css: css as they are in that release, whose references keep a memcg; None for references of its own (3.8).
        looks_up_under_rcu: a task finds its child, or takes a reference of its group, in the read-side section in which
            it has found its group (3.10).
        adds_to_sysfs_unlocked: a new cache is added to sysfs without ``slab_mutex`` (to 3.14).
        unlocks_for_sysfs: a cache that was shut down is taken out of sysfs without it (3.8).
        relocation: how the array of a root becomes larger, where arrays move (`MachineConfig.memcg_caches_min`).
        checks_root_params: who looks for children sees whether the root has an array (3.11).
        inits_work_of_new_roots: the array of a new root is overwritten by a work that no root has (3.9 and 3.10).
        inits_work_of_grown_roots: so is one that was made larger (3.9).
        creation_checks_online: creating a child looks, under the mutex, whether its memcg is still there.
        frees_on_one_cpu: a free is a section that a grace period of sched-RCU waits for.
        holds_cache_while_allocating: `put_cache` is called at the end of every allocation from a child (3.19).
        counts_pages: ``nr_pages`` of a child is the number of pages that it has (to 3.18).
        charges_pages: the pages of a child are charged to the group of whoever allocates (to 5.8).
        child_names: which number of a group is in the names of its children.
        puts_memcg_without_request: the reference that was taken for a request to create a child is dropped when there
            is no memory for the request.
        stores_for_children: what is written to a file of a root in sysfs, its children are told (to 5.8).
        reading_holds_memory: reading a counter in sysfs keeps memory from coming online (to 5.3).
        reparents: what a group has charged is its parent's when it has gone offline (5.3).
        kmem_pins_memcg: one reference of a group stands for all that it has charged (to 3.18); later each page has one.
    """

    name: ClassVar[str]
    release: ClassVar[str]
    verifies_every_free: ClassVar[bool] = False
    creates_in_place: ClassVar[bool] = False
    publishes_early: ClassVar[bool] = False
    publishes_locked: ClassVar[bool] = True
    slot_outlives_list: ClassVar[bool] = False
    puts_memcg_last: ClassVar[bool] = True
    hands_reference_on: ClassVar[bool] = False
    params_hold_memcg: ClassVar[bool] = False
    frees_memcg_by_work: ClassVar[bool] = False
    frees_memcg_by_rcu: ClassVar[bool] = False
    kmemcg_ids: ClassVar[bool] = False
    looks_up_under_rcu: ClassVar[bool] = False
    adds_to_sysfs_unlocked: ClassVar[bool] = True
    unlocks_for_sysfs: ClassVar[bool] = False
    relocation: ClassVar[Relocation] = Relocation.EMPTY_FIRST
    checks_root_params: ClassVar[bool] = False
    inits_work_of_new_roots: ClassVar[bool] = False
    inits_work_of_grown_roots: ClassVar[bool] = False
    creation_checks_online: ClassVar[bool] = False
    frees_on_one_cpu: ClassVar[bool] = False
    holds_cache_while_allocating: ClassVar[bool] = False
    counts_pages: ClassVar[bool] = True
    kmem_pins_memcg: ClassVar[bool] = True
    charges_pages: ClassVar[bool] = True
    reparents: ClassVar[bool] = False
    child_names: ClassVar[ChildNames] = ChildNames.SLOT
    puts_memcg_without_request: ClassVar[bool] = True
    stores_for_children: ClassVar[bool] = True
    reading_holds_memory: ClassVar[bool] = False
    consolidated_rcu: ClassVar[bool] = False
    workqueues: ClassVar[tuple[WorkqueueSpec, ...]] = ()
    creation_workqueue: ClassVar[str] = "system_wq"
    fair_hotplug_locks: ClassVar[bool] = False
    locks_memory_hotplug: ClassVar[bool] = False
    css: ClassVar[CssPolicy | None] = None

    def work_func(self, params: MemcgCacheParams) -> WorkFunction:
        """What the destroy work of a child calls: ``container_of(work)`` has been worked out already."""
        return partial(_work_func, self, params)

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """A child was made and nobody can find it yet.  Sleeps."""

    @abstractmethod
    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """A memcg's directory is removed.  Sleeps."""

    @abstractmethod
    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``nr_pages`` of a child has just become zero.  Any context; the child may be gone already."""

    async def object_freed(self, cpu: Cpu, cache: KmemCache) -> None:
        """An object of a child was freed.  Only called when `verifies_every_free` is set."""

    @abstractmethod
    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """The destroy work of a child runs on a kworker."""

    def new_statics(self, machine: Machine) -> Any:
        """What the generation has once a machine: actors that are no cache's and no group's.  See `Machine.statics`."""
        return None

    # -- what it makes of a child ----------------------------------------------------------------------------------

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """What a new child knows of its group and its root; a generation that knows more brings a class of its own."""
        return MemcgCacheParams(child, memcg, root, machine.clock, machine.debugobjects)

    async def create_child(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """Create the child of a root for a group, unless it is there.  Sleeps.

        Returns:
            The child, or the root where the generation refuses to make one.
        """
        return await memcontrol.kmem_cache_create_memcg(cpu, root, memcg)

    # -- allocations and pages -------------------------------------------------------------------------------------

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """The cache that serves an allocation of a task in a group: the child, or the root while there is none."""
        return await memcontrol.memcg_kmem_get_cache(cpu, root, memcg, may_sleep=may_sleep)

    async def put_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """An allocation from a child has ended.  Only called when `holds_cache_while_allocating` is set."""

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """A child is to get pages: charge them to the group; false at its limit."""
        return await memcg.charge(1 << order)

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """A child's pages are about to go back to the page allocator, or were not to be had.  Any context.

        The cache may be gone by now where nothing of the generation holds it.
        """
        if await memcg.uncharge(1 << order):
            await memcontrol.mem_cgroup_put(cpu, memcg)

    async def bind_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """A child has got pages."""
        assert cache.params is not None
        await cache.params.add_pages(1 << order)

    async def release_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """Pages of a child are on their way back; they are uncharged after this.  Any context."""
        assert cache.params is not None
        if await cache.params.sub_and_test(1 << order):
            # Window: nr_pages is zero, and the cache can be gone before the next line.
            await self.last_page_released(cpu, cache)

    # -- groups and caches that come and go ------------------------------------------------------------------------

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """The last reference of a group has gone: free it.  Sleeps only where the group is freed by a work."""
        await memcontrol.mem_cgroup_free(memcg)

    def css_holders(self, machine: Machine, memcg: MemCgroup) -> int:
        """How many references of a memcg's css there have to be at rest, beside its own: for the accounting checker."""
        return 0

    def expected_references(self, machine: Machine, memcg: MemCgroup) -> int:
        """How many references a group has to have in a machine in which nothing moves.  For checkers."""
        children = sum(1 for cache in machine.children() if cache.params is not None and cache.params.memcg is memcg)
        return children + (0 if memcg.dead else 1) + (1 if memcg.kmem_reference else 0)

    def needed(self, machine: Machine, cache: KmemCache) -> bool:
        """Whether a child has to be there in a machine in which nothing moves: somebody holds an object of it.

        For checkers.  A generation in which the caches of a group go together says what keeps them.
        """
        return machine.allocator.live_objects(machine, cache) > 0

    async def may_merge(self, cache: KmemCache) -> bool:
        """Whether a root that is just like a new one may get the new one's name.  Under slab_mutex."""
        return True

    async def create_cache(self, cpu: Cpu, name: str, spec: CacheSpec) -> KmemCache:
        """``kmem_cache_create()`` of a root.  Sleeps."""
        return await slab_common.create_or_merge(cpu, name, spec)

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()`` of a root or a child.  Sleeps.

        Returns:
            What the kernel complains of, if it does: see `try_destroy`.
        """
        return await slab_common.destroy_children_first(cpu, cache)

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """A root cache is about to be destroyed.  Sleeps.

        Models kmem_cache_destroy_memcg_children() of the v5 series, 13/18: nothing is cancelled.

        Returns:
            What the kernel complains of, when a child still has objects: see `try_destroy`.
        """
        machine = cpu.machine
        complaint = None
        await machine.set_limit_mutex.lock()
        children = await all_children(cpu, root)
        for child in children:
            complaint = await try_destroy(cpu, child) or complaint
        await machine.set_limit_mutex.unlock()
        return complaint


class WithoutDestroyWork(Lifecycle):
    """A generation in which no child has a work that destroys it, and nobody asks whether a page was the last."""

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """Pages are counted, where they are, for nobody who waits."""

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Never called."""
        raise AssertionError(f"{self.name} has no destroy work")


def _work_func(lifecycle: Lifecycle, params: MemcgCacheParams, cpu: Cpu) -> Coroutine[Any, Any, None]:
    return lifecycle.kmem_cache_destroy_work_func(cpu, params)
