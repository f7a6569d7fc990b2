"""A simulation that an exhaustive search drives: every step is asked for, and a bug does not end the run.

When a step breaks a rule, its path stops for good (as a kernel thread that oopses does) and the others go on.  That
makes every run a maximal one, so that a search which reorders the steps of a run has seen all there is to reorder.
What was found is `GuidedSimulation.broken`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slabactors.actors import Actor, Message, Operation
from slabactors.actors.footprint import Reach
from slabactors.errors import (
    EndlessLoop,
    ForeignAwait,
    ForeignCall,
    KernelBug,
    NondeterminismError,
    UsageError,
    WrongReturn,
)
from slabactors.runtime.simulated import SimPath, Simulation, host_error
from slabactors.runtime.step import CLOCK, Ending, Outcome, TimePolicy, touched_freed, uncaught

ARM = Operation(lambda actor, jiffies: None, clock=True)
"""The step in which a path sets the deadline that it will wake at."""
ARM.name = "arm"
ARM.owner = "Clock"
ARM.expression = "falls asleep"


EARLY = (TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED)
"""Policies under which a timer may fire while something else could still run."""


class Guide(Protocol):
    """Who says what happens next, and is told what did."""

    forced: bool

    @property
    def exhausted(self) -> bool:
        """Whether the first act is over for it."""
        ...

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """Unused in the first act; the fair policy plays the second."""
        ...

    def choose(self, count: int) -> int:
        """Unused."""
        ...

    def next(self, enabled: Sequence[SimPath]) -> SimPath | None:
        """The path whose message is delivered next; None gives the run up."""
        ...

    def choose_for(self, path: SimPath, count: int) -> int:
        """What a path's ``choose()`` returns."""
        ...

    def delivered(
        self, path: SimPath, operation: Operation, actor: Actor, reach: Reach, *, timer: bool, barrier: bool
    ) -> None:
        """A step was taken; its path is about to go on.

        Args:
            path: whose step it was.
            operation: what was delivered.
            actor: to whom.
            reach: which cells of it the step met.
            timer: a timer fired, or a sleeper woke.
            barrier: and that because nothing else could move: ordered against every other step.
        """
        ...

    def resumed(self) -> None:
        """The path of the last step has run up to its next message."""
        ...

    def finished(self, simulation: GuidedSimulation) -> None:
        """The first act is over: nothing moves."""
        ...


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that was broken in a guided run.

    Attributes:
        step: how many deliveries had been made, that one included; not fewer when found only after the run.
        outcome: as a run would have it that had ended there.
    """

    step: int
    outcome: Outcome


class GuidedSimulation(Simulation):
    """One execution of an exhaustive search.

    Args:
        guide: says what happens.
        early_firings_max: under adversarial time, how often *each* timer may fire while something else could still run.
            (A bound for all of them together would make what one timer may do depend on what others did.)
        options: as for `Simulation`; no invariant when the guide leaves out orders of steps (unless its ``reduces`` is
            false).

    Raises:
        UsageError: there is an invariant.
    """

    def __init__(self, guide: Guide, *, early_firings_max: int = 1, **options: Any) -> None:
        if options.get("invariant") is not None and getattr(guide, "reduces", True):
            raise UsageError(
                "an invariant is looked at after every step, so no two steps of this program are independent.\n"
                "  Search it by states, within a bound, or at random: "
                "verify --search states, verify --preemptions 2, explore"
            )
        super().__init__(guide, **options)
        self.guide = guide
        self.early_firings_max = early_firings_max
        self.broken: list[Broken] = []
        self.stopped: set[SimPath] = set()
        """Paths that broke a rule, and go no further."""
        self.given_up = False
        self.idle = False
        """What is enabled now are timers, and only because nothing else was."""
        self.deliveries = 0
        self.held_back = False
        """A timer had used up its early firings, and had to wait until nothing else could move."""

    def _play(self, pick: Any, act: int) -> bool:
        if act == 2:
            return not self.given_up and not self.broken and super()._play(pick, act)
        guide = self.guide
        enabled = self.enabled
        for _ in range(self.steps_max):
            # Nothing was enabled, so that time has to pass for anything to happen.
            self.idle = not enabled
            if len(enabled) == self.timers_open and not self._advance(act):
                guide.finished(self)
                return True
            path = guide.next(enabled)
            if path is None:
                self.given_up = True
                return True
            self._deliver_one(path, barrier=self.idle)
        return False

    def _deliver_one(self, path: SimPath, *, barrier: bool) -> None:
        count = len(self.enabled)
        self._current = path
        self.record.append(path.id)
        self.deliveries += 1
        operation, actor, args = path.request
        timer = path.deadline is not None
        reach = operation.reach_in(actor, args) if operation.narrow else operation.footprint
        try:
            if actor.tombstone is not None:
                touched_freed(operation, actor, actor.tombstone, path)
            if operation.guard is not None:
                actor.guarded.remove(path)  # type: ignore[union-attr]
            if operation.sleeps:
                self.locks.may_sleep(path, operation, actor)
            reply = operation.function(actor, *args)
        except Exception as raised:
            if path.deadline is not None:
                self._fired(path, count)
            self._stop(path, raised, operation, actor)
            self.guide.delivered(path, operation, actor, operation.footprint, timer=timer, barrier=barrier)
        else:
            if operation.special:
                self._special(path, operation, actor, count, reply)
            if actor.guarded:
                self._recheck(actor)
            if self.invariant is not None and self._breaks(path, operation, actor):
                return
            self.guide.delivered(path, operation, actor, reach, timer=timer, barrier=barrier)
            self._go_on(path, reply, operation, actor)
        self.guide.resumed()

    def _breaks(self, path: SimPath, operation: Operation, actor: Actor) -> bool:
        """Whether the invariant does not hold after a step; its path goes no further then."""
        assert self.invariant is not None
        try:
            self.invariant()
        except Exception as raised:
            self._stop(path, raised, operation, actor)
            self.guide.delivered(path, operation, actor, operation.footprint, timer=False, barrier=False)
            return True
        return False

    def _go_on(self, path: SimPath, reply: Any, operation: Operation, actor: Actor) -> None:
        """Resume a path after its step."""
        if operation is ARM:
            super()._fall_asleep(path, path.request[2][0])
            return
        request: Any = None
        result: Any = None
        returned = False
        try:
            request = path.send(reply)
            if type(request) is not tuple:
                request = self._serve(path, request)
        except StopIteration as stop:
            returned, result = True, stop.value
        except Exception as raised:
            self._stop(path, raised, operation, actor)
            return
        if returned:
            self._finish(path, result)
        elif request is not None:
            path.request = request
            if request[0].guard is not None:
                self._wait(path, request)

    def _fall_asleep(self, path: SimPath, jiffies: int) -> Message | None:
        """Setting the deadline is a step of its own: it meets every other step that has to do with time."""
        return ARM, CLOCK, (jiffies,)

    def _outlives(self, path: SimPath, raised: Exception) -> bool:
        """A path that breaks a rule when it is started or woken stops; whoever did that goes on."""
        self._stop(path, raised, path.request[0], path.request[1])
        return True

    def _stop(self, path: SimPath, raised: Exception, operation: Operation, actor: Actor) -> None:
        """A path broke a rule: note it, and let the path go no further."""
        if isinstance(raised, EndlessLoop | ForeignAwait | ForeignCall | WrongReturn | NondeterminismError):
            raise raised
        error: BaseException | None = None
        if isinstance(raised, KernelBug):
            bug = raised
        else:
            host_error(raised)
            bug, error = uncaught(raised, path), raised
        outcome = self.outcome_of(bug, path, operation, actor, error)
        self.broken.append(Broken(self.deliveries, outcome))
        if path in actor.guarded:
            actor.guarded.remove(path)  # type: ignore[union-attr]
        self._disable(path)
        # It is not done: whoever waits for it waits for ever.
        self.stopped.add(path)
        if path.timer is None:
            path.coroutine.close()
            if not path.daemon:
                self._alive -= 1

    def _advance(self, act: int) -> bool:
        """In the first act timers go on firing until each has used up its early firings."""
        if act == 1 and self.time in EARLY and self.timers_open:
            return True
        if self.broken:
            # Somebody may wait for a path that has stopped, and a timer that is set again and again would go on.
            due = [timer for timer in self.timers if timer.timer is None or timer.ordinal < self.early_firings_max]
            if not due:
                return False
        try:
            return super()._advance(act)
        except KernelBug as deadlock:
            # After another bug it is a consequence: the path that broke may have held what the others wait for.
            if not self.broken:
                outcome = Outcome(Ending.BUG, len(self.record), self.clock.now, deadlock)
                self.broken.append(Broken(self.deliveries, outcome))
            return False

    def _script_goes_on(self) -> bool:
        """A guide has no end of its own: the first act lasts until nothing moves, and the second is played fairly."""
        return False

    def _refresh_timers(self) -> None:
        """In the order of the policy, each timer so many times; sleepers as often as they sleep."""
        if self.time not in EARLY:
            super()._refresh_timers()
            return
        for timer in self.timers:
            if timer.index >= 0:
                self._disable(timer)
        self.timers_open = 0
        if not self.timers:
            return
        for timer in self._next_timers():
            if timer.timer is not None and timer.ordinal >= self.early_firings_max:
                self.held_back = True
                continue
            self._enable(timer)
            self.timers_open += 1
