"""Bulk calls of SLUB 6.1, and caches whose pages go back after a grace period."""

from __future__ import annotations

import pytest

from slabactors.kernel.rcu import rcu_barrier
from slabactors.mm.slab_common import kmem_cache_destroy
from slabactors.mm.slub_bulk import one_slab_from_the_end
from tests.mm.slub_script import Script, script


def test_a_bulk_allocation_takes_what_single_ones_would():
    """The CPU's freelist in one step, then a slow path for each new slab."""

    async def body(s: Script) -> None:
        await s.a(10, 0)
        objects = await s.slub.alloc_bulk(s.machine.cpus[0], s.cache, 30)
        assert [obj.slab.number for obj in objects] == [0] * 6 + [1] * 16 + [2] * 8
        assert len({(obj.slab, obj.index) for obj in objects}) == 30
        assert s.current(0) == (2, 8)

    played = script(body, allocator="slub-6.1")
    assert [name for name in played.names() if name == "KmemCacheCpu.alloc_many"] == ["KmemCacheCpu.alloc_many"] * 3


def test_a_bulk_allocation_gives_all_or_nothing():
    """What it has got when memory ends goes back."""

    async def body(s: Script) -> None:
        s.machine.page_alloc.pages = s.machine.page_alloc.free = 2
        assert await s.slub.alloc_bulk(s.machine.cpus[0], s.cache, 40) == []
        assert s.machine.allocator.live_objects(s.machine, s.cache) == 0
        objects = await s.slub.alloc_bulk(s.machine.cpus[0], s.cache, 32)
        assert len(objects) == 32

    script(body, allocator="slub-6.1")


class Object:
    """Something of a slab, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slab = name[0]


@pytest.mark.parametrize(
    ("freed", "groups"),
    [
        ("a1 a2 a3", ["a3 a2 a1"]),
        ("a1 b1 a2", ["a2 a1", "b1"]),
        ("b1 a1 b2 a2 b3 a3", ["a3 a2 a1", "b2 b3 b1"]),
        ("a1 b1 c1 d1 a2", ["a2", "d1", "c1", "b1", "a1"]),
        ("a1 b1 a2 c1 d1 a3", ["a3 a2", "c1", "d1", "b1", "a1"]),
        ("a1 b1 c1 a2 b2 a3", ["a3 a2", "b2 b1", "c1", "a1"]),
        ("b1 c1 b2 a1 c2 a2", ["a2 a1", "c2 c1", "b2 b1"]),
    ],
)
def test_a_bulk_free_puts_together_what_lies_near(freed, groups):
    """From the end, until three objects of other slabs were met; who is taken changes places with the last one left."""
    left = [Object(name) for name in freed.split()]
    together = []
    while left:
        together.append(" ".join(obj.name for obj in one_slab_from_the_end(left)))
    assert together == groups


def test_a_bulk_free_frees_what_is_of_one_slab_in_one_step():
    """The list limit notes all of them; into the CPU's own slab they go by its freelist."""

    async def body(s: Script) -> None:
        await s.a(40, 0)
        await s.slub.free_bulk(s.machine.cpus[1], s.objects[:20])
        assert [(e.slab.number, e.slabs, e.pobjects) for e in s.cache.cpu_slabs[1].partial] == [(1, 1, 4), (0, 2, 20)]
        await s.slub.free_bulk(s.machine.cpus[0], s.objects[32:])
        assert s.current(0) == (2, 16)
        assert s.machine.allocator.live_objects(s.machine, s.cache) == 12

    played = script(body, allocator="slub-6.1")
    assert played.names().count("Slab.free_objects") == 2


def test_a_bulk_free_that_empties_listed_slabs_gives_them_back():
    """Under the lock, as a single free does."""

    async def body(s: Script) -> None:
        await s.store("min_partial", 0)
        await s.a(33, 0)
        await s.first_of_each(2, 1)
        await s.shrink()
        await s.slub.free_bulk(s.machine.cpus[2], [*s.objects[1:16], *s.objects[17:32]])
        assert (s.slabs, s.listed) == (1, [(2, 1)])

    script(body, allocator="slub-6.1")


@pytest.mark.parametrize("allocator", ["slub-3.8", "slub-3.10"])
def test_there_are_no_bulk_calls_in_3_x(allocator):
    """They came with 4.3."""

    async def body(s: Script) -> None:
        with pytest.raises(ValueError, match="has no bulk calls"):
            await s.slub.alloc_bulk(s.machine.cpus[0], s.cache, 2)
        with pytest.raises(ValueError, match="has no bulk calls"):
            await s.slub.free_bulk(s.machine.cpus[0], [])

    script(body, allocator=allocator)


@pytest.mark.parametrize("allocator", ["slub-3.8", "slub-6.1"])
def test_pages_of_an_rcu_cache_follow_after_a_grace_period(allocator):
    """``slabs`` falls at once; a barrier waits for the pages."""

    async def body(s: Script) -> None:
        free = s.machine.page_alloc.free
        await s.a(40, 0)
        await s.f(0, 39, 0)
        await s.shrink()
        assert s.slabs == 0
        assert s.machine.page_alloc.free < free
        await rcu_barrier(s.machine.cpus[0])
        assert s.machine.page_alloc.free == free

    script(body, allocator=allocator, rcu=True)


@pytest.mark.parametrize("allocator", ["slub-3.8", "slub-6.1"])
def test_destroying_an_rcu_cache_waits_for_its_pages(allocator):
    """Its callbacks look at the cache."""
    for seed in range(30):

        async def body(s: Script) -> None:
            await s.a(40, 0)
            await s.f(0, 39, 1)
            await kmem_cache_destroy(s.machine.cpus[0], s.cache)
            assert s.machine.page_alloc.free == s.machine.page_alloc.pages

        script(body, allocator=allocator, rcu=True, seed=seed)
