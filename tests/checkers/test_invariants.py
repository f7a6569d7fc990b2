"""The table of invariants in docs/explanation/model.md: each has a checker, and a mutant that trips it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slabactors.actors import join, parallel, prepare, start
from slabactors.checkers import CHECKERS
from slabactors.errors import KernelBug, Kind
from slabactors.explore.replay import replay
from slabactors.explore.strategy import RandomWalk
from slabactors.explore.verify import verify
from slabactors.kernel.locking import Mutex
from slabactors.kernel.sysfs_names import SysfsNames
from slabactors.kernel.workqueue import Work, Workqueue, cancel_work_sync, queue_work
from slabactors.lifecycle.repaired import Repaired
from slabactors.machine import Machine
from slabactors.mm import memcontrol, slub
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
)
from slabactors.mm.slab_page import SlabObject
from slabactors.scenario import find
from tests.support import StarveBefore, play

MODEL = Path(__file__).parents[2] / "docs" / "explanation" / "model.md"
ROW = re.compile(r"^\| (I\d+) \| (.+?) \| `(\w+)` \| `([\w-]+)` \| (.+?) \|$", re.MULTILINE)
TABLE = ROW.findall(MODEL.read_text())

Trip = Callable[[pytest.MonkeyPatch], "KernelBug | None"]
TRIPS: dict[str, Trip] = {}


def trips(mutant: str) -> Callable[[Trip], Trip]:
    """Say which mutant of the table a function runs."""

    def keep(trip: Trip) -> Trip:
        TRIPS[mutant] = trip
        return trip

    return keep


def hunt(story: str, lifecycle: str, kind: Kind, runs: int = 400) -> KernelBug | None:
    """Play a shipped story in random orders until it breaks in that way."""
    program = find(f"dead-cache/{story}").bind(lifecycle_name=lifecycle)
    for seed in range(runs):
        bug = program.execute(RandomWalk(seed)).outcome.bug
        if bug is not None and bug.kind is kind:
            return bug
    return None


def with_a_child(machine: Machine) -> tuple[KmemCache, memcontrol.MemCgroup, SlabObject]:
    """A root cache, a memcg, and an object of the child that the two have."""
    cpu = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu, "web"))
    obj = prepare(kmem_cache_alloc(cpu, dentry, web))
    assert obj is not None
    return dentry, web, obj


def in_some_order(story, runs: int = 200, **options) -> KernelBug | None:
    """The first bug of a story of one's own in random orders."""
    return next((bug for seed in range(runs) if (bug := play(story, seed=seed, **options).outcome.bug)), None)


# -- I1 to I4 ----------------------------------------------------------------------------------------------------------


@trips("`v5` in `rmdir-races-last-free`")
def touches_what_was_freed(_: pytest.MonkeyPatch) -> KernelBug | None:
    return hunt("rmdir-races-last-free", "v5", Kind.USE_AFTER_FREE)


@trips("a cache that is destroyed twice")
def destroys_twice(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        _, _, obj = with_a_child(machine)
        await kmem_cache_free(machine.cpus[0], obj)
        await kmem_cache_destroy(machine.cpus[0], obj.slab.cache)
        await kmem_cache_destroy(machine.cpus[0], obj.slab.cache)

    return play(story).outcome.bug


@trips("parameters that are freed while their work is queued")
def frees_a_queued_work(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def nothing(cpu) -> None:
        pass

    async def story(machine: Machine) -> None:
        _, _, obj = with_a_child(machine)
        params = obj.slab.cache.params
        assert params is not None
        await params.destroy.init(nothing)
        await queue_work(machine.cpus[0], machine.system_wq, params.destroy)
        await params.free()

    return play(story).outcome.bug


@trips("a cache that is destroyed with an object in it")
def destroys_with_objects(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry, _, _ = with_a_child(machine)
        await kmem_cache_destroy(machine.cpus[0], dentry)

    return play(story).outcome.bug


@trips("a work that nobody has initialised")
def queues_uninitialised(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        work = Work("work", machine.clock, machine.debugobjects)
        await queue_work(machine.cpus[0], machine.system_wq, work)

    return play(story).outcome.bug


# -- I5 to I7 ----------------------------------------------------------------------------------------------------------


@trips("`v5-no-shrink` in `emptied`")
def never_shrinks(_: pytest.MonkeyPatch) -> KernelBug | None:
    return hunt("emptied", "v5-no-shrink", Kind.ZOMBIE)


@trips("`v5-dead-after-queueing` in `emptied`")
def marks_too_late(_: pytest.MonkeyPatch) -> KernelBug | None:
    program = find("dead-cache/emptied").bind(lifecycle_name="v5-dead-after-queueing")
    *_, result = verify(program)
    found = next(bug for bug in result.found.values() if bug.kind is Kind.LOST_WAKEUP)
    return replay(program, found.decisions).outcome.bug


@trips("a workqueue that takes items which are busy")
def runs_twice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> KernelBug | None:
    monkeypatch.setattr(Workqueue, "_may_take", lambda self, work: True)

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        mutex = Mutex("mutex")
        work = Work("work", machine.clock, machine.debugobjects)

        async def waits(cpu) -> None:
            await mutex.lock()
            await mutex.unlock()

        await mutex.lock()
        await work.init(waits)
        await queue_work(cpu, machine.system_wq, work)
        await work.wait_started(1)
        await queue_work(cpu, machine.system_wq, work)
        await mutex.unlock()

    return in_some_order(story, kworkers=2)


# -- I8 to I10 ---------------------------------------------------------------------------------------------------------


@trips("a cache that is freed without being shut down")
def frees_with_pages(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry = prepare(kmem_cache_create(machine.cpus[0], "dentry", 1000))
        assert prepare(kmem_cache_alloc(machine.cpus[0], dentry)) is not None
        await dentry.free()

    return play(story).outcome.bug


@trips("pages that are bound to nothing")
def forgets_pages(monkeypatch: pytest.MonkeyPatch) -> KernelBug | None:
    async def forgets(cpu, cache, order) -> None:
        pass

    monkeypatch.setattr(slub, "memcg_bind_pages", forgets)

    async def story(machine: Machine) -> None:
        with_a_child(machine)

    return play(story).outcome.bug


@trips("a memcg that is freed before its child")
def frees_the_memcg(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        _, web, _ = with_a_child(machine)
        await web.free()

    return play(story).outcome.bug


@trips("a reference that is never put")
def never_puts(monkeypatch: pytest.MonkeyPatch) -> KernelBug | None:
    async def forgets(cpu, memcg) -> None:
        pass

    monkeypatch.setattr(memcontrol, "mem_cgroup_put", forgets)

    async def story(machine: Machine) -> None:
        web = await mem_cgroup_create(machine.cpus[0], "web")
        await mem_cgroup_rmdir(machine.cpus[0], web)

    return play(story).outcome.bug


# -- I11 ---------------------------------------------------------------------------------------------------------------


@trips("two mutexes in two orders, one after the other")
def takes_two_orders(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        for one, other in (
            (machine.slab_mutex, machine.memcg_cache_mutex),
            (machine.memcg_cache_mutex, machine.slab_mutex),
        ):
            await one.lock()
            await other.lock()
            await other.unlock()
            await one.unlock()

    return play(story).outcome.bug


@trips("a work that cancels itself")
def cancels_itself(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        work = Work("work", machine.clock, machine.debugobjects)

        async def cancels(cpu) -> None:
            await cancel_work_sync(machine.system_wq, work)

        await work.init(cancels)
        await queue_work(machine.cpus[0], machine.system_wq, work)

    return play(story).outcome.bug


@trips("a cancel under a mutex that the work takes")
def cancels_under_a_mutex(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        work = Work("work", machine.clock, machine.debugobjects)

        async def takes(cpu) -> None:
            await machine.slab_mutex.lock()
            await machine.slab_mutex.unlock()

        await work.init(takes)
        await queue_work(machine.cpus[0], machine.system_wq, work)
        await work.wait_started(1)
        await machine.system_wq.wait_idle(work)
        await machine.slab_mutex.lock()
        await cancel_work_sync(machine.system_wq, work)
        await machine.slab_mutex.unlock()

    return play(story).outcome.bug


# -- I12 to I14 --------------------------------------------------------------------------------------------------------


@trips("`v5`, and an allocation that finds the child before its counter is set up")
def binds_too_early(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        one, other = machine.cpus
        dentry = prepare(kmem_cache_create(one, "dentry", 1000))
        web = prepare(mem_cgroup_create(one, "web"))
        await parallel(
            one.task(kmem_cache_alloc(one, dentry, web), "first"),
            other.task(kmem_cache_alloc(other, dentry, web), "late"),
        )

    return play(story, strategy=StarveBefore("init_nr_pages")).outcome.bug


@trips("a slot that is not cleared")
def leaves_the_slot(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry, web, obj = with_a_child(machine)
        child = obj.slab.cache
        await kmem_cache_free(machine.cpus[0], obj)
        await kmem_cache_destroy(machine.cpus[0], child)
        await dentry.publish(web.id, child)

    return play(story).outcome.bug


@trips("a slot that is cleared while its child is on the list")
def loses_the_slot(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry, web, _ = with_a_child(machine)
        await dentry.clear_slot(web.id)

    return play(story).outcome.bug


@trips("a child that is created twice")
def creates_twice(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry, web, obj = with_a_child(machine)
        await dentry.clear_slot(web.id)
        await web.unlink(obj.slab.cache)
        assert await kmem_cache_alloc(machine.cpus[0], dentry, web) is not None

    return play(story).outcome.bug


@trips("a root that is freed before its child")
def frees_the_root(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        dentry, _, _ = with_a_child(machine)
        await dentry.free()

    return play(story).outcome.bug


# -- I15 to I17 --------------------------------------------------------------------------------------------------------


@trips("`v5-retry-at-once`, and an object that stays")
def retries_at_once(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        _, web, _ = with_a_child(machine)
        await mem_cgroup_rmdir(machine.cpus[0], web)

    return play(story, lifecycle_name="v5-retry-at-once").outcome.bug


class SleepsInRelease(Repaired):
    """Whoever releases the last page waits for the work of the cache."""

    async def last_page_released(self, cpu, cache) -> None:
        await cancel_work_sync(cpu.machine.system_wq, cache.params.destroy)


def frees_in_softirq(lifecycle) -> KernelBug | None:
    """An object is freed by a packet that comes in; the machine and what it says."""

    async def story(machine: Machine) -> None:
        machine.lifecycle = lifecycle
        _, _, obj = with_a_child(machine)
        cpu = machine.cpus[0]
        cache = obj.slab.cache
        free = await start(cpu.softirq(kmem_cache_free(cpu, obj), "net_rx_action"))
        await join(free)
        # The empty slab is given back by a shrink, in process context; a last page can go in any.
        packet = await start(cpu.softirq(machine.lifecycle.last_page_released(cpu, cache), "net_rx_action"))
        await join(packet)

    return play(story, lifecycle_name="repaired").outcome.bug


@trips("a lifecycle that cancels the work when the last page goes, and a free in a softirq")
def sleeps_in_release(_: pytest.MonkeyPatch) -> KernelBug | None:
    return frees_in_softirq(SleepsInRelease())


@trips("a cache that is created again while a work has yet to remove its name")
def removes_the_name_late(_: pytest.MonkeyPatch) -> KernelBug | None:
    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        slab = SysfsNames("kernel/slab")
        remove = Work("sysfs_slab_remove_workfn", machine.clock, machine.debugobjects)

        async def sysfs_slab_remove_workfn(cpu) -> None:
            await slab.remove("dentry")

        await slab.add("dentry")
        await remove.init(sysfs_slab_remove_workfn)
        await queue_work(cpu, machine.system_wq, remove)
        # Window: the cache is gone, and its name is not.
        await slab.add("dentry")

    return in_some_order(story)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_has_every_invariant_and_every_mutant_once() -> None:
    """I1 to I17, and as many rows as there are mutants above."""
    assert {row[0] for row in TABLE} == {f"I{number}" for number in range(1, 18)}
    assert sorted(row[4] for row in TABLE) == sorted(TRIPS)


@pytest.mark.parametrize(
    ("invariant", "says", "checker", "kind", "mutant"), TABLE, ids=[f"{r[0]} {r[4]}" for r in TABLE]
)
def test_each_invariant_is_tripped_by_its_mutant(
    invariant: str, says: str, checker: str, kind: str, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the table says it."""
    assert checker in {one.name for one in CHECKERS}
    bug = TRIPS[mutant](monkeypatch)
    assert bug is not None, f"{invariant}: {says}"
    assert bug.kind is Kind(kind)


def test_a_free_in_a_softirq_trips_nothing_when_the_release_path_does_not_sleep() -> None:
    """The lifecycles that are shipped queue works there, and that is all."""
    assert frees_in_softirq(Repaired()) is None


def test_a_name_that_is_removed_at_once_can_be_taken_again() -> None:
    """The other side of I17."""

    async def story(machine: Machine) -> None:
        slab = SysfsNames("kernel/slab")
        for _ in range(2):
            await slab.add("dentry")
            await slab.remove("dentry")

    assert play(story).outcome.bug is None
