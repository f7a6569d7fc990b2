"""SLUB against what a booted Linux 3.8.3 kernel did: worked examples, counter by counter, one node, four CPUs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.actors import join, prepare, start
from slabactors.errors import Kind
from slabactors.kernel.cpu import Cpu
from slabactors.machine import Machine
from slabactors.mm.allocator import CacheSpec
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
)
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub_sizes import geometry
from tests.support import play


class Script:
    """The notation of the examples: ``await script.a(40, 0)`` allocates, ``await script.f(0, 15, 1)`` frees a range."""

    def __init__(self, machine: Machine, cache: KmemCache) -> None:
        self.machine = machine
        self.cache = cache
        self.objects: list[SlabObject] = []

    async def a(self, count: int, cpu: int) -> None:
        for _ in range(count):
            obj = await kmem_cache_alloc(self.machine.cpus[cpu], self.cache)
            assert obj is not None
            self.objects.append(obj)

    async def f(self, first: int, last: int, cpu: int) -> None:
        for obj in self.objects[first : last + 1]:
            await kmem_cache_free(self.machine.cpus[cpu], obj)

    async def shrink(self) -> None:
        await kmem_cache_shrink(self.machine.cpus[0], self.cache)

    @property
    def slabs(self) -> int:
        return self.cache.nodes[0].nr_slabs

    @property
    def listed(self) -> list[tuple[int, int]]:
        """``(slab number, objects in use)`` of the node's list, head first."""
        return [(self.number(slab), slab.inuse) for slab in self.cache.nodes[0].partial]

    def number(self, slab) -> int:
        return slab.number

    def partial(self, cpu: int) -> list[tuple[int, int]]:
        """The CPU's partial list, head first."""
        return [(self.number(entry.slab), entry.slab.inuse) for entry in reversed(self.cache.cpu_slabs[cpu].partial)]

    def current(self, cpu: int) -> tuple[int, int] | None:
        """The CPU's slab and how many objects its private freelist has."""
        c = self.cache.cpu_slabs[cpu]
        return None if c.page is None else (self.number(c.page), len(c.freelist))


def script(body, *, size: int = 256, allocator: str = "slub-3.8") -> None:
    """Run ``body(script)`` on a fresh cache."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", size)
        await body(Script(machine, cache))

    played = play(story, cpus=4, allocator=allocator)
    assert played.outcome.bug is None, played.outcome.bug


@pytest.mark.parametrize(
    ("object_size", "cpus", "size", "order", "objects", "min_order", "min_objects", "min_partial", "cpu_partial"),
    [
        (8, 4, 8, 0, 512, 0, 512, 5, 30),
        (100, 4, 104, 0, 39, 0, 39, 5, 30),
        (192, 16, 192, 1, 42, 0, 21, 5, 30),
        (256, 4, 256, 0, 16, 0, 16, 5, 13),
        (256, 8, 256, 1, 32, 0, 16, 5, 13),
        (512, 8, 512, 2, 32, 0, 8, 5, 13),
        (700, 2, 704, 2, 23, 0, 5, 5, 13),
        (1000, 1, 1000, 1, 8, 0, 4, 5, 13),
        (1000, 4, 1000, 2, 16, 0, 4, 5, 13),
        (1000, 8, 1000, 3, 32, 0, 4, 5, 13),
        (2048, 4, 2048, 3, 16, 0, 2, 5, 6),
        (3000, 4, 3000, 3, 10, 0, 1, 5, 6),
        (4096, 4, 4096, 3, 8, 0, 1, 6, 2),
        (5000, 4, 5000, 3, 6, 1, 1, 6, 2),
        (20000, 4, 20000, 3, 1, 3, 1, 7, 2),
        (40000, 4, 40000, 4, 1, 4, 1, 7, 2),
    ],
)
def test_sizes_are_those_of_the_booted_kernel(
    object_size, cpus, size, order, objects, min_order, min_objects, min_partial, cpu_partial
):
    """Object size and number of CPUs give the order, the fallback and the partial limits."""
    shape = geometry(CacheSpec(object_size), cpus)
    assert (shape.size, shape.order, shape.objects) == (size, order, objects)
    assert (shape.min_order, shape.min_objects) == (min_order, min_objects)
    assert (shape.min_partial, shape.cpu_partial) == (min_partial, cpu_partial)


def test_fill_and_drain_on_one_cpu():
    """Emptied slabs stay with the CPU; only a shrink gives them back."""

    async def body(s: Script) -> None:
        await s.a(40, 0)
        assert (s.slabs, s.current(0)) == (3, (2, 8))
        await s.f(0, 0, 0)
        assert s.partial(0) == [(0, 15)]
        await s.f(1, 15, 0)
        assert s.partial(0) == [(0, 0)]
        await s.f(16, 31, 0)
        assert s.partial(0) == [(1, 0), (0, 0)]
        await s.f(39, 39, 0)
        assert s.current(0) == (2, 9)
        await s.f(32, 38, 0)
        assert (s.slabs, s.listed, s.current(0)) == (3, [], (2, 16))
        await s.shrink()
        assert (s.slabs, s.listed, s.current(0)) == (0, [], None)

    script(body)


def test_a_cpus_partial_list_drains_when_it_holds_too_many_objects():
    """The fifteenth slab that CPU 1 freezes sends the fourteen before it to the node."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        assert s.current(0) == (19, 0)
        for slab in range(14):
            await s.f(slab * 16, slab * 16, 1)
        assert len(s.partial(1)) == 14
        await s.f(14 * 16, 14 * 16, 1)
        assert s.listed == [(number, 15) for number in range(13, -1, -1)]
        assert s.partial(1) == [(14, 15)]

    script(body)


def test_draining_empty_slabs_keeps_min_partial_and_one_more():
    """Of fourteen empty slabs six are listed and eight given back."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        for slab in range(14):
            await s.f(slab * 16, slab * 16 + 15, 1)
        assert (s.slabs, len(s.partial(1))) == (20, 14)
        await s.f(14 * 16, 14 * 16 + 15, 1)
        assert s.slabs == 12
        assert s.listed == [(number, 0) for number in range(13, 7, -1)]
        assert s.partial(1) == [(14, 0)]

    script(body)


def test_a_listed_slab_goes_back_only_above_min_partial():
    """Four of nine emptied slabs are released; the last five stay."""

    async def body(s: Script) -> None:
        await s.a(160, 0)
        for slab in range(9):
            await s.f(slab * 16, slab * 16, 1)
        await s.shrink()
        assert (s.slabs, s.listed) == (10, [(number, 15) for number in range(9)])
        for slab in range(9):
            await s.f(slab * 16 + 1, slab * 16 + 15, 1)
        assert (s.slabs, len(s.listed)) == (6, 5)
        assert all(inuse == 0 for _, inuse in s.listed)

    script(body)


@pytest.mark.parametrize(
    ("allocator", "pulled", "left"),
    [("slub-3.8", [7, 6, 5, 4, 3, 2, 1], [8, 9, 10, 11]), ("slub-3.10", [6, 5, 4, 3, 2, 1], [7, 8, 9, 10, 11])],
)
def test_how_many_slabs_an_allocation_pulls_differs_between_releases(allocator, pulled, left):
    """3.8 counts the first slab's objects after it has taken them away; 3.10 counts them before."""

    async def body(s: Script) -> None:
        await s.a(192, 0)
        for slab in range(12):
            await s.f(slab * 16, slab * 16, 1)
        await s.shrink()
        assert s.listed == [(number, 15) for number in range(12)]
        await s.a(1, 2)
        assert s.current(2) == (0, 0)
        assert [number for number, _ in s.partial(2)] == pulled
        assert [number for number, _ in s.listed] == left

    script(body, allocator=allocator)


def test_shrink_sorts_the_list_fullest_first_and_equals_reversed():
    """The order that allocations take slabs in afterwards."""

    async def body(s: Script) -> None:
        await s.a(112, 0)
        for first, last in ((0, 2), (16, 20), (32, 34), (48, 48), (64, 79), (80, 84)):
            await s.f(first, last, 0)
        assert s.partial(0) == [(5, 11), (4, 0), (3, 15), (2, 13), (1, 11), (0, 13)]
        await s.shrink()
        assert s.listed == [(3, 15), (0, 13), (2, 13), (1, 11), (5, 11)]
        assert s.slabs == 6

    script(body)


def test_one_object_a_slab():
    """Freeing the only object freezes an empty slab onto the CPU's list."""

    async def body(s: Script) -> None:
        await s.a(4, 0)
        await s.f(0, 2, 0)
        assert s.partial(0) == [(2, 0), (1, 0), (0, 0)]
        await s.f(3, 3, 0)
        assert s.current(0) == (3, 1)
        await s.shrink()
        assert s.slabs == 0

    script(body, size=20000)


def test_a_flushed_slab_that_others_freed_into_goes_to_the_tail():
    """Object 17 was freed into CPU 0's slab by CPU 1, so that slab is listed behind CPU 1's."""

    async def body(s: Script) -> None:
        await s.a(20, 0)
        await s.a(3, 1)
        await s.f(17, 17, 1)
        await s.shrink()
        assert s.listed == [(1, 3), (2, 3)]

    script(body)


def test_a_double_free_is_reported_whatever_path_it_takes():
    """Into the CPU's own slab, and into one that is listed."""

    async def same_slab(s: Script) -> None:
        await s.a(1, 0)
        await s.f(0, 0, 0)
        await s.f(0, 0, 0)

    async def other_cpu(s: Script) -> None:
        await s.a(40, 0)
        await s.f(0, 0, 1)
        await s.f(0, 0, 2)

    for body in (same_slab, other_cpu):

        async def story(machine: Machine, body=body) -> None:
            await body(Script(machine, await kmem_cache_create(machine.cpus[0], "spec0", 256)))

        bug = play(story, cpus=4).outcome.bug
        assert bug is not None
        assert bug.kind is Kind.DOUBLE_FREE


def test_destroying_a_cache_with_objects_is_reported():
    """As "Objects remaining" on kmem_cache_close()."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        await kmem_cache_alloc(machine.cpus[0], cache)
        await kmem_cache_destroy(machine.cpus[0], cache)

    bug = play(story).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.OBJECTS_REMAINING


def test_an_allocation_falls_back_to_the_smallest_order_and_then_fails():
    """A machine with three free pages gives an order-0 slab of four objects where order 2 is usual."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        objects = []
        for _ in range(13):
            obj = await kmem_cache_alloc(cpu, cache)
            objects.append(obj)
        assert objects.count(None) == 1
        assert objects[-1] is None
        assert [slab.order for slab in machine.slabs] == [0, 0, 0]

    assert play(story, cpus=4, pages=3).outcome.bug is None


Operation = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["alloc", "free", "shrink"]), st.integers(0, 2), st.integers(0, 1000)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, size=st.sampled_from([64, 256, 1000, 4096, 20000]), seed=st.integers(0, 1000))
def test_nothing_is_lost_and_nothing_is_handed_out_twice(operations: list[Operation], size: int, seed: int) -> None:
    """Objects are conserved, pages equal the slabs', and destroy succeeds when everything was freed."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", size)
        held: list[SlabObject] = []
        for kind, number, which in operations:
            cpu: Cpu = machine.cpus[number]
            if kind == "alloc":
                obj = await kmem_cache_alloc(cpu, cache)
                assert obj is not None
                assert all((obj.slab, obj.index) != (other.slab, other.index) for other in held)
                held.append(obj)
            elif kind == "free" and held:
                await kmem_cache_free(cpu, held.pop(which % len(held)))
            elif kind == "shrink":
                await kmem_cache_shrink(cpu, cache)
                assert all(slab.inuse for slab in cache.nodes[0].partial)
            alive = list(machine.slabs)
            assert not any(slab.tombstone for slab in alive)
            assert machine.allocator.live_objects(machine, cache) == len(held)
            assert cache.nodes[0].nr_slabs == len(alive)
            assert machine.page_alloc.pages - machine.page_alloc.free == sum(1 << slab.order for slab in alive)
            for slab in alive:
                assert len(slab.freelist) == slab.objects - slab.inuse
        for obj in held:
            await kmem_cache_free(machine.cpus[0], obj)
        await kmem_cache_destroy(machine.cpus[0], cache)
        assert machine.page_alloc.free == machine.page_alloc.pages

    outcome = play(story, cpus=3, seed=seed).outcome
    assert outcome.bug is None, outcome.bug


def test_prepare_refuses_what_takes_time_or_frees():
    """Set-up by prepare() is for steps that nobody else could see."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = prepare(kmem_cache_create(cpu, "spec0", 256))
        obj = prepare(kmem_cache_alloc(cpu, cache))
        assert obj is not None
        prepare(kmem_cache_free(cpu, obj))
        with pytest.raises(RuntimeError, match="await that path instead"):
            prepare(kmem_cache_destroy(cpu, cache))

    assert play(story).outcome.bug is None


def test_a_flush_waits_for_a_cpu_that_has_interrupts_off():
    """The interrupt is taken when they are on again, and the CPU that shrinks waits for it."""
    for seed in range(50):

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
            assert cache.cpu_slabs[1].page is not None
            await cpu1.local_irq_restore()
            await join(shrinking)
            assert cache.cpu_slabs[1].page is None
            assert cache.nodes[0].nr_slabs == 0

        assert play(story, seed=seed).outcome.bug is None
