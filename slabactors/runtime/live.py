"""The live driver: every actor and every path is a task of asyncio or trio, by way of anyio.

An actor's task takes messages from its mailbox and runs the operation; a path's task runs the path up to its next
message, puts that into the actor's mailbox and waits for the reply.  Which of many runnable tasks is next, the event
loop says.  The order in which operations were run is written down and replays step for step in the simulator.

Three things make that replay exact:

- An operation runs in one go and is numbered there and then: that order is the linearisation.
- A path is *as of* its last step.  Its task may get to run much later, but what it does then (fall asleep, choose, raise)
  is dated by the step before it, as in the simulator, where a path goes on at once.
- After the first error nothing is delivered any more, but paths that have their reply still run up to their next
  message: one of them may be about to raise for an earlier step, and then that is the bug.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from slabactors.actors import (
    Actor,
    Choose,
    Clock,
    Join,
    Message,
    Operation,
    Request,
    Sleep,
    Spawn,
    Tell,
    Timed,
    Tombstone,
    join,
    message_of,
)
from slabactors.errors import ForeignAwait, KernelBug
from slabactors.runtime.step import (
    CHOOSE,
    CLOCK,
    WAKE,
    Decision,
    Ending,
    Lineage,
    Observer,
    Outcome,
    Step,
    checked_count,
    deliver,
    hung,
    touched_freed,
    uncaught,
    unknown_request,
)

__all__ = ["LivePath", "LiveRuntime", "checkpoint"]

JIFFIES_PER_SECOND: Final = 1_000_000
"""Virtual jiffies in a real second, unless another scale is asked for: a minute's timer is due after 60 ms."""

STEPS_MAX: Final = 1_000_000

JITTER_YIELDS_MAX: Final = 3

UNBOUNDED: Final = float("inf")

Posted: TypeAlias = "tuple[LivePath, Message]"
"""What is in a mailbox.  The message is valid while it is, by identity, what its path asks for."""


class LivePath(Lineage):
    """A path, or a timer, in a live run.

    Attributes:
        id: number in the order of spawning in this run.
        request: what it asked for last.
        position: how many steps the run had made when this path's last one was made, that included.
        now: virtual time then.
        deadline: when it sleeps or is a timer, in jiffies.
        due: the same moment on the event loop's clock.
        joining: the path it waits for.
    """

    __slots__ = (
        "answer",
        "coroutine",
        "daemon",
        "deadline",
        "done",
        "due",
        "id",
        "joiners",
        "joining",
        "lanes",
        "now",
        "position",
        "replies",
        "request",
        "result",
        "timer",
    )

    def __init__(self, number: int, name: str, lane: str, parent: LivePath | None, ordinal: int) -> None:
        super().__init__(name, lane, parent, ordinal)
        self.id = number
        self.position = parent.position if parent is not None else 0
        self.now = parent.now if parent is not None else 0
        self.daemon = False
        self.done = False
        self.deadline: int | None = None
        self.due = 0.0
        self.timer: Timed | None = None
        self.joining: LivePath | None = None
        self.joiners: list[LivePath] = []
        self.lanes: dict[str, LivePath] = {}
        self.result: Any = None

    request: Message
    coroutine: Coroutine[Any, Any, Any]
    answer: MemoryObjectSendStream[Any]
    replies: MemoryObjectReceiveStream[Any]

    def close(self) -> None:
        """Let go of its reply stream, and of its coroutine if that never got to its end."""
        if self.timer is None:
            self.answer.close()
            self.replies.close()
            self.coroutine.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    """What ended the run: an error, of which path, and as of which step."""

    raised: Exception
    path: LivePath | None
    position: int
    now: int

    def order(self) -> tuple[int, int]:
        """The simulator's: by step; among those that one step set going, a spawned path runs before its spawner."""
        return self.position, -self.path.key.count("/") if self.path is not None else 0


_WAITS: Final = object()
"""A request that is not answered at once."""


class LiveRuntime:
    """One live run, under whichever of asyncio and trio it is awaited.

    The seed decides what ``choose()`` returns and where mailboxes hesitate.  It does not make a run deterministic: that
    is the event loop's to say, and trio's shuffles on purpose.

    Args:
        seed: of ``choose()`` and of the jitter.
        jitter: probability that an actor's task lets others go first before it handles a message.
        jiffies_per_second: how fast virtual time runs.
        settle_jiffies: how much virtual time the second act may take at most; 0 for no second act.
        observer: called with a `Step` after each delivery.
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
        self.jitter = jitter
        self.jiffies_per_second = jiffies_per_second
        self.settle_jiffies = settle_jiffies
        self.observer = observer
        self.autojump = autojump
        self.steps_max = steps_max
        self.clock = Clock()
        self.steps: list[tuple[LivePath, Operation, Actor]] = []
        self.hosted = False
        self.paths: list[LivePath] = []
        self._choices: list[tuple[int, LivePath, int]] = []
        self._random = Random(f"choose {seed}")
        self._hesitation = Random(f"jitter {seed}")
        self._mailboxes: dict[Actor, MemoryObjectSendStream[Posted]] = {}
        self._timers: list[LivePath] = []
        self._act = 1
        self._horizon = 0
        self._roots = 0
        self._alive = 0
        # Paths that run or wait for the host, messages on their way, replies on their way.  A path that asks hands its
        # share on to the message and gets it back with the reply, so that the common case counts nothing.
        self._busy = 0
        self._hosted_now = 0
        self._failures: list[_Failure] = []
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
            raise _first(several) from None
        finally:
            self._over = True
            self._close()
        return self._outcome()

    def _look(self, at_rest: Callable[[], None] | None) -> None:
        """The checks of the end."""
        try:
            self._hung()
            if at_rest is not None:
                at_rest()
        except Exception as raised:
            self._failures.append(_Failure(raised, None, len(self.steps), self.clock.now))

    def _outcome(self) -> Outcome:
        if not self._failures:
            ending = Ending.BOUND if self._bounded else Ending.DONE
            return Outcome(ending, len(self.steps) + len(self._choices), self.clock.now)
        failure = min(self._failures, key=_Failure.order)
        raised, path = failure.raised, failure.path
        if isinstance(raised, ForeignAwait):
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
        if path is not None and hasattr(path, "request"):
            outcome.operation, outcome.actor, _ = path.request
        return outcome

    def _close(self) -> None:
        """Close every stream and every coroutine that is still open, innermost first."""
        for mailbox in self._mailboxes.values():
            mailbox.close()
        for path in reversed(self.paths):
            path.close()

    def decisions(self) -> list[Decision]:
        """The schedule of the run, for replay: its steps, and each ``choose()`` after the step that led to it."""
        schedule = [(index + 1, 0, path, operation.name, actor.name, None) for index, (path, operation, actor) in enumerate(self.steps)]
        schedule += [(position, 1, path, CHOOSE, "", value) for position, path, value in self._choices]
        schedule.sort(key=lambda entry: entry[:2])
        return [Decision(path.key, operation, actor, value) for _, _, path, operation, actor, value in schedule]
