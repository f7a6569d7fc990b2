"""A search: how many executions, what they found, when it stops, and which programs it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from slabactors.actors import sleep
from slabactors.errors import NondeterminismError, UnknownName
from slabactors.explore.bounded import search_bounded
from slabactors.explore.campaign import BLOCK, SearchResult, search, search_until_broken
from slabactors.explore.finding import signature
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.explore.programs import PROGRAMS, SmallProgram, World, broken


def searched(program, **options) -> SearchResult:
    """The result of a search that is over."""
    *_, result = search(program, **options)
    return result


@pytest.mark.parametrize("runs", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_search_makes_as_many_runs_as_asked_for(runs):
    """No more and no fewer, wherever the blocks of executions end."""
    result = searched(PROGRAMS["lost update"], runs=runs)
    assert (result.executions, result.finished) == (runs, True)
    assert result.deliveries >= runs


def test_each_bug_is_found_once_and_counted():
    """The record of a bug is that of the first execution that showed it; later ones are counted."""
    program = PROGRAMS["chosen free"]
    result = searched(program, runs=1000, seed=3)
    assert result.verdict == "broken"
    for name, found in result.found.items():
        assert found.signature == name
        again = program.execute(FollowRecord(found.record))
        assert signature(again.outcome) == name
        until = searched(program, runs=found.execution + 1, seed=3)
        assert until.found[name].count == 1
        assert found.execution == 0 or name not in searched(program, runs=found.execution, seed=3).found
    assert sum(found.count for found in result.found.values()) < result.executions


def test_the_same_seed_is_the_same_search():
    """Results of one seed are equal; those of another are not."""
    first, second, other = (
        [(one.signature, one.execution, one.count, one.record) for one in result.found.values()]
        for result in (searched(PROGRAMS["lost update"], runs=400, seed=seed) for seed in (1, 1, 2))
    )
    assert first == second
    assert first != other


def test_a_search_can_be_stopped_between_two_runs():
    """What asks it to stop is asked before each run; what was found so far stays, and nothing is called clean."""
    asked = count()
    result = searched(PROGRAMS["lost update"], runs=1000, stop=lambda: next(asked) == 7)
    assert (result.executions, result.finished) == (7, False)
    never = searched(PROGRAMS["lost update"], runs=1000, stop=lambda: True)
    assert (never.executions, never.found, never.verdict) == (0, {}, "undetermined")


def test_the_result_grows_in_place():
    """Whoever holds the result that comes first sees every later one: it is the same."""
    growing = search(PROGRAMS["lost update"], runs=2 * BLOCK)
    first = next(growing)
    assert (first.executions, first.finished, first.verdict) == (0, False, "undetermined")
    *_, last = growing
    assert last is first
    assert first.executions == 2 * BLOCK


def test_no_time_at_all_is_time_for_one_run():
    """A limit on time is looked at after each run, not before the first."""
    result = searched(PROGRAMS["lost update"], runs=1000, seconds=1e-9)
    assert (result.executions, result.finished) == (1, True)


async def endless(world: World) -> None:
    while True:
        await world.x.write_a()


async def quiet(world: World) -> None:
    await world.x.write_a()


async def idle(world: World) -> None:
    await world.y.write_a()


@pytest.mark.parametrize(
    ("story", "verdict", "bounded", "reached"),
    [(quiet, "clean", 0, True), (idle, "clean", 0, False), (endless, "undetermined", 5, True)],
)
def test_the_verdict_says_no_more_than_what_was_seen(story, verdict, bounded, reached):
    """Runs that were cut off are no proof of anything; what no run has reached is told."""
    result = searched(SmallProgram(story), runs=5)
    assert (result.verdict, result.bounded) == (verdict, bounded)
    assert result.sometimes == {"box: x was written to": reached}


def test_a_bound_does_not_hide_a_bug():
    """A search with bugs and cut-off runs is broken."""
    result = searched(replace(PROGRAMS["unrepeatable"], steps_max=8), runs=300)
    assert result.bounded
    assert result.found
    assert result.verdict == "broken"


def test_an_unknown_strategy_is_refused_before_anything_runs():
    """The name is looked up first."""
    with pytest.raises(UnknownName, match="unknown strategy 'guess'"):
        next(search(PROGRAMS["lost update"], strategy="guess"))


# -- programs that do not repeat themselves ----------------------------------------------------------------------------


def test_a_program_that_reads_a_clock_is_refused():
    """Two runs that differ in what was passed, answered or waited for differ, and the step is named."""
    ticks = count(1)

    async def passes(world: World) -> None:
        await world.x.read_a()
        await world.x.set_a(next(ticks))

    with pytest.raises(NondeterminismError, match=r"(?s)at step 1:.*set_a\(1\).*set_a\(2\)"):
        searched(SmallProgram(passes), runs=5)

    async def naps(world: World) -> None:
        await sleep(next(ticks))
        await world.x.read_a()

    with pytest.raises(NondeterminismError, match=r"(?s)at step 0:.*at 3 jiffies.*at 4 jiffies"):
        searched(SmallProgram(naps), runs=5)


def test_a_program_that_breaks_in_its_second_run_only_is_refused():
    """The ends of two runs are compared as well as their steps."""
    runs = count(1)

    async def breaks(world: World) -> None:
        await world.x.read_a()
        if next(runs) == 2:
            raise broken("it is the second run")

    with pytest.raises(NondeterminismError, match=r"(?s)at step 1:.*ended: done.*ended: property: it is the second"):
        searched(SmallProgram(breaks), runs=5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_repeats_itself_is_not_refused(name):
    """Choices, timers and bugs are in the schedule; repeating it repeats them."""
    for seed in range(20):
        assert searched(PROGRAMS[name], runs=1, seed=seed).executions == 1


def test_a_search_by_preemptions_finds_each_bug_at_the_fewest_that_show_it() -> None:
    """The last free needs one; nothing breaks without any; and the bound below was explored to its end."""
    program = find("dead-cache/rmdir-races-last-free").bind()
    *_, found = search_bounded(program, bound=2, time=TimePolicy.QUIESCENT)
    assert (found.exhausted, found.complete, found.verdict) == (2, False, "broken")
    needed = {name.partition(":")[0]: bound for name, bound in found.first_bound.items()}
    assert needed["freed-active-work"] == needed["uninitialised-work"] == 1
    assert sorted(found.first_bound.values()) == [1, 1, 1, 1, 2]


def test_a_search_says_which_strategy_played_and_found_what() -> None:
    """A portfolio's members in turn; every bug was found first by one of them."""
    result = searched(PROGRAMS["lost update"], strategy="portfolio", runs=6 * 33 + 4)
    assert {name: share.executions for name, share in result.shares.items()} == {
        "random": 34,
        "pct": 3 * 33 + 2,
        "pos": 34,
        "urw": 33,
    }
    assert sum(share.found for share in result.shares.values()) == sum(bug.count for bug in result.found.values())
    assert sum(result.first_found(name) for name in result.shares) == len(result.found) == 1


def test_a_strategy_that_is_no_portfolio_has_all_of_a_search() -> None:
    """The same figures, under its own name."""
    result = searched(PROGRAMS["lost update"], strategy="pos", runs=30)
    (found,) = result.found.values()
    assert list(result.shares) == ["pos"]
    assert (result.shares["pos"].executions, result.shares["pos"].found) == (30, found.count)
    assert result.first_found("pos") == 1


def test_a_search_for_some_bugs_passes_others_and_ends_at_the_first_of_them():
    """Others are collected on the way, with their executions as a whole search numbers them."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    whole = searched(program, strategy="portfolio", runs=400)
    last = list(whole.found)[-1]
    *_, until = search_until_broken(program, strategy="portfolio", runs=400, wanted=lambda name: name == last)
    assert until.executions == whole.found[last].execution + 1 < 400
    assert list(until.found) == list(whole.found)
    *_, first = search_until_broken(program, strategy="portfolio", runs=400)
    assert first.executions < until.executions
