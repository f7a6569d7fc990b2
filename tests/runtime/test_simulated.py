"""The simulated driver: what may happen when, and what is written down."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest

from slabactors.actors import (
    Actor,
    Clock,
    Spawn,
    Timed,
    choose,
    join,
    operation,
    parallel,
    sleep,
    spawn,
    tell,
)
from slabactors.errors import ForeignAwait, KernelBug, Kind, UsageError
from slabactors.explore.dpor import Dpor
from slabactors.explore.strategy import FollowRecord, RandomWalk
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import Ending, TimePolicy
from tests.explore.micro import Micro
from tests.support import run_paths


class Cell(Actor):
    """A shared variable."""

    def __init__(self, name: str = "cell") -> None:
        super().__init__(name)
        self.value = 0
        self.seen: list[int] = []

    @operation(reads="value")
    def get(self) -> int:
        """``READ_ONCE(value)``."""
        return self.value

    @operation(writes="value")
    def put(self, value: int) -> None:
        """``WRITE_ONCE(value)``."""
        self.value = value

    @operation
    def note(self, number: int = 7) -> int:
        """``note``."""
        self.seen.append(number)
        return number

    @operation(guard=lambda self: self.value == 0, reads="value")
    def zero(self) -> None:
        """``wait until it is taken``."""

    def _positive(self) -> bool:
        return self.value > 0

    @operation(guard=_positive, writes="value")
    def down(self) -> None:
        """``down()``: waits until the value is positive."""
        self.value -= 1

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(cell)``."""


def outcomes(make, runs: int = 300, **options) -> Counter:
    """How often each value of ``make()``'s observation came up over many random schedules."""
    seen: Counter = Counter()
    for seed in range(runs):
        paths, observe = make()
        outcome, _ = run_paths(*paths, seed=seed, **options)
        seen[observe(outcome)] += 1
    return seen


def test_an_operations_reply_has_its_type_and_value_and_keywords_are_arguments():
    """Awaiting a message gives what the method returned; keyword and default arguments are positional in the record."""
    cell = Cell()

    async def path() -> None:
        assert await cell.note(3) == 3
        assert await cell.note(number=4) == 4
        assert await cell.note() == 7

    outcome, steps = run_paths(path())
    assert outcome.bug is None
    assert cell.seen == [3, 4, 7]
    assert [step.args for step in steps] == [(3,), (4,), ()]


def test_two_read_increment_write_paths_lose_an_update_in_some_schedules():
    """The classical race is reached, and so is its absence."""

    def make():
        cell = Cell()

        async def increment() -> None:
            value = await cell.get()
            await cell.put(value + 1)

        return (increment(), increment()), lambda outcome: cell.value

    seen = outcomes(make)
    # Each outcome has probability one half or so; 300 runs miss one with p < 1e-80.
    assert set(seen) == {1, 2}


def test_a_guarded_message_waits_in_the_mailbox_until_its_guard_holds():
    """down() is never delivered before up, whatever the schedule."""

    def make():
        cell = Cell()

        async def waits() -> None:
            await cell.down()

        async def opens() -> None:
            await cell.get()
            await cell.put(1)

        return (waits(), opens()), lambda outcome: (outcome.ending, cell.value)

    assert set(outcomes(make)) == {(Ending.DONE, 0)}


def test_a_guard_that_never_holds_is_a_deadlock_that_names_the_waiter():
    """Nothing enabled and somebody waiting."""
    cell = Cell()

    async def waits() -> None:
        await cell.down()

    outcome, _ = run_paths(waits())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.DEADLOCK
    assert "waits waits for down() of cell" in outcome.bug.message


def test_a_message_to_a_freed_actor_is_a_use_after_free_also_when_it_waited():
    """Freeing lets the waiting message through, to its doom."""

    def make():
        cell = Cell()

        async def waits() -> None:
            await cell.down()

        async def frees() -> None:
            await cell.free()

        return (waits(), frees()), lambda outcome: outcome.bug.kind if outcome.bug else None

    assert set(outcomes(make, 20)) == {Kind.USE_AFTER_FREE}


def test_freeing_twice_is_a_double_free():
    """The second free reaches a freed object."""
    cell = Cell()

    async def frees() -> None:
        await cell.free()
        await cell.free()

    outcome, _ = run_paths(frees())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.DOUBLE_FREE


def test_tells_of_one_path_to_one_actor_stay_in_order_and_do_not_hold_up_the_teller():
    """A lane is first in first out; the teller may be ahead of it."""

    def make():
        cell = Cell()

        async def tells() -> None:
            for number in (1, 2, 3):
                await tell(cell.note(number))
            await cell.note(9)

        return (tells(),), lambda outcome: tuple(cell.seen)

    seen = outcomes(make)
    assert all([number for number in order if number != 9] == [1, 2, 3] for order in seen)
    assert {order.index(9) for order in seen} == {0, 1, 2, 3}


def test_choose_is_recorded_and_replays():
    """Every choice is in the record, and the record repeats the run."""

    async def main(log) -> None:
        for _ in range(4):
            value = await choose(5)
            log.append(value)

    first, second = [], []
    simulation = Simulation(RandomWalk(3))
    simulation.run(main(first))
    assert simulation.record == [-1 - value for value in first]
    follow = FollowRecord(simulation.record)
    again = Simulation(follow)
    follow.follow(again)
    again.run(main(second))
    assert first == second


def test_choose_wants_at_least_one_alternative():
    """choose(0) is the scenario's mistake, reported as its exception."""

    async def main() -> None:
        await choose(0)

    outcome = Simulation(RandomWalk(0)).run(main())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.EXCEPTION


def test_quiescent_time_moves_only_when_nothing_else_can():
    """A sleeper of one jiffy is behind a hundred steps of another path."""

    def make():
        cell = Cell()

        async def sleeper() -> None:
            await sleep(1)
            await cell.note(1)

        async def busy() -> None:
            for _ in range(100):
                await cell.get()
            await cell.note(2)

        return (sleeper(), busy()), lambda outcome: (tuple(cell.seen), outcome.now)

    assert set(outcomes(make, 30, time=TimePolicy.QUIESCENT)) == {((2, 1), 1)}
    early = outcomes(make, 100, time=TimePolicy.ADVERSARIAL)
    assert ((1, 2), 1) in early


def test_adversarial_time_keeps_the_order_of_deadlines_and_permutes_equal_ones():
    """The earliest timer may fire at any moment; one due later never before it."""

    def make():
        cell = Cell()

        async def sleeper(jiffies: int, number: int) -> None:
            await sleep(jiffies)
            await cell.note(number)

        return (sleeper(5, 1), sleeper(5, 2), sleeper(9, 3)), lambda outcome: tuple(cell.seen)

    async def wake_order(number: int) -> None:
        await sleep(number)

    seen = outcomes(make)
    # Who wakes third has its step last unless an earlier sleeper is then starved of its own step.
    assert {(1, 2, 3), (2, 1, 3)} <= set(seen)
    _, steps = run_paths(wake_order(9), wake_order(5), wake_order(7), seed=1)
    assert [step.now for step in steps] == [5, 7, 9]


def test_early_firings_are_bounded():
    """A path that sleeps for ever in small steps beside a busy one ends, because time may run ahead so often only."""
    cell = Cell()
    fired_early = 0

    async def ticker() -> None:
        for _ in range(50):
            await sleep(10)
            await cell.note(1)

    async def busy() -> None:
        for _ in range(40):
            await cell.note(2)

    outcome, _ = run_paths(ticker(), busy(), seed=5, early_firings_max=2)
    assert outcome.ending is Ending.DONE
    fired_early = cell.seen[: len(cell.seen) - cell.seen[::-1].index(2)].count(1)
    assert fired_early <= 2


class Alarm(Timed):
    """A timer that starts a path."""

    def __init__(self, clock: Clock, cell: Cell) -> None:
        super().__init__("alarm", clock)
        self.cell = cell

    @operation(clock=True)
    def set(self, jiffies: int) -> None:
        """``mod_timer()``."""
        self.deadline = self.clock.now + jiffies

    @operation(clock=True)
    def clear(self) -> None:
        """``del_timer()``."""
        self.deadline = None

    def on_expiry(self):
        return Spawn(self.rings(), name="rings")

    async def rings(self) -> None:
        await self.cell.note(self.clock.now)


def test_a_timer_fires_once_at_its_last_deadline_and_not_when_it_was_cleared():
    """Setting it again replaces the deadline."""
    cell = Cell()

    async def main(simulation: Simulation) -> None:
        alarm, silent = Alarm(simulation.clock, cell), Alarm(simulation.clock, cell)
        await alarm.set(10)
        await alarm.set(30)
        await silent.set(20)
        await silent.clear()
        await sleep(100)

    simulation = Simulation(RandomWalk(0), time=TimePolicy.QUIESCENT)
    assert simulation.run(main(simulation)).bug is None
    assert cell.seen == [30]


def test_the_second_act_lets_timers_fire_up_to_its_horizon():
    """Quiescent time goes on after the scenario is over, and stops."""
    cell = Cell()

    async def main(simulation: Simulation) -> None:
        await Alarm(simulation.clock, cell).set(50)
        await Alarm(simulation.clock, cell).set(500)

    simulation = Simulation(RandomWalk(0), settle_jiffies=100, early_firings_max=0)
    outcome = simulation.run(main(simulation))
    assert outcome.ending is Ending.DONE
    assert cell.seen == [50]


def test_spawn_gives_a_task_and_join_its_result():
    """Also when the task has returned already."""

    async def child(value: int) -> int:
        return value

    async def main(log) -> None:
        task = await spawn(child(3), name="child")
        first = await join(task)
        log.append((task.name, first))
        log.append(await parallel(child(1), child(2)))

    log: list = []
    assert Simulation(RandomWalk(0)).run(main(log)).bug is None
    assert log == [("child", 3), [1, 2]]


def test_parallel_gives_all_results_to_who_waits_and_each_to_who_joins_one():
    """A path may be waited for by several, in both ways, and by nobody but its group."""
    cell = Cell()

    async def child(value: int) -> int:
        await cell.down()
        return value

    async def waiter(task) -> None:
        results.append(await join(task))

    async def group() -> None:
        results.append(await parallel(child(1), child(2)))

    async def main() -> None:
        task = await spawn(child(3))
        await parallel(waiter(task), group(), waiter(task), feeder())
        results.append(await parallel())

    async def feeder() -> None:
        for _ in range(3):
            await cell.put(1)
            await cell.zero()

    for seed in range(20):
        results: list = []
        outcome = Simulation(RandomWalk(seed)).run(main())
        assert outcome.bug is None
        assert results.pop() == []
        assert sorted(map(repr, results)) == ["3", "3", "[1, 2]"]


def test_a_path_that_raises_at_once_leaves_none_of_its_group_unawaited():
    """Those that were to start after it are closed; pytest would complain of them."""
    cell = Cell()

    async def fine() -> None:
        await cell.get()

    async def breaks() -> None:
        raise KernelBug(Kind.BUG_ON, "no", clause="never")

    outcome = Simulation(RandomWalk(0)).run(parallel(fine(), breaks(), fine(), Spawn(fine(), name="last")))
    assert outcome.culprit is not None
    assert outcome.culprit.key == "main.0/breaks.1"
    gc.collect()


@pytest.mark.parametrize("watched", [False, True])
def test_an_invariant_is_looked_at_after_every_step(watched):
    """The step after which it does not hold is to blame, observed or not, and its path goes no further."""
    cell = Cell()
    looked: list[int] = []
    after: list[str] = []

    def invariant() -> None:
        looked.append(cell.value)
        if cell.value > 2:
            raise KernelBug(Kind.PROPERTY, "more than two", clause="at most two")

    async def main() -> None:
        for value in range(5):
            await cell.get()
            await cell.put(value)
            after.append(f"put {value}")

    seen: list = []
    simulation = Simulation(RandomWalk(0), invariant=invariant, observer=seen.append if watched else None)
    outcome = simulation.run(main())
    assert looked == [0, 0, 0, 1, 1, 2, 2, 3]
    assert after == ["put 0", "put 1", "put 2"]
    assert outcome.bug is not None
    assert (outcome.bug.clause, outcome.culprit.key, outcome.operation.name) == ("at most two", "main.0", "put")
    assert len(seen) == (7 if watched else 0)


def test_a_search_that_reorders_steps_takes_no_invariant():
    """It would look at the states of one order of independent steps, and claim something about all of them."""
    with pytest.raises(UsageError, match=r"(?s)no two steps.*verify --preemptions 2"):
        GuidedSimulation(Dpor(), invariant=lambda: None)


def test_a_run_is_gone_without_the_cycle_collector():
    """Millions of them are made: what is left of one would be looked for every now and then."""
    program = Micro("fixed", 3, 3, watched=True)
    picker = RandomWalk(0)

    def run() -> None:
        execution = program.execute(picker)
        program.dispose(execution)

    run()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            run()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_keys_are_the_chain_of_spawns():
    """Stable identity does not depend on what unrelated paths do."""
    cell = Cell()

    async def leaf() -> None:
        await cell.get()

    async def branch() -> None:
        await parallel(leaf(), leaf())

    _, steps = run_paths(branch(), leaf(), seed=0)
    assert {step.path.key for step in steps} == {"main.0/branch.0/leaf.0", "main.0/branch.0/leaf.1", "main.0/leaf.1"}


def test_the_bound_on_steps_ends_a_run_that_never_would():
    """It is reported as such and is no bug."""
    cell = Cell()

    async def forever() -> None:
        while True:
            await cell.get()

    outcome, steps = run_paths(forever(), steps_max=100)
    assert (outcome.ending, outcome.bug, len(steps)) == (Ending.BOUND, None, 100)


def test_a_kernel_bug_raised_by_a_path_is_the_outcome_with_its_culprit():
    """The path and its last operation are named."""
    cell = Cell()

    async def breaks() -> None:
        await cell.get()
        raise KernelBug(Kind.BUG_ON, "no", clause="never")

    outcome, _ = run_paths(breaks())
    assert outcome.bug is not None
    assert outcome.culprit is not None
    assert (outcome.culprit.name, outcome.operation.name) == ("breaks", "get")


@pytest.mark.parametrize(
    "awaitable", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1), lambda: asyncio.Event().wait()]
)
def test_a_foreign_awaitable_is_refused_with_its_place(awaitable):
    """The message says which line awaited what."""

    async def offender() -> None:
        await awaitable()

    with pytest.raises(ForeignAwait, match=r"(?s)test_simulated\.py:\d+ in offender.*--runtime asyncio or trio"):
        run_paths(offender())


def test_nothing_is_left_running_after_a_bug():
    """Unfinished paths are closed, their finally blocks run, and no coroutine is left unawaited."""
    closed = []
    cell = Cell()

    async def waits() -> None:
        try:
            await cell.down()
        finally:
            closed.append("waits")

    async def breaks() -> None:
        await cell.get()
        raise KernelBug(Kind.BUG_ON, "no", clause="never")

    outcome, _ = run_paths(waits(), breaks())
    assert outcome.bug is not None
    assert closed == ["waits"]
