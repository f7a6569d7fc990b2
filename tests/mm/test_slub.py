"""SLUB: what must not happen, order fallback, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.actors import join, parallel, prepare, start
from slabactors.errors import Kind
from slabactors.explore.footprints import FootprintCheck
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.rcu import rcu_barrier
from slabactors.machine import Machine
from slabactors.mm.models import MODELS
from slabactors.mm.slab_common import (
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
)
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub import Slub
from slabactors.runtime.simulated import SimPath
from tests.mm.slub_script import Script
from tests.support import Oldest, play

SLUB = sorted(name for name, model in MODELS.items() if model.layout == "slub")


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


def test_an_empty_cpu_is_not_interrupted_by_a_flush():
    """Who has no slab is left alone, on either kind of machine."""
    for allocator in SLUB:

        async def story(machine: Machine) -> None:
            cpu = machine.cpus[1]
            cache = await kmem_cache_create(cpu, "spec0", 256)
            obj = await kmem_cache_alloc(cpu, cache)
            assert obj is not None
            await kmem_cache_free(cpu, obj)
            await kmem_cache_destroy(cpu, cache)

        played = play(story, cpus=4, allocator=allocator)
        assert played.outcome.bug is None
        flushed = {step.actor.name for step in played.steps if step.operation.name in ("begin_flush", "flush_page")}
        assert flushed == {"cpu1/spec0"}


Operation = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["alloc", "free", "shrink"]), st.integers(0, 2), st.integers(0, 1000)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(
    operations=OPERATIONS,
    size=st.sampled_from([64, 256, 1000, 4096, 20000]),
    allocator=st.sampled_from(SLUB),
    nodes=st.integers(1, 3),
    rcu=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_nothing_is_lost_and_nothing_is_handed_out_twice(
    operations: list[Operation], size: int, allocator: str, nodes: int, rcu: bool, seed: int
) -> None:
    """Objects are conserved, pages equal the slabs', and destroy succeeds when everything was freed."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", size, rcu=rcu)
        held: list[SlabObject] = []
        for kind, number, which in operations:
            cpu: Cpu = machine.cpus[number]
            if kind == "alloc":
                node = which % nodes if which % 3 == 0 else None
                obj = await kmem_cache_alloc(cpu, cache, node=node)
                assert obj is not None
                assert node is None or obj.slab.node == node
                assert all((obj.slab, obj.index) != (other.slab, other.index) for other in held)
                held.append(obj)
            elif kind == "free" and held:
                await kmem_cache_free(cpu, held.pop(which % len(held)))
            elif kind == "shrink":
                await kmem_cache_shrink(cpu, cache)
                assert all(slab.inuse for node in cache.nodes for slab in node.partial)
            await rcu_barrier(machine.cpus[0])
            alive = list(machine.slabs)
            assert not any(slab.tombstone for slab in alive)
            assert machine.allocator.live_objects(machine, cache) == len(held)
            assert sum(node.nr_slabs for node in cache.nodes) == len(alive)
            assert all(slab.node == number for number, node in enumerate(cache.nodes) for slab in node.partial)
            assert machine.page_alloc.pages - machine.page_alloc.free == sum(1 << slab.order for slab in alive)
            for slab in alive:
                assert len(slab.freelist) == slab.objects - slab.inuse
        for obj in held:
            await kmem_cache_free(machine.cpus[0], obj)
        await kmem_cache_destroy(machine.cpus[0], cache)
        assert machine.page_alloc.free == machine.page_alloc.pages

    outcome = play(story, cpus=3, nodes=nodes, allocator=allocator, seed=seed).outcome
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


class DrainLast(Oldest):
    """Who frees goes first as long as it takes no lock, and everybody else before it goes on."""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        def turn(path: SimPath) -> tuple[bool, bool, int]:
            frees = path.name == "free"
            return frees and path.request[0].name == "lock", not frees, path.id

        return min(enabled, key=turn)


@pytest.mark.parametrize("allocator", [name for name in SLUB if name != "slub-6.1"])
def test_a_flush_waits_for_a_cpu_that_drains_its_partial_list(allocator: str) -> None:
    """Interrupts are off meanwhile in 3.x: the slabs are on the node's list before a shrink looks at that."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        cache = await kmem_cache_create(cpu0, "spec0", 20000)  # an object a slab
        held = []
        for _ in range(6):
            obj = await kmem_cache_alloc(cpu1, cache)
            assert obj is not None
            held.append(obj)
        for _ in range(3):
            await kmem_cache_free(cpu1, held.pop(0))
        assert len(cache.cpu_slabs[1].partial) == 3
        fourth = cpu1.task(kmem_cache_free(cpu1, held.pop(0)), "free")
        await parallel(cpu0.task(kmem_cache_shrink(cpu0, cache), "shrink"), fourth)
        # That of the fourth is put on the CPU's list at any time.
        assert len(machine.slabs) in (len(held), len(held) + 1)

    assert play(story, strategy=DrainLast(), allocator=allocator).outcome.bug is None
    for seed in range(20):
        assert play(story, seed=seed, allocator=allocator).outcome.bug is None


@pytest.mark.parametrize("allocator", SLUB)
def test_paths_side_by_side_lose_nothing_and_their_footprints_are_true(allocator: str) -> None:
    """Allocations, frees and shrinks on three CPUs and two nodes, at once, in 60 random orders."""
    pairs = 0
    for seed in range(60):

        async def story(machine: Machine, min_partial: int = seed % 3) -> None:
            cache = await kmem_cache_create(machine.cpus[0], "spec0", 4096, min_partial=min_partial)

            async def user(cpu: Cpu, theirs: list[SlabObject]) -> None:
                for number in range(5):
                    obj = await kmem_cache_alloc(cpu, cache, node=None if number else 0)
                    assert obj is not None
                    theirs.append(obj)
                while theirs:
                    await kmem_cache_free(cpu, theirs.pop())

            async def bulk_user(cpu: Cpu) -> None:
                slub = cast("Slub", machine.allocator)
                if slub.policy.bulk:
                    objects = await slub.alloc_bulk(cpu, cache, 12)
                    await slub.free_bulk(cpu, objects[::2] + objects[1::2])

            shared: list[SlabObject] = []
            users = [cpu.task(user(cpu, shared), "user") for cpu in machine.cpus]
            cpu0 = machine.cpus[0]
            await parallel(
                *users, cpu0.task(bulk_user(cpu0), "bulk"), cpu0.task(kmem_cache_shrink(cpu0, cache), "shrink")
            )
            assert machine.allocator.live_objects(machine, cache) == 0
            await kmem_cache_destroy(cpu0, cache)
            assert machine.page_alloc.free == machine.page_alloc.pages

        check = FootprintCheck(RandomWalk(seed))
        played = play(story, cpus=3, nodes=2, allocator=allocator, strategy=check)
        assert played.outcome.error is None, played.outcome.error
        pairs += sum(check.pairs.values())
    assert pairs
