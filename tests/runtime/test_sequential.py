"""The sequential driver: one path at a time, to the end or to where it has to wait."""

from __future__ import annotations

import asyncio

import pytest

from slabactors.actors import Actor, Spawn, Timed, choose, join, operation, parallel, sleep, spawn, start, tell
from slabactors.errors import ForeignAwait, KernelBug, Kind
from slabactors.kernel.locking import Mutex
from slabactors.runtime.sequential import Sequential


class Board(Actor):
    """What was written, in order."""

    def __init__(self, name="board"):
        super().__init__(name)
        self.seen = []
        self.open = False

    @operation
    def write(self, word):
        """``write()``."""
        self.seen.append(word)
        return len(self.seen)

    @operation
    def unlock(self):
        """``open``."""
        self.open = True

    def _open(self):
        return self.open

    @operation(guard=_open)
    def pass_gate(self):
        """``wait_event(open)``."""

    @operation(guard=_open, parks=True)
    def park(self):
        """``schedule()``."""

    @operation(frees=True)
    def free(self):
        """``kfree()``."""


class Alarm(Timed):
    """A timer that starts a path when it fires."""

    def __init__(self, clock, board):
        super().__init__("alarm", clock)
        self.board = board

    @operation(clock=True)
    def arm(self, jiffies):
        """``mod_timer()``."""
        self.deadline = self.clock.now + jiffies

    @operation(clock=True)
    def disarm(self):
        """``del_timer()``."""
        self.deadline = None

    def on_expiry(self):
        return Spawn(self.ring(), name="ring")

    async def ring(self):
        await self.board.write(f"rang at {self.clock.now}")


async def writes(board, *words):
    for word in words:
        await board.write(word)
    return words[-1]


def test_a_path_runs_to_its_end_and_gives_what_it_returns():
    board = Board()
    driver = Sequential()
    assert driver.run(writes(board, "a", "b")) == "b"
    assert board.seen == ["a", "b"]
    assert driver.deliveries == 2


def test_a_path_that_is_started_runs_at_once_as_an_interrupt_does():
    board = Board()

    async def main():
        child = await spawn(writes(board, "child"))
        await board.write("main")
        return await join(child)

    assert Sequential().run(main()) == "child"
    assert board.seen == ["child", "main"]


def test_parallel_paths_give_their_results_in_order_whoever_waits():
    board = Board()

    async def waits():
        await board.pass_gate()
        await board.write("waited")
        return 1

    async def opens():
        await board.unlock()
        await board.write("opened")
        return 2

    async def main():
        return await parallel(waits(), opens())

    assert Sequential().run(main()) == [1, 2]
    assert board.seen == ["opened", "waited"]


def test_what_is_told_is_delivered_and_a_choice_is_the_first_alternative():
    board = Board()

    async def main():
        await tell(board.write("told"))
        return await choose(3)

    assert Sequential().run(main()) == 0
    assert board.seen == ["told"]


def test_what_one_path_tells_one_actor_stays_in_order():
    """The second message could be delivered at once, and waits for the first, which has a guard."""
    board = Board()

    async def main():
        await tell(board.pass_gate())
        await tell(board.write("told"))
        await board.write("asked")
        await board.unlock()

    Sequential().run(main())
    assert board.seen == ["asked", "told"]


def test_sleeping_lets_time_pass_only_as_far_as_needed():
    driver = Sequential()
    board = Board()

    async def sleeper(jiffies):
        await sleep(jiffies)
        await board.write(driver.clock.now)

    async def main():
        await parallel(sleeper(30), sleeper(10))

    driver.run(main())
    assert board.seen == [10, 30]
    assert driver.clock.now == 30


def test_time_that_passes_fires_timers_in_their_order():
    driver = Sequential()
    board = Board()
    alarm, other = Alarm(driver.clock, board), Alarm(driver.clock, board)

    async def arm():
        await alarm.arm(20)
        await other.arm(5)

    driver.run(arm())
    driver.advance(4)
    assert board.seen == []
    driver.advance(100)
    assert board.seen == ["rang at 5", "rang at 20"]
    assert driver.clock.now == 104


def test_of_equal_deadlines_the_older_fires_first_whoever_looks_at_the_clock():
    """Setting a timer to the deadline that it has changes nothing, as in the simulator."""
    driver = Sequential()
    order = []
    alarm, other = Alarm(driver.clock, Board()), Alarm(driver.clock, Board())
    alarm.on_expiry = lambda: order.append("first")
    other.on_expiry = lambda: order.append("second")

    async def arm():
        await alarm.arm(20)
        await other.arm(20)
        await alarm.arm(20)

    driver.run(arm())
    driver.advance(100)
    assert order == ["first", "second"]


def test_a_timer_that_is_disarmed_does_not_fire():
    driver = Sequential()
    board = Board()
    alarm = Alarm(driver.clock, board)

    async def arm():
        await alarm.arm(20)
        await alarm.disarm()

    driver.run(arm())
    driver.advance(100)
    assert board.seen == []


def test_daemons_work_as_soon_as_there_is_something_to_do():
    driver = Sequential()
    board = Board()

    async def daemon():
        await board.park()
        await board.write("worked")

    async def opens():
        await board.unlock()

    driver.start([Spawn(daemon(), name="daemon", daemon=True)])
    assert board.seen == []
    driver.run(opens())
    assert board.seen == ["worked"]
    driver.close()


def test_a_message_to_what_was_freed_is_a_use_after_free():
    driver = Sequential()
    board = Board()

    async def main():
        await board.free()
        await board.write("late")

    with pytest.raises(KernelBug, match=r"main on cpu0 reached board .* had freed it at step 1") as found:
        driver.run(main(), "cpu0", "main")
    assert found.value.kind is Kind.USE_AFTER_FREE


def test_who_waits_for_ever_is_a_deadlock_and_time_does_not_help():
    driver = Sequential()
    mutex = Mutex("mutex")

    async def main():
        await mutex.lock()
        await mutex.lock()

    with pytest.raises(KernelBug, match=r"waits for mutex_lock.* held by main") as found:
        driver.run(main(), name="main")
    assert found.value.kind is Kind.DEADLOCK


def test_the_next_path_can_be_played_after_one_broke_off():
    driver = Sequential()
    board = Board()

    async def breaks():
        await board.write("one")
        raise KernelBug(Kind.BUG_ON, "broken", clause="broken")

    with pytest.raises(KernelBug):
        driver.run(breaks())
    driver.run(writes(board, "two"))
    assert board.seen == ["one", "two"]


def test_an_event_loops_awaitable_is_refused_with_its_place():
    async def main():
        await asyncio.sleep(0)

    with pytest.raises(ForeignAwait, match=r"test_sequential\.py"):
        Sequential().run(main())


class Last:
    """Always the one that came last."""

    def __init__(self):
        self.asked = []

    def next(self, ready):
        self.asked.append([path.name for path in ready])
        return ready[-1]


def test_turns_decide_where_a_critical_section_ends():
    board = Board()
    mutex = Mutex("mutex")

    async def section(name):
        for number in range(2):
            await mutex.lock()
            await board.write(f"{name}{number}")
            await mutex.unlock()

    async def main():
        children = []
        for name in "ab":
            child = await start(Spawn(section(name), name=name))
            children.append(child)
        for child in children:
            await join(child)

    Sequential().run(main(), name="main")
    assert board.seen == ["a0", "a1", "b0", "b1"]
    board.seen.clear()
    turns = Last()
    Sequential(turns).run(main(), name="main")
    assert board.seen == ["b0", "a0", "b1", "a1"], "whoever has left a section comes first, and so never last"
    assert turns.asked[0] == ["a", "main"], "also asked when somebody is started"
