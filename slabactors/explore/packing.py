"""States of an exhaustive search as bytes: small, quick to make, and flat however deep the search is.

The same steps come up again and again in what is planned, so each is written once, in a table, and everything else is
numbers.  (Pickled as they are, states take fifty times as long, and deep ones more nesting than Python allows.)
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import fields

from slabactors.explore.dpor import Branch, Frame
from slabactors.explore.happens_before import Dep

EXPLORED, UNCERTAIN = 1, 2


class Packer:
    """Writes down steps, sequences of them, and states."""

    def __init__(self) -> None:
        self._names = [one.name for one in fields(Dep)]
        self._table: list[Dep] = []
        self._by_value: dict[tuple[object, ...], int] = {}
        self._by_identity: dict[int, int] = {}
        self._numbers = array("q")

    def data(self) -> bytes:
        """All that was written."""
        return pickle.dumps((self._table, self._numbers.tobytes()), protocol=5)

    def number(self, value: int) -> None:
        """Write a number."""
        self._numbers.append(value)

    def dep(self, dep: Dep) -> None:
        """Write a step."""
        index = self._by_identity.get(id(dep))
        if index is None:
            value = tuple(getattr(dep, name) for name in self._names)
            index = self._by_value.get(value)
            if index is None:
                index = self._by_value[value] = len(self._table)
                self._table.append(dep)
            self._by_identity[id(dep)] = index  # the caller holds on to it meanwhile
        self._numbers.append(index)

    def deps(self, deps: Iterable[Dep]) -> None:
        """Write some steps."""
        listed = [*deps]
        self.number(len(listed))
        for dep in listed:
            self.dep(dep)

    def frames(self, frames: list[Frame]) -> None:
        """Write the states on a way: each but the last leads on by its first branch."""
        self.number(len(frames))
        for index, frame in enumerate(frames):
            assert frame.tree[0] is frame.current
            self.deps(frame.sleep.values())
            self.number(frame.finished)
            self.number(len(frame.tree))
            for branch in frame.tree:
                # What is planned behind the branch that leads on is in the next state.
                self._branch(branch, whole=branch is not frame.current or index == len(frames) - 1)

    def _branch(self, branch: Branch, *, whole: bool) -> None:
        left = [branch]
        while left:
            one = left.pop()
            self.dep(one.dep)
            self.number(EXPLORED * one.explored | UNCERTAIN * one.uncertain)
            self.number(len(one.absorbed))
            for sequence in one.absorbed:
                self.deps(dep for dep, _ in sequence)
            children = one.tree if whole else []
            self.number(len(children))
            left.extend(reversed(children))


class Unpacker:
    """Reads what a `Packer` has written, in the same order.

    Args:
        data: what it has written.
    """

    def __init__(self, data: bytes) -> None:
        self._table: list[Dep]
        self._table, packed = pickle.loads(data)
        numbers = array("q")
        numbers.frombytes(packed)
        self._numbers: Iterator[int] = iter(numbers)

    def number(self) -> int:
        """Read a number."""
        return next(self._numbers)

    def dep(self) -> Dep:
        """Read a step."""
        return self._table[next(self._numbers)]

    def deps(self) -> list[Dep]:
        """Read some steps."""
        return [self.dep() for _ in range(self.number())]

    def frames(self) -> list[Frame]:
        """Read the states on a way."""
        frames: list[Frame] = []
        count = self.number()
        for _ in range(count):
            sleep = {dep.elem: dep for dep in self.deps()}
            finished = self.number()
            tree = frames[-1].tree[0].tree if frames else []
            tree.extend(self._branch() for _ in range(self.number()))
            frames.append(Frame(sleep, tree, tree[0], finished))
        return frames

    def _branch(self) -> Branch:
        root, count = self._node()
        left = [(root, count)] if count else []
        while left:
            parent, missing = left.pop()
            if missing > 1:
                left.append((parent, missing - 1))
            child, count = self._node()
            parent.tree.append(child)
            if count:
                left.append((child, count))
        return root

    def _node(self) -> tuple[Branch, int]:
        """A branch without what is planned behind it, and how many branches that has."""
        dep, flags = self.dep(), self.number()
        absorbed = [[(one, 0) for one in self.deps()] for _ in range(self.number())]
        return Branch(dep, [], bool(flags & EXPLORED), bool(flags & UNCERTAIN), absorbed), self.number()
