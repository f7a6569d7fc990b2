"""Exhaustive search by states: every step from every state once, however many ways lead there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from slabactors.actors.locks import Locks, LockState, all_edges, circle
from slabactors.errors import ReplayDiverged
from slabactors.explore.by_traces import cut_at_rest
from slabactors.explore.dpor import Statistics
from slabactors.explore.packed import PackedSearch, PackedStatistics
from slabactors.explore.program import Program
from slabactors.explore.proved import Proved, collect
from slabactors.explore.replay import replay
from slabactors.explore.states import States
from slabactors.explore.tables import NoTables, Tables, check
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.step import Decision, Ending, TimePolicy

FINGERPRINT_EFFORT: Final = 60
"""What a fingerprint costs, in steps."""

PACKED_EFFORT: Final = 0.1
"""What a step of a search by tables costs, in steps that are run."""

CHECKED: Final = 50
"""States that are come to by running the program as well, to see whether the tables are right."""


class ByStates:
    """A way of searching everything: see `slabactors.explore.verify.Way`.

    By tables where that is possible, else by running the program again and again.

    Args:
        program: what to run.
        time: overrides the program's own policy.
        symmetry: take interchangeable paths for one another, where there are tables.
    """

    held_back = False
    calls_between_looks = 1
    cut = False

    def __init__(self, program: Program, time: TimePolicy | None, *, symmetry: bool = True) -> None:
        self._program = program
        self._time = time
        self._symmetry = symmetry
        self.statistics = Statistics()
        self.found: dict[str, Proved] = {}
        self.sometimes = dict.fromkeys(program.sometimes, False)
        self.bounded = 0
        self.pipelined = 0
        self.states = 0
        self.transitions = 0
        self.effort = 0.0
        self.name = "states"
        self._guide: States | None = None
        self._taken: set[LockState] = set()
        """What any path took while it held what, in any execution."""
        self._spent = 0.0
        """What it has cost to find out that the orders of locks matter."""
        self._packed: Iterator[bool] | None = self._by_tables()

    def progress(self) -> float:
        """An estimate of the explored share, from 0 to 1; none while tables are used."""
        return 0.0 if self._guide is None else self._guide.progress()

    def go_on(self) -> bool:
        """Do a little more; false when nothing is left.

        Raises:
            NoFingerprint: the states of the program cannot be told apart.
        """
        if self._packed is not None:
            try:
                return next(self._packed)
            except NoTables:
                self._packed = None
                self.name = "states"
                self.states = self.transitions = 0
        return self._run_once()

    # -- by tables -------------------------------------------------------------------------------------------------

    def _by_tables(self) -> Iterator[bool]:
        self.name = "tables"
        if self.sometimes:
            raise NoTables("it says what at least one run must reach, and nothing is run")
        tables = Tables(self._program, self._time)
        search = PackedSearch(tables, symmetry=self._symmetry)
        for statistics in search.run():
            self._take(statistics, tables)
            yield True
        for broke in search.broke.values():
            self._replay(search.schedule(broke.state, broke.path), must_break=True)
        for end in search.ends:
            self._replay(search.schedule(end))
        for state in search.sample(CHECKED):
            check(self._program, search.schedule(state), search.values(state), self._time)
        self._take(search.statistics, tables)
        yield False

    def _take(self, statistics: PackedStatistics, tables: Tables) -> None:
        self.states, self.transitions = statistics.states, statistics.transitions
        self.statistics.executions = tables.visits
        self.statistics.depth = statistics.depth
        self.effort = PACKED_EFFORT * statistics.transitions

    def _replay(self, decisions: list[Decision], *, must_break: bool = False) -> None:
        """Run what the tables say, for the bug that shows or for what checkers say of the end."""
        try:
            execution = replay(self._program, decisions)
        except ReplayDiverged as error:
            raise NoTables(f"a schedule of the tables does not fit: {error}") from error
        outcome = execution.outcome
        self.bounded += outcome.ending is Ending.BOUND
        self.statistics.executions += 1
        self.statistics.deliveries += outcome.deliveries
        if outcome.bug is not None:
            collect(self.found, outcome, decisions, self.statistics.executions - 1)
        elif must_break:
            raise NoTables("what breaks by the tables does not break when it is run")
        self._program.dispose(execution)

    # -- by running ------------------------------------------------------------------------------------------------

    def _begin(self, *, orders: bool) -> States:
        """From the beginning, with nothing known."""
        self._guide = States(orders=orders)
        self._taken.clear()
        self.found.clear()  # whatever it was, it is found again
        self.bounded = 0
        self.statistics = Statistics()
        return self._guide

    def _orders_matter(self, locks: Locks) -> bool:
        """Whether some execution may have a circle in its locks, as far as is known.

        That is so when all steps together have one, and each step is taken in every state: as long as they have none
        it does not matter which of them led to a state.
        """
        taken = len(self._taken)
        self._taken.update(locks.states.values())
        return len(self._taken) > taken and bool(circle(all_edges(self._taken)))

    def _run_once(self) -> bool:
        if self._guide is None:
            self.effort = 0.0
            self._begin(orders=False)
        program, guide = self._program, self._guide
        assert guide is not None
        execution = program.execute(guide, time=self._time, driver=GuidedSimulation)
        simulation = execution.simulation
        assert isinstance(simulation, GuidedSimulation)
        if guide.error is not None:
            raise guide.error
        self.held_back = self.held_back or simulation.held_back
        if not guide.orders and self._orders_matter(simulation.locks):
            program.dispose(execution)
            self._spent = self.effort
            self._begin(orders=True)
            return True
        if simulation.broken:
            # A step may wake several paths that break something, each for itself.
            for one in simulation.broken:
                if one.step == simulation.broken[0].step:
                    collect(self.found, one.outcome, guide.decisions, guide.statistics.executions)
        elif guide.complete and execution.outcome.bug is not None:
            collect(self.found, execution.outcome, guide.decisions, guide.statistics.executions)
        elif not guide.complete and not simulation.given_up:
            self.bounded += 1
        if guide.complete:
            self.bounded += cut_at_rest(simulation, execution)
        if guide.complete or simulation.broken:
            self.pipelined += simulation.pipelined > 0
            for text, reached in zip(program.sometimes, program.reached(execution), strict=True):
                self.sometimes[text] |= reached
        program.dispose(execution)
        more = guide.advance()
        statistics = guide.statistics
        self.states, self.transitions = statistics.states, statistics.transitions
        self.statistics.executions = statistics.executions
        self.statistics.deliveries = statistics.deliveries
        self.statistics.depth = statistics.depth
        self.effort = self._spent + statistics.deliveries + FINGERPRINT_EFFORT * statistics.transitions
        return more
