"""When dead caches die, when they are destroyed and what they pin meanwhile, in stories short enough to work out."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from slabactors.actors import operation, sleep
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.lifecycle.verify_dead import VerifyDead
from slabactors.mm.memcontrol import (
    MemcgCacheParams,
    MemCgroup,
    mem_cgroup_create,
    mem_cgroup_rmdir,
    memcg_create_kmem_cache,
)
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.report.dead_caches import ChildFate, DeadCaches, DeadCachesWatch, dead_caches, facts_of, summary
from slabactors.report.html.caches import Caches
from slabactors.report.html.recording import of_log
from slabactors.runtime.step import Ending, Outcome, TimePolicy
from slabactors.scenario import Machine, find, scenario
from slabactors.trace.reader import LogReader
from tests.cli.conftest import command
from tests.support import Oldest

__all__ = ["command"]

STORY = "containers/come-and-go"

PAGES = 4
"""Of a slab for objects of 1000 bytes: 16 fit into 16 KiB, and SLUB wants at least 12 on two CPUs."""

RETRY = 80_128
"""The work that armed its timer at 20 s comes a minute later: at 80,000, rounded up within the slack of 1/256 of the
delay (234 jiffies) to what has most low bits clear, a multiple of 256."""


@scenario(title="one memcg leaves an empty slab behind, and the other an object in use", cpus=2)
async def two_groups(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    box = await kmem_cache_create(cpu0, "box", 1000)
    early, late = await mem_cgroup_create(cpu0, "early"), await mem_cgroup_create(cpu0, "late")
    await memcg_create_kmem_cache(cpu0, box, early)
    await memcg_create_kmem_cache(cpu0, box, late)
    one = await kmem_cache_alloc(cpu0, box, early)
    other = await kmem_cache_alloc(cpu0, box, late)
    assert one is not None
    assert other is not None
    await kmem_cache_free(cpu0, one)
    await sleep(10 * HZ)
    await mem_cgroup_rmdir(cpu0, early)
    await sleep(10 * HZ)
    await mem_cgroup_rmdir(cpu0, late)
    await sleep(10 * HZ)
    await kmem_cache_free(cpu1, other)


def seen_under(lifecycle: str) -> DeadCaches:
    """The story without any interleaving: kworkers wait until nobody else can move."""
    watch = DeadCachesWatch()
    program = two_groups.bind(lifecycle_name=lifecycle)
    execution = program.execute(Oldest(), observer=watch, time=TimePolicy.QUIESCENT)
    return watch.seen(execution.outcome)


def times(seen: DeadCaches) -> list[tuple[str, int | None, int | None, int]]:
    return [(child.memcg, child.offline, child.destroyed, child.pages) for child in seen.children]


def test_before_the_patch_both_caches_stay_with_their_empty_slabs():
    seen = seen_under("pre-patch")
    assert times(seen) == [("early", 10_000, None, PAGES), ("late", 20_000, None, PAGES)]
    assert seen.pinned == ((0, 0), (10_000, PAGES), (20_000, 2 * PAGES))
    assert [child.name for child in seen.leaked] == ["box(1:early)", "box(2:late)"]
    assert seen.ended == 30_000
    assert seen.page_seconds == 10 * PAGES + 10 * 2 * PAGES


def test_what_was_merged_destroys_the_empty_one_at_once_and_leaves_the_other():
    seen = seen_under("v3.8")
    assert times(seen) == [("early", 10_000, 10_000, 0), ("late", 20_000, None, PAGES)]
    assert seen.pinned == ((0, 0), (20_000, PAGES))
    assert seen.dying_seconds == [0.0]
    assert (seen.pages_leaked, seen.pages_most) == (PAGES, PAGES)


def test_the_founding_patch_comes_back_for_the_other_a_minute_later():
    seen = seen_under("v5")
    assert times(seen) == [("early", 10_000, 10_000, 0), ("late", 20_000, RETRY, 0)]
    assert seen.pinned == ((0, 0), (20_000, PAGES), (RETRY, 0))
    assert seen.leaked == []
    assert seen.dying_seconds == [0.0, (RETRY - 20_000) / HZ]
    assert seen.page_seconds == PAGES * (RETRY - 20_000) / HZ
    assert [seen.pages_at(jiffies) for jiffies in (0, 19_999, 20_000, RETRY - 1, RETRY, 10**9)] == [
        0, 0, PAGES, PAGES, 0, 0,
    ]  # fmt: skip


def test_a_look_at_every_free_destroys_what_is_freed_into_and_never_what_was_empty_before():
    seen = seen_under("verify-dead")
    assert times(seen) == [("early", 10_000, None, PAGES), ("late", 20_000, 30_000, 0)]
    assert seen.pinned == ((0, 0), (10_000, PAGES), (20_000, 2 * PAGES), (30_000, PAGES))


def test_once_whatever_is_charged_holds_the_group_an_empty_slab_holds_the_cache_that_it_is_of():
    seen = seen_under("v3.19")
    assert times(seen) == [("early", 10_000, None, PAGES), ("late", 20_000, None, PAGES)]
    assert seen.pinned == ((0, 0), (10_000, PAGES), (20_000, 2 * PAGES))


@pytest.mark.parametrize("lifecycle", ["refcount", "v4.0", "v4.11", "v5.3", "v5.8-stable"])
def test_once_dead_caches_keep_no_empty_slab_the_last_free_ends_them(lifecycle):
    """Nobody counts pages or marks caches dead there: what has died is known by the group, and pages by the slabs."""
    seen = seen_under(lifecycle)
    assert times(seen) == [("early", 10_000, 10_000, 0), ("late", 20_000, 30_000, 0)]
    assert seen.pinned == ((0, 0), (20_000, PAGES), (30_000, 0))


def test_caches_that_all_groups_share_never_die():
    seen = seen_under("v5.9")
    assert [(child.memcg, child.offline, child.destroyed) for child in seen.children] == [("/", None, None)]
    assert (seen.dead, seen.pinned) == ([], ((0, 0),))


class UncheckedParams(MemcgCacheParams):
    """With a counter that is set to zero as the kernel does it: whatever it counted before."""

    role = MemcgCacheParams.role

    @operation(writes="nr_pages")
    def init_nr_pages(self) -> None:
        self.pages = 0


class UncheckedVerifyDead(VerifyDead):
    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        return UncheckedParams(child, memcg, root, machine.clock, machine.debugobjects)


def test_pages_are_those_of_slabs_where_a_counter_has_lost_some():
    """In v5 a child can be found before its counter is set to zero: pages that it gets before that are not in it.

    That is a bug, which ends the run when the counter is set; here nobody looks, as in a kernel, and it goes on.
    """
    watch = DeadCachesWatch()
    program = find(STORY).bind(lifecycle_name="verify-dead")
    outcome = program.execute(RandomWalk("0/0"), time=TimePolicy.QUIESCENT).outcome
    assert outcome.bug is not None
    assert outcome.bug.clause == "nr_pages initialised with pages bound"
    unchecked = replace(program, lifecycle=UncheckedVerifyDead())
    machine = unchecked.execute(RandomWalk("0/0"), observer=watch, time=TimePolicy.QUIESCENT).world
    seen = watch.seen(Outcome(Ending.DONE, 0, 0))
    assert seen.ended > outcome.now
    slabs = {child.name: 0 for child in seen.leaked}
    for slab in machine.slabs:
        if slab.cache.name in slabs:
            slabs[slab.cache.name] += 1 << slab.order
    assert {child.name: child.pages for child in seen.leaked} == slabs
    assert sum(slabs.values()) == seen.pages_leaked
    counted = sum(child.params.pages for child in machine.children() if child.name in slabs)
    assert 0 < counted < seen.pages_leaked


def test_a_cache_of_a_living_memcg_pins_nothing():
    @scenario(title="nobody dies", cpus=2)
    async def nobody(machine: Machine) -> None:
        cpu0 = machine.cpus[0]
        box = await kmem_cache_create(cpu0, "box", 1000)
        group = await mem_cgroup_create(cpu0, "web")
        assert await kmem_cache_alloc(cpu0, box, group)

    seen = dead_caches(nobody.bind())
    assert seen.children == (ChildFate("box(1:web)", "box", "web", None, None, PAGES),)
    assert (seen.dead, seen.pinned, seen.dying_seconds) == ([], ((0, 0),), [])
    assert summary(seen).startswith("0 dead caches: 0 destroyed, 0 still there\n")
    assert facts_of(seen)["seconds_to_destruction"] is None


def test_a_cache_that_is_made_for_a_dead_memcg_is_dead_from_the_start():
    """Its creation was queued before the directory went, and runs afterwards: nobody marks it."""
    watch = DeadCachesWatch()
    program = find("dead-cache/creation-races-rmdir").bind(lifecycle_name="v3.8")
    execution = program.execute(Oldest(), observer=watch, time=TimePolicy.QUIESCENT)
    [child] = watch.seen(execution.outcome).children
    assert (child.offline, child.destroyed) == (0, None)


def test_children_that_were_there_before_the_first_step_are_seen():
    """Four objects of 3000 bytes, two on each CPU: two slabs of eight pages."""
    seen = dead_caches(find("dead-cache/freed-later").bind())
    [child] = seen.dead
    assert (child.offline, child.destroyed, seen.pages_most) == (0, 60_160, 2 * 8)


def test_a_run_that_breaks_is_told_up_to_there():
    """The queued work is freed with its cache: what destroys the cache never comes to its end."""
    watch = DeadCachesWatch()
    program = two_groups.bind(lifecycle_name="v5-destroy-after-shrink")
    seen = watch.seen(program.execute(Oldest(), observer=watch, time=TimePolicy.QUIESCENT).outcome)
    assert seen.broke == "freed-active-work: free of an active work item by kworker"
    assert seen.ended == 10_000
    assert "when it broke" in summary(seen)


# -- an hour of containers ---------------------------------------------------------------------------------------------

SMALL = {"containers": 4, "minutes": 5, "objects": 9}


def test_containers_leave_dozens_of_caches_behind_and_the_lifecycle_says_for_how_long():
    by_name = {name: dead_caches(find(STORY).bind(lifecycle_name=name)) for name in ("pre-patch", "v3.8", "repaired")}
    assert {len(seen.dead) for seen in by_name.values()} == {60}
    before, merged, repaired = by_name.values()
    assert len(before.leaked) == 60
    assert 0 < len(merged.leaked) < 60
    assert repaired.leaked == []
    assert before.pages_leaked > merged.pages_leaked > repaired.pages_leaked == 0
    assert max(merged.dying_seconds) == 0.0
    assert max(repaired.dying_seconds) > 60.0
    assert all(seen.ended >= 3_600 * HZ for seen in by_name.values())


def test_a_workload_is_the_same_under_every_lifecycle_and_with_every_seed():
    """The same children of the same groups, whoever takes them down and in whatever order the steps come."""

    def children(**options: object) -> set[str]:
        seed = options.pop("seed", 0)
        bound = find(STORY).bind(lifecycle_name=options.pop("lifecycle", None), settings={**SMALL, **options})
        return {f"{child.root} {child.memcg}" for child in dead_caches(bound, seed).dead}

    assert children() == children(lifecycle="v3.8") == children(seed=7) == children(allocator="slab-3.8")
    assert children() != children(workload=1)


def test_the_same_seed_is_the_same_run():
    program = find(STORY).bind(settings=SMALL)
    assert dead_caches(program, 3) == dead_caches(program, 3)


@pytest.mark.parametrize("lifecycle", ["v5", "v3.8"])
def test_the_page_of_a_log_adds_up_the_same_pages(command, tmp_path, lifecycle):
    """The page works from names and changed cells of the log, this from the actors: both say the same of each jiffy."""
    log = tmp_path / "run.jsonl"
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    command("run", STORY, *settings, "--lifecycle", lifecycle, "--log", log)
    with LogReader(log) as reader:
        recording = of_log(reader)
    caches = Caches(recording)
    by_time = {0: 0}
    for position, pages in caches.totals[0]:
        by_time[recording.steps[position].jiffies if position >= 0 else 0] = pages
    seen = dead_caches(find(STORY).bind(lifecycle_name=lifecycle, settings=SMALL))
    assert {jiffies: seen.pages_at(jiffies) for jiffies in by_time} == by_time
    gone = {name for name, life in caches.lives.items() if life.root and life.now["state"] == "destroyed"}
    assert gone == {child.name for child in seen.children if child.destroyed is not None}


def test_a_run_says_how_many_caches_leaked_and_what_they_pin(command):
    said = command("run", STORY, "--lifecycle", "v3.8")
    assert "60 dead caches: " in said.out
    assert " still there\n  pages of dead caches: " in said.out
    document = command("run", STORY, "--lifecycle", "v3.8", "--json").document
    dead = document["dead_caches"]
    assert dead["dead"] == 60 == dead["destroyed"] + dead["leaked"]
    assert dead["pinned"][-1][1] == dead["pages_leaked"] > 0
    assert "dead cache:" not in command("run", "dead-cache/freed-later").out


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_live_run_is_watched_as_a_simulated_one_is(backend):
    watch = DeadCachesWatch()
    program = find(STORY).bind(lifecycle_name="repaired", settings=SMALL)

    async def live():
        return await program.execute_live(time_scale=20_000, observer=watch)

    seen = watch.seen(anyio.run(live, backend=backend).outcome)
    expected = dead_caches(program)
    assert {child.memcg for child in seen.dead} == {child.memcg for child in expected.dead}
    assert (seen.leaked, seen.pages_leaked, seen.broke) == ([], 0, None)
    assert [begin for begin, _ in seen.pinned] == sorted({begin for begin, _ in seen.pinned})
