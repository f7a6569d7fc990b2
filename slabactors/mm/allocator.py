"""What every allocator model offers to caches, memcgs and reports (mm/slab.h, v3.8)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from slabactors.actors import Spawn
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabObject, SlabPage


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """What a cache is created with: the arguments of kmem_cache_create().

    Attributes:
        object_size: bytes asked for.
        align: bytes; 0 for the smallest that the machine allows.
        ctor: it has a constructor.
        hwcache_align: SLAB_HWCACHE_ALIGN.
        rcu: SLAB_DESTROY_BY_RCU, SLAB_TYPESAFE_BY_RCU in later releases.
        reclaimable: SLAB_RECLAIM_ACCOUNT: its objects can be freed by shrinkers.
        account: SLAB_ACCOUNT (4.5 and later): charged to the memcg of whoever allocates.
        min_partial: instead of what SLUB computes from the size.
    """

    object_size: int
    align: int = 0
    ctor: bool = False
    hwcache_align: bool = False
    rcu: bool = False
    reclaimable: bool = False
    account: bool = False
    min_partial: int | None = None


def mergeable(spec: CacheSpec) -> bool:
    """Whether a cache may get the name of another one: not one with a constructor, nor an RCU one.

    Models slab_unmergeable() (mm/slub.c, v3.8).
    """
    return not (spec.ctor or spec.rcu)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an allocator makes of a `CacheSpec`; each allocator adds its own.

    Attributes:
        size: bytes from one object to the next.
        align: bytes.
        order: log2 of the pages of a slab.
        objects: objects in a slab of that order.
    """

    size: int
    align: int
    order: int
    objects: int


@dataclass(frozen=True, slots=True)
class SlabInfo:
    """``struct slabinfo``: what /proc/slabinfo says of one cache (mm/slab.h, v3.8).

    Attributes:
        active_objs: objects in use, as the allocator counts them: those in per-CPU caches are.
        num_objs: objects there is room for.
        active_slabs: slabs with objects in use.
        num_slabs: all slabs.
        shared_avail: objects in arrays that CPUs share.
        limit: tunable of SLAB: objects a CPU's array holds at most; 0 in SLUB.
        batchcount: tunable of SLAB: objects moved at a time.
        shared: tunable of SLAB: capacity of the shared array, in batches.
    """

    active_objs: int
    num_objs: int
    active_slabs: int
    num_slabs: int
    shared_avail: int = 0
    limit: int = 0
    batchcount: int = 0
    shared: int = 0


class Allocator(ABC):
    """An allocator model of one release.  Stateless: all state is in the actors of its caches.

    Attributes:
        name: the model's name.
    """

    name: str
    layout: ClassVar[str]
    """``slub`` or ``slab``: whose columns of /proc/slabinfo it fills, and which directories it has in sysfs."""
    shrink_holds_cpus: ClassVar[bool] = False
    """Shrinking a cache keeps CPUs from coming and going, whatever the release; from 3.16 on it does in all of them."""
    nodes_max: ClassVar[int] = 64
    """Memory nodes of a machine that it is modelled for, at most."""

    @abstractmethod
    def geometry(self, spec: CacheSpec, machine: Machine) -> Geometry:
        """The geometry of a new cache.

        Raises:
            ValueError: no slab is large enough, or the size or the alignment makes no sense.
        """

    @abstractmethod
    def build(self, machine: Machine, cache: KmemCache) -> None:
        """Give a new cache its per-CPU and per-node structures.  It owns no slab yet."""

    @abstractmethod
    async def alloc(
        self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, node: int | None = None
    ) -> SlabObject | None:
        """An object of exactly this cache, or none when there is no memory.

        Args:
            cpu: where the task runs.
            cache: a root or a child cache.
            memcg: the memcg of the task, to which new pages of a child cache are charged.
            node: the memory node that it must come from; None for any, the CPU's own first.
        """

    @abstractmethod
    async def free(self, cpu: Cpu, obj: SlabObject) -> None:
        """Free an object; its cache is found from its page.  Any context."""

    @abstractmethod
    async def shrink(self, cpu: Cpu, cache: KmemCache) -> int:
        """Give back the empty slabs of a cache; what kmem_cache_shrink() returns.  Sleeps."""

    async def stop_caching(self, cpu: Cpu, cache: KmemCache, *, wait: bool = True) -> None:
        """Keep no empty slab of a dead child from here on, where the allocator would otherwise.  Sleeps if it waits.

        It takes no more than its reaper for SLAB to empty a child, so that it does nothing here.

        Args:
            cpu: where the task runs.
            cache: a child.
            wait: for those that go by what was before; otherwise `wait_slow_paths` has to follow.
        """
        return

    async def wait_slow_paths(self, cpu: Cpu, cache: KmemCache) -> None:
        """Wait for those that go by what was before `stop_caching`."""
        return

    @abstractmethod
    async def close(self, cpu: Cpu, cache: KmemCache) -> None:
        """Give everything back before the cache goes away.  Sleeps.

        Raises:
            KernelBug: ``objects-remaining``.
        """

    @abstractmethod
    async def cpu_dead(self, cpu: Cpu, dead: Cpu) -> None:
        """A CPU is offline: take back what it had of every cache.  Takes ``slab_mutex``.  Sleeps."""

    async def mem_going_online(self, cpu: Cpu, node: int) -> None:
        """The first memory of a node is about to come online.  Takes ``slab_mutex``.  Sleeps."""
        raise NotImplementedError(f"{self.name} has one node only")

    def leave_out(self, cache: KmemCache, nodes: list[int]) -> None:
        """Only these nodes have memory as a cache is made that nobody has seen yet."""
        raise NotImplementedError(f"{self.name} has one node only")

    def daemons(self, machine: Machine) -> Iterator[Spawn[Any]]:
        """Kernel threads of the allocator; none by default."""
        yield from ()

    # -- for reports and checkers, on a machine in which nothing moves -----------------------------------------------

    @abstractmethod
    def cached_objects(self, cache: KmemCache) -> int:
        """Objects that count as in use in their slabs and are held by nobody but the allocator's own lists."""

    @abstractmethod
    def slabinfo(self, cache: KmemCache) -> SlabInfo:
        """What /proc/slabinfo says of the cache alone, without its children.  Models get_slabinfo()."""

    def live_objects(self, machine: Machine, cache: KmemCache) -> int:
        """Objects of a cache that somebody holds."""
        inuse = sum(slab.inuse for slab in slabs_of(machine, cache))
        return inuse - self.cached_objects(cache)


def slabs_of(machine: Machine, cache: KmemCache) -> Iterator[SlabPage]:
    """The slabs of a cache that have not gone back."""
    return (slab for slab in machine.slabs if slab.cache is cache)
