"""Deferrable timers: nothing waits for them, in either driver, and nobody is held back by them."""

from __future__ import annotations

import anyio
import pytest

from slabactors.actors import Actor, Spawn, Timed, operation, prepare, sleep, start
from slabactors.actors.path import join
from slabactors.errors import Kind
from slabactors.explore.strategy import RandomWalk
from slabactors.runtime.live import LiveRuntime
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import Ending, TimePolicy
from tests.support import Oldest

HORIZON = 1000


class Beat(Timed):
    """Set again and again, ten jiffies from one time to the next; there is work for it a few times."""

    deferrable = True

    def __init__(self, clock, work=0):
        super().__init__("beat", clock)
        self.work = work
        self.beats = []
        self.done = False

    @operation(clock=True)
    def arm(self):
        self.deadline = self.clock.now + 10

    @operation(clock=True)
    def beat(self):
        self.beats.append(self.clock.now)
        self.work -= 1
        self.done = self.done or self.work == 0
        self.deadline = self.clock.now + 10

    def _done(self):
        return self.done

    @operation(guard=_done)
    def wait_done(self):
        pass

    def in_vain(self):
        return self.work <= 0

    def on_expiry(self):
        return Spawn(self._run(), name="beat", daemon=True)

    async def _run(self):
        await self.beat()


class Alarm(Timed):
    """A timer that is due much later than the next beat."""

    rang: int | None = None

    @operation(clock=True)
    def arm(self):
        self.deadline = self.clock.now + 500

    def on_expiry(self):
        self.rang = self.clock.now


def simulated(make, **options):
    """Run ``make(clock)``, an actor and a path, in the simulator; the actor and how the run ended."""
    options = {"strategy": Oldest(), "time": TimePolicy.QUIESCENT, **options}
    simulation = Simulation(settle_jiffies=HORIZON, **options)
    actor, path = make(simulation.clock)
    return actor, simulation.run(path)


def live(make):
    """The same on an event loop."""

    async def main():
        runtime = LiveRuntime(settle_jiffies=HORIZON)
        actor, path = make(runtime.clock)
        return actor, await runtime.run(path)

    return anyio.run(main)


both = pytest.mark.parametrize("run", [simulated, live])


@both
def test_a_run_comes_to_rest_when_what_is_left_is_in_vain(run):
    """Three beats have something to do; the fourth never comes, although its timer is set."""

    def make(clock):
        beat = Beat(clock, work=3)
        return beat, beat.arm()

    beat, outcome = run(make)
    assert outcome.ending is Ending.DONE
    assert beat.beats == [10, 20, 30]


@both
def test_a_deadlock_is_seen_although_a_deferrable_timer_goes_on(run):
    """What somebody waits for does not come within the second act."""

    def make(clock):
        beat = Beat(clock)

        async def story():
            await beat.arm()
            await beat.wait_done()

        return beat, story()

    _, outcome = run(make)
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.DEADLOCK


@both
def test_who_waits_for_what_a_deferrable_timer_does_is_woken_in_the_second_act(run):
    def make(clock):
        beat = Beat(clock, work=2)

        async def story():
            await beat.arm()
            await beat.wait_done()

        return beat, story()

    beat, outcome = run(make)
    assert outcome.bug is None
    assert beat.beats == [10, 20]


def test_while_somebody_sleeps_deferrable_timers_fire_in_their_turn():
    """Also those that find nothing to do: only a machine that settles does without them."""

    def make(clock):
        beat = Beat(clock)

        async def story():
            await beat.arm()
            await sleep(45)

        return beat, story()

    beat, outcome = simulated(make)
    assert outcome.bug is None
    assert beat.beats[:4] == [10, 20, 30, 40]


def test_under_adversarial_time_a_later_timer_may_fire_before_a_deferrable_one():
    """In some runs the alarm comes before the first beat, and the beat is as late as that; never without adversary."""
    seen = set()
    for time in (TimePolicy.ADVERSARIAL, TimePolicy.QUIESCENT):
        for seed in range(60):

            def make(clock):
                beat, alarm = Beat(clock, work=1), Alarm("alarm", clock)

                async def story():
                    await alarm.arm()
                    await beat.arm()
                    await sleep(600)

                return (beat, alarm), story()

            (beat, alarm), outcome = simulated(make, strategy=RandomWalk(seed), time=time)
            assert outcome.bug is None
            assert alarm.rang == 500
            seen.add((time, beat.beats[0]))
    assert {(TimePolicy.ADVERSARIAL, 500), (TimePolicy.ADVERSARIAL, 10), (TimePolicy.QUIESCENT, 10)} <= seen
    assert {first for time, first in seen if time is TimePolicy.QUIESCENT} == {10}


class Tray(Actor):
    """Notes what is put there."""

    def __init__(self):
        super().__init__("tray")
        self.things = []

    @operation
    def put(self, thing):
        self.things.append(thing)
        return len(self.things)


def test_what_is_prepared_may_start_paths_and_join_them():
    """They run to their end when they are started: nobody else moves."""
    tray = Tray()

    async def part(thing):
        return await tray.put(thing)

    async def whole():
        task = await start(Spawn(part("inner"), name="part"))
        await tray.put("outer")
        return task.name, await join(task)

    assert prepare(whole()) == ("part", 1)
    assert tray.things == ["inner", "outer"]


def test_what_is_prepared_may_not_start_a_daemon():
    async def forever():
        await sleep(1)

    async def whole():
        path = forever()
        try:
            await start(Spawn(path, daemon=True))
        finally:
            path.close()

    with pytest.raises(RuntimeError, match="await that path instead"):
        prepare(whole())
