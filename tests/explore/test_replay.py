"""Replay is strict: a schedule repeats the run it is of; what does not fit is refused at the step where it shows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from slabactors.actors import Actor, Spawn, choose, operation, parallel, sleep, spawn, tell
from slabactors.errors import KernelBug, Kind, ReplayDiverged
from slabactors.explore.replay import ReplayStrategy, record
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.lifecycle import lifecycle
from slabactors.machine import SETTLE_JIFFIES, Machine, MachineConfig
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import Decision, Outcome, Step, TimePolicy


class Box(Actor):
    """A number."""

    def __init__(self, name="box"):
        super().__init__(name)
        self.value = 0

    @operation
    def add(self, amount):
        self.value += amount
        return self.value

    @operation
    def check(self):
        if self.value > 1:
            raise KernelBug(Kind.BUG_ON, "too much", clause="too much")

    def _positive(self):
        return self.value > 0

    @operation(guard=_positive)
    def take(self):
        self.value -= 1


def shown(steps: list[Step]) -> list[tuple[Any, ...]]:
    return [(s.index, s.now, s.act, s.path.key, s.operation.name, s.actor.name, repr(s.reply)[:20]) for s in steps]


def end(outcome: Outcome) -> tuple[Any, ...]:
    bug = outcome.bug
    return outcome.ending, outcome.now, outcome.deliveries, bug.clause if bug is not None else None


def play(main, strategy, **options):
    steps: list[Step] = []
    simulation = Simulation(strategy, observer=steps.append, **options)
    return simulation, simulation.run(main), steps


def again(main, decisions, **options):
    strategy = ReplayStrategy(decisions)
    _, outcome, steps = play(main, strategy, **options)
    return strategy, outcome, steps


async def chatter(box: Box) -> None:
    """Choices before the first step of all, between steps, and by a path that another one's end sets going."""
    rounds = await choose(3)

    async def talker():
        await box.add(0)
        for _ in range(rounds):
            await box.add(await choose(2))
            await tell(box.add(0))
        await sleep(await choose(5))
        return await choose(2)

    results = await parallel(Spawn(talker(), name="a"), Spawn(talker(), name="b"))
    await choose(2)
    if results == [1, 1]:
        await box.check()
        await box.take()


@pytest.mark.parametrize("time", [TimePolicy.ADVERSARIAL, TimePolicy.QUIESCENT])
def test_the_record_of_a_simulated_run_repeats_it(time):
    """Under the policy of the run that was recorded, a replay is the same in steps, time, acts and outcome."""
    clauses = set()
    for seed in range(200):
        simulation, outcome, steps = play(chatter(Box()), RandomWalk(seed), time=time)
        decisions = record(simulation, steps)
        assert len(decisions) == outcome.deliveries
        strategy, outcome_again, steps_again = again(chatter(Box()), decisions, time=time)
        assert strategy.exhausted
        assert end(outcome_again) == end(outcome)
        assert shown(steps_again) == shown(steps)
        clauses.add(outcome.bug.clause if outcome.bug is not None else None)
    assert clauses >= {None, "too much", "waits for Box.take"}


@pytest.mark.parametrize("lifecycle_name", ["v5", "pre-patch", "repaired"])
def test_both_acts_of_a_story_are_replayed(lifecycle_name):
    """A schedule holds the steps of the second act, too, and follows them strictly."""

    async def story(machine):
        cpu0, cpu1 = machine.cpus
        dentry = await kmem_cache_create(cpu0, "dentry", 3000)
        web = await mem_cgroup_create(cpu0, "web")
        obj = await kmem_cache_alloc(cpu0, dentry, web)

        async def free_later():
            await sleep(20 * HZ)
            await kmem_cache_free(cpu1, obj)

        await parallel(cpu0.task(mem_cgroup_rmdir(cpu0, web)), cpu1.task(free_later()))

    def run(strategy, observer):
        # Quiescent, so that the retry a minute later falls into the second act.
        simulation = Simulation(strategy, time=TimePolicy.QUIESCENT, settle_jiffies=SETTLE_JIFFIES, observer=observer)
        machine = Machine(simulation.clock, lifecycle(lifecycle_name), MachineConfig())
        return simulation, simulation.run(story(machine), daemons=machine.daemons(), at_rest=machine.at_rest)

    acts = set()
    for seed in range(20):
        steps: list[Step] = []
        simulation, outcome = run(RandomWalk(seed), steps.append)
        replayed: list[Step] = []
        strategy = ReplayStrategy(record(simulation, steps))
        _, outcome_again = run(strategy, replayed.append)
        assert strategy.exhausted
        assert end(outcome_again) == end(outcome)
        assert shown(replayed) == shown(steps)
        acts |= {step.act for step in steps}
    assert acts == ({1} if lifecycle_name == "pre-patch" else {1, 2})


def test_the_beginning_of_a_schedule_is_followed_and_then_the_run_goes_on_fairly():
    """After the last decision everybody has a turn, and the run comes to its end."""
    simulation, outcome, steps = play(chatter(Box()), RandomWalk(5))
    decisions = record(simulation, steps)
    for length in range(len(decisions)):
        strategy, _, steps_again = again(chatter(Box()), decisions[:length])
        assert strategy.exhausted
        kept = sum(decision.value is None for decision in decisions[:length])
        assert shown(steps_again)[:kept] == shown(steps)[:kept]
    assert outcome.bug is None


def pair(box: Box):
    async def one():
        await box.add(1)
        await box.add(2)

    return parallel(Spawn(one(), name="a"), Spawn(one(), name="b"))


def refused(main, decisions) -> ReplayDiverged:
    with pytest.raises(ReplayDiverged) as caught:
        again(main, decisions)
    return caught.value


def test_a_step_that_is_not_enabled_is_refused_with_what_is():
    """The message names the step, what was expected, and every path that could have gone."""
    a, b = Decision("main.0/a.0", "add", "box"), Decision("main.0/b.1", "add", "box")
    error = refused(pair(Box()), [a, a, a, b])
    assert error.step == 2
    assert str(error) == (
        "ReplayDiverged: step 2 expected main.0/a.0 to add of box, but only main.0/b.1 (add of box) is enabled."
    )


def test_a_step_of_another_kind_is_refused():
    """It is not enough that the path is enabled: it has to be about to do the same to the same actor."""
    error = refused(pair(Box()), [Decision("main.0/a.0", "take", "box")])
    assert "expected main.0/a.0 to take of box, but it is about to add of box" in str(error)
    error = refused(pair(Box("crate")), [Decision("main.0/a.0", "add", "box")])
    assert "expected main.0/a.0 to add of box, but it is about to add of crate" in str(error)


def test_a_schedule_that_is_longer_than_the_run_is_refused():
    """Nothing is left to do and the schedule goes on: that is no replay of it."""
    a, b = Decision("main.0/a.0", "add", "box"), Decision("main.0/b.1", "add", "box")
    error = refused(pair(Box()), [a, b, a, b, a])
    assert error.step == 4
    assert "nothing is enabled any more" in str(error)


@pytest.mark.parametrize(
    ("decisions", "text"),
    [
        ([("add", None)], "expected main.0 to add of box, but it calls choose(3) first, which it did not do then"),
        ([("choose", 3), ("add", None)], "expected main.0 to choose 3, but it has 3 alternatives now"),
        ([("choose", 1), ("choose", 0), ("add", None)], "expected main.0 to choose 0, but main.0 is about to add"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(decisions, text):
    """A choice that was not made then, one that cannot be made now, and one that is not made now are told apart."""
    box = Box()

    async def main():
        await choose(3)
        await box.add(1)

    schedule = [Decision("main.0", name, "" if name == "choose" else "box", value) for name, value in decisions]
    assert text in str(refused(main(), schedule))


def test_a_choice_by_a_path_that_the_schedule_does_not_know_is_refused():
    """Whoever chooses without being in the schedule is named."""

    async def newcomer():
        await choose(2)

    async def main():
        await spawn(newcomer(), name="new")
        await Box().add(1)

    error = refused(main(), [Decision("main.0", "add", "box")])
    assert "but main.0/new.0 calls choose(2), which it did not do then" in str(error)


def test_choices_are_matched_by_path_wherever_they_stand_among_the_steps_of_others():
    """A live run makes a choice when the task is resumed, some steps of others later; the replay makes it at once."""
    box = Box()

    async def chooser():
        await box.add(1)
        return await choose(10)

    results = []

    async def main():
        results.extend(await parallel(Spawn(chooser(), name="a"), Spawn(chooser(), name="b")))

    def schedule(*order):
        made = {
            "A": Decision("main.0/a.0", "add", "box"),
            "B": Decision("main.0/b.1", "add", "box"),
            "a": Decision("main.0/a.0", "choose", "", 7),
            "b": Decision("main.0/b.1", "choose", "", 4),
        }
        return [made[letter] for letter in order]

    for order in ("AaBb", "ABba", "BAab"):
        results.clear()
        strategy, outcome, _ = again(main(), schedule(*order))
        assert strategy.exhausted
        assert outcome.bug is None
        assert results == [7, 4]


def test_recorded_time_fires_whatever_the_schedule_says():
    """Under recorded time any timer may be next, also a later one, and the run stays in its first act till the end."""
    box = Box()

    async def sleeper(jiffies):
        await sleep(jiffies)
        await box.add(jiffies)

    def main():
        return parallel(Spawn(sleeper(10), name="early"), Spawn(sleeper(20), name="late"))

    late = [Decision("main.0/late.1", "wake", "clock"), Decision("main.0/late.1", "add", "box")]
    early = [Decision("main.0/early.0", "wake", "clock"), Decision("main.0/early.0", "add", "box")]
    strategy, outcome, steps = again(main(), late + early, time=TimePolicy.RECORDED)
    assert strategy.exhausted
    assert outcome.bug is None
    assert [step.now for step in steps] == [20, 20, 20, 20]
    with pytest.raises(ReplayDiverged):
        again(main(), late + early, time=TimePolicy.QUIESCENT)


def test_a_shuffled_schedule_is_refused_or_is_a_run():
    """Whatever is done to a schedule, replaying it gives a run of just these steps or a refusal, never a guess."""
    simulation, _, steps = play(chatter(Box()), RandomWalk(7))
    decisions = record(simulation, steps)
    random = Random(1)
    refusals = 0
    for _ in range(100):
        shuffled = decisions[:]
        i, j = random.randrange(len(shuffled)), random.randrange(len(shuffled))
        shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
        try:
            _, _, steps_again = again(chatter(Box()), shuffled, time=TimePolicy.RECORDED)
        except ReplayDiverged:
            refusals += 1
            continue
        made = [(step.path.key, step.operation.name, step.actor.name) for step in steps_again]
        wanted = [(d.path, d.operation, d.actor) for d in shuffled if d.value is None]
        assert made[: len(wanted)] == wanted
    assert 0 < refusals < 100
