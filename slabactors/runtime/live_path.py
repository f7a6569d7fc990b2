"""What a live run is made of: its paths, the mailboxes of its actors, and what has ended it.

For the driver in `slabactors.runtime.live`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from slabactors.actors import Message, Timed
from slabactors.runtime.step import NOTHING, Lineage

UNBOUNDED: Final = float("inf")

Posted: TypeAlias = "tuple[LivePath, Message]"
"""What is in a mailbox.  The message is valid while it is, by identity, what its path asks for."""


class LivePath(Lineage):
    """A path, or a timer, in a live run.

    Attributes:
        id: number in the order of spawning in this run.
        request: what it asked for last.
        index: of its last step in the run, where the values that ``choose()`` returned count, too; -1 for none.
        position: how many steps the run had made when this path's last one was made, that included.
        now: virtual time then.
        deadline: when it sleeps or is a timer, in jiffies.
        due: the same moment on the event loop's clock.
        joining: the path it waits for.
        gathering: all that it waits for, that one among them.
    """

    __slots__ = (
        "answer",
        "coroutine",
        "daemon",
        "deadline",
        "due",
        "gathering",
        "id",
        "index",
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
        self.index = -1
        if parent is not None:
            self.born = parent.index if parent.index >= 0 else parent.born
            self.joins = parent.joins  # it comes after what its spawner has waited for
        self.position: int = parent.position if parent is not None else 0
        self.now: int = parent.now if parent is not None else 0
        self.daemon = False
        self.deadline: int | None = None
        self.due = 0.0
        self.timer: Timed | None = None
        self.joining: LivePath | None = None
        self.gathering: list[LivePath] = []
        self.joiners: list[LivePath] = []
        self.lanes: dict[str, LivePath] = {}
        self.result: Any = None
        self.request: Message = NOTHING

    coroutine: Coroutine[Any, Any, Any]
    answer: MemoryObjectSendStream[Any]
    replies: MemoryObjectReceiveStream[Any]

    def close(self) -> None:
        """Let go of its reply stream, and of its coroutine if that never got to its end."""
        if self.timer is not None:
            return
        self.answer.close()
        self.replies.close()
        with suppress(Exception):  # what it raises on its way out is nobody's, as is what it awaits there
            self.coroutine.close()

    def catch_up(self, other: LivePath) -> None:
        """It goes on because another has come to its end: it is as of the later of the two."""
        self.joins = (*self.joins, other)
        self.position = max(self.position, other.position)
        self.now = max(self.now, other.now)


class Mailbox:
    """The two ends of an actor's mailbox, and how many messages are in it."""

    __slots__ = ("inbox", "outbox", "queued")

    def __init__(self) -> None:
        self.outbox, self.inbox = anyio.create_memory_object_stream[Posted](UNBOUNDED)
        self.queued = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended the run: an error, of which path, and as of which step."""

    raised: BaseException
    path: LivePath | None
    position: int
    now: int

    def order(self) -> tuple[int, int]:
        """As the simulator has it: by step; of those that one step set going, a spawned path is before its spawner."""
        return self.position, -self.path.key.count("/") if self.path is not None else 0


def deliverable(message: Message) -> bool:
    """Whether a guarded message can be handled now; one to a freed object can, and is a bug."""
    operation, actor, args = message
    return actor.tombstone is not None or operation.guard is None or operation.guard(actor, *args)


def blocked(path: LivePath) -> bool:
    """Whether a path waits for a guard, other than where idle daemons park."""
    operation, actor, _ = path.request
    return path in actor.guarded and not operation.parks
