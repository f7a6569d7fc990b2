"""SLAB's time-based reaper: every CPU takes a little from every cache, every two seconds (mm/slab.c, v3.8).

It is the only thing that empties a dead cache whose last object was freed into an array, unless somebody shrinks it.
Its timers are deferrable: they are late rather than wake an idle CPU, so nothing waits for them.  A machine that
settles does without them as soon as no cache has anything that could be taken; see `slabactors.actors.Timed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from slabactors.actors import Spawn, operation, prepare
from slabactors.kernel.jiffies import HZ
from slabactors.kernel.timer import apply_slack, round_jiffies_relative
from slabactors.kernel.workqueue import Work

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.slab import SlabAllocator
    from slabactors.mm.slab_common import KmemCache

REAPTIMEOUT_CPUC: Final = 2 * HZ
"""Jiffies from the end of one visit of the reaper to the next."""


class ReapWork(Work):
    """``per_cpu(slab_reap_work, cpu)``: the deferrable delayed work of one CPU's reaper (mm/slab.c, v3.8)."""

    role = "reap_work"
    deferrable = True

    def __init__(self, cpu: Cpu, machine: Machine) -> None:
        super().__init__(f"cache_reap/{cpu.id}", machine.clock, machine.debugobjects, lock_class="slab_reap_work")
        self.cpu = cpu
        self.machine = machine

    @operation(clock=True)
    def start_cpu_timer(self) -> None:
        """``schedule_delayed_work_on(cpu, reap_work, __round_jiffies_relative(HZ, cpu))``: the first time."""
        self._arm(HZ, slack=False)

    @operation(clock=True)
    def restart(self) -> None:
        """``schedule_delayed_work(work, round_jiffies_relative(REAPTIMEOUT_CPUC))``, once PENDING is set."""
        self._arm(REAPTIMEOUT_CPUC, slack=True)

    def _arm(self, delay: int, *, slack: bool) -> None:
        now = self.clock.now
        delay = round_jiffies_relative(now, delay, self.cpu.id)
        self.queued_on = self.machine.system_wq, self.cpu
        self.deadline = (apply_slack(now, delay) if slack else now + delay) + self.machine.config.deferrable_slip

    def in_vain(self) -> bool:
        """Whether no cache has an object in an array, or a free slab."""
        allocator = self.machine.allocator
        return not any(
            allocator.cached_objects(cache) or any(l3.slabs_free for l3 in cache.nodelists)
            for cache in self.machine.slab_caches
        )


def daemons(machine: Machine, allocator: SlabAllocator) -> Iterator[Spawn[Any]]:
    """What starts the reapers of a machine that has them."""
    if machine.config.reaper:
        yield Spawn(cpucache_init(machine, allocator), name="cpucache_init", lane=machine.cpus[0].name, daemon=True)


async def cpucache_init(machine: Machine, allocator: SlabAllocator) -> None:
    """Start the reaper of each CPU.  Models cpucache_init() and start_cpu_timer() (mm/slab.c, v3.8)."""
    for cpu in machine.cpus:
        work = ReapWork(cpu, machine)
        # Nobody else knows the item yet.
        prepare(work.init(partial(cache_reap, allocator, work)))
        prepare(work.test_and_set_pending())
        await work.start_cpu_timer()


async def cache_reap(allocator: SlabAllocator, work: ReapWork, cpu: Cpu) -> None:
    """Take a little from every cache, newest first, unless somebody holds ``slab_mutex``; and again in two seconds.

    Models cache_reap() (mm/slab.c, v3.8).
    """
    mutex = cpu.machine.slab_mutex
    if await mutex.trylock():
        for cache in list(cpu.machine.slab_caches):
            await reap_cache(allocator, cpu, cache)
        await mutex.unlock()
    if await work.test_and_set_pending():
        await work.restart()


async def reap_cache(allocator: SlabAllocator, cpu: Cpu, cache: KmemCache) -> None:
    """What one visit of one CPU's reaper does to a cache; the caller holds ``slab_mutex``.

    Models cache_reap() and drain_array() (mm/slab.c, v3.8).
    """
    ac, l3 = cache.arrays[cpu.id], cache.nodelists[0]
    entries = await ac.begin_reap()
    if entries:
        await l3.lock()
        await allocator.free_block(cpu, cache, entries)
        await l3.unlock()
        await ac.drained(len(entries))
    if not await l3.reap_due():
        return
    if await l3.shared_to_reap():
        # Window: whoever refills an array now may take what was there.
        await allocator.drain_shared(cpu, cache, force=False)
    if await l3.clear_free_touched():
        return
    slabs = -(-l3.free_limit // (5 * l3.num))
    await allocator.drain_freelist(cpu, cache, slabs)
