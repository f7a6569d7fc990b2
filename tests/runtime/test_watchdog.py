"""The watchdog: who is stuck is interrupted where it loops, in any thread; who only takes long is not."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from slabactors.actors import Actor, operation
from slabactors.errors import EndlessLoop
from slabactors.explore.strategy import RandomWalk
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.watchdog import PATIENCE, watched


class Box(Actor):
    """Something that steps can be taken on."""

    @operation
    def open(self) -> None:
        """``open()``."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A tenth of a second is long here."""
    monkeypatch.setenv(PATIENCE, "0.1")


def helper(number: int) -> int:
    return number + 1


async def spins() -> None:
    await Box("box").open()
    number = 0
    while True:
        number = helper(number)


async def deaf() -> None:
    while True:
        with suppress(Exception):
            await spins()


@pytest.mark.parametrize("path", [spins, deaf])
def test_a_loop_is_named_and_not_what_it_calls(path):
    """Of all the lines that are run in it, those of the function that loops; and it cannot be swallowed."""
    with pytest.raises(EndlessLoop, match=r"test_watchdog.py:\d+ in spins\(\) went on for 0.1 s"), watched():
        Simulation(RandomWalk("0")).run(path())


def test_a_loop_in_another_thread_ends_too():
    """There no signal comes; the interpreter itself is told."""
    caught: list[BaseException] = []

    def host() -> None:
        try:
            with watched():
                Simulation(RandomWalk("0")).run(spins())
        except EndlessLoop as error:
            caught.append(error)

    thread = threading.Thread(target=host, daemon=True)
    thread.start()
    thread.join(20)
    assert [type(one) for one in caught] == [EndlessLoop]


def test_who_takes_many_steps_wears_out_no_patience():
    """A run goes on for as long as it likes, step by step."""
    until = time.monotonic() + 0.5

    async def busy() -> None:
        box = Box("box")
        while time.monotonic() < until:
            await box.open()

    with watched():
        Simulation(RandomWalk("0"), steps_max=10_000_000).run(busy())


def test_who_is_not_in_a_run_may_do_what_he_likes():
    """The host's own loops and waits are none of our business."""
    with watched():
        time.sleep(0.3)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass


def test_nothing_is_left_behind():
    """Neither a thread nor a signal's handler, however deep the blocks were."""
    before = signal.getsignal(signal.SIGURG)
    with watched(), watched():
        assert any(one.name == "slabactors watchdog" for one in threading.enumerate())
    until = time.monotonic() + 10
    while any(one.name == "slabactors watchdog" for one in threading.enumerate()):
        assert time.monotonic() < until
    assert signal.getsignal(signal.SIGURG) is before


def test_a_handler_of_the_programs_own_is_left_alone():
    """Then a loop ends by the other way."""
    own = lambda number, frame: None  # noqa: E731 -- compared by identity
    before = signal.signal(signal.SIGURG, own)
    try:
        with pytest.raises(EndlessLoop), watched():
            Simulation(RandomWalk("0")).run(spins())
        assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, before)
