"""The search by traces in shares that need not know of each other, so that several processes can divide it.

The first few steps are not reduced: in each of the first states every possible step is taken, but for what sleeps.  So
no race has to be reversed there, what comes after such a beginning (a *leaf*) is explored by whoever it belongs to, and
together the shares run every trace once.  What sleeps keeps two shares from running the same trace; it may also leave a
share with runs in which everything that is possible sleeps, and these are counted as probes.
"""

from __future__ import annotations

from typing import Final

from slabactors.explore.dpor import Branch, Dpor, Frame
from slabactors.explore.happens_before import Dep, Elem, Event
from slabactors.explore.program import Program
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.step import TimePolicy

DEPTH_MAX: Final = 12
"""How many steps at most are not reduced."""

LEAVES_EACH: Final = 16
"""How many leaves there are to be at least for each share."""


class SharedDpor(Dpor):
    """Explores the traces of one share.

    Args:
        depth: how many steps are not reduced.
        share: which one this is, from 0.
        shares: how many there are; 0 to explore nothing and only count the leaves.

    Attributes:
        leaves: beginnings that were come to, of all shares.
    """

    def __init__(self, depth: int, share: int, shares: int) -> None:
        self._whole = depth
        self._share = share
        self._shares = shares
        self.leaves = 0
        self._elsewhere = False
        self._asleep_since: dict[int, set[Elem]] = {}
        """By depth, what sleeps there and has done so since the leaf."""
        super().__init__()

    def _tries_all(self, simulation: GuidedSimulation) -> bool:
        return self._depth < self._whole or super()._tries_all(simulation)

    def _is_redundant(self, frame: Frame) -> bool:
        if self._depth == self._whole and not self._belongs_here():
            self._elsewhere = True
            frame.tree.clear()
            return True
        if self._depth < self._whole:
            while frame.tree and frame.tree[0].dep.elem in frame.sleep:
                frame.tree.pop(0)
            return False
        if frame.tree:
            return frame.tree[0].dep.elem in frame.sleep
        # What has slept since the leaf may go on sleeping: it says nothing about what was planned.
        own = frame.sleep.keys() - self._asleep_since[self._depth]
        return bool(own and self.events[-1].whole is not None)

    def _inherit(self) -> tuple[dict[Elem, Dep], list[Branch]]:
        sleep, tree = super()._inherit()
        depth = self._depth
        if depth >= self._whole:
            since = set(sleep)
            self._asleep_since[depth] = since if depth == self._whole else since & self._asleep_since[depth - 1]
        return sleep, tree

    def _is_covered(self, frame: Frame, sequence: list[tuple[Dep, int]]) -> bool:
        # What sleeps since the leaf was explored by others, and their races that lead here are not told: of them it
        # covers only what begins with it, and not what it might as well have begun with.
        depth = next(depth for depth, one in enumerate(self.stack) if one is frame)
        others = self._asleep_since[depth]
        planned = {dep.elem for dep, _ in sequence}
        return any(
            self._is_initial(asleep, sequence)
            for elem, asleep in frame.sleep.items()
            if elem not in others or elem in planned
        )

    def _belongs_here(self) -> bool:
        self.leaves += 1
        return self._shares > 0 and (self.leaves - 1) % self._shares == self._share

    def _give_up(self) -> None:
        if self._elsewhere:
            self._elsewhere = False
            self._explored()
        else:
            super()._give_up()

    def _block(self) -> None:
        # It would be blocked for good, and what its steps race with would not be seen in any other run.
        self.statistics.probes += 1
        self._plan(self._waiting())
        self._explored()

    def _explored(self) -> None:
        for frame in self.stack:
            if frame.current is not None:
                frame.current.explored = True

    def finished(self, simulation: GuidedSimulation) -> None:
        """The run is complete; one that was over before its leaf is a leaf itself."""
        if len(self.stack) <= self._whole and not self._redundant and not self._belongs_here():
            self.exhausted = True
            self._explored()
            simulation.given_up = True
            return
        super().finished(simulation)

    def _reverse(self, first: int, second: int, event: Event) -> None:
        if first >= self._whole:
            super()._reverse(first, second, event)


def depth_for(program: Program, time: TimePolicy | None, shares: int) -> int:
    """How many steps not to reduce, so that there are leaves enough for some shares; as few as possible."""
    leaves = 0
    depth = 1
    for depth in range(1, DEPTH_MAX + 1):
        guide = SharedDpor(depth, 0, 0)
        more = True
        while more and guide.leaves < LEAVES_EACH * shares:
            program.dispose(program.execute(guide, time=time, driver=GuidedSimulation))
            more = guide.advance()
        if guide.leaves >= LEAVES_EACH * shares:
            return depth
        if guide.leaves == leaves and depth > 3:
            break  # nothing branches any more
        leaves = guide.leaves
    return depth
