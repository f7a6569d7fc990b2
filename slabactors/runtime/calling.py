"""Calls into a live run, and the path that stands for whoever makes them.

For the driver in `slabactors.runtime.served`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio

from slabactors.actors import Spawn
from slabactors.errors import KernelBug, UsageError
from slabactors.runtime.live_path import LivePath
from slabactors.runtime.recipe import Recipe
from slabactors.runtime.turns import Called

T = TypeVar("T")


class _Nobody:
    """Gets the replies of a path that has no task."""

    def send_nowait(self, reply: Any) -> None:
        pass


class Host(LivePath):
    """The path that stands for the program outside."""

    def __init__(self, number: int, ordinal: int) -> None:
        super().__init__(number, "main", "", None, ordinal)
        self.answer = _Nobody()  # type: ignore[assignment]

    def close(self) -> None:
        """It has nothing to let go of."""


class Call(Generic[T]):
    """A path that was started from outside.

    Args:
        request: the path.
        waited_for: whoever called gets what it raises; else an exception breaks the run.

    Attributes:
        number: which call of the run it is.
        path: what runs it, once something does.
        abandoned: whoever called was cancelled before the path had come to its end.
        after: the calls that had returned since the turn before this, in their order.
        recipe: how to call it again; None when that cannot be, and `reason` says why.
        over: it has returned, or never will.
        returned: the path has come to its end: `result`, or else `raised`, is what came of it.
    """

    def __init__(self, request: Spawn[T], *, waited_for: bool) -> None:
        self.request = request
        self.waited_for = waited_for
        self.number = -1
        self.path: LivePath | None = None
        self.abandoned = False
        self.after: list[int] = []
        self.recipe: Recipe | None = None
        self.reason: UsageError | None = None
        self.over = anyio.Event()
        self.returned = False
        self.known = False
        self.result: Any = None
        self.raised: Exception | None = None

    def turn(self) -> Called:
        """The turn that makes the same call.

        Raises:
            UsageError: it cannot be made again.
        """
        if self.recipe is None:
            raise self.reason or UsageError(f"{self.request.name} cannot be called again.")
        one, heard = self.request, self.waited_for and not self.abandoned
        return Called(self.recipe, one.name, one.lane, one.daemon, heard, self.after)

    async def run(self) -> Any:
        """The path, with somebody who gets what comes of it."""
        try:
            self.result = await self.request.coroutine
        except Exception as raised:
            # A bug is the machine's own, whoever waits.
            if isinstance(raised, KernelBug) or not self.waited_for or self.abandoned:
                raise
            self.raised = raised
        self.returned = True
        self.over.set()
        return self.result

    def close(self) -> None:
        """Nobody will run it any more."""
        with suppress(Exception):
            self.request.coroutine.close()
