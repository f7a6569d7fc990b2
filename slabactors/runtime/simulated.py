"""The simulated driver: a trampoline that holds every pending message and lets a strategy pick the next delivery.

No event loop and no threads.  One `Simulation` is one execution: it delivers a message by running its operation, then
resumes the asking path up to its next ``await``.  Everything that was decided is in `Simulation.record`, a list of
ints (path numbers; ``-1 - value`` for what ``choose()`` returned), which replays the run exactly.

The loop in `_play` is the hot path of every search: paths stay where they are in the list of enabled ones as long as
their next message has no guard, and nothing is built for a step but the message itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path as FilePath
from typing import Any, Final, NoReturn, Protocol, cast

from slabactors.actors import (
    MIGHT_SLEEP,
    Actor,
    Choose,
    Clock,
    Interrupt,
    Join,
    Locks,
    Message,
    Operation,
    Parallel,
    Request,
    Sleep,
    Spawn,
    Tell,
    Timed,
    Tombstone,
    join,
    message_of,
)
from slabactors.actors.locks import AT_LARGE
from slabactors.errors import (
    EndlessLoop,
    ForeignAwait,
    ForeignCall,
    KernelBug,
    NondeterminismError,
    ReplayDiverged,
    WrongReturn,
)
from slabactors.runtime.step import (
    NOTHING,
    SERVED_MAX,
    Ending,
    Lineage,
    Observer,
    Outcome,
    Step,
    TimePolicy,
    checked_count,
    deferrable,
    deliver,
    endless,
    hung,
    in_vain,
    place_of,
    touched_freed,
    uncaught,
    unknown_request,
)

__all__ = ["SimPath", "Simulation", "Strategy"]

DRAW_BITS: Final = 16
"""How many bits there are in each of a strategy's ``draws``."""


class Strategy(Protocol):
    """Picks what happens next.  It must be a pure function of its own state and of what it is shown."""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """One of at least two paths whose pending message (`SimPath.request`) may be delivered now."""
        ...

    def choose(self, count: int) -> int:
        """A value from 0 to ``count - 1`` for a path that called ``choose()``."""
        ...


class Script(Strategy, Protocol):
    """A strategy asked about every step: also where one path alone is enabled, and in the second act.

    What makes a strategy one is a true attribute ``forced``.  Under ``TimePolicy.RECORDED`` the first act lasts as long
    as the script does.
    """

    forced: bool

    @property
    def exhausted(self) -> bool:
        """It has come to its end: in the second act the fair policy goes on, in the first its own `pick` does."""
        ...

    def choose_for(self, path: SimPath, count: int) -> int:
        """As `choose`, told which path asks; called instead of it."""
        ...


class SimPath(Lineage):
    """A path in a simulated run, with its pending message.

    Attributes:
        id: number in the order of spawning in this run.
        request: the pending message: operation, actor, arguments.
        index: position in the list of enabled paths; -1 when it is not in it.
        deadline: when it sleeps or is a timer, in jiffies.
        gathers: the paths whose results it waits for together; None when it waits for one.
        missing: how many of those that it waits for have not returned yet.
        ready: when its message has a guard, whether that holds.
    """

    __slots__ = (
        "coroutine",
        "daemon",
        "deadline",
        "gathers",
        "id",
        "index",
        "joiners",
        "last",
        "missing",
        "ready",
        "request",
        "result",
        "send",
        "timer",
    )

    def __init__(self, number: int, parent: SimPath | None) -> None:
        # No super().__init__(): some paths are made for each execution, and the call is felt.  Who makes one names it.
        self.id = number
        self.lane = ""
        self.parent = parent
        self.children = 0
        self.born = -1 if parent is None else parent.last - 1 if parent.last > 0 else parent.born
        self._key = None
        self.index = -1
        self.last = -1
        self.daemon = False
        self.done = False
        self.deadline: int | None = None
        self.timer: Timed | None = None
        self.gathers: list[SimPath] | None = None
        self.joiners: tuple[SimPath, ...] = ()
        self.joins = ()
        self.request: Message = NOTHING

    last: int
    missing: int
    parent: SimPath | None
    ready: Callable[[Actor], bool]
    result: Any
    coroutine: Coroutine[Any, Any, Any]
    send: Callable[[Any], Any]


def _bound(guard: Callable[..., bool], args: tuple[Any, ...]) -> Callable[[Actor], bool]:
    """A guard with the arguments of its message."""
    return lambda actor: guard(actor, *args)


def _timer_fired(_: Any) -> NoReturn:
    """What a timer has instead of a coroutine's ``send``: nothing is left to do after its delivery."""
    raise StopIteration


class Simulation:
    """One execution.

    Args:
        strategy: picks the steps of the first act; of both acts when it is a `Script`.
        time: when timers may fire in the first act.
        early_firings_max: under adversarial time, how many timers may fire while something else could still run.
        steps_max: bound on deliveries and choices.
        settle_jiffies: how much virtual time the second act may take at most; 0 for no second act.
        observer: called with a `Step` after each delivery.
        starvation_jiffies: when timers may fire early, for how much virtual time at most a path that can move may be
            left waiting by that; None for any time, 0 makes time quiescent.
        invariant: called after each delivery, before its path goes on; raises `KernelBug`, and the step is to blame.
    """

    # What most runs leave as it is, is not set anew for each of them.
    first_act: int | None = None
    """Length of the record when the second act began; None while the first one lasts."""
    preempts: bool = False
    """With an observer: the step under way preempts the path that took the one before."""
    _current: SimPath | None = None
    _roots: int = 0
    _draws: Iterator[int] | None = None
    _looked_for_hung: bool = False

    def __init__(
        self,
        strategy: Strategy,
        *,
        time: TimePolicy = TimePolicy.ADVERSARIAL,
        early_firings_max: int = 3,
        steps_max: int = 20_000,
        settle_jiffies: int = 0,
        observer: Observer | None = None,
        starvation_jiffies: int | None = None,
        invariant: Callable[[], None] | None = None,
    ) -> None:
        self.strategy = strategy
        self._script: Script | None = strategy if getattr(strategy, "forced", False) else None  # type: ignore[assignment]
        self.time = time
        self.starvation_jiffies = starvation_jiffies
        if starvation_jiffies is not None:
            self._runnable: dict[SimPath, tuple[Message, int]] = {}
            """The messages that a timer overtook, and since when they could be delivered."""
            if starvation_jiffies == 0 and time is not TimePolicy.RECORDED:
                self.time = TimePolicy.QUIESCENT
        self.early_firings_left = early_firings_max
        self.steps_max = steps_max
        self.settle_jiffies = settle_jiffies
        self.observer = observer
        self.invariant = invariant
        self.clock = Clock()
        self.record: list[int] = []
        self.choosers: list[SimPath] = []
        """Who called ``choose()``: a path for each value in the record."""
        self.paths: list[SimPath] = []
        self.enabled: list[SimPath] = []
        self.timers: list[SimPath] = []
        self.timers_open = 0
        self.locks = Locks()
        """Who holds which locks, and in which order they were taken."""
        self.at_rest: Callable[[], None] | None = None
        """What looks at the settled machine."""
        self.pipelined = 0
        """How often a path told an actor something while another one had not got what it was told before: the second
        message may overtake the first, which no queue in the order of sending allows."""
        self._lanes: list[SimPath] | tuple[()] = ()
        self._alive = 0

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        *,
        daemons: Sequence[Spawn[Any]] = (),
        at_rest: Callable[[], None] | None = None,
        at_bound: Callable[[], None] | None = None,
    ) -> Outcome:
        """Play ``main`` and what it spawns, then let the machine settle, then look at what is left.

        Args:
            main: the scenario.
            daemons: paths that are there from the start (kworkers); they run to their first message before ``main``.
            at_rest: looks at the settled machine; raises `KernelBug`.
            at_bound: looks at one that has not come to rest when the bound on steps is hit; raises `KernelBug`.

        Raises:
            ForeignAwait: a path awaited something that needs an event loop.
            ForeignCall: a path or an operation called what no schedule can repeat.
            WrongReturn: a function of the user's returned what it must not.
            NondeterminismError: the strategy has come to the same state before, and it was another one.
            ReplayDiverged: the strategy follows a schedule that does not fit.
        """
        self.at_rest = at_rest
        ending = Ending.BUG
        bug: KernelBug | None = None
        error: BaseException | None = None
        try:
            self._start([*daemons, Spawn(main, name="main")], None)
            draws: Iterator[int] | None = getattr(self.strategy, "draws", None)
            unstarved = bool(self.starvation_jiffies) and self._script is None
            self._draws = None if unstarved else draws
            if self._draws is not None and self.observer is None:
                finished = self._walk(self._draws)
            else:
                finished = self._play(self._pick_unstarved if unstarved else self.strategy.pick, 1)
            if finished and self.settle_jiffies:
                self.first_act = len(self.record)
                self.time = TimePolicy.QUIESCENT
                self._horizon = self.clock.now + self.settle_jiffies
                self._refresh_timers()
                finished = self._play(_least_recent if self._script is None else self._scripted, 2)
            if finished:
                self._current = None
                if not self._looked_for_hung:
                    self._hung()
                self.locks.judge()
                if at_rest is not None:
                    at_rest()
            elif at_bound is not None and len(self.record) >= self.steps_max:
                # What it finds is nobody's step; if it finds nothing, who was going on is told.
                going, self._current = self._current, None
                at_bound()
                self._current = going
            ending = Ending.DONE if finished else Ending.BOUND
        except KernelBug as found:
            bug = found
        except ForeignCall as offence:
            offence.reported = True
            raise
        except (EndlessLoop, ForeignAwait, WrongReturn, NondeterminismError, ReplayDiverged):
            raise
        except Exception as raised:
            host_error(raised)
            bug, error = uncaught(raised, self._current), raised
        finally:
            outcome = self._outcome(ending, bug, error)
            self._drop()
        return outcome

    def _play(self, pick: Callable[[Sequence[SimPath]], SimPath], act: int) -> bool:
        """Deliver until nothing moves (true) or the bound on steps is hit (false)."""
        enabled = self.enabled
        record = self.record
        append = record.append
        observer = self.observer
        watch = getattr(observer, "about_to_change", None)
        invariant = self.invariant
        script = self._script
        alone = 1 if script is None else 0
        # As in `_walk`, one for each step, also where there is nothing to choose: who observes sees the same run.
        draws = self._draws if act == 1 else None
        draw = 0
        previous: SimPath | None = None
        for _ in range(self.steps_max - len(record)):
            if draws is not None:
                draw = next(draws)
            count = len(enabled)
            if count == self.timers_open:
                if not self._advance(act):
                    return True
                count = len(enabled)
            if draws is not None:
                path = enabled[draw * count >> DRAW_BITS]
            else:
                path = pick(enabled) if count > alone else enabled[0]
            if observer is not None:
                before, self.preempts = previous, False
                previous = path
                if before is not None and before is not path:
                    self.preempts = before.index >= 0 and before.deadline is None
                if watch is not None:
                    watch(path.request[1])
            self._current = path
            append(path.id)
            operation, actor, args = path.request
            if actor.tombstone is not None:
                touched_freed(operation, actor, actor.tombstone, path)
            if operation.guard is not None:
                actor.guarded.remove(path)  # type: ignore[union-attr]
            function = operation.function
            reply = function(actor, *args) if args else function(actor)
            if operation.special:
                self._special(path, operation, actor, count, reply)
            if actor.guarded:
                self._recheck(actor)
            if invariant is not None:
                invariant()
            if observer is not None:
                path.last = len(record)
                observer(Step(len(record) - 1, self.clock.now, path, operation, actor, args, reply, act, self.preempts))
            elif act == 2:
                path.last = len(record)
            try:
                send = path.send
                request = send(reply)
                if type(request) is not tuple:
                    request = self._serve(path, request)
                    if request is None:
                        continue
            except StopIteration as stop:
                self._finish(path, stop.value)
                continue
            path.request = request
            if request[0].guard is not None:
                self._wait(path, request)
        return False

    def _walk(self, draws: Iterator[int]) -> bool:
        """As `_play` does in the first act, for a strategy that draws and when nobody observes.

        It says the same in fewer words: most executions of most searches are played here, and every test that a step
        is spared is felt.  Python 3.11 looks for a method where what is in a slot is called: hence the local names.
        """
        enabled = self.enabled
        record = self.record
        append = record.append
        invariant = self.invariant
        for draw in islice(draws, self.steps_max - len(record)):
            count = len(enabled)
            if count == self.timers_open:
                if not self._advance(1):
                    return True
                count = len(enabled)
            self._current = path = enabled[draw * count >> DRAW_BITS]
            append(path.id)
            operation, actor, args = path.request
            if actor.tombstone is not None:
                touched_freed(operation, actor, actor.tombstone, path)
            function = operation.function
            if operation.plain:
                reply = function(actor, *args) if args else function(actor)
                for waiting in actor.guarded:
                    ready = waiting.ready
                    if ready(actor):
                        if waiting.index < 0:
                            self._enable(waiting)
                    elif waiting.index >= 0:
                        self._disable(waiting)
            else:
                if operation.guard is not None:
                    actor.guarded.remove(path)  # type: ignore[union-attr]
                reply = function(actor, *args)
                if operation.special:
                    self._special(path, operation, actor, count, reply)
                if actor.guarded:
                    self._recheck(actor)
            if invariant is not None:
                invariant()
            try:
                send = path.send
                request = send(reply)
                if type(request) is not tuple:
                    request = self._serve(path, request)
                    if request is None:
                        continue
            except StopIteration as stop:
                self._finish(path, stop.value)
                continue
            path.request = request
            if request[0].guard is not None:
                self._wait(path, request)
        return False

    def outcome_of(
        self, bug: KernelBug, path: SimPath, operation: Operation, actor: Actor, error: BaseException | None
    ) -> Outcome:
        """The outcome of a run that ends here with a bug."""
        return Outcome(
            Ending.BUG,
            len(self.record),
            self.clock.now,
            bug,
            culprit=path,
            operation=operation,
            actor=actor,
            error=error,
        )

    def _outcome(self, ending: Ending, bug: KernelBug | None, error: BaseException | None) -> Outcome:
        path = self._current
        outcome = Outcome(ending, len(self.record), self.clock.now, bug, error=error)
        if ending is Ending.BOUND and path is not None:
            place = "" if path.timer is not None else place_of(path.coroutine)
            outcome.going = f"{path.name} at {place}" if place else path.name
        if bug is not None and path is not None:
            outcome.culprit = path
            if path.request is not NOTHING:
                outcome.operation, outcome.actor = path.request[0], path.request[1]
        return outcome

    def _drop(self) -> None:
        """Close what still runs, innermost first, so that nothing outlives the run."""
        for path in reversed(self.paths):
            if not path.done and path.timer is None:
                try:  # noqa: SIM105 -- a context manager for every path of every execution is felt
                    path.coroutine.close()
                except RuntimeError:
                    pass  # it awaits something while it is being closed, which nobody serves
        self.enabled.clear()

    def dispose(self) -> None:
        """Untie the paths of a run that nobody will look at any more: it is gone without the cycle collector."""
        for path in self.paths:
            path.joins = ()
            path.gathers = None

    # -- paths -----------------------------------------------------------------------------------------------------

    def _start(
        self, requests: Sequence[Spawn[Any] | Coroutine[Any, Any, Any]], parent: SimPath | None
    ) -> list[SimPath]:
        """Make some paths, and run each up to its first message before the next is made."""
        paths = self.paths
        enabled = self.enabled
        joins = () if parent is None else parent.joins
        started = []
        for request in requests:
            path = SimPath(len(paths), parent)
            if isinstance(request, Spawn):
                path.name = request.name
                path.lane = request.lane
                path.daemon = request.daemon
                coroutine = request.coroutine
                if request.interrupts:
                    assert isinstance(request, Interrupt)
                    self.locks.begin(path, request.context, request.inside)
            else:
                path.name = getattr(request, "__name__", "path")
                coroutine = request
            if parent is None:
                path.ordinal = self._roots
                self._roots += 1
            else:
                path.ordinal = parent.children
                parent.children += 1
                path.joins = joins  # it comes after what its spawner has waited for
            paths.append(path)
            started.append(path)
            path.coroutine = coroutine
            path.send = send = coroutine.send
            if not path.daemon:
                self._alive += 1
            # What follows is `_resume`, without its call.
            self._current = path
            try:
                asked = send(None)
                if type(asked) is not tuple:
                    asked = self._serve(path, asked)
            except StopIteration as stop:
                self._finish(path, stop.value)
            except Exception as raised:
                if not self._outlives(path, raised):
                    raise
            else:
                if asked is not None:
                    path.request = asked
                    if asked[0].guard is not None:
                        self._wait(path, asked)
                    elif path.index < 0:
                        path.index = len(enabled)
                        enabled.append(path)
        self._current = parent
        return started

    def _resume(self, path: SimPath, value: Any) -> None:
        """Run a path up to its next message, from outside the loop."""
        before, self._current = self._current, path
        try:
            request = path.send(value)
            if type(request) is not tuple:
                request = self._serve(path, request)
        except StopIteration as stop:
            self._finish(path, stop.value)
        except Exception as raised:
            if not self._outlives(path, raised):
                raise
        else:
            if request is not None:
                path.request = request
                if request[0].guard is not None:
                    self._wait(path, request)
                elif path.index < 0:
                    path.index = len(self.enabled)
                    self.enabled.append(path)
        # Not when it raises: then the path that did is to blame.
        self._current = before

    def _outlives(self, path: SimPath, raised: Exception) -> bool:
        """Whether the run goes on although a path raised when it was started or woken; the exception ends it if not."""
        return False

    def _serve(self, path: SimPath, request: Any) -> Message | None:
        """Serve what is not a message until the path asks for a delivery; None when it waits for something else.

        Raises:
            StopIteration: the path returned meanwhile.
            ForeignAwait: it awaited something of an event loop.
            EndlessLoop: it awaits without end what is no step.
        """
        left = SERVED_MAX
        while type(request) is not tuple:
            value: Any = None
            left -= 1
            if not left:
                if isinstance(request, Spawn):
                    request.coroutine.close()  # nobody will start it
                raise endless(path.name, path.coroutine)
            if request is MIGHT_SLEEP:
                self.locks.may_sleep(path)
            elif isinstance(request, Parallel):
                value = self._gather(path, request)
                if value is None:
                    return None
            elif isinstance(request, Spawn):
                value = self._start((request,), path)[0]
            elif isinstance(request, Join):
                child = request.task
                assert isinstance(child, SimPath)
                path.joins = (*path.joins, child)
                if not child.done:
                    child.joiners = (*child.joiners, path)
                    path.missing = 1
                    self._disable(path)
                    return None
                value = child.result
            elif isinstance(request, Choose):
                count = checked_count(request)
                if self._script is not None:
                    value = self._script.choose_for(path, count)
                else:
                    value = self.strategy.choose(count) if count > 1 else 0
                self.record.append(-1 - value)
                self.choosers.append(path)
            elif isinstance(request, Sleep):
                self.locks.may_sleep(path)
                return self._fall_asleep(path, request.jiffies)
            elif isinstance(request, Tell):
                self._tell(path, message_of(request.message))
            else:
                raise _foreign(path, request)
            request = path.send(value)
        return request

    def _gather(self, path: SimPath, request: Parallel) -> list[Any] | None:
        """Start some paths together; what they returned, or None when one of them has not yet."""
        children = path.children
        try:
            gathers = self._start(request.paths, path)
        finally:
            request.begun = path.children - children  # it is to close the others, if one of them has raised
        path.joins = (*path.joins, *gathers)
        waiting = (path,)
        path.missing = 0
        for child in gathers:
            if not child.done:
                child.joiners = (*child.joiners, path) if child.joiners else waiting
                path.missing += 1
        if not path.missing:
            return [child.result for child in gathers]
        path.gathers = gathers
        self._disable(path)
        return None

    def _fall_asleep(self, path: SimPath, jiffies: int) -> Message | None:
        """Set the deadline at which a path wakes."""
        self._disable(path)
        path.request = NOTHING
        path.deadline = self.clock.now + jiffies
        self.timers.append(path)
        self._refresh_timers()
        return None

    def _tell(self, path: SimPath, message: Message) -> None:
        """A lane: a path of its own that asks and forgets.  Lanes of one path to one actor stay in order."""
        lane = f"tell {message[1].name}"
        lanes = self._lanes = [other for other in self._lanes if not other.done]
        told = [other for other in lanes if other.parent is path]
        waiting = [other for other in told if other.name == lane]
        if len(told) > len(waiting):
            self.pipelined += 1

        async def in_order() -> None:
            if waiting:
                await join(waiting[-1])
            await deliver(message)

        started = len(self.paths)
        self._start((Spawn(in_order(), name=lane, lane=path.lane),), path)
        lanes.append(self.paths[started])

    def _finish(self, path: SimPath, result: Any) -> None:
        path.done = True
        path.result = result
        index = path.index
        if index >= 0:  # as in `_disable`
            last = self.enabled.pop()
            if last is not path:
                self.enabled[index] = last
                last.index = index
            path.index = -1
        if path.timer is not None:
            started = path.timer.on_expiry()
            if started is not None:
                self._start((started,), path)
            return
        if not path.daemon:
            self._alive -= 1
        for joiner in path.joiners:
            joiner.missing -= 1
            if not joiner.missing:
                gathers = joiner.gathers
                if gathers is None:
                    self._resume(joiner, result)
                else:
                    joiner.gathers = None
                    self._resume(joiner, [child.result for child in gathers])

    def _enable(self, path: SimPath) -> None:
        path.index = len(self.enabled)
        self.enabled.append(path)

    def _disable(self, path: SimPath) -> None:
        index = path.index
        if index < 0:
            return
        last = self.enabled.pop()
        if last is not path:
            self.enabled[index] = last
            last.index = index
        path.index = -1

    # -- guards ----------------------------------------------------------------------------------------------------

    def _wait(self, path: SimPath, request: Message) -> None:
        """Put a guarded message in its actor's mailbox; it is enabled while its guard holds."""
        operation, actor, args = request
        if actor.guarded:
            actor.guarded.append(path)
        else:
            actor.guarded = [path]
        guard = operation.guard
        assert guard is not None
        path.ready = ready = _bound(guard, args) if args else guard
        if actor.tombstone is not None or ready(actor):
            if path.index < 0:
                self._enable(path)
        elif path.index >= 0:
            self._disable(path)

    def _recheck(self, actor: Actor) -> None:
        """The actor has changed: which of its guarded messages may be delivered now?"""
        for path in actor.guarded:
            ready = path.ready
            if actor.tombstone is not None or ready(actor):
                if path.index < 0:
                    self._enable(path)
            elif path.index >= 0:
                self._disable(path)

    # -- time ------------------------------------------------------------------------------------------------------

    def _advance(self, act: int) -> bool:
        """No message can be delivered.  Let time pass, or say that the act is over (false)."""
        if self.time is TimePolicy.RECORDED and self.timers_open and self._script_goes_on():
            return True
        if act == 1:
            if not self._alive:
                return False
            if all(deferrable(timer.timer) for timer in self.timers):
                if self.timers and self.settle_jiffies:
                    return False  # whoever waits may yet be woken by what they start: in the second act
                self._current = None
                self._hung()
                self._looked_for_hung = self.settle_jiffies == 0
                return False
            if self.timers_open:
                return True
            for timer in self._next_timers():
                self._enable(timer)
                self.timers_open += 1
            return True
        due = [
            timer
            for timer in self.timers
            if timer.deadline <= self._horizon and not in_vain(timer.timer)  # type: ignore[operator]
        ]
        if not due:
            return False
        first = min(due, key=lambda timer: (timer.deadline, timer.id))
        self._enable(first)
        self.timers_open = 1
        return True

    def _refresh_timers(self) -> None:
        """After a timer was set, removed or fired: keep just those enabled that the policy lets fire now."""
        for timer in self.timers:
            if timer.index >= 0:
                self._disable(timer)
        self.timers_open = 0
        if self.time is TimePolicy.QUIESCENT or not self.timers:
            return
        if self.time is not TimePolicy.RECORDED and not self.early_firings_left:
            return
        may_fire = self._next_timers()
        for timer in may_fire:
            self._enable(timer)
        self.timers_open = len(may_fire)

    def _next_timers(self) -> list[SimPath]:
        """Of all that are set, those that the policy lets fire first; there is at least one."""
        timers = self.timers
        if len(timers) == 1 or self.time is TimePolicy.RECORDED or self.time is TimePolicy.UNTIMED:
            return timers
        due = [(cast("int", timer.deadline), timer) for timer in timers]
        # Under adversarial time a deferrable timer may be as late as you like, so it holds nobody back.
        adversarial = self.time is TimePolicy.ADVERSARIAL
        strict = [deadline for deadline, timer in due if not (adversarial and deferrable(timer.timer))]
        limit = min(strict, default=None)
        return timers if limit is None else [timer for deadline, timer in due if deadline <= limit]

    def turn_to(self, time: TimePolicy) -> None:
        """Change the policy while a strategy is being asked; it picks from `enabled` then, which has changed."""
        self.time = time
        self._refresh_timers()
        if not self.enabled:
            self._advance(1)

    def _pick_unstarved(self, enabled: Sequence[SimPath]) -> SimPath:
        return self.pick_unstarved(self.strategy.pick, enabled)

    def pick_unstarved(self, pick: Callable[[Sequence[SimPath]], SimPath], enabled: Sequence[SimPath]) -> SimPath:
        """One of the enabled paths, but no timer that would leave one that can move waiting beyond the bound.

        Args:
            pick: picks one of several that are allowed.
            enabled: all of them.
        """
        awake = [path for path in enabled if path.deadline is None]
        allowed = enabled
        if awake and self.starvation_jiffies is not None:
            latest = min(self._since(path) for path in awake) + self.starvation_jiffies
            allowed = [path for path in enabled if path.deadline is None or path.deadline <= latest]
        chosen = pick(allowed) if len(allowed) > 1 else allowed[0]
        if chosen.deadline is not None and self.starvation_jiffies is not None:
            for path in awake:
                self._runnable[path] = path.request, self._since(path)
        return chosen

    def _since(self, path: SimPath) -> int:
        """Since when a path could have taken its step: time stands still between two timers."""
        known = self._runnable.get(path)
        return known[1] if known is not None and known[0] is path.request else self.clock.now

    def _special(self, path: SimPath, operation: Operation, actor: Actor, count: int, reply: Any) -> None:
        """What a delivery does to the run besides changing its actor."""
        if operation.excludes:
            actor.holder = path if operation.acquires else None
            # As `Locks.step`, without its call: nearly all steps of locks are such ones, and known.
            states = self.locks.states
            try:
                states[path] = states.get(path, AT_LARGE).following[operation, actor.lock_class]
            except KeyError:
                self.locks.step(path, operation, actor, path.request[2], reply)
            if operation.only_locks:
                return
        elif operation.locks:
            if operation.tries and reply and not operation.shares:
                actor.holder = path
            self.locks.step(path, operation, actor, path.request[2], reply)
            if operation.only_locks:
                return
        if path.deadline is not None:
            self._fired(path, count)
        if operation.frees:
            actor.bury(Tombstone(len(self.record) - 1, path.name, path.lane))
            for member in actor.embedded:
                if member.guarded:
                    self._recheck(member)  # whoever waits there is let through, to a use after free
        if operation.clock and isinstance(actor, Timed):
            armed = actor.pending_timer
            if (armed.deadline if armed is not None else None) != actor.deadline:
                self._arm(actor, armed)

    def _fired(self, path: SimPath, count: int) -> None:
        """A timer or sleeper is being delivered: time passes."""
        if count > self.timers_open and (self.time is TimePolicy.ADVERSARIAL or self.time is TimePolicy.UNTIMED):
            self.early_firings_left -= 1
        deadline = path.deadline
        assert deadline is not None
        self.clock.now = max(self.clock.now, deadline)
        self.timers.remove(path)
        path.deadline = None
        self.timers_open -= 1
        if path.timer is not None:
            path.timer.pending_timer = None
        self._refresh_timers()

    def _arm(self, actor: Timed, armed: SimPath | None) -> None:
        """Bring the list of timers in line with the deadline that an operation has set or cleared."""
        if armed is not None:
            self._disable(armed)
            self.timers.remove(armed)
            armed.done = True
            actor.pending_timer = None
        if actor.deadline is not None:
            timer = SimPath(len(self.paths), None)
            timer.born = len(self.record) - 1
            timer.name = f"timer {actor.name}"
            timer.lane = "timer"
            timer.ordinal = actor.armed
            actor.armed += 1
            self.paths.append(timer)
            timer.timer = actor
            timer.send = _timer_fired
            timer.deadline = actor.deadline
            timer.request = (type(actor).expire.operation, actor, ())  # type: ignore[attr-defined]
            self.timers.append(timer)
            actor.pending_timer = timer
        self._refresh_timers()

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def _hung(self) -> None:
        """Raise when somebody waits for something that will not happen."""
        if self._script_goes_on():
            self.strategy.pick(())  # nothing is enabled: it raises, and says what it expected
        stuck = [path for path in self.paths if not path.done and path.deadline is None and _blocked(path)]
        hung(stuck, self.locks)

    # -- scripts ---------------------------------------------------------------------------------------------------

    def _script_goes_on(self) -> bool:
        return self._script is not None and not self._script.exhausted

    def _scripted(self, enabled: Sequence[SimPath]) -> SimPath:
        """In the second act: what the script says, as long as it says something."""
        return self.strategy.pick(enabled) if self._script_goes_on() else _least_recent(enabled)


def _blocked(path: SimPath) -> bool:
    """Whether a path waits for a guard, other than where idle daemons park.  Joiners wait for one that does."""
    if path.timer is not None or path.index >= 0:
        return False
    operation, actor, _ = path.request
    return path in actor.guarded and not operation.parks


def _least_recent(enabled: Sequence[SimPath]) -> SimPath:
    """The fair choice of the second act: whoever has waited longest, in order of age among equals."""
    return min(enabled, key=lambda path: (path.last, path.id))


def _foreign(path: SimPath, yielded: Any) -> ForeignAwait:
    if isinstance(yielded, Request):
        return unknown_request(path.name, path.coroutine, yielded)
    place = place_of(path.coroutine)
    what = (
        "a bare yield (asyncio.sleep(0)?)"
        if yielded is None
        else f"{type(yielded).__module__}.{type(yielded).__qualname__}"
    )
    return ForeignAwait(
        f"path {path.name!r} awaited {what} at {place}; a simulated run has no event loop to serve it.\n"
        "  Await operations, sleep(), choose(), spawn() and join() only, or run it live: --runtime asyncio or trio."
    )


_HOSTS = ("asyncio", "trio", "anyio", "sniffio")


def host_error(raised: BaseException) -> None:
    """Raise `ForeignAwait` when an exception comes from an event loop's library that found no loop running."""
    last = raised.__traceback__
    place = None
    while last is not None:
        module = last.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if module in _HOSTS:
            who = f"{FilePath(place[0]).name}:{place[1]} in {place[2]}()" if place else "a path"
            raise ForeignAwait(
                f"{who} awaited something of {module}, which a simulated run does not have: {raised}\n"
                "  Await operations, sleep(), choose(), spawn() and join() only, or run it live: "
                "--runtime asyncio or trio."
            ) from raised
        code = last.tb_frame.f_code
        place = (code.co_filename, last.tb_lineno, code.co_name)
        last = last.tb_next
