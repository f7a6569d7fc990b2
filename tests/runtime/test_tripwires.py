"""What no schedule can repeat trips in a path and in an operation, and nowhere else."""

from __future__ import annotations

import datetime
import logging
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import uuid
from datetime import datetime as moment
from pathlib import Path
from random import Random, choice, randint
from random import random as chance
from time import monotonic
from time import sleep as snooze

import pytest

from slabactors.actors import Actor, operation, parallel
from slabactors.errors import ForeignCall
from slabactors.explore.bounded import search_bounded
from slabactors.explore.campaign import search
from slabactors.explore.dpor import Dpor
from slabactors.explore.replay import Fair, replay
from slabactors.explore.strategy import RandomWalk
from slabactors.explore.verify import verify
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.live import LiveRuntime
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.tripwires import tripwires
from tests.explore.programs import SmallProgram, World


class Caller(Actor):
    """Calls what it is given."""

    def __init__(self, call=lambda: None) -> None:
        super().__init__("caller")
        self.call = call
        self.got = None

    @operation
    def make_it(self) -> None:
        """``call()``."""
        self.got = self.call()

    def _calls(self) -> bool:
        self.call()
        return True

    @operation(guard=_calls)
    def guarded_by_it(self) -> None:
        """``wait_event``."""

    def _calls_for(self, _: str) -> bool:
        return self._calls()

    @operation(guard=_calls_for)
    def guarded_with(self, who: str) -> None:
        """``wait_event``, for somebody."""


OFFENCES = [
    ("time.time()", lambda: time.time()),
    ("time.time_ns()", lambda: time.time_ns()),
    ("time.monotonic()", lambda: monotonic()),
    ("time.perf_counter()", lambda: time.perf_counter()),
    ("time.process_time()", lambda: time.process_time()),
    ("time.clock_gettime()", lambda: time.clock_gettime(time.CLOCK_MONOTONIC)),
    ("time.sleep()", lambda: snooze(0)),
    ("time.localtime()", lambda: time.localtime()),
    ("time.strftime()", lambda: time.strftime("%Y")),
    ("datetime.now()", lambda: moment.now()),
    ("datetime.today()", lambda: datetime.datetime.today()),
    ("date.today()", lambda: datetime.date.today()),
    ("random.random()", lambda: chance()),
    ("the functions of random", lambda: randint(1, 6)),
    ("the functions of random", lambda: choice("abc")),
    ("random.getrandbits()", lambda: random.getrandbits(3)),
    ("random.seed()", lambda: random.seed(1)),
    ("random.Random() without a seed", lambda: Random()),
    ("random.SystemRandom().randbytes()", lambda: secrets.token_hex()),
    ("random.SystemRandom().getrandbits()", lambda: secrets.randbelow(7)),
    ("os.urandom()", lambda: os.urandom(2)),
    ("os.urandom()", lambda: uuid.uuid4()),
    ("threading.Thread().start()", lambda: threading.Thread(target=print).start()),
    ("subprocess.Popen()", lambda: subprocess.run(["true"], check=False)),
    ("os.fork()", lambda: os.fork()),
    ("os.system()", lambda: os.system("true")),
    ("socket.socket()", lambda: socket.socket()),
]


def look_at_the_clock() -> float:
    return time.time()


HARMLESS = {
    "a seeded generator": lambda: Random(3).random(),
    "a time that was given": lambda: time.gmtime(0),
    "a date that was given": lambda: moment(2012, 10, 19) - datetime.datetime.fromtimestamp(0),
    "a date's class": lambda: isinstance(datetime.date(2012, 10, 19), datetime.date) or 1 / 0,
    "a subclass of it": lambda: issubclass(datetime.datetime, moment) or 1 / 0,
    "an import": lambda: __import__("decimal"),
    "a log record": lambda: logging.getLogger("story").info("look"),
    "a file": lambda: Path(__file__).read_text(),
}


def in_operation(call) -> SmallProgram:
    async def story(world: World) -> None:
        await Caller(call).make_it()

    return SmallProgram(story)


def in_path(call) -> SmallProgram:
    async def helper() -> None:
        call()

    async def story(world: World) -> None:
        await world.x.write_a()
        await parallel(helper())

    return SmallProgram(story)


def in_guard(call) -> SmallProgram:
    async def story(world: World) -> None:
        await Caller(call).guarded_by_it()

    return SmallProgram(story)


def in_guard_with_arguments(call) -> SmallProgram:
    async def story(world: World) -> None:
        await Caller(call).guarded_with("somebody")

    return SmallProgram(story)


@pytest.mark.parametrize("make", [in_operation, in_path, in_guard, in_guard_with_arguments])
@pytest.mark.parametrize(("what", "call"), OFFENCES)
def test_an_offence_ends_the_run_with_its_line_and_what_to_use_instead(what, call, make):
    """The line is the one that calls, also where the library is called through others of its functions."""
    with tripwires(), pytest.raises(ForeignCall) as caught:
        make(call).execute(RandomWalk(0))
    first, second = str(caught.value).splitlines()
    line = f"test_tripwires.py:{call.__code__.co_firstlineno} in <lambda>()"
    assert first.startswith(f"{line} called {what}")
    assert second.startswith("  ")


@pytest.mark.parametrize("make", [in_operation, in_path, in_guard])
@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_run_can_repeat_is_let_through(what, make):
    """Seeded generators, times that were given, imports, log records."""
    with tripwires():
        assert make(HARMLESS[what]).execute(RandomWalk(0)).outcome.bug is None


@pytest.mark.parametrize(("what", "call"), [one for one in OFFENCES if "fork" not in one[0] and "socket" not in one[0]])
def test_without_tripwires_and_after_them_nothing_trips(what, call):
    """Whatever was replaced is put back, so that a host program is what it was."""
    before = dict(vars(time)), dict(vars(random)), dict(globals())
    with tripwires(), tripwires():
        pass
    assert (dict(vars(time)), dict(vars(random)), dict(globals())) == before
    assert type(random._inst) is Random
    assert in_operation(call).execute(RandomWalk(0)).outcome.bug is None


def test_every_search_and_every_replay_is_under_tripwires():
    """Sampling, exhaustive, by preemptions, and a schedule."""
    program = in_path(look_at_the_clock)
    for started in (
        lambda: search(program, runs=1),
        lambda: verify(program),
        lambda: search_bounded(program, bound=1),
        lambda: replay(program, []),
    ):
        with pytest.raises(ForeignCall, match=r"time\.time\(\)"):
            list(started())


def test_an_offence_is_no_bug_of_the_program_in_an_exhaustive_search_either():
    """A guided run goes on after a bug; after an offence it does not."""
    for make in (in_operation, in_path, in_guard):
        with tripwires(), pytest.raises(ForeignCall):
            make(look_at_the_clock).execute(Dpor(), driver=GuidedSimulation)


def test_a_path_cannot_swallow_its_offence():
    """Who catches everything is caught at the end of the first two runs."""

    def swallowed() -> None:
        try:
            time.time()
        except Exception:
            return

    with pytest.raises(ForeignCall, match=r"time\.time\(\)"):
        list(search(in_path(swallowed), runs=1000))
    with pytest.raises(ForeignCall), tripwires():
        in_path(swallowed).execute(RandomWalk(0))


def test_a_strategy_and_an_observer_may_look_at_the_clock():
    """They are not what is simulated."""

    class Timing(Fair):
        def pick(self, enabled):
            time.monotonic()
            random.random()
            return super().pick(enabled)

    async def story(world: World) -> None:
        await parallel(world.x.write_a(), world.y.write_a())

    seen = []
    with tripwires():
        outcome = SmallProgram(story).execute(Timing(), observer=lambda step: seen.append(time.time())).outcome
    assert outcome.bug is None
    assert len(seen) == 2


def test_other_threads_may_do_what_they_like():
    """A thread of the host looks at the clock while a run is under way, and starts another thread."""
    failed: list[BaseException] = []
    go, done = threading.Event(), threading.Event()

    def host() -> None:
        go.wait(10)
        try:
            time.time()
            random.random()
            moment.now()
            threading.Thread(target=done.set).start()
        except BaseException as error:
            failed.append(error)
            done.set()

    async def story(world: World) -> None:
        go.set()
        done.wait(10)
        await world.x.write_a()

    thread = threading.Thread(target=host)
    thread.start()
    with tripwires():
        SmallProgram(story).execute(RandomWalk(0))
    thread.join()
    assert failed == []
    assert done.is_set()


@pytest.mark.asyncio
async def test_a_live_run_may_look_at_the_clock():
    """It is not repeated from its schedule alone, and lives in its host's world."""
    caller = Caller(lambda: time.time())

    async def story() -> None:
        await caller.make_it()
        moment.now()

    with tripwires():
        outcome = await LiveRuntime().run(story())
    assert outcome.bug is None
    assert caller.got is not None


def test_a_module_that_was_imported_during_a_run_works_after_it(tmp_path, monkeypatch):
    """What it bound then is transparent outside of simulated runs."""
    (tmp_path / "late_story.py").write_text("from time import monotonic\ndef look():\n    return monotonic()\n")
    monkeypatch.syspath_prepend(tmp_path)
    caller = Caller(lambda: __import__("late_story"))

    async def story(world: World) -> None:
        await caller.make_it()

    with tripwires():
        assert SmallProgram(story).execute(RandomWalk(0)).outcome.bug is None
        with pytest.raises(ForeignCall, match=r"late_story\.py:3 in look\(\) called time\.monotonic\(\)"):
            in_path(caller.got.look).execute(RandomWalk(0))
    assert caller.got.look() > 0
    assert Simulation(RandomWalk(0)).run(in_path(caller.got.look).story(World(None))).bug is None
