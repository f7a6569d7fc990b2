"""The check of footprints: whether steps that are declared independent really are.

A footprint that leaves out a cell makes an exhaustive search skip interleavings in silence.  `FootprintCheck` wraps any
strategy: at every choice it takes each pair of pending messages to one actor whose footprints do not meet, runs them in
both orders on copies of the actor, and compares what came back, whether each could still be delivered, and the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from enum import Enum
from typing import Any

from slabactors.actors import Actor, Message
from slabactors.errors import SlabactorsError
from slabactors.runtime.simulated import SimPath, Simulation, Strategy

__all__ = ["FootprintCheck", "FootprintError"]


class FootprintError(SlabactorsError):
    """Two operations are declared independent and are not."""


class FootprintCheck:
    """A strategy that checks the footprints of what it could have picked.

    Args:
        strategy: picks.

    Attributes:
        pairs: how many pairs were checked, by the names of their operations.
    """

    name = "footprint check"

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._simulation: Simulation | None = None
        self.pairs: dict[tuple[str, str], int] = {}

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation
        follow = getattr(self._strategy, "follow", None)
        if follow is not None:
            follow(simulation)

    def choose(self, count: int) -> int:
        """As the strategy."""
        return self._strategy.choose(count)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """As the strategy, after a look at every pair.

        Raises:
            FootprintError: a pair does not commute.
        """
        assert self._simulation is not None
        self.look(self._simulation)
        return self._strategy.pick(enabled)

    def look(self, simulation: Simulation) -> None:
        """Check every pair of messages that wait for one actor in the state that a simulation is in.

        Raises:
            FootprintError: a pair does not commute.
        """
        pending = [path.request for path in simulation.paths if not path.done and path.deadline is None]
        for position, one in enumerate(pending):
            for other in pending[position + 1 :]:
                if one[1] is other[1] and one[1].tombstone is None:
                    self._check(one, other)

    def _check(self, one: Message, other: Message) -> None:
        reach, its = one[0].reach_in(one[1], one[2]), other[0].reach_in(other[1], other[2])
        counts_out = reach.counter & its.counter and reach.left <= its.takes
        if reach.conflicts(its) or counts_out or (one[0].clock and other[0].clock):
            return
        names = (repr(one[0]), repr(other[0]))
        self.pairs[names] = self.pairs.get(names, 0) + 1
        first, second = _run(one, other), _run(other, one)
        if (first[0], first[1], first[2]) != (second[1], second[0], second[2]):
            raise FootprintError(
                f"{names[0]} and {names[1]} of {one[1].name} are declared independent and do not commute:\n"
                f"  in this order   {first}\n  the other way   {second[1], second[0], second[2]}"
            )


def _run(first: Message, second: Message) -> tuple[Any, Any, dict[str, Any]]:
    """Deliver two messages to a copy of their actor; what each gave, and the state afterwards."""
    actor = _copied(first[1])
    return _deliver(first, actor), _deliver(second, actor), _state(actor)


def _deliver(message: Message, actor: Actor) -> Any:
    operation, _, args = message
    if operation.guard is not None and not operation.guard(actor, *args):
        return "waits"
    try:
        return _reply(operation.function(actor, *(_argument(one) for one in args)))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _copied(actor: Actor) -> Actor:
    """A copy with containers of its own; an operation touches nothing else of its actor."""
    twin = copy(actor)
    for name, value in vars(actor).items():
        if isinstance(value, list):
            setattr(twin, name, [copy(one) if isinstance(one, list) else one for one in value])
        elif isinstance(value, dict | set):
            setattr(twin, name, copy(value))
    return twin


def _argument(value: Any) -> Any:
    """What an operation marks or takes from (an object, a list of them) is copied: the run itself is not touched."""
    if isinstance(value, list):
        return [_argument(one) for one in value]
    if isinstance(value, Actor) or not hasattr(type(value), "__slots__") or isinstance(value, tuple):
        return value
    return copy(value)


def _reply(value: Any) -> Any:
    """A reply that can be compared: a handle that an operation makes (an object that is allocated) by what it holds."""
    if isinstance(value, list):
        return [_reply(one) for one in value]
    if isinstance(value, Actor | tuple | Enum) or not getattr(type(value), "__slots__", ()):
        return value
    return type(value), tuple(getattr(value, name) for name in type(value).__slots__)


def _state(actor: Actor) -> dict[str, Any]:
    return {name: value for name, value in vars(actor).items() if name not in ("guarded", "holder", "pending_timer")}
