"""Strategies: who is next, of all that could be.

One strategy object serves many executions, one after the other: `follow` is called at the beginning of each, so that it
can draw what it draws once a run and learn from the run before.  Everything random comes from its own stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from random import Random
from struct import Struct
from typing import Final

from slabactors.actors import Operation
from slabactors.runtime.simulated import SimPath, Simulation, Strategy

__all__ = ["STRATEGIES", "FollowRecord", "Pct", "Portfolio", "Pos", "RandomWalk", "Urw"]


def stream(seed: int | str) -> Random:
    """The random stream of a seed: strings are seeded by their digest, so it is the same everywhere."""
    return Random(f"slabactors {seed}")


_DRAWN_AT_ONCE: Final = 1024
_BLOCK: Final = Struct(f"<{_DRAWN_AT_ONCE}H")


def _draws(source: Random) -> Iterator[int]:
    """Random numbers of `DRAW_BITS` bits without end, some of them drawn at once: that is felt in every step."""
    return chain.from_iterable(map(_BLOCK.unpack, map(source.randbytes, repeat(_BLOCK.size))))


class RandomWalk:
    """Every enabled message is as likely as any other.

    Args:
        seed: anything printable.
    """

    name = "random"

    def __init__(self, seed: int | str) -> None:
        source = stream(seed)
        self.random = source.random
        self.draws = _draws(source) if type(self).pick is RandomWalk.pick else None
        """For the driver, which takes one for each step instead of asking; none for those that pick in another way."""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """Any of them."""
        return enabled[int(self.random() * len(enabled))]

    def choose(self, count: int) -> int:
        """Any value."""
        return int(self.random() * count)


CHANGES: Final = (0, 1, 1, 2, 2, 2, 3, 3, 3, 4)
"""How often PCT lowers a priority in a run: one of these, each as likely as the others.

A bug of depth d takes d - 1 lowerings.  Most of those known have depth 2 to 4; a starved path takes none.
"""

HORIZON_DECAY: Final = 0.9
"""How fast PCT forgets how many contested steps a run had.

It spreads its change points over as many.  Were it the most ever seen, one long run would blunt it for all that are
shorter; were it the last run's, a short one would hide the end of the next.
"""

FAIR_AFTER: Final = 2_000
"""Choices after which PCT goes on by a random walk, so that a path that waits for a starved one is not waited for."""


class Pct:
    """Random priorities, lowered at a few random steps (PCT), at steps that more than one path contends for.

    Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs.
    Two changes: priorities are lowered only before steps at an actor that several paths were seen at, since steps that
    nobody contends for waste the few chances; and the depth is drawn anew for each run.

    Args:
        seed: anything printable.
        depth: of the bugs to look for in every run, instead of one that is drawn.
    """

    name = "pct"

    def __init__(self, seed: int | str, *, depth: int | None = None) -> None:
        self._changes = CHANGES if depth is None else (depth - 1,)
        self.random = stream(seed).random
        self._visitor: dict[str, str] = {}
        """Who was seen first at an actor."""
        self._shared: set[str] = set()
        """Actors at which several were seen."""
        self._horizon = 1.0
        self._contested = 0
        self._lowered = 0.0
        self._choices = 0
        self._priority: dict[SimPath, float] = {}
        self._change_at: set[int] = set()
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """A new run: new priorities, and new change points among as many contested steps as lately there were."""
        self._horizon = max(1.0, HORIZON_DECAY * self._horizon, self._contested)
        self._contested = 0
        self._choices = 0
        self._lowered = 0.0
        self._priority = {}
        self._simulation = simulation
        changes = self._changes[int(self.random() * len(self._changes))]
        self._change_at = {int(self.random() * self._horizon) for _ in range(changes)}

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The one of highest priority, unless it is lowered now."""
        self._choices += 1
        if self._choices > FAIR_AFTER:
            return enabled[int(self.random() * len(enabled))]
        priority = self._priority
        simulation = self._simulation
        if simulation is not None and len(priority) < len(simulation.paths):
            for path in simulation.paths[len(priority) :]:
                priority[path] = 1.0 + self.random()
        path = max(enabled, key=priority.__getitem__)
        if path.request[1].name in self._shared or self._meets(path):
            number = self._contested
            self._contested += 1
            if number in self._change_at:
                self._lowered -= 1.0
                priority[path] = self._lowered
                path = max(enabled, key=priority.__getitem__)
        return path

    def _meets(self, path: SimPath) -> bool:
        """Whether somebody else was seen at the actor that a path is about to reach."""
        name = path.request[1].name
        if self._visitor.setdefault(name, path.key) == path.key:
            return False
        self._shared.add(name)
        return True

    def choose(self, count: int) -> int:
        """Any value."""
        return int(self.random() * count)


class Pos:
    """Every pending message has a random priority, drawn anew when a step conflicts with it (POS).

    Yuan, Yang, Gu: Partial Order Aware Concurrency Sampling.  Not disturbed by steps that nobody else meets.
    """

    name = "pos"

    def __init__(self, seed: int | str) -> None:
        self.random = stream(seed).random
        self._priority: dict[SimPath, tuple[object, float]] = {}

    def follow(self, simulation: Simulation) -> None:
        """A new run: new priorities."""
        self._priority = {}

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The message of highest priority."""
        priority = self._priority
        best = enabled[0]
        highest = -1.0
        for path in enabled:
            known = priority.get(path)
            if known is None or known[0] is not path.request:
                known = priority[path] = path.request, self.random()
            if known[1] > highest:
                best, highest = path, known[1]
        operation, actor, _ = best.request
        for path in enabled:
            if path is not best and path.request[1] is actor and _meet(operation, path.request[0]):
                priority[path] = path.request, self.random()
        return best

    def choose(self, count: int) -> int:
        """Any value."""
        return int(self.random() * count)


def _meet(one: Operation, other: Operation) -> bool:
    return one.footprint.conflicts(other.footprint)


class Urw:
    """A path is as likely as it has steps left, by what earlier runs showed, those of its children included (URW).

    Uniform over interleavings where nothing waits, which a walk that is uniform at each step is not.
    Zhao, Wolff, Mathur, Roychoudhury: Selectively Uniform Concurrency Testing.
    """

    name = "urw"

    def __init__(self, seed: int | str) -> None:
        self.random = stream(seed).random
        self._expected: dict[str, float] = {}
        """Steps of a path and of all that it spawns, by its key: a moving average."""
        self._left: list[float] = []
        """Steps left of each path of the run, by number; a child's are its spawner's until it is spawned."""
        self._played = 0
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """A new run: what the one before took is part of what to expect."""
        if self._simulation is not None:
            self._learn(self._simulation)
        self._left = []
        self._played = 0
        self._simulation = simulation

    def _learn(self, simulation: Simulation) -> None:
        paths = simulation.paths
        taken = [0] * len(paths)
        for number in simulation.record:
            if number >= 0:
                taken[number] += 1
        for path in reversed(paths):
            if path.parent is not None:  # who is spawned comes after its spawner
                taken[path.parent.id] += taken[path.id]
        expected = self._expected
        for path in paths:
            known = expected.get(path.key)
            new = taken[path.id]
            expected[path.key] = new if known is None else 0.75 * known + 0.25 * new

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """One of them, by how much it has left; at least one step each."""
        simulation = self._simulation
        assert simulation is not None
        left = self._left
        record = simulation.record
        for path in simulation.paths[len(left) :]:
            steps = self._expected.get(path.key, 1.0)
            left.append(steps)
            if path.parent is not None:
                left[path.parent.id] -= steps
        for number in record[self._played :]:
            if number >= 0:
                left[number] -= 1.0
        self._played = len(record)
        weights = [left[path.id] if left[path.id] > 1.0 else 1.0 for path in enabled]
        point = self.random() * sum(weights)
        for path, weight in zip(enabled, weights, strict=True):
            point -= weight
            if point < 0:
                return path
        return enabled[-1]

    def choose(self, count: int) -> int:
        """Any value."""
        return int(self.random() * count)


TURNS: Final = (RandomWalk, Pct, Pos, Pct, Urw, Pct)
"""Whose turn it is, run after run.

PCT has every other one: the more steps a run has, the further it is ahead, and it is never far behind.
"""


class Portfolio:
    """PCT in every other run; in those between, random walk, POS and URW in turn: none of them is best at everything.

    Args:
        seed: anything printable; each member has a stream of its own.

    Attributes:
        current: whose turn it is.
    """

    name = "portfolio"

    def __init__(self, seed: int | str) -> None:
        members = {member: member(f"{seed} {member.name}") for member in TURNS}
        self._members = [members[member] for member in TURNS]
        self._turn = -1
        self._take(self._members[0])

    def _take(self, member: RandomWalk | Pct | Pos | Urw) -> None:
        self.current = member
        # Steps are asked of the member itself: a call in between would be felt in each of them.
        self.pick = member.pick
        self.choose = member.choose
        self.draws = member.draws if isinstance(member, RandomWalk) else None

    def follow(self, simulation: Simulation) -> None:
        """A new run: the next member's turn."""
        self._turn += 1
        member = self._members[self._turn % len(self._members)]
        self._take(member)
        if not isinstance(member, RandomWalk):
            member.follow(simulation)


def member_of(strategy: Strategy) -> str:
    """The name of the strategy that picks the steps of the run at hand: of a portfolio, the member whose turn it is."""
    current = getattr(strategy, "current", strategy)
    name: str = getattr(current, "name", type(current).__name__)
    return name


class FollowRecord:
    """Repeats a record of the same program made in the same process: path numbers, and ``-1 - value`` for choices.

    Steps at which there was nothing to choose are in the record too, so the position is that of the simulation.
    """

    name = "record"

    def __init__(self, record: Sequence[int]) -> None:
        self._record = record
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """The run that repeats the record."""
        self._simulation = simulation

    def _next(self) -> int:
        assert self._simulation is not None
        return self._record[len(self._simulation.record)]

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path that was picked then."""
        wanted = self._next()
        return next(path for path in enabled if path.id == wanted)

    def choose(self, count: int) -> int:
        """The value that was chosen then."""
        return -1 - self._next()


STRATEGIES: dict[str, Callable[[int | str], Strategy]] = {
    "random": RandomWalk,
    "pct": Pct,
    "pos": Pos,
    "urw": Urw,
    "portfolio": Portfolio,
}
"""Strategies of `explore`, by name."""
