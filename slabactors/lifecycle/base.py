"""What a generation of the protocol decides: who marks, who queues, who shrinks, who destroys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from slabactors.kernel.workqueue import WorkFunction, WorkqueueSpec
from slabactors.mm.memcontrol import mem_cgroup_free
from slabactors.mm.slab_common import try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cgroup import CssPolicy
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache


class Lifecycle(ABC):
    """One generation of the teardown protocol.  Stateless: all state is in actors.

    Attributes:
        name: how the command line calls it.
        release: where it comes from.
        verifies_every_free: `object_freed` is called after every free on a child cache (an extra step in a hot path).
        creates_in_place: an allocation that finds no child creates it itself when it may sleep (v5), instead of
            asking a kworker and using the root cache meanwhile (3.8).
        publishes_early: the child is in the root's array before its page counter is set up (v5).
        publishes_locked: it gets there under ``slab_mutex``, not after that was given back (v5, 3.8).
        slot_outlives_list: a child is in the root's array before it is on the list of its memcg, and leaves the list
            first, both under ``slab_mutex`` (3.14); before, it is the other way round.
        puts_memcg_last: a child that was shut down gives back its memcg when it is done with it (3.10); 3.8 unlinks
            the child afterwards, under a mutex in the memcg.
        frees_memcg_by_work: whoever drops the last reference of a memcg leaves freeing it to a kworker.
        kmemcg_ids: groups have a number of their own in the arrays of their children, the smallest free one from 0
            (3.8), and not the id of their css (v5).
        consolidated_rcu: there is one RCU, which waits for readers and for who stays on a CPU alike (4.20 and later).
        workqueues: workqueues that are there from boot on, beside system_wq.
        fair_hotplug_locks: who plugs a CPU or memory, and waits, holds up who comes later and wants it to stay (4.13).
        locks_memory_hotplug: creating, destroying and shrinking a cache keeps memory from coming online (3.16).
        css: css as they are in that release, whose references keep a memcg; None for references of its own (3.8).
        creation_checks_online: creating a child looks, under the mutex, whether its memcg is still there.
    """

    name: ClassVar[str]
    release: ClassVar[str]
    verifies_every_free: ClassVar[bool] = False
    creates_in_place: ClassVar[bool] = False
    publishes_early: ClassVar[bool] = False
    publishes_locked: ClassVar[bool] = True
    slot_outlives_list: ClassVar[bool] = False
    puts_memcg_last: ClassVar[bool] = True
    frees_memcg_by_work: ClassVar[bool] = False
    kmemcg_ids: ClassVar[bool] = False
    creation_checks_online: ClassVar[bool] = False
    consolidated_rcu: ClassVar[bool] = False
    workqueues: ClassVar[tuple[WorkqueueSpec, ...]] = ()
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

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """The last reference of a memcg's css is gone: free the memcg.  Only where there is a `css`.  Sleeps."""
        await mem_cgroup_free(memcg)

    def css_holders(self, machine: Machine, memcg: MemCgroup) -> int:
        """How many references of a memcg's css there have to be at rest, beside its own: for the accounting checker."""
        return 0

    async def object_freed(self, cpu: Cpu, cache: KmemCache) -> None:
        """An object of a child was freed.  Only called when `verifies_every_free` is set."""

    @abstractmethod
    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """The destroy work of a child runs on a kworker."""

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """A root cache is about to be destroyed.  Sleeps.

        Models kmem_cache_destroy_memcg_children() of the v5 series, 13/18: nothing is cancelled.

        Returns:
            What the kernel complains of, when a child still has objects: see `try_destroy`.
        """
        machine = cpu.machine
        complaint = None
        await machine.set_limit_mutex.lock()
        children = await root.children()
        for child in children:
            complaint = await try_destroy(cpu, child) or complaint
        await machine.set_limit_mutex.unlock()
        return complaint


def _work_func(lifecycle: Lifecycle, params: MemcgCacheParams, cpu: Cpu) -> Coroutine[Any, Any, None]:
    return lifecycle.kmem_cache_destroy_work_func(cpu, params)
