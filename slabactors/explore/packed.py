"""Breadth-first search over states packed into numbers, by `slabactors.explore.tables`.

Symmetry: paths of one parent that do the same thing from the same beginning are interchangeable.  States that differ
only in which of them has come how far are one state; so a counter that four CPUs take from has a tenth of the states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from slabactors.errors import KernelBug
from slabactors.explore.tables import Ask, Await, NoTables, Over, Results, Stepped, Tables
from slabactors.runtime.step import Decision

PATH_BITS: Final = 4
ACTOR_BITS: Final = 12
"""How many bits the number of a place, or of an actor's state, has to begin with."""

REPORT_EVERY: Final = 2_000
"""States between two looks at the clock."""


class _Raised(Exception):
    """A path that went on when those that it waited for were over has raised."""


class _Again(Exception):
    """States have to be packed in another way: there are more than fit in their bits, or less symmetry."""


@dataclass(frozen=True, slots=True)
class Broke:
    """A step that breaks a rule: the state it is taken from, and the path that takes it."""

    state: int
    path: int
    bug: KernelBug | None
    raised: Exception | None = None


@dataclass(slots=True)
class PackedStatistics:
    """How a search over packed states went.

    Attributes:
        states: distinct states seen.
        transitions: steps taken from them.
        depth: how many steps the farthest state is away from the beginning.
    """

    states: int = 0
    transitions: int = 0
    depth: int = 0


class PackedSearch:
    """Takes every step from every state of a program once, breadth first.

    Args:
        tables: what the program does.
        symmetry: take interchangeable paths for one another.

    Attributes:
        broke: the steps that break a rule, one for each rule and path.
        ends: the states in which nothing moves any more.
        finished: every state was looked at.
    """

    def __init__(self, tables: Tables, *, symmetry: bool = True) -> None:
        self._tables = tables
        self._path_bits = PATH_BITS
        self._actor_bits = ACTOR_BITS
        # Interchangeable paths lie side by side, so that all of them are one number.
        first: dict[int, int] = {}
        for number, places in enumerate(tables.places):
            first.setdefault(id(places), number)
        self._order = sorted(range(len(tables.keys)), key=lambda one: (first[id(tables.places[one])], one))
        self._groups = self._interchangeable(first) if symmetry else []
        self._restart()

    def _interchangeable(self, first: dict[int, int]) -> list[list[int]]:
        """Groups of paths that nothing tells apart: whoever waits for one of them waits for all."""
        groups: dict[int, list[int]] = {}
        for number, places in enumerate(self._tables.places):
            groups.setdefault(first[id(places)], []).append(number)
        return [group for group in groups.values() if len(group) > 1]

    def _restart(self) -> None:
        self.statistics = PackedStatistics()
        self.broke: dict[tuple[object, ...], Broke] = {}
        self.ends: list[int] = []
        self.finished = False
        self._place_mask = (1 << self._path_bits) - 1
        self._state_mask = (1 << self._actor_bits) - 1
        self._shift = {number: place * self._path_bits for place, number in enumerate(self._order)}
        self._actors_at = len(self._order) * self._path_bits
        self._rows: list[list[tuple[int, dict[int, Any]]]] = [[] for _ in self._order]
        self._chunks = [
            (min(self._shift[one] for one in group), (1 << (len(group) * self._path_bits)) - 1, group)
            for group in self._groups
        ]
        self._sorted: list[dict[int, int]] = [{} for _ in self._chunks]
        self._came_from: dict[int, int] = {}

    # -- packing ---------------------------------------------------------------------------------------------------

    def _actor_shift(self, actor: int) -> int:
        return self._actors_at + actor * self._actor_bits

    def _place(self, state: int, path: int) -> int:
        return state >> self._shift[path] & self._place_mask

    def _state(self, state: int, actor: int) -> int:
        return state >> self._actor_shift(actor) & self._state_mask

    def _moved(self, path: int, before: int, after: int) -> int:
        """What a path's change of place adds to a state."""
        if after > self._place_mask:
            self._path_bits += 2
            raise _Again
        return (after - before) << self._shift[path]

    def _changed(self, actor: int, before: int, after: int) -> int:
        """What an actor's change of state adds to a state."""
        if after > self._state_mask:
            self._actor_bits += 4
            raise _Again
        return (after - before) << self._actor_shift(actor)

    def _canonical(self, state: int) -> int:
        """The state that stands for all that differ only in who of those that are interchangeable is where."""
        for (shift, mask, group), known in zip(self._chunks, self._sorted, strict=True):
            chunk = state >> shift & mask
            ordered = known.get(chunk)
            if ordered is None:
                width, one = self._path_bits, self._place_mask
                places = sorted(chunk >> (index * width) & one for index in range(len(group)))
                ordered = known[chunk] = sum(place << (index * width) for index, place in enumerate(places))
            state += (ordered - chunk) << shift
        return state

    # -- steps -----------------------------------------------------------------------------------------------------

    def _row(self, path: int, place: int) -> tuple[int, dict[int, Any]]:
        """Which bits of a state a path's step depends on in a place, and what it adds to the state by these bits."""
        rows = self._rows[path]
        known = self._tables.places[path].known
        while len(rows) <= place:
            does = known[len(rows)].does
            if isinstance(does, Ask):
                rows.append((self._state_mask << self._actor_shift(does.actor), {}))
            else:
                rows.append((0, {0: None}))
        return rows[place]

    def _learn(self, path: int, place: int, state: int) -> Any:
        """What a step adds to a state; None when it has to wait; what it comes to, when that is more than a number."""
        does = self._tables.places[path].known[place].does
        assert isinstance(does, Ask)
        before = self._state(state, does.actor)
        stepped = self._tables.step(path, place, before)
        adds: Any = None
        if stepped is not None:
            after = self._tables.places[path].known[stepped.place].does
            adds = stepped
            if stepped.bug is None:
                added = self._moved(path, place, stepped.place) + self._changed(does.actor, before, stepped.state)
                adds = added if isinstance(after, Ask) else (added, after)
        mask, table = self._row(path, place)
        table[state & mask] = adds
        return adds

    def _settled(self, state: int) -> int:
        """The state when all who waited for paths that are over have gone on."""
        tables = self._tables
        moved = True
        while moved:
            moved = False
            for path in self._order:
                place = self._place(state, path)
                does = tables.places[path].known[place].does
                if not isinstance(does, Await):
                    continue
                self._expect_whole_groups(does)
                ends = [tables.places[child].known[self._place(state, child)].does for child in does.children]
                if all(isinstance(end, Over) for end in ends):
                    results = tuple(end.result for end in ends if isinstance(end, Over))
                    replies = (Results(results),) if does.together else results
                    after = tables.place_after(path, place, replies)
                    end = tables.places[path].known[after].does
                    if isinstance(end, Over) and end.raised is not None:
                        raise _Raised from end.raised
                    state += self._moved(path, place, after)
                    moved = True
        return state

    def _is_over(self, state: int) -> bool:
        """Whether every path that is no daemon has returned."""
        tables = self._tables
        return all(
            daemon or isinstance(tables.places[path].known[self._place(state, path)].does, Over)
            for path, daemon in enumerate(tables.daemons)
        )

    def _settled_quietly(self, state: int) -> int:
        """The same where no step of a path could be blamed for what is raised."""
        try:
            return self._settled(state)
        except _Raised as raised:
            raise NoTables(f"a path raised {raised.__cause__!r} when no other had taken a step") from raised

    def _expect_whole_groups(self, does: Await) -> None:
        """Who is waited for alone can be told apart from the others."""
        told_apart = [group for group in self._groups if 0 < len({*group} & {*does.children}) < len(group)]
        if told_apart:
            self._groups = [group for group in self._groups if group not in told_apart]
            raise _Again

    def _fired(self, state: int) -> dict[int, int]:
        """The states after each of the timers that are due first has gone off, by the number of its actor."""
        deadlines = {}
        for actor in range(len(self._tables.actors)):
            deadline = self._tables.deadline(actor, self._state(state, actor))
            if deadline is not None:
                deadlines[actor] = deadline
        due = min(deadlines.values(), default=0)
        later = {}
        for actor, deadline in deadlines.items():
            if deadline == due:
                before = self._state(state, actor)
                after = state + self._changed(actor, before, self._tables.fire(actor, before))
                for other in deadlines:
                    if other != actor:
                        was = self._state(state, other)
                        after += self._changed(other, was, self._tables.let_pass(other, was, due))
                later[actor] = after
        return later

    def _complex(self, state: int, path: int, adds: Any) -> int | None:
        """The state after a step that is more than an addition; None when it broke a rule."""
        if isinstance(adds, Stepped):
            bug = adds.bug
            assert bug is not None
            self.broke.setdefault((bug.kind, bug.clause, self._name(path)), Broke(state, path, bug))
            return None
        added, after = adds
        if isinstance(after, Over) and after.raised is not None:
            self.broke.setdefault((repr(after.raised), self._name(path)), Broke(state, path, None, after.raised))
            return None
        try:
            return self._settled(state + added)
        except _Raised as raised:
            self.broke.setdefault((repr(raised.__cause__), self._name(path)), Broke(state, path, None))
            return None

    def _name(self, path: int) -> str:
        return self._tables.keys[self._tables.places[path].example]

    # -- the search ------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[PackedStatistics]:
        """Search; yields how far it has come now and then, and at the end.

        Raises:
            NoTables: the program does something that tables cannot hold.
        """
        while not self.finished:
            try:
                yield from self._run()
            except _Again:
                self._restart()

    def _run(self) -> Iterator[PackedStatistics]:
        start = self._canonical(self._settled_quietly(0))
        for path in self._order:
            if isinstance(does := self._tables.places[path].known[self._place(start, path)].does, Await):
                self._expect_whole_groups(does)
        came_from = self._came_from
        came_from[start] = -1
        frontier = [start]
        statistics = self.statistics
        looked = 0
        while frontier:
            following: list[int] = []
            for state in frontier:
                following.extend(self._expand(state))
                looked += 1
                if looked % REPORT_EVERY == 0:
                    statistics.states = len(came_from)
                    yield statistics
            statistics.depth += bool(following)
            frontier = following
        statistics.states = len(came_from)
        self.finished = True
        yield statistics

    def _expand(self, state: int) -> list[int]:
        """The states that one step leads to and that have not been seen; steps are counted."""
        found: list[int] = []
        came_from = self._came_from
        steps = 0
        place_mask = self._place_mask
        shift = 0
        for path in self._order:
            place = state >> shift & place_mask
            shift += self._path_bits
            try:
                mask, table = self._rows[path][place]
                adds = table[state & mask]
            except IndexError:
                adds = self._row(path, place)[1].get(0, -1)
                adds = None if adds is None else self._learn(path, place, state)
            except KeyError:
                adds = self._learn(path, place, state)
            if adds is None:
                continue
            steps += 1
            if type(adds) is int:
                after: int | None = state + adds
            else:
                after = self._complex(state, path, adds)
                if after is None:
                    continue
            assert after is not None
            if self._chunks:
                after = self._canonical(after)
            if after not in came_from:
                came_from[after] = state
                found.append(after)
        if not steps and self._is_over(state):
            self.ends.append(
                state
            )  # what timers do from here on is the second act, which is played when it is replayed
        elif not steps:
            for fired in self._fired(state).values():
                steps += 1
                after = self._canonical(self._settled_quietly(fired))
                if after not in came_from:
                    came_from[after] = state
                    found.append(after)
            if not steps:
                self.ends.append(state)
        self.statistics.transitions += steps
        return found

    # -- how it came to a state ------------------------------------------------------------------------------------

    def schedule(self, state: int, path: int | None = None) -> list[Decision]:
        """The fewest steps that lead to a state, or to one that is interchangeable with it.

        Args:
            state: a state that was seen.
            path: who takes one more step there.
        """
        chain = [state]
        while (before := self._came_from[chain[-1]]) >= 0:
            chain.append(before)
        chain.reverse()
        at = self._settled(0)
        armed = [0] * len(self._tables.actors)
        decisions: list[Decision] = []
        for wanted in chain[1:]:
            at = self._towards(at, wanted, armed, decisions)
        if path is not None:
            # Under symmetry it may be another one of its group that is in that place.
            place = self._place(state, path)
            group = next((group for group in self._groups if path in group), [path])
            decisions.append(self._decision(at, next(one for one in group if self._place(at, one) == place)))
        return decisions

    def _towards(self, at: int, wanted: int, armed: list[int], decisions: list[Decision]) -> int:
        """Take the step from one state to the next of a chain, and write it down."""
        tables = self._tables
        for path in self._order:
            place = self._place(at, path)
            mask, table = self._row(path, place)
            known = at & mask in table
            adds = table[at & mask] if known else self._learn(path, place, at)
            if adds is None or isinstance(adds, Stepped):
                continue
            after = at + adds if type(adds) is int else self._settled(at + adds[0])
            if self._canonical(after) == wanted:
                decisions.append(self._decision(at, path))
                does = tables.places[path].known[place].does
                assert isinstance(does, Ask)
                was = tables.deadline(does.actor, self._state(at, does.actor))
                now = tables.deadline(does.actor, self._state(after, does.actor))
                armed[does.actor] += now is not None and now != was
                return after
        for actor, after in self._fired(at).items():
            settled = self._settled(after)
            if self._canonical(settled) == wanted:
                name = tables.actors[actor].actor.name
                decisions.append(Decision(f"timer {name}.{armed[actor] - 1}", "expire", name))
                return settled
        raise AssertionError("a state that was seen cannot be reached")

    def _decision(self, state: int, path: int) -> Decision:
        does = self._tables.places[path].known[self._place(state, path)].does
        assert isinstance(does, Ask)
        return Decision(self._tables.keys[path], does.operation.name, self._tables.actors[does.actor].actor.name)

    def values(self, state: int) -> dict[str, dict[str, Any]]:
        """What every actor holds in a state, by its name and the names of its fields."""
        found = {}
        for number, states in enumerate(self._tables.actors):
            known = states.known[self._state(state, number)]
            found[states.actor.name] = dict(zip(states.names, known, strict=True))
        return found

    def sample(self, count: int) -> list[int]:
        """Some of the states that were seen, evenly spread over how they were found."""
        every = max(1, len(self._came_from) // count)
        return list(self._came_from)[::every][:count]
