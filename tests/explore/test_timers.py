"""Clock policies against exact counts, the bound on starvation, and messages that overtake each other.

The counts are those of the oracle table for one receiver, whose messages come in one lane: delivery is the step here,
and a lane is a path of its own, so of the delivery modes of that table this engine has the lane mode.  Not applicable,
and why:

- *bag* (any order of all messages): a lane keeps its order; a program that wants none sends from several paths.
- *causal* (what was sent because of a message comes after it): for paths that ask it is the same, since nobody has two
  unanswered messages; for pipelined tells lane mode is weaker, and that is counted (`Simulation.pipelined`).
- *mailbox, whole handler atomic*: an operation is the handler, and what a path does between two operations is not
  atomic, which is the point of the emulation.
- *mailbox, each send a step* (in the order of sending): a tell is no step of its own here.  Where it would have made a
  difference, `pipelined` says so; where nobody pipelines, the counts coincide.
"""

from __future__ import annotations

import pytest

from slabactors.actors import parallel, sleep, tell
from slabactors.explore.campaign import search
from slabactors.explore.count import count
from slabactors.explore.finding import signature
from slabactors.explore.strategy import STRATEGIES, RandomWalk
from slabactors.explore.verify import verify
from slabactors.kernel.jiffies import HZ
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.explore import counted as programs
from tests.explore.counted import ActorProgram, Explored, TimerProgram, Var, random_program
from tests.explore.programs import SmallProgram, World
from tests.explore.test_dpor import check

POLICIES = (TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED)

TABLE = [
    ("3 messages, 1 timer", TimerProgram(3, (5,)), (1, 4, 4)),
    ("3 messages, deadlines 5 and 9", TimerProgram(3, (5, 9)), (1, 10, 20)),
    ("3 messages, two timers at 5", TimerProgram(3, (5, 5)), (2, 20, 20)),
    ("4 messages, deadlines 1, 2, 3", TimerProgram(4, (1, 2, 3)), (1, 35, 210)),
    ("the second message cancels", TimerProgram(3, (5,), cancels=True), (1, 3, 3)),
]


@pytest.mark.parametrize(("name", "program", "traces"), TABLE, ids=[name for name, _, _ in TABLE])
def test_each_policy_has_its_number_of_traces(name: str, program: TimerProgram, traces: tuple[int, int, int]) -> None:
    """Quiescent, adversarial and untimed: one execution a trace, as many as brute force counts."""
    for policy, wanted in zip(POLICIES, traces, strict=True):
        explored = Explored(program, time=policy)
        assert (len(explored.traces), len(set(explored.traces))) == (wanted, wanted), policy
        assert explored.dpor.statistics.blocked == 0
        assert count(program, time=policy).traces == set(explored.traces)


@pytest.mark.parametrize("block", range(2))
def test_random_programs_lose_and_repeat_no_trace_where_time_says_nothing(block: int) -> None:
    """Fifty random programs a block under the untimed policy, against brute force."""
    seen = 0
    for seed in range(50 * block, 50 * block + 50):
        try:
            seen += check(random_program(seed), TimePolicy.UNTIMED)
        except OverflowError:
            continue
    assert seen > 200


def rang(**options) -> set[tuple[int, ...]]:
    """The orders in which a step and two sleepers, of 5 and 9 jiffies, came in 200 runs."""
    orders = set()
    for seed in range(200):
        order: list[int] = []

        async def after(jiffies: int, seen: list[int] = order) -> None:
            if jiffies:
                await sleep(jiffies)
            await Var("own", 0).get()
            seen.append(jiffies)

        async def main(start=after) -> None:
            await parallel(start(0), start(5), start(9))

        Simulation(RandomWalk(seed), **options).run(main())
        orders.add(tuple(order))
    return orders


def test_only_untimed_lets_a_later_timer_go_first() -> None:
    """Quiescent keeps to the clock, adversarial to the order of deadlines (who woke may dawdle), untimed to none."""
    assert rang(time=TimePolicy.QUIESCENT) == {(0, 5, 9)}
    everything = {(0, 5, 9), (0, 9, 5), (5, 0, 9), (5, 9, 0), (9, 0, 5), (9, 5, 0)}
    assert rang(time=TimePolicy.ADVERSARIAL) == rang(time=TimePolicy.UNTIMED) == everything
    fired = {policy: set() for policy in (TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED)}
    for policy, orders in fired.items():
        for seed in range(50):
            deadlines: list[int] = []

            async def main() -> None:
                await parallel(sleep(5), sleep(9))

            def observe(step, seen=deadlines) -> None:
                seen.append(step.path.ordinal)

            Simulation(RandomWalk(seed), time=policy, observer=observe).run(main())
            orders.add(tuple(deadlines))
    assert fired == {TimePolicy.ADVERSARIAL: {(0, 1)}, TimePolicy.UNTIMED: {(0, 1), (1, 0)}}


# -- the bound on starvation -------------------------------------------------------------------------------------------


class Nap:
    """One path that could take its step at once, and one that naps: how many naps ended before that step."""

    def __init__(self, naps: tuple[int, ...]) -> None:
        self.naps = naps
        self.ended = 0
        self.overtook = 0

    async def main(self) -> None:
        await parallel(self.runnable(), self.napper())

    async def runnable(self) -> None:
        await Var("own", 0).get()
        self.overtook = self.ended

    async def napper(self) -> None:
        for jiffies in self.naps:
            await sleep(jiffies)
            self.ended += 1


def overtaken(starvation: int | None, naps: tuple[int, ...]) -> int:
    """How many naps ended before the step of another one at most, in 300 runs."""
    most = 0
    for seed in range(300):
        nap = Nap(naps)
        Simulation(RandomWalk(seed), starvation_jiffies=starvation).run(nap.main())
        most = max(most, nap.overtook)
    return most


@pytest.mark.parametrize(
    ("starvation", "naps", "most"),
    [
        (None, (5, 5), 2),
        (4, (5, 5), 0),
        (5, (5, 5), 1),
        (9, (5, 5), 1),
        (10, (5, 5), 2),
        (0, (5, 5), 0),
        (100, (101,), 0),
        (101, (101,), 1),
    ],
)
def test_nobody_who_can_move_waits_for_longer_than_the_bound(starvation, naps, most) -> None:
    """Timers that fire one after the other add up: it is the waiting that is bounded, not the single timer."""
    assert overtaken(starvation, naps) == most


@pytest.mark.parametrize("story", ["dead-cache/rmdir-races-last-free", "dead-cache/freed-later"])
def test_no_starvation_at_all_is_quiescent_time(story: str) -> None:
    """The same records, run by run."""
    still = find(story).bind().under(starvation_jiffies=0)
    first, second = RandomWalk(4), RandomWalk(4)
    for _ in range(50):
        one = still.execute(first)
        other = still.under().execute(second, time=TimePolicy.QUIESCENT)
        assert one.simulation.record == other.simulation.record


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_within_a_bound_replays_like_any_other(strategy: str) -> None:
    """Every strategy keeps to the bound, and a search under it is not refused for not repeating itself."""
    program = find("dead-cache/freed-later").bind(lifecycle_name="verify-dead").under(starvation_jiffies=30 * HZ)
    *_, result = search(program, strategy=strategy, runs=100)
    assert result.executions == 100


SLEEPER = "dead-cache/unloaded-after-a-while"


def test_a_module_that_sleeps_where_it_should_flush_needs_two_seconds_of_starvation() -> None:
    """Nothing breaks while nobody is starved for that long, in any interleaving; with it, more than 1 in 2 runs do.

    So 100 of them miss it with p < 1e-30.
    """
    program = find(SLEEPER).bind()
    for seconds in (0.0, 1.0, 1.999):
        *_, result = search(program.under(starvation_jiffies=round(seconds * HZ)), runs=300, strategy="portfolio")
        assert result.verdict == "clean", seconds
    *_, proof = verify(program, time=TimePolicy.QUIESCENT)
    assert proof.verdict == "verified"
    for starvation in (2 * HZ, None):
        *_, result = search(program.under(starvation_jiffies=starvation), runs=100, strategy="portfolio")
        assert "freed-active-work" in {name.partition(":")[0] for name in result.found}
    longer = find(SLEEPER).bind(settings={"seconds": 4})
    *_, result = search(longer.under(starvation_jiffies=3 * HZ), runs=300, strategy="portfolio")
    assert result.verdict == "clean"


# -- overtaking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "program", "interleavings", "traces", "pipelines"),
    [
        ("triangle", programs.triangle(), 4, 2, True),
        ("crossed", programs.crossed(), 24, 4, True),
        ("fan in", programs.fan_in(2, 2), 6, 6, False),
        ("remote counter", programs.remote_counter(2), 6, 6, False),
    ],
)
def test_messages_that_may_overtake_each_other_are_counted(name, program, interleavings, traces, pipelines) -> None:
    """Told to two actors: no queue in the order of sending has all these traces.  Told to one, or asked: it has."""
    assert count(program, merge=False).runs == interleavings
    *_, result = verify(program)
    assert (result.statistics.executions, result.exhaustive) == (traces, True)
    assert result.pipelined == (traces if pipelines else 0)
    *_, sampled = search(program, runs=50)
    assert bool(sampled.pipelined) is pipelines


def test_a_message_that_has_been_delivered_is_overtaken_by_none() -> None:
    """It is waiting that counts: a path that tells the next actor when the first has got its message does not count."""

    async def patient(world: programs.World) -> None:
        await tell(world.var("c").put(1))
        await world.var("c").wait(1)
        await tell(world.var("d").put(1))

    *_, result = verify(ActorProgram(patient))
    assert result.pipelined == 0


# -- the early firings of untimed time ---------------------------------------------------------------------------------


def test_what_only_untimed_shows_is_found_by_both_searches() -> None:
    """A timer of a minute that goes off before one of ten jiffies: adversarial time never has it."""

    async def story(world: World) -> None:
        await world.alarm.set(10)
        await sleep(60_000)
        assert await world.alarm.has_rung(), "a minute is over before ten jiffies"

    program = SmallProgram(story)
    names = []
    for policy in (TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED):
        *_, proof = verify(program, time=policy)
        assert proof.exhaustive
        names.append(set(proof.found))
    assert names[0] == set()
    [only] = names[1]
    sampled = {
        signature(outcome)
        for seed in range(50)
        if (outcome := program.execute(RandomWalk(seed), time=TimePolicy.UNTIMED).outcome).bug is not None
    }
    assert sampled == {only}
