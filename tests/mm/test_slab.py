"""SLAB against what a booted Linux 3.8.3 kernel did: worked examples, counter by counter, one node."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.actors import join, parallel, prepare, sleep, start
from slabactors.errors import Kind
from slabactors.explore.footprints import FootprintCheck
from slabactors.explore.strategy import RandomWalk
from slabactors.explore.verify import verify
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.jiffies import HZ
from slabactors.machine import Machine
from slabactors.mm import slab_reaper
from slabactors.mm.allocator import CacheSpec
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab import SlabAllocator
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
)
from slabactors.mm.slab_lists import KmemList3
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slab_sizes import geometry
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.support import StarveBefore, play


class Script:
    """The notation of the examples: ``await s.a(40, 0)`` allocates on CPU 0, ``await s.f(0, 15, 1)`` frees a range."""

    def __init__(self, machine: Machine, root: KmemCache, memcg: MemCgroup | None = None) -> None:
        self.machine = machine
        self.root = root
        self.memcg = memcg
        self.objects: list[SlabObject] = []

    @property
    def cache(self) -> KmemCache:
        return self.objects[0].slab.cache if self.memcg is not None else self.root

    @property
    def l3(self) -> KmemList3:
        return self.cache.nodelists[0]

    async def a(self, count: int, cpu: int) -> None:
        for _ in range(count):
            obj = await kmem_cache_alloc(self.machine.cpus[cpu], self.root, self.memcg)
            assert obj is not None
            self.objects.append(obj)

    async def f(self, first: int, last: int, cpu: int) -> None:
        for obj in self.objects[first : last + 1]:
            await kmem_cache_free(self.machine.cpus[cpu], obj)

    async def shrink(self) -> int:
        return await kmem_cache_shrink(self.machine.cpus[0], self.cache)

    def avail(self, cpu: int) -> int:
        return self.cache.arrays[cpu].avail

    @property
    def lists(self) -> tuple[int, int, int]:
        """How many slabs are full, partial and free."""
        return len(self.l3.slabs_full), len(self.l3.slabs_partial), len(self.l3.slabs_free)

    @property
    def info(self) -> tuple[int, int, int]:
        """Active objects, all objects, slabs, as /proc/slabinfo has them."""
        found = self.machine.allocator.slabinfo(self.cache)
        return found.active_objs, found.num_objs, found.num_slabs


def script(body, *, size: int = 256, cpus: int = 4, child: bool = False) -> None:
    """Run ``body(script)`` on a fresh cache, without the reaper."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", size)
        memcg = await mem_cgroup_create(machine.cpus[0], "web") if child else None
        await body(Script(machine, cache, memcg))

    played = play(story, cpus=cpus, allocator="slab-3.8", reaper=False)
    assert played.outcome.bug is None, played.outcome.bug


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "size", "objects", "order", "off_slab", "management", "colour", "colour_off", "limit", "shared"),
    [
        (CacheSpec(191, align=128), 256, 15, 0, False, 128, 1, 128, 120, 8),
        (CacheSpec(471, align=8, hwcache_align=True), 512, 7, 0, False, 128, 6, 64, 54, 8),
        (CacheSpec(61, align=16), 64, 59, 0, False, 288, 0, 64, 120, 8),
        (CacheSpec(10, ctor=True), 16, 202, 0, False, 856, 0, 64, 120, 8),
        (CacheSpec(9, align=16, ctor=True), 16, 202, 0, False, 864, 0, 64, 120, 8),
        (CacheSpec(109, align=8, hwcache_align=True), 128, 30, 0, False, 192, 1, 64, 120, 8),
        (CacheSpec(256), 256, 15, 0, False, 112, 2, 64, 120, 8),
        (CacheSpec(4096), 4096, 1, 0, True, 52, 0, 64, 24, 8),
        (CacheSpec(4498, align=32, hwcache_align=True), 4544, 1, 1, False, 64, 56, 64, 8, 0),
        (CacheSpec(27665, hwcache_align=True), 27712, 1, 3, False, 64, 78, 64, 8, 0),
        (CacheSpec(200_000), 200_000, 1, 6, False, 56, 970, 64, 1, 0),
    ],
)
def test_sizes_are_those_of_the_booted_kernel(
    spec, size, objects, order, off_slab, management, colour, colour_off, limit, shared
):
    """The descriptor lies outside of large objects' slabs, unless there is room left over for it."""
    shape = geometry(spec, 4)
    assert (shape.size, shape.objects, shape.order) == (size, objects, order)
    assert (shape.off_slab, shape.management) == (off_slab, management)
    assert (shape.colour, shape.colour_off) == (colour, colour_off)
    assert (shape.limit, shape.batchcount, shape.shared) == (limit, (limit + 1) // 2, shared)


def test_one_cpu_shares_its_array_with_nobody():
    assert geometry(CacheSpec(256), 1).shared == 0


def test_an_object_that_no_slab_holds_is_refused():
    with pytest.raises(ValueError, match="no slab holds"):
        geometry(CacheSpec(8 << 20), 4)
    with pytest.raises(ValueError, match="at least 1 byte"):
        geometry(CacheSpec(0), 4)


# -- worked examples ---------------------------------------------------------------------------------------------------


def test_a_refill_that_finds_one_slab_takes_what_that_has():
    """It grows the cache once, whatever the batch is; and what lies in an array is free for nobody else."""

    async def body(s: Script) -> None:
        assert (s.l3.free_limit, s.l3.shared_limit) == (315, 480)
        await s.a(1, 0)
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (14, (1, 0, 0), 0, (15, 15, 1))
        await s.a(14, 0)
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (0, (1, 0, 0), 0, (15, 15, 1))
        await s.a(1, 0)
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (14, (2, 0, 0), 0, (30, 30, 2))
        await s.a(44, 0)
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (0, (4, 0, 0), 0, (60, 60, 4))
        await s.f(0, 59, 0)
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (60, (4, 0, 0), 0, (60, 60, 4))
        assert s.machine.allocator.live_objects(s.machine, s.cache) == 0
        assert await s.shrink() == 0
        assert (s.avail(0), s.lists, s.l3.free_objects, s.info) == (0, (0, 0, 0), 0, (0, 0, 0))

    script(body)


def test_arrays_overflow_into_the_shared_one_and_that_into_the_lists_up_to_free_limit():
    """Two hundred objects of one slab each: 24 stay with the CPU, 96 are shared, 37 are listed, the rest goes back."""

    async def body(s: Script) -> None:
        await s.a(200, 0)
        assert (s.avail(0), s.info) == (0, (200, 200, 200))
        assert (s.l3.free_limit, s.l3.shared_limit) == (37, 96)
        await s.f(0, 199, 0)
        assert (s.avail(0), len(s.l3.shared), s.lists) == (20, 96, (116, 0, 37))
        assert s.info == (116, 153, 153)
        assert s.machine.allocator.slabinfo(s.cache).shared_avail == 96
        assert s.cache.params is not None
        assert s.cache.params.pages == 153
        assert await s.shrink() == 0
        assert (s.info, s.cache.params.pages) == ((0, 0, 0), 0)

    script(body, size=4096, cpus=2, child=True)


def test_a_refill_takes_from_the_top_of_the_shared_array_and_keeps_the_order():
    """CPU 1 gets what CPU 0 has flushed last; an array that nothing was taken from since the last reap gets sixteen."""

    async def body(s: Script) -> None:
        await s.a(180, 0)
        await s.f(0, 120, 0)
        assert (s.avail(0), len(s.l3.shared)) == (61, 60)
        top = s.l3.shared[-16:]
        await s.a(1, 1)
        assert (s.avail(1), len(s.l3.shared)) == (15, 44)
        assert (s.cache.arrays[1].entries, s.objects[-1].index) == (top[:15], top[15][1])
        assert (s.l3.free_objects, s.l3.shared_touched) == (0, True)

    script(body)


def test_shrink_says_whether_slabs_are_left():
    """One object holds its slab; the empty slabs go, the last of the list first."""

    async def body(s: Script) -> None:
        await s.a(45, 0)
        await s.f(1, 44, 2)
        assert await s.shrink() == 1
        assert (s.lists, s.l3.free_objects) == ((0, 1, 0), 14)
        await s.f(0, 0, 0)
        assert await s.shrink() == 0
        assert s.lists == (0, 0, 0)

    script(body)


def test_an_allocation_fails_when_no_page_of_the_one_order_is_left():
    """There is no smaller order to fall back to; what was charged to the memcg is given back."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        web = await mem_cgroup_create(cpu, "web")
        per_slab = cache.geometry.objects
        for _ in range(3 * per_slab):
            assert await kmem_cache_alloc(cpu, cache, web) is not None
        assert await kmem_cache_alloc(cpu, cache, web) is None
        assert web.usage == 3 * 4096 << cache.geometry.order

    assert play(story, pages=3, allocator="slab-3.8", reaper=False).outcome.bug is None


def test_a_memcg_at_its_limit_gets_no_slab():
    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        web = await mem_cgroup_create(cpu, "web", limit=4096)
        for _ in range(cache.geometry.objects):
            assert await kmem_cache_alloc(cpu, cache, web) is not None
        assert await kmem_cache_alloc(cpu, cache, web) is None
        assert (web.failcnt, web.usage) == (1, 4096)

    assert play(story, allocator="slab-3.8", reaper=False).outcome.bug is None


def test_destroying_a_cache_with_objects_is_reported_and_one_without_succeeds():
    for freed in (False, True):

        async def story(machine: Machine, freed: bool = freed) -> None:
            cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
            obj = await kmem_cache_alloc(machine.cpus[1], cache)
            assert obj is not None
            if freed:
                await kmem_cache_free(machine.cpus[1], obj)
            await kmem_cache_destroy(machine.cpus[0], cache)
            assert machine.page_alloc.free == machine.page_alloc.pages
            assert machine.slab_caches == []

        bug = play(story, allocator="slab-3.8").outcome.bug
        assert (bug is None) is freed
        assert bug is None or bug.kind is Kind.OBJECTS_REMAINING


def test_a_double_free_is_reported_when_the_object_is_put_in_an_array():
    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        obj = await kmem_cache_alloc(machine.cpus[0], cache)
        assert obj is not None
        await kmem_cache_free(machine.cpus[0], obj)
        await kmem_cache_free(machine.cpus[1], obj)

    bug = play(story, allocator="slab-3.8").outcome.bug
    assert bug is not None
    assert bug.kind is Kind.DOUBLE_FREE


def test_allocating_and_freeing_an_object_that_lies_in_the_array_take_one_step_each():
    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        obj = await kmem_cache_alloc(machine.cpus[0], cache)
        for _ in range(2):
            assert obj is not None
            await kmem_cache_free(machine.cpus[0], obj)
            obj = await kmem_cache_alloc(machine.cpus[0], cache)

    names = play(story, allocator="slab-3.8", reaper=False).names()
    assert names[-4:] == ["ArrayCache.free", "ArrayCache.alloc"] * 2


def test_a_drain_waits_for_a_cpu_that_has_interrupts_off():
    """The interrupt is taken when they are on again, and the CPU that shrinks waits for it, with slab_mutex held."""
    for seed in range(30):

        async def story(machine: Machine) -> None:
            cpu0, cpu1 = machine.cpus
            cache = await kmem_cache_create(cpu0, "spec0", 256)
            obj = await kmem_cache_alloc(cpu1, cache)
            assert obj is not None
            await kmem_cache_free(cpu1, obj)
            await cpu1.local_irq_save()
            shrinking = await start(cpu0.task(kmem_cache_shrink(cpu0, cache), "shrink"))
            for _ in range(20):
                await machine.page_alloc.balanced()
            assert cache.arrays[1].avail == 15
            await cpu1.local_irq_restore()
            await join(shrinking)
            assert cache.arrays[1].avail == 0
            assert not machine.slabs

        assert play(story, seed=seed, allocator="slab-3.8", reaper=False).outcome.bug is None


def test_two_tasks_of_a_cpu_that_both_miss_grow_the_cache_twice():
    """While the first waits for its page interrupts are on; the array that the second has filled is used first."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 256)
        await parallel(cpu.task(kmem_cache_alloc(cpu, cache), "one"), cpu.task(kmem_cache_alloc(cpu, cache), "other"))
        l3 = cache.nodelists[0]
        assert cache.arrays[0].avail == 13
        assert (len(l3.slabs_full), len(l3.slabs_free), l3.free_objects) == (1, 1, 15)

    played = play(story, strategy=StarveBefore("get_pages"), allocator="slab-3.8", reaper=False)
    assert played.outcome.bug is None


# -- the reaper --------------------------------------------------------------------------------------------------------


def test_the_reaper_takes_a_fifth_at_a_time():
    """Eight reaps of one CPU as they were observed; at four of them the lists had their turn."""

    async def body(s: Script) -> None:
        await s.a(300, 0)
        await s.f(0, 299, 0)
        assert (s.l3.free_limit, s.avail(0), len(s.l3.shared), s.lists) == (195, 120, 180, (20, 0, 0))
        seen = []
        for lists_due in (False, False, True, False, True, False, True, True):
            if lists_due:
                await sleep(max(0, s.l3.next_reap - s.machine.clock.now))
            assert isinstance(s.machine.allocator, SlabAllocator)
            await slab_reaper.reap_cache(s.machine.allocator, s.machine.cpus[0], s.cache)
            seen.append((s.avail(0), len(s.l3.shared), s.l3.free_objects, int(s.l3.free_touched)))
        assert seen == [
            (120, 180, 0, 1),
            (96, 180, 24, 1),
            (72, 84, 144, 0),
            (48, 84, 168, 0),
            (24, 42, 144, 0),
            (0, 42, 168, 0),
            (0, 21, 144, 0),
            (0, 10, 110, 0),
        ]

    script(body, cpus=2)


def reaps(steps) -> dict[str, list[int]]:
    """When each CPU's reaper has begun, in jiffies."""
    found: dict[str, list[int]] = {}
    for step in steps:
        if step.operation.name == "trylock":
            found.setdefault(step.path.lane, []).append(step.now)
    return found


def test_every_cpu_reaps_every_two_seconds_each_a_little_apart():
    """At whole seconds, three jiffies from CPU to CPU, and with the slack of a timer that is set anew."""

    async def story(machine: Machine) -> None:
        await sleep(6 * HZ)

    played = play(story, cpus=2, allocator="slab-3.8")
    assert reaps(played.steps) == {"kworker/0": [1000, 3004, 5004], "kworker/1": [997, 3000, 5000]}


def test_a_deferrable_timer_can_be_told_to_be_late():
    async def story(machine: Machine) -> None:
        await sleep(6 * HZ)

    played = play(story, cpus=1, allocator="slab-3.8", deferrable_slip=270)
    assert reaps(played.steps) == {"kworker/0": [1270, 4278]}


def test_the_reaper_gives_up_when_somebody_holds_slab_mutex():
    """It comes again at its next turn, and does not wait."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 256)
        obj = await kmem_cache_alloc(cpu, cache)
        assert obj is not None
        await kmem_cache_free(cpu, obj)
        await machine.slab_mutex.lock()
        await sleep(10 * HZ)
        assert cache.arrays[0].avail == 15
        await machine.slab_mutex.unlock()
        await sleep(60 * HZ)
        assert not machine.slabs

    assert play(story, cpus=1, allocator="slab-3.8").outcome.bug is None


def test_a_machine_with_nothing_to_reap_comes_to_rest():
    """Its timers stay armed, and nobody waits for them."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        obj = await kmem_cache_alloc(machine.cpus[0], cache)
        assert obj is not None
        await kmem_cache_free(machine.cpus[0], obj)

    played = play(story, cpus=2, allocator="slab-3.8")
    assert played.outcome.bug is None
    assert not played.machine.slabs
    assert played.outcome.now < 40 * HZ


@pytest.mark.parametrize("time", [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL])
def test_a_deadlock_is_found_although_the_reaper_goes_on(time):
    async def story(machine: Machine) -> None:
        await machine.slab_mutex.lock()
        await machine.slab_mutex.lock()

    bug = play(story, allocator="slab-3.8", time=time).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.DEADLOCK


def test_a_dead_cache_with_free_objects_goes_in_time_with_the_reaper_and_never_without():
    """Nothing else empties it: the worker has shrunk it once, and does not come again."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "dentry", 256)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, cache, web)
        assert obj is not None
        await mem_cgroup_rmdir(cpu, web)
        await sleep(HZ)
        await kmem_cache_free(cpu, obj)

    with_reaper = play(story, lifecycle_name="v5-no-retry", allocator="slab-3.8")
    assert with_reaper.outcome.bug is None
    assert [name for name, _ in with_reaper.machine.destroyed] == ["dentry(1:web)"]
    without = play(story, lifecycle_name="v5-no-retry", allocator="slab-3.8", reaper=False).outcome.bug
    assert without is not None
    assert without.kind is Kind.ZOMBIE


# -- what holds always -------------------------------------------------------------------------------------------------


def check(machine: Machine, cache: KmemCache, held: list[SlabObject]) -> None:
    """Everything that is counted twice is counted alike, on a machine in which nobody is in the middle of anything."""
    l3 = cache.nodelists[0]
    listed = [*l3.slabs_full, *l3.slabs_partial, *l3.slabs_free]
    assert not any(slab.tombstone for slab in listed)
    assert set(listed) == {slab for slab in machine.slabs if slab.cache is cache}
    assert len(listed) == len(set(listed))
    for slabs, fits in (
        (l3.slabs_full, lambda slab: slab.inuse == slab.objects),
        (l3.slabs_partial, lambda slab: 0 < slab.inuse < slab.objects),
        (l3.slabs_free, lambda slab: slab.inuse == 0),
    ):
        assert all(fits(slab) for slab in slabs)
    assert all(len(slab.freelist) == slab.objects - slab.inuse for slab in listed)
    assert l3.free_objects == sum(slab.objects - slab.inuse for slab in listed)
    assert all(ac.avail <= ac.limit and not ac.irqs_off for ac in cache.arrays)
    assert len(l3.shared) <= l3.shared_limit
    assert machine.allocator.live_objects(machine, cache) == len(held)
    everywhere = [*[entry for ac in cache.arrays for entry in ac.entries], *l3.shared]
    everywhere += [(obj.slab, obj.index) for obj in held]
    everywhere += [(slab, place) for slab in listed for place in slab.freelist]
    assert len(set(everywhere)) == len(everywhere) == sum(slab.objects for slab in listed)
    pages = sum(1 << slab.order for slab in listed)
    assert machine.page_alloc.pages - machine.page_alloc.free == pages
    assert cache.params is None or cache.params.pages == pages


Operation = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["alloc", "free", "free", "shrink", "reap"]), st.integers(0, 3), st.integers(1, 130)),
    max_size=40,
)


async def do(machine: Machine, cpu: Cpu, operation: Operation, root: KmemCache, web, held: list[SlabObject]) -> None:
    """One line of a made-up workload: so many objects are allocated or freed, or the cache is shrunk or reaped."""
    kind, _, count = operation
    cache = root if web is None else root.memcg_caches.get(web.id)
    if kind == "alloc":
        for _ in range(count):
            obj = await kmem_cache_alloc(cpu, root, web)
            assert obj is not None
            held.append(obj)
    elif kind == "free":
        for _ in range(min(count, len(held))):
            await kmem_cache_free(cpu, held.pop(count % len(held)))
    elif kind == "shrink" and cache is not None:
        await kmem_cache_shrink(cpu, cache)
    elif cache is not None:
        await machine.slab_mutex.lock()
        assert isinstance(machine.allocator, SlabAllocator)
        await slab_reaper.reap_cache(machine.allocator, cpu, cache)
        await machine.slab_mutex.unlock()


@settings(max_examples=60, deadline=None)
@given(
    operations=OPERATIONS,
    size=st.sampled_from([256, 1000, 4096, 20000]),
    cpus=st.integers(1, 4),
    child=st.booleans(),
)
def test_nothing_is_lost_and_nothing_is_handed_out_twice(operations, size: int, cpus: int, child: bool) -> None:
    """Objects, pages and counters agree after every line, a shrink leaves no empty slab, and destroy succeeds."""

    async def story(machine: Machine) -> None:
        root = await kmem_cache_create(machine.cpus[0], "spec0", size)
        web = await mem_cgroup_create(machine.cpus[0], "web") if child else None
        held: list[SlabObject] = []
        for operation in operations:
            await do(machine, machine.cpus[operation[1] % cpus], operation, root, web, held)
            cache = root.memcg_caches.get(web.id, root) if web is not None else root
            check(machine, cache, held)
            if operation[0] == "shrink":
                assert not cache.nodelists[0].slabs_free
                assert machine.allocator.cached_objects(cache) == 0
        for obj in held:
            await kmem_cache_free(machine.cpus[-1], obj)
        await kmem_cache_destroy(machine.cpus[0], root)
        assert machine.page_alloc.free == machine.page_alloc.pages

    outcome = play(story, cpus=cpus, allocator="slab-3.8", reaper=False, pages=1 << 20).outcome
    assert outcome.bug is None, outcome.bug


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS, size=st.sampled_from([1000, 4096]), cpus=st.integers(2, 4), seed=st.integers(0, 1000))
def test_cpus_that_work_at_the_same_time_lose_nothing_either(operations, size: int, cpus: int, seed: int) -> None:
    """Each CPU has lines of its own, and all of them play at once, the reaper among them, in any order of steps."""

    async def story(machine: Machine) -> None:
        root = await kmem_cache_create(machine.cpus[0], "spec0", size)
        web = await mem_cgroup_create(machine.cpus[0], "web")
        first = await kmem_cache_alloc(machine.cpus[0], root, web)
        assert first is not None
        held: list[list[SlabObject]] = [[] for _ in range(cpus)]

        async def task(cpu: Cpu) -> None:
            for operation in operations:
                if operation[1] % cpus == cpu.id:
                    small = operation[0], operation[1], operation[2] % 20 + 1
                    await do(machine, cpu, small, root, web, held[cpu.id])

        await parallel(*[cpu.task(task(cpu), "work") for cpu in machine.cpus])
        check(machine, first.slab.cache, [first, *[obj for own in held for obj in own]])

    outcome = play(story, cpus=cpus, allocator="slab-3.8", seed=seed, time=TimePolicy.ADVERSARIAL).outcome
    assert outcome.bug is None, outcome.bug


@pytest.mark.parametrize("size", [256, 4096])
def test_the_footprints_of_slabs_operations_are_honest(size):
    """Whatever two messages wait for one actor and are declared independent, they commute."""
    pairs: dict[tuple[str, str], int] = {}
    for seed in range(40):

        async def story(machine: Machine) -> None:
            root = prepare(kmem_cache_create(machine.cpus[0], "spec0", size))
            web = prepare(mem_cgroup_create(machine.cpus[0], "web"))

            async def task(cpu: Cpu) -> None:
                held: list[SlabObject] = []
                for kind in ("alloc", "free", "shrink", "alloc", "reap", "free", "reap"):
                    await do(machine, cpu, (kind, cpu.id, 30), root, web, held)

            await parallel(*[cpu.task(task(cpu), f"task {n}") for cpu in machine.cpus for n in range(2)])

        check = FootprintCheck(RandomWalk(seed))
        played = play(story, cpus=2, strategy=check, allocator="slab-3.8", time=TimePolicy.ADVERSARIAL)
        assert played.outcome.bug is None, played.outcome.bug
        for names, count in check.pairs.items():
            pairs[names] = pairs.get(names, 0) + count
    met = {name for names in pairs for name in names if "KmemList3" in name or "ArrayCache" in name}
    assert len(met) >= 5


@pytest.mark.parametrize(
    ("story", "lifecycle_name", "kinds"),
    [
        ("emptied", "v5-destroy-after-shrink", {Kind.FREED_ACTIVE_WORK}),
        ("rmdir-races-last-free", "v3.8", {Kind.ZOMBIE}),
        ("rmdir-races-last-free", "v5", set()),
    ],
)
def test_a_search_by_traces_finds_on_slab_what_one_by_states_does(story, lifecycle_name, kinds):
    """One leaves out orders that footprints call alike, the other none."""
    program = find(f"dead-cache/{story}").bind(
        lifecycle_name=lifecycle_name, settings={"allocator": "slab-3.8", "reaper": False}
    )
    found = []
    for how in ("dpor", "states"):
        *_, result = verify(program, search=how)
        assert result.exhaustive
        found.append(set(result.found))
        assert {broken.kind for broken in result.found.values()} == kinds
    assert found[0] == found[1]
