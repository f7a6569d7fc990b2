"""CPUs and memory that come and go."""

from __future__ import annotations

import pytest

from slabactors.actors import parallel
from slabactors.errors import Kind, ScenarioError
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.hotplug import cpu_down, cpu_up, get_online_cpus, online_pages, put_online_cpus
from slabactors.kernel.workqueue import Work, flush_work, queue_work
from slabactors.machine import Machine
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import find
from tests.support import kinds, play, verified

ALLOCATORS = ["slub-3.8", "slub-6.1", "slab-3.8"]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_what_a_cpu_had_of_a_cache_goes_back_when_it_is_taken_away(allocator):
    """An object freed there stays with the CPU; after it went, destroying the cache finds nothing left of it."""
    held = []

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        cache = await kmem_cache_create(cpu0, "spec0", 256)
        obj = await kmem_cache_alloc(cpu1, cache)
        assert obj is not None
        await kmem_cache_free(cpu1, obj)
        before = machine.page_alloc.free
        await cpu_down(cpu0, cpu1)
        held.append((before, cache.cpu_slabs and cache.cpu_slabs[1].page, cache.arrays and cache.arrays[1].avail))
        await kmem_cache_destroy(cpu0, cache)
        assert machine.page_alloc.free == machine.page_alloc.pages

    played = play(story, allocator=allocator, hotplug=True)
    assert played.outcome.bug is None, played.outcome.bug
    assert not held[0][1]
    assert not held[0][2]


def test_items_of_a_cpu_that_goes_away_run_on_another():
    """Queued before it went or after: they run, in every interleaving."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        ran: list[tuple[str, int]] = []

        async def item(name: str) -> Work:
            async def function(cpu: Cpu) -> None:
                ran.append((name, cpu.id))

            work = Work(name, machine.clock, machine.debugobjects)
            await work.init(function)
            await queue_work(cpu1, machine.system_wq, work)
            return work

        before = await item("before")
        await cpu_down(cpu0, cpu1)
        after = await item("after")
        await flush_work(machine.system_wq, before)
        await flush_work(machine.system_wq, after)
        # The first one may have been begun before the CPU went.
        assert ("after", 0) in ran
        assert len(ran) == 2
        await cpu_up(cpu0, cpu1)
        back = await item("back")
        await flush_work(machine.system_wq, back)
        assert ran[-1] == ("back", 1)

    assert not verified(story, hotplug=True)


def test_a_cpu_does_not_go_away_while_somebody_counts_on_it():
    """Between get_online_cpus() and put_online_cpus() it stays online."""

    def story(holds: bool):
        async def counts_on_it(machine: Machine) -> None:
            cpu0, cpu1 = machine.cpus

            async def user() -> None:
                if holds:
                    await get_online_cpus(cpu0)
                first = await cpu1.is_online()
                second = await cpu1.is_online()
                if holds:
                    await put_online_cpus(cpu0)
                assert first == second

            await parallel(cpu0.task(user()), cpu0.task(cpu_down(cpu0, cpu1)))

        return counts_on_it

    assert not verified(story(holds=True), hotplug=True)
    assert kinds(verified(story(holds=False), hotplug=True))


def test_creating_and_destroying_a_cache_keeps_cpus_from_going_away():
    """The hotplug lock comes before slab_mutex on both sides: no deadlock, nothing left behind."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus

        async def module() -> None:
            cache = await kmem_cache_create(cpu0, "spec0", 256)
            await kmem_cache_destroy(cpu0, cache)

        await parallel(cpu0.task(module()), cpu0.task(cpu_down(cpu0, cpu1)))

    assert not verified(story, hotplug=True)


def test_without_hotplug_the_locks_are_nothing_and_nobody_plugs():
    """As in a kernel that was configured so."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        await get_online_cpus(cpu0)
        await put_online_cpus(cpu0)
        with pytest.raises(ValueError, match="hotplug"):
            await cpu_down(cpu0, cpu1)
        with pytest.raises(ValueError, match="hotplug"):
            await online_pages(cpu0, 1)

    played = play(story)
    assert played.outcome.error is None
    assert played.names() == []


# -- memory ------------------------------------------------------------------------------------------------------------


def brings_memory_online(machine: Machine):
    async def module() -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 2048)
        objects = []
        for _ in range(3):
            obj = await kmem_cache_alloc(cpu, cache, node=1)
            assert obj is not None
            objects.append(obj)
        for obj in objects:
            await kmem_cache_free(cpu, obj)
        await kmem_cache_destroy(cpu, cache)

    cpu0, cpu1 = machine.cpus
    return parallel(cpu0.task(module()), cpu1.task(online_pages(cpu1, 1)))


def explored(lifecycle_locks: bool, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    from slabactors.lifecycle.v3_8 import V38

    monkeypatch.setattr(V38, "locks_memory_hotplug", lifecycle_locks)

    async def story(machine: Machine) -> None:
        await brings_memory_online(machine)

    clauses = set()
    for seed in range(400):
        played = play(story, lifecycle_name="v3.8", seed=seed, hotplug=True, nodes=2, memoryless_nodes=1)
        if played.outcome.bug is not None:
            clauses.add(played.outcome.bug.clause)
    return clauses


def test_a_cache_made_while_memory_comes_online_can_lack_a_node_structure(monkeypatch):
    """Made after the callback and before the node has memory; get_online_mems() of 3.16 keeps the two apart."""
    assert explored(False, monkeypatch) == {"cache without a node structure"}
    assert explored(True, monkeypatch) == set()


def test_a_cache_that_is_there_when_memory_comes_online_gets_a_node_structure():
    """The callback; slabs wanted on a node without memory lie on the first one."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 2048)
        assert [node.present for node in cache.nodes] == [True, False]
        early = await kmem_cache_alloc(cpu, cache, node=1)
        assert early is not None
        assert early.slab.node == 0
        await online_pages(cpu, 1)
        assert [node.present for node in cache.nodes] == [True, True]
        late = await kmem_cache_alloc(cpu, cache, node=1)
        assert late is not None
        assert late.slab.node == 1
        for obj in (early, late):
            await kmem_cache_free(cpu, obj)
        await kmem_cache_destroy(cpu, cache)

    played = play(story, hotplug=True, nodes=2, memoryless_nodes=1)
    assert played.outcome.bug is None, played.outcome.bug


def test_a_machine_has_at_least_one_node_with_memory():
    """Said when the machine is made."""
    with pytest.raises(ScenarioError, match="memoryless_nodes"):
        find("dead-cache/emptied").bind(settings={"memoryless_nodes": 1})


def test_a_node_structure_that_is_missing_is_a_bug_where_it_is_needed():
    """Nothing else than the lock of its list needs it."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 2048)
        await cache.nodes[1].lock()

    bug = play(story, hotplug=True, nodes=2, memoryless_nodes=1).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.BUG_ON
