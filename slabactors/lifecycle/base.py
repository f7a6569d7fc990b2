"""What a generation of the protocol decides: who marks, who queues, who shrinks, who destroys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from slabactors.kernel.workqueue import WorkFunction
from slabactors.mm.slab_common import try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
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
