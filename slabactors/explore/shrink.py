"""Shrinking: from the run in which a bug was found to the shortest schedule of it that reads well.

Each stage changes the schedule; each change is confirmed by a strict replay that must show the same signature.

1. Causal slice: only the steps that happen before the one that broke.  A set of steps closed under "happens before" is
   itself the beginning of a run, so this needs no search.  A bug found when the run was over has no such step: whole
   paths, and then ever shorter stretches of steps, are left out instead, where the bug still shows without them.
2. Re-linearise: the same steps in the order with the fewest preemptions, then switches (found exactly where there are
   few enough of them, else greedily from each path in turn).
3. Fewest preemptions: the steps of a path that is preempted are moved together, whatever depends on what; and then
   schedules with fewer preemptions are looked for, until one shows the bug or all were explored: then there is none.

4. Values of ``choose()`` as low as possible.

A preemption is a switch away from a path that could have gone on, or a timer that fires while one could have.  A path
that the schedule needs no more is not preempted when it may as well run on until it waits: the schedule leaves that out
only to be short.  So the number is that of a whole run, and means the same as in a search by preemptions.

It ends when nothing changes any more or its budget is spent, with the best schedule so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from slabactors.explore.fewest import Budget, Fewest, look_near
from slabactors.explore.linearise import decisions_of, merged_orders, slice_about, slice_of, without_rounds
from slabactors.explore.program import Program
from slabactors.explore.runs import Runs, Shrunken, expect, observed, orders, replayed
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.step import Decision, TimePolicy
from slabactors.runtime.tripwires import guarded

__all__ = ["Budget", "Shrunken", "replayed", "shrink", "shrink_schedule"]


@guarded
def shrink(
    program: Program,
    record: list[int],
    wanted: str,
    *,
    budget: Budget | None = None,
    fewest: Fewest | None = None,
    time: TimePolicy | None = None,
) -> Shrunken:
    """The best schedule found for the bug that a record shows.

    Args:
        program: what was run.
        record: of the execution that showed the bug, made in this process.
        wanted: signature of the bug.
        budget: what it may cost.
        fewest: what schedules with few preemptions show, shared among the bugs of one search.
        time: the policy under which the bug was found, if not the program's own.

    Raises:
        NondeterminismError: not even the record itself shows the bug again.
    """
    shrinker = _Shrinker(program, wanted, budget or Budget(), fewest or Fewest(program, time=time), time)
    return shrinker.shrunken(shrinker.recorded(record))


@guarded
def shrink_schedule(
    program: Program,
    decisions: list[Decision],
    wanted: str,
    *,
    budget: Budget | None = None,
    fewest: Fewest | None = None,
    time: TimePolicy | None = None,
) -> Shrunken:
    """As `shrink`, from a schedule: of a finding, or of a live run.

    Raises:
        ReplayDiverged: the schedule does not fit.
        NondeterminismError: it does not show the bug.
    """
    shrinker = _Shrinker(program, wanted, budget or Budget(), fewest or Fewest(program, time=time), time)
    start = shrinker.strictly(decisions)
    expect(start.outcome, wanted)
    return shrinker.shrunken(start)


class _Shrinker(Runs):
    """One bug of one program on its way to a short schedule."""

    def __init__(self, program: Program, wanted: str, budget: Budget, fewest: Fewest, time: TimePolicy | None) -> None:
        super().__init__(program, wanted, budget, time)
        self.fewest = fewest

    # -- all of it -------------------------------------------------------------------------------------------------

    def shrunken(self, start: Shrunken) -> Shrunken:
        """The best that a schedule can be made into."""
        before = self.fewest.executions
        best = self.counted(start)
        while True:
            small = self._stages(best)
            if small.size >= best.size:
                break
            best = small
        return replace(
            best.told(),
            minimum=self.fewest.proves(self.wanted, best.preemptions),
            replays=self.budget.spent,
            proof=self.fewest.executions - before,
        )

    def _stages(self, found: Shrunken) -> Shrunken:
        small = self._together(self._short(found))
        small = self._left_out(small) if small.outcome.culprit is None else self._without_others(small)
        small = self._lower_values(small)
        small = min(found, self.counted(small), key=lambda one: one.size)
        return self._fewer(small)

    # -- stages 1 and 2 --------------------------------------------------------------------------------------------

    def _short(self, found: Shrunken) -> Shrunken:
        """Only the steps that happened before the one that broke, in the best order."""
        better: Shrunken | None = found
        while better is not None and better.outcome.culprit is not None:
            found, better = better, None
            for order in orders(found.history.events, found.outcome.culprit):
                candidate = self.confirmed(decisions_of(found.history, order))
                if candidate is not None and candidate.rough_size < found.rough_size:
                    better = candidate
                    break
        return found

    def _without_others(self, found: Shrunken) -> Shrunken:
        """Without rounds of a daemon, and paths, that took part but need not have."""
        better: Shrunken | None = found
        while better is not None:
            found, better = better, None
            for rest in self._rests(found):
                candidate = self.followed(rest)
                if candidate is not None:
                    candidate = self._short(candidate)
                    if candidate.rough_size < found.rough_size:
                        better = candidate
                        break
        return found

    def _rests(self, found: Shrunken) -> Iterator[list[Decision]]:
        culprit = found.outcome.culprit
        assert culprit is not None
        for order in without_rounds(found.history.events):
            yield decisions_of(found.history, order)
        yield from _without_paths(found.decisions, culprit.key)

    def _left_out(self, found: Shrunken) -> Shrunken:
        """For a bug that no step has: with as many steps left out as possible."""
        bug = found.outcome.bug
        assert bug is not None
        found = self.counted(found)
        about = decisions_of(found.history, slice_about(found.scheduled, bug.about))
        found = self._smaller(found, []) or self._smaller(found, about) or found
        better: Shrunken | None = found
        while better is not None:
            found, better = better, None
            for rest in _without_paths(found.decisions):
                better = self._smaller(found, rest)
                if better is not None:
                    break
        length = len(found.decisions) // 2
        while length:
            start = len(found.decisions) - length
            while start >= 0:
                rest = found.decisions[:start] + found.decisions[start + length :]
                found = self._smaller(found, rest) or found
                start = min(start, len(found.decisions)) - length
            length //= 2
        return found

    def _smaller(self, found: Shrunken, decisions: list[Decision]) -> Shrunken | None:
        """What can be followed of a schedule, if that is smaller than what was found."""
        if len(decisions) >= len(found.decisions):
            return None
        candidate = self.followed(decisions)
        if candidate is None:
            return None
        candidate = self.counted(candidate)
        return candidate if candidate.size < found.size else None

    def _lower_values(self, found: Shrunken) -> Shrunken:
        """With what ``choose()`` returned as low as possible."""
        for index in range(len(found.decisions)):
            decision = found.decisions[index] if index < len(found.decisions) else None
            for value in range((decision.value or 0) if decision is not None else 0):
                assert decision is not None
                lower = [*found.decisions[:index], replace(decision, value=value), *found.decisions[index + 1 :]]
                candidate = self.confirmed(lower)
                if candidate is not None and candidate.rough_size < found.rough_size:
                    found = candidate
                    break
        return found

    # -- stage 3 ---------------------------------------------------------------------------------------------------

    def _together(self, found: Shrunken) -> Shrunken:
        """With the steps of preempted paths moved together, as long as that helps."""
        better: Shrunken | None = found
        while better is not None:
            found, better = better, None
            for order in merged_orders(found.scheduled) if found.resumed else ():
                decisions = decisions_of(found.history, order)
                candidate = self.confirmed(decisions) or self.followed(decisions)
                if candidate is not None:
                    candidate = self._short(candidate)
                    if candidate.rough_size < found.rough_size:
                        better = candidate
                        break
        return found

    def _fewer(self, best: Shrunken) -> Shrunken:
        """The best schedule with fewer preemptions, if there is one."""
        while best.preemptions and not self.fewest.proves(self.wanted, best.preemptions):
            record = self.fewest.look(self.wanted, best.preemptions, self.budget)
            if record is None and not self.fewest.proves(self.wanted, best.preemptions):
                paths = {event.path.key for event in best.scheduled}
                record = look_near(self.program, self.wanted, paths, best.preemptions, self.budget, self.time)
            if record is None or not self.budget.left:
                break
            better = self._made_of(record)
            if better.preemptions >= best.preemptions:
                break
            best = better
        return best

    def _made_of(self, record: list[int]) -> Shrunken:
        """The best schedule of another run that shows the bug with fewer preemptions."""
        first = self.recorded(record)
        found = [self.counted(self._short(first)), self.counted(first)]
        if found[0].preemptions:
            # In another order, or without the steps that do not matter, it may take more of them.
            history, execution = observed(self.program, FollowRecord(record), self.time)
            for order in (slice_of(history.events, execution.outcome.culprit), list(range(len(history.events)))):
                one = self.confirmed(decisions_of(history, order))
                if one is not None:
                    found.append(self.counted(one))
        return min(found, key=lambda one: one.size)


def _without_paths(decisions: list[Decision], but: str = "") -> Iterator[list[Decision]]:
    """The schedule without one path each, and without those that it started; the longest first.

    Args:
        decisions: the schedule.
        but: key of a path that is kept.
    """
    paths = dict.fromkeys(one.path for one in decisions)
    yield from sorted(
        ([one for one in decisions if not _of(one, path)] for path in paths if path != but and not _within(but, path)),
        key=len,
    )


def _of(decision: Decision, path: str) -> bool:
    return decision.path == path or _within(decision.path, path)


def _within(key: str, path: str) -> bool:
    """Whether a path was started by another one, or by one that that one started."""
    return key.startswith(f"{path}/")
