"""Each checker is tripped by a mutant of the model, and says whether it had anything to check."""

from __future__ import annotations

import pytest

from slabactors.actors import prepare
from slabactors.checkers import CHECKERS
from slabactors.errors import Kind
from slabactors.machine import WATCHED, Machine
from slabactors.mm import memcontrol, slub
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from tests.support import play


async def a_life(machine: Machine) -> None:
    """A cache is made, used, emptied, and its memcg removed."""
    cpu = machine.cpus[0]
    dentry = await kmem_cache_create(cpu, "dentry", 1000)
    web = await mem_cgroup_create(cpu, "web")
    obj = await kmem_cache_alloc(cpu, dentry, web)
    assert obj is not None
    await kmem_cache_free(cpu, obj)
    await mem_cgroup_rmdir(cpu, web)


def test_a_whole_life_trips_nothing_and_reaches_every_sometimes_property():
    """The checkers are silent on a machine that is right, and each had something to check."""
    played = play(a_life)
    assert played.outcome.bug is None
    assert all(checker.reached(played.machine) for checker in WATCHED)


def test_a_machine_that_does_nothing_reaches_no_sometimes_property():
    """An empty search is noticed by every checker."""

    async def story(machine: Machine) -> None:
        await kmem_cache_create(machine.cpus[0], "dentry", 1000)

    played = play(story)
    assert not any(checker.reached(played.machine) for checker in WATCHED)
    assert {checker.name for checker in CHECKERS} == {
        "kasan",
        "debugobjects",
        "lockdep",
        "accounting",
        "hung_task",
        "debug_list",
    }


def test_kasan_names_what_was_freed_where_and_who_touched_it():
    """The message says which object, which operation, which step freed it, and by whom."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, dentry, web)
        assert obj is not None
        cache = obj.slab.cache
        await kmem_cache_free(cpu, obj)
        await cache.free()
        await cache.read_slot(1)

    bug = play(story).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.USE_AFTER_FREE
    assert "main reached dentry(1:web) with root->memcg_params->memcg_caches[id]" in str(bug)
    assert "but main had freed it at step" in str(bug)


def test_kasan_sees_into_what_is_embedded():
    """A work item goes with the parameters that hold it, a node with its cache."""

    async def work(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, dentry, web)
        assert obj is not None
        params = obj.slab.cache.params
        assert params is not None
        await params.free()
        await params.destroy.is_pending()

    bug = play(work).outcome.bug
    assert bug is not None
    assert (bug.kind, bug.clause) == (Kind.USE_AFTER_FREE, "work.is_pending after free")


def test_accounting_notices_pages_that_nobody_counted(monkeypatch):
    """Mutant: pages of a child are bound to nothing."""

    async def forgets(cpu, cache, order) -> None:
        pass

    monkeypatch.setattr(slub, "memcg_bind_pages", forgets)

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = prepare(kmem_cache_create(cpu, "dentry", 1000))
        web = prepare(mem_cgroup_create(cpu, "web"))
        prepare(kmem_cache_alloc(cpu, dentry, web))

    bug = play(story).outcome.bug
    assert bug is not None
    assert (bug.kind, bug.clause) == (Kind.ACCOUNTING, "nr_pages")


def test_accounting_notices_a_counter_below_zero(monkeypatch):
    """Mutant: pages are released that were never bound."""

    async def forgets(cpu, cache, order) -> None:
        pass

    monkeypatch.setattr(slub, "memcg_bind_pages", forgets)
    bug = play(a_life).outcome.bug
    assert bug is not None
    assert (bug.kind, bug.clause) == (Kind.ACCOUNTING, "nr_pages is negative")


@pytest.mark.parametrize("mutant", ["forgets", "twice"])
def test_accounting_notices_references_that_are_not_balanced(monkeypatch, mutant):
    """Mutants: the last put of a memcg is forgotten, or made twice."""
    original = memcontrol.mem_cgroup_put

    async def forgets(cpu, memcg) -> None:
        pass

    async def twice(cpu, memcg) -> None:
        await original(cpu, memcg)
        await original(cpu, memcg)

    monkeypatch.setattr(memcontrol, "mem_cgroup_put", {"forgets": forgets, "twice": twice}[mutant])
    bug = play(a_life).outcome.bug
    assert bug is not None
    assert bug.kind in (Kind.ACCOUNTING, Kind.USE_AFTER_FREE)


def test_accounting_notices_pages_lost_by_the_page_allocator(monkeypatch):
    """Mutant: a slab is freed and its pages are not given back."""

    async def loses(self, cpu, cache, slab) -> None:
        await cache.nodes[0].dec_slabs(slab.objects)
        await memcontrol.memcg_release_pages(cpu, cache, slab.order)
        await memcontrol.memcg_uncharge_slab(cpu, cache, slab.memcg, slab.order)
        await slab.free()

    monkeypatch.setattr(slub.Slub, "_discard", loses)
    bug = play(a_life).outcome.bug
    assert bug is not None
    assert (bug.kind, bug.clause) == (Kind.ACCOUNTING, "pages taken")


def test_hung_task_reports_who_waits_for_whom_holding_what():
    """Two mutexes taken in opposite orders."""
    from slabactors.actors import parallel

    async def story(machine: Machine) -> None:
        async def locks(first, second) -> None:
            await first.lock()
            await second.lock()
            await second.unlock()
            await first.unlock()

        one, other = machine.slab_mutex, machine.memcg_cache_mutex
        cpu0, cpu1 = machine.cpus
        await parallel(cpu0.task(locks(one, other), "up"), cpu1.task(locks(other, one), "down"))

    bugs = [bug for seed in range(40) if (bug := play(story, seed=seed).outcome.bug) is not None]
    # Half of the schedules interleave the two first locks; none in forty has p < 1e-12.
    deadlocks = [bug for bug in bugs if bug.kind is Kind.DEADLOCK]
    assert deadlocks
    assert "in a circle: up -> down -> up" in deadlocks[0].message
    assert "up waits for mutex_lock() of memcg_cache_mutex, held by down" in deadlocks[0].message
    assert "down waits for mutex_lock() of slab_mutex, held by up" in deadlocks[0].message
    # In the other half it does not come to that, and lockdep says that it might have.
    assert len(bugs) == 40
    assert {bug.clause for bug in bugs if bug not in deadlocks} == {
        "memcg_cache_mutex -> slab_mutex -> memcg_cache_mutex"
    }
