"""Simpler inputs for a bug: the settings of a program made smaller, as long as the same bug shows.

A setting that is larger than what is usual goes back to that, or as near as the bug allows.  Below what is usual a
number is only made smaller when that makes the story shorter: what has no part in the bug is best left alone.

The bug is found again by following its schedule, leaving out what does not fit, or else by a short search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from slabactors.errors import NondeterminismError, UsageError
from slabactors.explore.fewest import Budget, Fewest, run_for_signature
from slabactors.explore.program import Program
from slabactors.explore.runs import Runs
from slabactors.explore.shrink import Shrunken, shrink_schedule
from slabactors.explore.strategy import STRATEGIES
from slabactors.runtime.step import TimePolicy

SEARCH_RUNS: Final = 60
"""Executions of the search for a bug whose schedule does not fit any more."""

ATTEMPT_REPLAYS: Final = 150
"""Executions that may be spent on one value of one setting."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting that can be made smaller.

    Attributes:
        name: of the setting.
        value: what it is: a whole number, or true.
        usual: what it is when nobody sets it.
        smallest: it makes no sense below this.
    """

    name: str
    value: int
    usual: int
    smallest: int = 0


@dataclass(slots=True)
class Simplified:
    """A bug with the simplest settings found.

    Attributes:
        settings: those that differ from what they were.
        program: with them.
        shrunken: the schedule.
    """

    settings: dict[str, int]
    program: Program
    shrunken: Shrunken


Variants = Callable[[Mapping[str, int]], Program]
"""The program with some settings changed; raises a `UsageError` when they do not fit."""


class Simplifier:
    """Makes the settings of a program smaller, for one bug of it after another.

    Args:
        variants: makes the program with other settings.
        knobs: what may be changed.
        fewest: what schedules with few preemptions show, with the settings as they are.
        time: the policy under which bugs were found, if not the program's own.
    """

    def __init__(
        self, variants: Variants, knobs: Sequence[Knob], fewest: Fewest, *, time: TimePolicy | None = None
    ) -> None:
        self._variants = variants
        self._knobs = knobs
        self._time = time
        self._fewest: dict[tuple[tuple[str, int], ...], Fewest] = {(): fewest}
        """What schedules with few preemptions show, with the settings that were kept."""
        self._hopeless: set[tuple[tuple[str, int], ...]] = set()
        """Settings with which the bug at hand does not show."""

    def simplified(self, program: Program, shrunken: Shrunken, wanted: str, budget: Budget) -> Simplified:
        """The bug with the simplest settings found; idempotent.

        Args:
            program: that the bug was found in.
            shrunken: its schedule; that it has the fewest preemptions need not be proved yet.
            wanted: its signature.
            budget: what it may cost; the best so far is given when that is spent.
        """
        best = Simplified({}, program, shrunken)
        self._hopeless.clear()
        again = bool(self._knobs)
        while again:
            again = False
            for knob in self._knobs:
                better = self._turned(best, knob, wanted, budget)
                if better is not None:
                    best, again = better, True
        if self._knobs and budget.left:
            fewest = self._fewest.setdefault(_key(best.settings), Fewest(best.program, time=self._time))
            best.shrunken = shrink_schedule(
                best.program, best.shrunken.decisions, wanted, budget=budget, fewest=fewest, time=self._time
            )
        return best

    def _turned(self, best: Simplified, knob: Knob, wanted: str, budget: Budget) -> Simplified | None:
        """The best with one setting smaller, if that can be."""
        value = best.settings.get(knob.name, knob.value)
        if value > knob.usual:
            return self._lowered(best, knob, value, wanted, budget)
        for lower in sorted({knob.smallest, knob.smallest + 1, (knob.smallest + value) // 2, value - 1}):
            if knob.smallest <= lower < value:
                candidate = self._with(best, knob, lower, wanted, budget)
                if candidate is not None and _story(candidate.shrunken) < _story(best.shrunken):
                    return candidate
        return None

    def _lowered(self, best: Simplified, knob: Knob, value: int, wanted: str, budget: Budget) -> Simplified | None:
        """The best with what is usual, or else with the smallest value above it that halving finds."""
        found = self._with(best, knob, knob.usual, wanted, budget)
        if found is not None:
            return found
        fails, works = knob.usual, value
        while works - fails > 1:
            middle = (fails + works) // 2
            candidate = self._with(best, knob, middle, wanted, budget)
            if candidate is None:
                fails = middle
            else:
                works, found = middle, candidate
        return found

    def _with(self, best: Simplified, knob: Knob, value: int, wanted: str, budget: Budget) -> Simplified | None:
        """The bug with one setting changed, if it shows."""
        settings = {**best.settings, knob.name: type(knob.value)(value)}
        if _key(settings) in self._hopeless or not budget.left:
            return None
        part = budget.part(ATTEMPT_REPLAYS)
        try:
            program = self._variants(settings)
            again = self._found_again(program, best.shrunken, wanted, part)
            if again is not None and again.decisions == best.shrunken.decisions:
                return Simplified(
                    settings, program, replace(best.shrunken, history=again.history, outcome=again.outcome)
                )
            if again is not None:
                none = Fewest(program, executions=0)  # proofs are for the settings that are kept
                shrunken = shrink_schedule(program, again.decisions, wanted, budget=part, fewest=none, time=self._time)
                return Simplified(settings, program, shrunken)
        except (UsageError, NondeterminismError):
            pass  # such settings do not fit, or the program does not repeat itself with them
        finally:
            budget.spent += part.spent
        self._hopeless.add(_key(settings))
        return None

    def _found_again(self, program: Program, shrunken: Shrunken, wanted: str, budget: Budget) -> Shrunken | None:
        runs = Runs(program, wanted, budget, self._time)
        found = runs.followed(shrunken.decisions)
        if found is not None:
            return found
        strategy = STRATEGIES["portfolio"]("simpler")
        for _ in range(SEARCH_RUNS):
            if not budget.left:
                break
            budget.spent += 1
            name, record, bounded = run_for_signature(program, strategy, self._time)
            if name == wanted:
                return runs.recorded(record)
            if bounded:
                break  # it may never end with such a setting
        return None


def _key(settings: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(settings.items()))


def _story(shrunken: Shrunken) -> tuple[int, ...]:
    """How much there is to tell: a bug that no step has is told with all that happened."""
    return shrunken.preemptions, len(shrunken.history.events), *shrunken.size
