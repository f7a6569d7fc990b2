"""What a run leaves behind, the same for both drivers: its steps, its schedule, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from slabactors.actors import Actor, Operation
from slabactors.errors import KernelBug

WAKE = Operation(lambda actor: None, clock=True)
WAKE.name = "wake"
WAKE.owner = "Clock"
WAKE.expression = "wakes up"
CLOCK = Actor("clock")
"""Stands in the actor column of the step at which a sleeping path wakes up."""


class TimePolicy(str, Enum):
    """When a timer may fire.

    ``adversarial``: the earliest at any moment, a bounded number of times before everything else has come to rest.
    ``quiescent``: only when nothing else can move.
    ``recorded``: whichever the schedule says; for the replay of live runs, whose clock is not the simulator's.
    """

    ADVERSARIAL = "adversarial"
    QUIESCENT = "quiescent"
    RECORDED = "recorded"


class PathView(Protocol):
    """A path as steps and strategies see it."""

    @property
    def key(self) -> str:
        """Stable identity: the chain of spawns that led to it, the same in every run that contains it."""
        ...

    @property
    def name(self) -> str:
        """What it does."""
        ...

    @property
    def lane(self) -> str:
        """Where it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One delivery.

    Attributes:
        index: position in the run, from 0.
        now: virtual time in jiffies after it.
        path: who asked.
        operation: what was delivered.
        actor: to whom.
        args: its arguments.
        reply: what it returned.
        act: 1 while the strategy plays the scenario, 2 while the machine settles.
    """

    index: int
    now: int
    path: PathView
    operation: Operation
    actor: Actor
    args: tuple[Any, ...]
    reply: Any
    act: int


Observer = Callable[[Step], None]
"""Called after each delivery, before the asking path goes on."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice of a schedule, as it is stored.

    Attributes:
        path: key of the path whose message was delivered; of the path that chose, for a value.
        operation: name of the operation delivered (``choose`` for a value).
        actor: name of the actor it was delivered to.
        value: what ``choose()`` returned, else None.
    """

    path: str
    operation: str
    actor: str
    value: int | None = None


class Ending(str, Enum):
    """How a run ended."""

    DONE = "done"
    BUG = "bug"
    BOUND = "bound"


@dataclass(slots=True)
class Outcome:
    """The result of one run.

    Attributes:
        ending: done, a bug, or the bound on steps was hit.
        bug: what broke, when something did.
        deliveries: how many steps it took.
        now: virtual time at the end, in jiffies.
        culprit: the path whose step broke it, if one did.
        operation: the operation at which it broke.
        actor: the actor at which it broke.
    """

    ending: Ending
    deliveries: int
    now: int
    bug: KernelBug | None = None
    culprit: PathView | None = None
    operation: Operation | None = None
    actor: Actor | None = None
    error: BaseException | None = field(default=None, repr=False)
