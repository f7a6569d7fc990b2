"""The live driver: every actor and every path is a task of asyncio or trio, by way of anyio.

An actor's task takes messages from its mailbox and runs the operation; a path's task runs the path up to its next
message, puts that into the actor's mailbox and waits for the reply.  Which of many runnable tasks is next, the event
loop says.  The order in which operations were run is written down and replays step for step in the simulator.

Three things make that replay exact:

- An operation runs in one go and is numbered there and then: that order is the linearisation.
- A path is *as of* its last step.  Its task may get to run much later, but what it does then (fall asleep, choose,
  raise) is dated by the step before it, as in the simulator, where a path goes on at once.
- After the first error nothing is delivered any more, but paths that have their reply still run up to their next
  message: one of them may be about to raise for an earlier step, and then that is the bug.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from slabactors.actors import (
    Actor,
    Choose,
    Clock,
    Interrupt,
    Join,
    Locks,
    Message,
    MightSleep,
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
from slabactors.errors import EndlessLoop, ForeignAwait, KernelBug, WrongReturn
from slabactors.runtime.live_path import Failure, LivePath, Mailbox, blocked, deliverable
from slabactors.runtime.step import (
    CHOOSE,
    NOTHING,
    SERVED_MAX,
    Decision,
    Ending,
    Observer,
    Outcome,
    Step,
    checked_count,
    deferrable,
    deliver,
    endless,
    hung,
    in_vain,
    touched_freed,
    uncaught,
    unknown_request,
)

__all__ = ["LivePath", "LiveRuntime", "checkpoint", "first"]

JIFFIES_PER_SECOND: Final = 1_000_000
"""Virtual jiffies in a real second, unless another scale is asked for: a minute's timer is due after 60 ms."""

STEPS_MAX: Final = 20_000
"""As in the simulator, so that what is recorded can be replayed."""

JITTER_YIELDS_MAX: Final = 3

_WAITS: Final = object()
"""A request that is not answered at once."""


class LiveRuntime:
    """One live run, under whichever of asyncio and trio it is awaited.

    The seed decides what ``choose()`` returns and where mailboxes hesitate.  It does not make a run deterministic: that
    is the event loop's to say, and trio's shuffles on purpose.

    When nothing can move any more the run is over, or hung.  Paths that await the event loop can move; but of a timeout
    of the event loop's around a message (``move_on_after()``) the driver knows nothing before it strikes.

    Args:
        seed: of ``choose()`` and of the jitter.
        jitter: probability that an actor's task lets others go first before it handles a message.
        jiffies_per_second: how fast virtual time runs.
        settle_jiffies: how much virtual time the second act may take at most; 0 for no second act.
        observer: called with a `Step` after each delivery.  After an error some of them may turn out not to count: they
            are not in `steps`, and a replay does not make them.
        autojump: when nothing but a timer can move, it fires at once instead of when it is due.
        steps_max: bound on deliveries.

    Attributes:
        clock: virtual time.  It moves when a timer fires or a sleeper wakes, and only then.
        steps: the deliveries in the order in which they were made; after a bug, up to the step that broke.
        hosted: some path awaited something of the event loop, so that the simulator cannot replay the run.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        jitter: float = 0.0,
        jiffies_per_second: float = JIFFIES_PER_SECOND,
        settle_jiffies: int = 0,
        observer: Observer | None = None,
        autojump: bool = True,
        steps_max: int = STEPS_MAX,
    ) -> None:
        if jiffies_per_second <= 0:
            raise ValueError(f"virtual time cannot run at {jiffies_per_second} jiffies a second")
        self.jitter = jitter
        self.jiffies_per_second = jiffies_per_second
        self.settle_jiffies = settle_jiffies
        self.observer = observer
        self._watch = getattr(observer, "about_to_change", None)
        self.autojump = autojump
        self.steps_max = steps_max
        self.clock = Clock()
        self.locks = Locks()
        self.steps: list[tuple[LivePath, Operation, Actor]] = []
        self.hosted = False
        self.paths: list[LivePath] = []
        self._choices: list[tuple[int, LivePath, int]] = []
        self._random = Random(f"choose {seed}")
        self._hesitation = Random(f"jitter {seed}")
        self._mailboxes: dict[Actor, Mailbox] = {}
        self._opened: list[Mailbox] = []
        self._timers: list[LivePath] = []
        self._act = 1
        self._horizon = 0
        self._roots = 0
        self._alive = 0
        # Paths that run or wait for the host, messages on their way, replies on their way.  A path that asks hands its
        # share on to the message and gets it back with the reply, so that the common case counts nothing.
        self._busy: int = 0
        self._hosted_now: int = 0
        self._failures: list[Failure] = []
        self._stopping = False
        self._over = False
        self._bounded = False
        self._nudge: anyio.Event
        self._group: TaskGroup

    # -- the run ---------------------------------------------------------------------------------------------------

    async def run(
        self,
        main: Coroutine[Any, Any, Any],
        *,
        daemons: Sequence[Spawn[Any]] = (),
        at_rest: Callable[[], None] | None = None,
    ) -> Outcome:
        """Play ``main`` and what it spawns, then let the machine settle, then look at what is left.

        Whatever happens, no task is left behind: not after a bug, and not when the caller is cancelled.

        Args:
            main: the scenario.
            daemons: paths that are there from the start (kworkers).
            at_rest: looks at the settled machine; raises `KernelBug`.

        Raises:
            ForeignAwait: a path made a request that no driver knows.
            WrongReturn: a function of the user's returned what it must not.
        """
        self._nudge = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for request in daemons:
                    self._start(request, None)
                self._start(Spawn(main, name="main"), None)
                await self._keep_time()
                if not self._failures and not self._bounded:
                    self._look(at_rest)
                self._over = True
                group.cancel_scope.cancel()
        except BaseExceptionGroup as several:
            # Paths and operations never raise through their tasks; this is Ctrl-C, or the host's own trouble.
            raise first(several) from None
        finally:
            self._over = True
            self._close()
        return self._outcome()

    def _look(self, at_rest: Callable[[], None] | None) -> None:
        """The checks of the end."""
        try:
            self._hung()
            self.locks.judge()
            if at_rest is not None:
                at_rest()
        except Exception as raised:
            self._failures.append(Failure(raised, None, len(self.steps), self.clock.now))

    def _outcome(self) -> Outcome:
        if not self._failures:
            ending = Ending.BOUND if self._bounded else Ending.DONE
            outcome = Outcome(ending, len(self.steps) + len(self._choices), self.clock.now)
            if self._bounded and self.steps:
                outcome.going = self.steps[-1][0].name
            return outcome
        failure = min(self._failures, key=Failure.order)
        raised, path = failure.raised, failure.path
        if isinstance(raised, EndlessLoop | ForeignAwait | WrongReturn):
            raise raised
        # In the simulator the run ends here; what others have done since is no part of it.
        del self.steps[failure.position :]
        self._choices = [choice for choice in self._choices if choice[0] <= failure.position]
        deliveries = len(self.steps) + len(self._choices)
        if isinstance(raised, KernelBug):
            outcome = Outcome(Ending.BUG, deliveries, failure.now, raised)
        else:
            outcome = Outcome(Ending.BUG, deliveries, failure.now, uncaught(raised, path), error=raised)
        outcome.culprit = path
        if path is not None and path.request is not NOTHING:
            outcome.operation, outcome.actor, _ = path.request
        return outcome

    def _close(self) -> None:
        """Close every stream and every coroutine that is still open, the youngest paths first."""
        for mailbox in self._opened:
            mailbox.outbox.close()
            mailbox.inbox.close()
        for path in reversed(self.paths):
            path.close()

    def decisions(self) -> list[Decision]:
        """The schedule of the run, for replay: its steps, and each ``choose()`` after the step that led to it."""
        schedule: list[tuple[int, int, Decision]] = []
        for index, (path, operation, actor) in enumerate(self.steps, 1):
            schedule.append((index, 0, Decision(path.key, operation.name, actor.name)))
        for position, path, value in self._choices:
            schedule.append((position, 1, Decision(path.key, CHOOSE, "", value)))
        schedule.sort(key=lambda entry: entry[:2])
        return [decision for _, _, decision in schedule]

    # -- paths -----------------------------------------------------------------------------------------------------

    def _start(self, request: Spawn[Any], parent: LivePath | None) -> LivePath:
        """Make a path and its task."""
        if parent is None:
            ordinal = self._roots
            self._roots += 1
        else:
            ordinal = parent.children
            parent.children += 1
        path = LivePath(len(self.paths), request.name, request.lane, parent, ordinal)
        path.coroutine = request.coroutine
        path.answer, path.replies = anyio.create_memory_object_stream[Any](1)
        self.paths.append(path)
        if isinstance(request, Interrupt):
            self.locks.begin(path, request.context, request.inside)
        if request.daemon:
            path.daemon = True
        else:
            self._alive += 1
        self._busy += 1
        self._group.start_soon(self._run_path, path, name=path.key)
        return path

    async def _run_path(self, path: LivePath) -> None:
        """The task of a path."""
        try:
            result = await self._drive(path)
        except GeneratorExit:
            raise  # there is no event loop any more
        except Exception as raised:
            self._fail(raised, path, path.position, path.now)
        except SystemExit as raised:
            # A story that calls exit() must not end the host's loop, and nothing else would say that it did.
            error = RuntimeError(f"called exit({raised.code!r}); to end the story return")
            self._fail(error.with_traceback(raised.__traceback__), path, path.position, path.now)
        except anyio.get_cancelled_exc_class() as raised:
            # Of the run, and then this says so again; else the path awaited something that somebody else had cancelled.
            await checkpoint_if_cancelled()
            self._fail(raised, path, path.position, path.now)
        else:
            self._finish(path, result)
        finally:
            path.close()

    @types.coroutine
    def _drive(self, path: LivePath) -> Generator[Any, Any, Any]:
        """Send into a path's coroutine whatever it waits for, until it returns."""
        coroutine = path.coroutine
        send = resume = coroutine.send
        receive = path.replies.receive
        value: Any = None
        left = SERVED_MAX
        while True:
            try:
                request = resume(value)
            except StopIteration as stop:
                return stop.value
            resume = send
            if type(request) is tuple:
                left = SERVED_MAX
                path.request = request
                self._post(path, request)
            elif isinstance(request, Request):
                value = self._serve(path, request)
                if value is not _WAITS:
                    left -= 1
                    if not left:
                        raise endless(path.name, path.coroutine)
                    continue
            else:
                # Somebody else's awaitable: it and its host talk through us.
                self._enter_host(path)
                try:
                    value = yield request
                except GeneratorExit:
                    raise
                except BaseException as raised:
                    resume, value = coroutine.throw, raised
                self._leave_host(path)
                continue
            try:
                value = yield from receive()
            except GeneratorExit:
                raise
            except BaseException as raised:
                self._withdraw(path)
                resume, value = coroutine.throw, raised

    def _serve(self, path: LivePath, request: Request) -> Any:
        """The answer to what is not a message, or ``_WAITS`` when it comes later."""
        match request:
            case Spawn():
                return self._start(request, path)
            case Join(task=LivePath() as child):
                if child.done:
                    path.catch_up(child)
                    return child.result
                child.joiners.append(path)
                path.joining = child
                self._rest()
                return _WAITS
            case Parallel():
                for one in request.paths:
                    request.begun += 1
                    path.gathering.append(self._start(one if isinstance(one, Spawn) else Spawn(one), path))
                results = self._gathered(path)
                if results is _WAITS:
                    self._rest()
                return results
            case Choose():
                value = self._random.randrange(checked_count(request))
                self._choices.append((path.position, path, value))
                return value
            case MightSleep():
                return self.locks.may_sleep(path)
            case Sleep():
                self.locks.may_sleep(path)
                path.request = NOTHING
                self._set_timer(path, path.now + request.jiffies)
                self._rest()
                return _WAITS
            case Tell():
                return self._tell(path, message_of(request.message))
        raise unknown_request(path.name, path.coroutine, request)

    def _gathered(self, path: LivePath) -> Any:
        """What all those returned that a path gathers, or ``_WAITS`` when it goes on waiting for one of them."""
        for child in path.gathering:
            if not child.done:
                child.joiners.append(path)
                path.joining = child
                return _WAITS
            path.catch_up(child)
        results = [child.result for child in path.gathering]
        path.gathering = []
        return results

    def _tell(self, path: LivePath, message: Message) -> None:
        """A lane: a path of its own that asks and forgets.  Lanes of one path to one actor stay in order."""
        lane = f"tell {message[1].name}"
        before = path.lanes.get(lane)
        teller = path.position

        async def in_order() -> None:
            # Delivered meanwhile is not delivered when this was told: the teller may have been resumed late.  And what
            # was delivered then may not know it yet: its reply is on the way.
            if before is not None and not (before.index >= 0 and before.position <= teller):
                await join(before)
            await deliver(message)

        path.lanes[lane] = self._start(Spawn(in_order(), name=lane, lane=path.lane), path)

    def _finish(self, path: LivePath, result: Any) -> None:
        path.done = True
        path.result = result
        if not path.daemon:
            self._alive -= 1
        for joiner in path.joiners:
            joiner.joining = None
            joiner.catch_up(path)
            answer = self._gathered(joiner) if joiner.gathering else result
            if answer is not _WAITS:
                self._busy += 1
                joiner.answer.send_nowait(answer)
        self._rest()

    def _rest(self) -> None:
        """One less that can move by itself; when nobody is left, the keeper of time has to know."""
        self._busy -= 1
        if self._busy <= self._hosted_now:
            self._nudge.set()

    # -- the host --------------------------------------------------------------------------------------------------

    def _enter_host(self, path: LivePath) -> None:
        """A path awaits something of the event loop.  Time waits for it, and the run does; for a daemon they do not."""
        if path.daemon:
            self._rest()
        else:
            self._hosted_now += 1
            if self._stopping:
                self._nudge.set()

    def _leave_host(self, path: LivePath) -> None:
        if path.daemon:
            self._busy += 1
        else:
            self._hosted_now -= 1
        self._by_host(path)

    def _by_host(self, path: LivePath) -> None:
        """The event loop had a say in how a path goes on: it is as of now, and the simulator cannot follow."""
        self.hosted = True
        path.position = len(self.steps)
        path.now = self.clock.now

    def _withdraw(self, path: LivePath) -> None:
        """The host has cancelled what a path waits for; its message must not be answered any more.

        If it was delivered already it stays delivered, and the path does not learn of it.
        """
        if self._over:
            return
        operation, actor, args = path.request
        if path.joining is not None:
            path.joining.joiners.remove(path)
            path.joining = None
            path.gathering = []
            self._busy += 1
        elif path.deadline is not None:
            self._timers.remove(path)
            path.deadline = None
            self._busy += 1
        elif path in actor.guarded:
            actor.guarded.remove(path)  # type: ignore[union-attr]
            self._busy += 1
        # A new tuple: the one that may still be in a mailbox is no longer what the path asks for.
        path.request = (operation, actor, args)
        with suppress(anyio.WouldBlock, anyio.ClosedResourceError):
            path.replies.receive_nowait()
        self._by_host(path)

    # -- actors ----------------------------------------------------------------------------------------------------

    def _post(self, path: LivePath, message: Message) -> None:
        """Put a message in its actor's mailbox, which the first message opens."""
        if self._stopping:
            self._rest()
            return
        mailbox = self._mailboxes.get(message[1])
        if mailbox is None:
            mailbox = self._open(message[1])
        mailbox.queued += 1
        mailbox.outbox.send_nowait((path, message))

    def _open(self, actor: Actor) -> Mailbox:
        mailbox = self._mailboxes[actor] = Mailbox()
        self._opened.append(mailbox)
        self._group.start_soon(self._attend, actor, mailbox, name=actor.name)
        return mailbox

    async def _attend(self, actor: Actor, mailbox: Mailbox) -> None:
        """The task of an actor: one message after the other, until the actor was freed and its mailbox is empty."""
        inbox = mailbox.inbox
        receive, receive_nowait = inbox.receive, inbox.receive_nowait
        while True:
            if mailbox.queued:
                # Without going through the event loop: four times as fast when many paths ask one actor.
                path, message = receive_nowait()
            else:
                try:
                    path, message = await receive()
                except anyio.EndOfStream:
                    inbox.close()
                    return
            mailbox.queued -= 1
            if self.jitter and self._hesitation.random() < self.jitter:
                for _ in range(self._hesitation.randint(1, JITTER_YIELDS_MAX)):
                    await checkpoint()
            if path.request is not message:
                continue  # withdrawn
            if self._stopping:
                self._rest()
                continue
            try:
                if message[0].guard is not None and not deliverable(message):
                    self._defer(path, actor)
                    continue
                self._execute(path, message)
                while actor.guarded and not self._stopping:
                    ready = next((waiting for waiting in actor.guarded if deliverable(waiting.request)), None)
                    if ready is None:
                        break
                    path = ready
                    actor.guarded.remove(path)
                    self._busy += 1
                    self._execute(path, path.request)
            except Exception as raised:
                self._fail(raised, path, len(self.steps), self.clock.now)

    def _defer(self, path: LivePath, actor: Actor) -> None:
        """Keep a message until its guard holds."""
        if actor.guarded:
            actor.guarded.append(path)
        else:
            actor.guarded = [path]
        self._rest()

    def _execute(self, path: LivePath, message: Message) -> None:
        """Make a step: run an operation, and answer."""
        operation, actor, args = message
        steps = self.steps
        if len(steps) >= self.steps_max:
            self._bounded = self._stopping = True
            self._rest()
            return
        steps.append((path, operation, actor))
        if actor.tombstone is not None:
            touched_freed(operation, actor, actor.tombstone, path)
        if self._watch is not None:
            self._watch(actor)
        if operation.sleeps:
            self.locks.may_sleep(path, operation, actor)
        reply = operation.function(actor, *args)
        if operation.special:
            self._special(path, operation, actor, reply)
        path.position = len(steps)
        path.now = self.clock.now
        path.index = len(steps) + len(self._choices) - 1
        if self.observer is not None:
            self.observer(Step(path.index, path.now, path, operation, actor, args, reply, self._act))
        if path.timer is None:
            path.answer.send_nowait(reply)
        else:
            self._expired(path, path.timer)

    def _special(self, path: LivePath, operation: Operation, actor: Actor, reply: Any) -> None:
        """What a delivery does to the run besides changing its actor."""
        if path.deadline is not None:
            self.clock.now = max(self.clock.now, path.deadline)
            path.deadline = None
            if path.timer is not None:
                path.timer.pending_timer = None
        if operation.frees:
            actor.bury(Tombstone(len(self.steps) + len(self._choices) - 1, path.name, path.lane))
            self._shut(actor)
        if operation.clock and isinstance(actor, Timed):
            self._arm(actor)
        if operation.locks:
            if operation.acquires or (operation.tries and reply and not operation.shares):
                actor.holder = path
            elif operation.releases:
                actor.holder = None
            self.locks.step(path, operation, actor, path.request[2], reply)

    def _shut(self, actor: Actor) -> None:
        """The object is gone: its mailbox, and those of what lay in its memory, take nothing any more.

        What is in them, deferred messages too, is still looked at, and is a use after free.
        """
        mailbox = self._mailboxes.pop(actor, None)
        if mailbox is not None:
            for path in actor.guarded:
                self._busy += 1
                mailbox.queued += 1
                mailbox.outbox.send_nowait((path, path.request))
            actor.guarded = ()
            mailbox.outbox.close()
        for inner in actor.embedded:
            self._shut(inner)

    # -- time ------------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Fire timers until both acts are over, or something broke."""
        while not (self._stopping and self._busy <= self._hosted_now):
            nudge = self._nudge = anyio.Event()
            if not self._busy:
                timer = self._next_timer()
                if timer is None:
                    return
            else:
                # The second act is for what follows from the first: there, time waits for everybody.
                timer = self._interrupting() if self._act == 1 and not self._stopping else None
            if timer is None:
                await nudge.wait()
                continue
            wait = timer.due - anyio.current_time() if self._busy or not self.autojump else 0.0
            if wait > 0:
                with anyio.move_on_after(wait):
                    await nudge.wait()
                continue
            self._fire(timer)

    def _interrupting(self) -> LivePath | None:
        """The timer that fires next while somebody can move; a deferrable one is late rather than in anybody's way."""
        if self._busy <= self._hosted_now:
            return self._earliest()
        timers = [timer for timer in self._timers if not deferrable(timer.timer)]
        return min(timers, key=lambda timer: (timer.deadline, timer.id), default=None)

    def _earliest(self) -> LivePath | None:
        return min(self._timers, key=lambda timer: (timer.deadline, timer.id), default=None)

    def _next_timer(self) -> LivePath | None:
        """Nothing moves: the timer for which everybody waits, or None when the run is over."""
        if self._act == 1:
            if self._alive:
                if not all(deferrable(timer.timer) for timer in self._timers):
                    return self._earliest()
                if not self._timers or not self.settle_jiffies:
                    self._look(None)
                    if self._failures:
                        return None
            if not self.settle_jiffies:
                return None
            self._act = 2
            self._horizon = self.clock.now + self.settle_jiffies
        due = [timer for timer in self._timers if not in_vain(timer.timer)]
        timer = min(due, key=lambda timer: (timer.deadline, timer.id), default=None)
        return timer if timer is not None and cast("int", timer.deadline) <= self._horizon else None

    def _set_timer(self, path: LivePath, deadline: int) -> None:
        path.deadline = deadline
        path.due = anyio.current_time() + (deadline - self.clock.now) / self.jiffies_per_second
        self._timers.append(path)
        self._nudge.set()

    def _fire(self, timer: LivePath) -> None:
        """Wake a sleeper, or send an actor its expiry."""
        self._timers.remove(timer)
        self._busy += 1
        if timer.timer is not None:
            self._post(timer, timer.request)
            return
        try:
            self._execute(timer, timer.request)
        except Exception as raised:
            self._fail(raised, timer, len(self.steps), self.clock.now)

    def _arm(self, actor: Timed) -> None:
        """Bring the timers in line with the deadline that an operation has set or cleared."""
        armed: LivePath | None = actor.pending_timer
        if armed is not None:
            if armed.deadline == actor.deadline:
                return
            if armed in self._timers:
                self._timers.remove(armed)
            else:
                armed.request = NOTHING  # its expiry is on the way, and must not be taken for valid when it arrives
                self._rest()
            armed.done = True
            actor.pending_timer = None
        if actor.deadline is None:
            return
        timer = LivePath(len(self.paths), f"timer {actor.name}", "timer", None, actor.armed)
        timer.born = len(self.steps) + len(self._choices) - 1
        actor.armed += 1
        self.paths.append(timer)
        timer.timer = actor
        timer.request = (type(actor).expire.operation, actor, ())  # type: ignore[attr-defined]
        actor.pending_timer = timer
        self._set_timer(timer, actor.deadline)

    def _expired(self, timer: LivePath, actor: Timed) -> None:
        """The expiry was delivered; what follows from it runs as a path of its own."""
        timer.done = True
        started = actor.on_expiry()
        if started is not None:
            self._start(started, timer)
        self._rest()

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def _fail(self, raised: BaseException, path: LivePath, position: int, now: int) -> None:
        """Something raised: from here on nothing is delivered."""
        if self._over:
            return  # unwinding
        self._failures.append(Failure(raised, path, position, now))
        self._stopping = True
        self._rest()  # and it is not done: who waits for it waits for ever

    def _hung(self) -> None:
        """Raise when somebody waits for something that will not happen."""
        hung([path for path in self.paths if not path.done and blocked(path)], self.locks)


def first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group; a cancellation only when there is nothing else."""
    cancelled = anyio.get_cancelled_exc_class()
    _, errors = several.split(cancelled)
    error: BaseException = errors if errors is not None else several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
