"""The machine: CPUs, page allocator, workqueue, memcgs, caches, vmscan and clock wired together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from slabactors.actors import Clock, Spawn
from slabactors.checkers import CHECKERS
from slabactors.kernel.cgroup import Idr
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.debugobjects import DebugObjects
from slabactors.kernel.hotplug import NodeStates
from slabactors.kernel.locking import Mutex, RwSem
from slabactors.kernel.rcu import Rcu
from slabactors.kernel.workqueue import Workqueue, kworkers
from slabactors.lifecycle import Lifecycle
from slabactors.lifecycle.v5 import RETRY_JIFFIES
from slabactors.mm import models, vmscan
from slabactors.mm.allocator import CacheSpec
from slabactors.mm.memcontrol import Cgroups, MemCgroup
from slabactors.mm.page_alloc import PageAllocator
from slabactors.mm.slab_common import KmemCache
from slabactors.mm.slab_page import SlabPage

__all__ = ["SETTLE_JIFFIES", "Machine", "MachineConfig"]

SETTLE_JIFFIES = 2 * RETRY_JIFFIES + 5_000
"""How long the second act of a run may last: two retry periods and their timer slack."""


DMESG_LINES_MAX = 1000
"""How many lines of the kernel's log are kept: the newest."""


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine is made of.

    Attributes:
        cpus: how many CPUs.
        nodes: how many memory nodes; the CPUs are dealt out in blocks.
        pages: how many pages of 4096 bytes there are.
        watermark_low: free pages below which kswapd is woken; it works up to one and a half times as many.  0 for a
            machine without kswapd.
        allocator: name of the allocator model.
        kworkers: workers of the system workqueue on each CPU: how many of its items can wait for something before
            the next one has to wait for them.  A kernel starts another one for each that sleeps, up to 256.
        pre_destroy_runs: how often removing a memcg calls its ``pre_destroy`` hook, where the lifecycle has one.
        debugobjects: whether wrong use of a work item is reported where it happens.
        reaper: whether SLAB's time-based reaper runs; other allocators have none.
        merging: a cache that is just like another becomes another name for it; a kernel started with ``slub_nomerge``
            does not do that.
        hotplug: whether CPUs and memory can come and go; the locks against that are taken then, and only then.
        memoryless_nodes: how many of the nodes, the last ones, have no memory until it comes online.
        deferrable_slip: how late a deferrable timer is, in jiffies: its CPU sleeps on until something else wakes it.
    """

    cpus: int = 2
    nodes: int = 1
    pages: int = 4096
    watermark_low: int = 0
    allocator: str = "slub-3.8"
    kworkers: int = 1
    pre_destroy_runs: int = 1
    debugobjects: bool = True
    reaper: bool = True
    merging: bool = False
    deferrable_slip: int = 0
    hotplug: bool = False
    memoryless_nodes: int = 0


class Machine:
    """One emulated machine; made anew for every run.

    Args:
        clock: virtual time, of the driver.
        lifecycle: the generation of the teardown protocol.
        config: what it is made of.

    Attributes:
        cpus: its CPUs.
        caches: every cache ever made, children among them, in the order of ``slab_caches`` from its end; for reports
            and checkers.
        slab_caches: the caches that are not being destroyed, newest first; ``slab_mutex`` protects it.
        slabs: every slab whose pages have not gone back, oldest first.
        memcgs: every memcg ever made.
        state: what the lifecycle has once a machine.
        destroyed: names of destroyed caches, with the jiffies each took from the removal of its memcg on.
        dmesg: the newest lines of the kernel's log.
        shrinkers: what memory pressure asks for objects.
    """

    reports = ("destroyed", "dmesg")
    """What nothing that happens depends on; see `slabactors.actors.Actor.reports`."""

    def __init__(self, clock: Clock, lifecycle: Lifecycle, config: MachineConfig) -> None:
        self.clock = clock
        self.lifecycle = lifecycle
        self.config = config
        self.cpus = [Cpu(number, self) for number in range(config.cpus)]
        low = config.watermark_low
        self.page_alloc = PageAllocator(config.pages, low // 2, low, low + low // 2)
        self.workqueues: list[Workqueue] = []
        self.system_wq = self.new_workqueue("system_wq", config.kworkers)
        for name, max_active, unbound in lifecycle.workqueues:
            self.new_workqueue(name, max_active, unbound=unbound)
        self.slab_mutex = Mutex("slab_mutex")
        self.memcg_cache_mutex = Mutex("memcg_cache_mutex")
        self.set_limit_mutex = Mutex("set_limit_mutex")
        self.memcg_slab_mutex = Mutex("memcg_slab_mutex")
        self.flush_lock = Mutex("flush_lock")
        self.cpu_hotplug = RwSem("cpu_hotplug", fair=lifecycle.fair_hotplug_locks)
        self.mem_hotplug = RwSem("mem_hotplug", fair=lifecycle.fair_hotplug_locks)
        self.node_states = NodeStates(config.nodes - config.memoryless_nodes)
        self.cgroup_mutex = Mutex("cgroup_mutex")
        self.css_idr = Idr("css_idr")
        self.rcu = Rcu("rcu", config.cpus)
        self.rcu_sched = self.rcu if lifecycle.consolidated_rcu else Rcu("rcu_sched", config.cpus)
        self.cgroups = Cgroups()
        self.debugobjects = DebugObjects(enabled=config.debugobjects)
        self.allocator = models.allocator(config.allocator)
        self.vmscan = vmscan
        self.shrinkers: list[vmscan.Shrinker] = []
        self.state = lifecycle.new_state(self)
        self.caches: list[KmemCache] = []
        self.slab_caches: list[KmemCache] = []
        self.slabs: dict[SlabPage, None] = {}
        self.memcgs: list[MemCgroup] = []
        self.destroyed: list[tuple[str, int]] = []
        self.dmesg: deque[str] = deque(maxlen=DMESG_LINES_MAX)

    def __repr__(self) -> str:
        # Without an address, so that a test's failure reads the same in every run.
        return f"<{type(self).__name__} under {self.lifecycle.name}: cpus={len(self.cpus)}>"

    def daemons(self) -> list[Spawn[Any]]:
        """The kernel threads that are there from the start."""
        threads: list[Spawn[Any]] = []
        for workqueue in self.workqueues:
            threads.extend(kworkers(workqueue, self.cpus))
        threads.extend(self.allocator.daemons(self))
        if self.config.watermark_low:
            threads.append(Spawn(vmscan.kswapd(self.cpus[0]), name="kswapd0", lane="kswapd0", daemon=True))
        return threads

    def new_workqueue(self, name: str, max_active: int, *, unbound: bool = False) -> Workqueue:
        """A workqueue from boot on, whose kworkers are `daemons`.  While the machine runs: `alloc_workqueue`."""
        workqueue = Workqueue(name, len(self.cpus), max_active, unbound=unbound)
        self.workqueues.append(workqueue)
        return workqueue

    def workqueue(self, name: str) -> Workqueue:
        """The workqueue of a name, such as one of the lifecycle's.

        Raises:
            KeyError: there is none.
        """
        for workqueue in self.workqueues:
            if workqueue.name == name:
                return workqueue
        raise KeyError(name)

    @property
    def cgroup_destroy_wq(self) -> Workqueue:
        """What takes css offline and frees them: ``cgroup_destroy_wq`` where the lifecycle has it, else system_wq."""
        return next((one for one in self.workqueues if one.name == "cgroup_destroy"), self.system_wq)

    def new_cache(self, name: str, spec: CacheSpec) -> KmemCache:
        """A root cache, ready to be used.  For kmem_cache_create()."""
        cache = KmemCache(name, spec, self.allocator.geometry(spec, self))
        self.allocator.build(self, cache)
        self._list(cache)
        return cache

    def new_child(self, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """A child cache that nobody can find yet.  For memcg_create_kmem_cache()."""
        child = KmemCache(f"{root.name}({memcg.id}:{memcg.label})", root.spec, root.geometry, root=root)
        self.allocator.build(self, child)
        child.params = self.lifecycle.new_params(self, child, memcg, root)
        self._list(child)
        return child

    def _list(self, cache: KmemCache) -> None:
        self.caches.append(cache)
        self.slab_caches.insert(0, cache)

    def list_again(self, cache: KmemCache) -> None:
        """``list_add(&s->list, &slab_caches)`` of a cache that could not be destroyed.  Under slab_mutex."""
        self.caches.remove(cache)
        self._list(cache)

    def note_destroyed(self, cache: KmemCache) -> None:
        """A cache is gone: for reports.  A child's time counts from the removal of its group on."""
        since = cache.params.memcg.removed_at if cache.params is not None else self.clock.now
        self.destroyed.append((cache.name, self.clock.now - since))

    def printk(self, *lines: str) -> None:
        """``printk()``: lines for the kernel's log.

        Deviation: actors go by name, not by address, and no rate is limited.
        """
        self.dmesg.extend(lines)

    def new_shrinker(self, name: str, *, batch: int = vmscan.SHRINK_BATCH) -> vmscan.Shrinker:
        """A shrinker that memory pressure will ask for objects.  Models register_shrinker().

        Args:
            name: how reports call it.
            batch: objects that it is asked for at a time.  It is asked for twice as many as it has at most, so that
                one with fewer than half a batch is never asked.
        """
        shrinker = vmscan.Shrinker(name, batch)
        self.shrinkers.append(shrinker)
        return shrinker

    def children(self) -> list[KmemCache]:
        """The child caches that have not been freed."""
        return [cache for cache in self.caches if cache.params is not None and cache.tombstone is None]

    def at_rest(self) -> None:
        """Let every checker look at a machine in which nothing moves any more.

        Raises:
            KernelBug: one of them found something.
        """
        for checker in CHECKER_INSTANCES:
            checker.at_rest(self)

    def dispose(self) -> None:
        """Untie the objects of a finished run, so that the memory goes back without a garbage collection."""
        for cache in self.caches:
            cache.__dict__.clear()
        for slab in self.slabs:
            slab.__dict__.clear()
        self.__dict__.clear()


CHECKER_INSTANCES = tuple(checker() for checker in CHECKERS)
"""The checkers; they hold no state."""
