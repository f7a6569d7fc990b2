"""What the program outside of a live run does to it, turn by turn: steps of a path called ``main``.

The code of that path is the host's, so no simulated run has it.  A story that takes the same turns stands for it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from slabactors.actors import Actor, Spawn, Task, join, operation, operation_of, start
from slabactors.errors import KernelBug, Kind
from slabactors.runtime.recipe import Recipe, Surroundings


class Outside(Actor):
    """The program outside: how many turns it has taken."""

    def __init__(self) -> None:
        super().__init__("outside")
        self.turns = 0

    @operation(writes="turns")
    def call(self) -> None:
        """``call``: from here on the path may run that was called."""
        self.turns += 1

    @operation(writes="turns")
    def settle(self) -> None:
        """``settle``: from here on somebody waits until nothing moves any more."""
        self.turns += 1

    @operation(writes="turns")
    def settled(self) -> None:
        """``settled``: nothing moved any more, all was in order, and whoever waited for that goes on."""
        self.turns += 1

    @operation(writes="turns")
    def leave(self, message: str, clause: str) -> None:
        """``raise``: the program has left the machine with an exception of its own.

        Raises:
            KernelBug: that is what came of it.
        """
        raise KernelBug(Kind.EXCEPTION, message, clause=clause)


CALL: Final = operation_of(Outside.call)
SETTLE: Final = operation_of(Outside.settle)
SETTLED: Final = operation_of(Outside.settled)
LEAVE: Final = operation_of(Outside.leave)


class Called(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A path was called.

    Attributes:
        path: how to call it again.
        name: of the path.
        lane: where it runs.
        daemon: whether the run may end before it does.
        heard: somebody was there who got what it raised.
        after: the calls that had returned since the turn before, in the order in which somebody learnt of it.
    """

    path: Recipe
    name: str
    lane: str = ""
    daemon: bool = False
    heard: bool = False
    after: list[int] = []


class Settles(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Somebody began to wait until nothing moves any more."""

    after: list[int] = []


class Settled(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Nothing moved any more, and they went on."""

    after: list[int] = []


class Left(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The program raised something of its own.

    Attributes:
        message: one sentence.
        clause: what it is called.
        after: as of `Called`.
    """

    message: str
    clause: str
    after: list[int] = []


Turn: TypeAlias = Called | Settles | Settled | Left


async def taken_again(run: Surroundings, turns: Sequence[Turn]) -> None:
    """The story that takes some turns: each when those calls have returned that had when it was taken.

    Raises:
        UsageError: a call cannot be made again.
    """
    outside = Outside()
    tasks: list[Task[Any]] = []
    for turn in turns:
        for number in turn.after:
            run.roots.append(await join(tasks[number]))
        match turn:
            case Called():
                await outside.call()
                path = _heard(turn.path.made(run)) if turn.heard else turn.path.made(run)
                tasks.append(await start(Spawn(path, name=turn.name, lane=turn.lane, daemon=turn.daemon)))
            case Settles():
                await outside.settle()
            case Settled():
                await outside.settled()
            case Left():
                await outside.leave(turn.message, turn.clause)


async def _heard(path: Coroutine[Any, Any, Any]) -> Any:
    """A path whose caller gets what it raises; a bug is the machine's own."""
    try:
        return await path
    except KernelBug:
        raise
    except Exception:
        return None
