"""Exhaustive search by several processes: each explores subtrees of the one search, and none is explored twice.

The search is a tree: a state, the steps that are explored from it (its *branches*, in order), the states they lead to.
One process goes through it depth first (`slabactors.explore.dpor`).  Here a coordinator owns the upper part, and
workers visit what hangs below it.  A visit runs some executions of one subtree.  It gives back where it was left, and
the wakeup sequences of races that it found with steps above its root; they are planned at the states that they belong
to by whoever owns these.

Why nothing is lost and nothing repeated:

* A branch begins when those before it at its state have had a complete run, and so sleep in it, as in one process.
  That they are not over yet makes no difference: what a branch leaves out because another one sleeps is explored there
  sooner or later.
* A sequence that an earlier branch finds may begin with a step whose branch was handed out meanwhile.  One process
  would have planned it inside that branch; here it is dropped.  A plan is not what makes a branch explore something:
  it explores every trace that begins with its step and with none that sleeps, whatever is planned for it, for it finds
  the races in it itself.  The dropped sequence is not left out by both: it holds a step that conflicts with the one it
  is to overtake, so the branch that found it does not sleep in a run of it.
* A branch that may turn out to wait for a guard covers nothing before it has had a complete run.  What was dropped
  because of it is kept until then, and planned anew if it has none.

Results are taken in the order in which visits were handed out, whenever they come back, so that what is found, and in
which execution, does not depend on how fast anybody is.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from slabactors.explore.dpor import Branch, Dpor, Frame, _in_vain
from slabactors.explore.happens_before import Dep, Elem
from slabactors.explore.packing import Packer, Unpacker
from slabactors.explore.verify import Verification
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import SimPath

FIRST_VISIT: Final = 4
"""Executions of the first visit of a branch: the branches after it wait for its first complete run."""

VISIT: Final = 64
"""Executions of the second visit; every one after it is longer, for what is sent is the larger the more is planned."""

VISIT_MAX: Final = 1024
"""Executions of the longest."""

WINDOW: Final = 16
"""How many visits are handed out at once, or as many as there are workers for."""

Sequence = list[tuple[Dep, int]]
"""A wakeup sequence, as `Dpor` has them; the numbers are not used."""


@dataclass(slots=True)
class Reversal:
    """A wakeup sequence for a state above the subtree in which its race was found.

    Attributes:
        frame: which one, counted from the beginning of the program.
        sequence: what is to be run from there.
        uncertain: its last step may have to wait.
    """

    frame: int
    sequence: list[Dep]
    uncertain: bool


@dataclass(slots=True)
class Subtree:
    """What a worker is to explore some of.

    Attributes:
        above: the states from the beginning of the program, each with what sleeps there and the branch that leads on.
        elsewhere: for each of them, what others explore from there; a sequence that begins so is dropped.
        beside: some of what sleeps in it others explore at the same time.
        stack: the states below, where the last visit has left them.
        executions: how many runs to make at most.
    """

    above: list[Frame]
    elsewhere: list[list[Dep]]
    beside: bool
    stack: list[Frame]
    executions: int

    def pack(self) -> bytes:
        """As it is sent."""
        packer = Packer()
        packer.number(len(self.above))
        packer.frames([*self.above, *self.stack])
        for deps in self.elsewhere:
            packer.deps(deps)
        packer.number(self.beside)
        packer.number(self.executions)
        return packer.data()

    @staticmethod
    def unpack(data: bytes) -> Subtree:
        """What was sent."""
        unpacker = Unpacker(data)
        above = unpacker.number()
        frames = unpacker.frames()
        elsewhere = [unpacker.deps() for _ in range(above)]
        return Subtree(frames[:above], elsewhere, bool(unpacker.number()), frames[above:], unpacker.number())


@dataclass(slots=True)
class Visit:
    """What a worker gives back.

    Attributes:
        stack: the states below the root with something left to explore; none when nothing is.
        root: the branch that leads into the subtree, as it was taken; None for the whole program.
        reversals: what is to be explored above.
        result: what was found.
    """

    stack: list[Frame]
    root: Branch | None
    reversals: list[Reversal]
    result: Verification

    def pack(self) -> tuple[bytes, Verification]:
        """As it is sent."""
        packer = Packer()
        packer.frames(self.stack)
        packer.number(len(self.reversals))
        for one in self.reversals:
            packer.number(one.frame)
            packer.deps(one.sequence)
            packer.number(one.uncertain)
        packer.number(self.root is not None)
        if self.root is not None:
            packer.dep(self.root.dep)
            packer.number(self.root.explored)
        return packer.data(), self.result

    @staticmethod
    def unpack(sent: tuple[bytes, Verification]) -> Visit:
        """What was sent."""
        unpacker = Unpacker(sent[0])
        stack = unpacker.frames()
        count = unpacker.number()
        reversals = [Reversal(unpacker.number(), unpacker.deps(), bool(unpacker.number())) for _ in range(count)]
        root = Branch(unpacker.dep(), explored=bool(unpacker.number())) if unpacker.number() else None
        return Visit(stack, root, reversals, sent[1])


class Rules(Dpor):
    """What a wakeup sequence could begin with.

    Attributes:
        strict: only with steps that it holds.  That a step that it does not hold could come first as well says that
            runs which begin with that step lead to what is to be explored; which is of use where it is known what they
            led to, and not where others make them at the same time.
    """

    strict = False

    def _is_initial(self, dep: Dep, sequence: Sequence) -> bool:
        if self.strict and all(other.elem != dep.elem for other, _ in sequence):
            return False
        return super()._is_initial(dep, sequence)


class SubtreeGuide(Rules):
    """Explores a subtree, and sends away what belongs above it.

    Args:
        subtree: which one; what it consists of is changed.

    Attributes:
        reversals: what was sent away.
    """

    def __init__(self, subtree: Subtree) -> None:
        super().__init__()
        self._above = len(subtree.above)
        self._elsewhere = subtree.elsewhere
        self.strict = subtree.beside
        self._owned = {id(frame.tree): index for index, frame in enumerate(subtree.above)}
        self._sent: set[tuple[int, tuple[Elem, ...]]] = set()
        self.stack = [*subtree.above, *subtree.stack]
        self.reversals: list[Reversal] = []

    @property
    def below(self) -> list[Frame]:
        """The states below the root."""
        return self.stack[self._above :]

    def visit(self, result: Verification, *, more: bool) -> Visit:
        """What to give back.

        Args:
            result: what was found.
            more: something is left to explore.
        """
        root = self.stack[self._above - 1].current if self._above else None
        if root is not None:
            root = Branch(root.dep, explored=root.explored)
        return Visit(self.below if more else [], root, self.reversals, result)

    def _insert(self, tree: list[Branch], sequence: Sequence, *, uncertain: bool) -> None:
        index = self._owned.get(id(tree))
        if index is None:
            super()._insert(tree, sequence, uncertain=uncertain)
            return
        name = index, tuple(dep.elem for dep, _ in sequence)
        if name in self._sent or any(self._is_initial(dep, sequence) for dep in self._elsewhere[index]):
            return
        self._sent.add(name)
        self.reversals.append(Reversal(index, [dep for dep, _ in sequence], uncertain))

    def next(self, enabled: collections.abc.Sequence[SimPath]) -> SimPath | None:
        """As always, but for a run that comes to where only what sleeps could go on: others explore that."""
        if self._depth == len(self.stack):
            frame = Frame(*self._inherit())
            if frame.tree and frame.tree[0].dep.elem in frame.sleep:
                frame.current = frame.tree[0]
                self.stack.append(frame)  # there may be more planned here
                self.statistics.blocked += 1
                self._plan_of_part()
                return None
        blocked = self.statistics.blocked
        path = super().next(enabled)
        if self.statistics.blocked > blocked:
            self._plan_of_part()
        return path

    def choose_for(self, path: SimPath, count: int) -> int:
        """As always, but for a choice that is part of what others have planned: they explore its other values there."""
        is_new = self._depth == len(self.stack)
        value = super().choose_for(path, count)
        if is_new and self.strict:
            tree = self.stack[self._depth - 1].tree
            planned = {branch.dep.elem[1] for branch in tree}
            tree.extend(Branch(Dep((path.key, other))) for other in range(count) if other not in planned)
        return value

    def _plan_of_part(self) -> None:
        """Turn the races of a run that was given up into wakeup sequences: they may lead to where nothing sleeps."""
        simulation = self._simulation
        assert isinstance(simulation, GuidedSimulation)
        for frame in self.stack[: self._depth]:
            assert frame.current is not None
            frame.current.explored = True  # all that is left of it is explored elsewhere
        self._plan([path for path in simulation.paths if path not in simulation.stopped and _in_vain(path)])

    def advance(self) -> bool:
        """Go back to the deepest state of the subtree with something left to explore; false when there is none."""
        above, self.stack = self.stack[: self._above], self.below
        more = super().advance()
        self.stack = above + self.stack
        return more


# -- what the coordinator owns -----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Node:
    """A state that the coordinator owns.

    Attributes:
        part: which branch above leads here.
        sleep: what was explored from here or is being explored, or is covered elsewhere; by process.
        pending: what is to be explored from here and was not begun.
        parts: what is being explored from here.
        beside: some of what sleeps here others explore, or explored, at the same time as this.
        finished: how many branches are done.
    """

    part: Part
    sleep: dict[Elem, Dep]
    pending: list[Branch]
    beside: bool
    parts: list[Part] = field(default_factory=list)
    finished: int = 0


@dataclass(slots=True, eq=False)
class Part:
    """A branch that is being explored: by visits, or by what the state it leads to was split into.

    Attributes:
        node: the state from which it is explored; None for the whole program.
        branch: which of its branches; None for the whole program.
        sleep: what slept in that state when it began.
        beside: some of that others explored at the same time.
        explored: a complete run went through it.
        visits: how often it was visited since it was explored.
        stack: where the last visit has left it.
        below: the state it leads to, when that was split.
    """

    node: Node | None = None
    branch: Branch | None = None
    sleep: dict[Elem, Dep] = field(default_factory=dict)
    beside: bool = False
    explored: bool = False
    visits: int = 0
    stack: list[Frame] = field(default_factory=list)
    below: Node | None = None

    def path(self) -> list[tuple[Node, Branch, Part]]:
        """From the beginning of the program to here: each state, and the branch that leads on."""
        steps = []
        part = self
        while part.node is not None:
            assert part.branch is not None
            steps.append((part.node, part.branch, part))
            part = part.node.part
        return steps[::-1]

    def subtree(self) -> Subtree:
        """What a worker has to know for the next visit."""
        above, elsewhere = [], []
        path = self.path()
        for node, branch, part in path:
            planned = branch.tree if part is self else []
            step = Branch(branch.dep, planned, explored=part.explored)
            above.append(Frame(part.sleep, [step], step))
            elsewhere.append([one.branch.dep for one in node.parts if one is not part and one.explored and one.branch])
        executions = FIRST_VISIT
        if self.explored:
            executions = min(VISIT_MAX, VISIT * 4**self.visits)
            self.visits += 1
        return Subtree(above, elsewhere, self.beside, self.stack, executions)

    def progress(self) -> float:
        """An estimate of the explored share."""
        node = self.below
        if node is not None:
            branches = max(1, node.finished + len(node.parts) + len(node.pending))
            return (node.finished + sum(part.progress() for part in node.parts)) / branches
        guide = Dpor()
        guide.stack = self.stack
        return guide.progress()


class Coordinator:
    """Owns the upper part of a search, and says what is to be visited next.

    Args:
        window: how many parts to have ready or handed out, if there are as many.

    Attributes:
        ready: parts to be visited, in order.
        done: nothing is left.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._rules = Rules()
        self._away = 0
        self._root = Part()
        self.ready: deque[Part] = deque([self._root])
        self.done = False

    @property
    def progress(self) -> float:
        """An estimate of the explored share."""
        return 1.0 if self.done else self._root.progress()

    def hand_out(self) -> Iterator[tuple[Part, Subtree]]:
        """The visits that are to be made now."""
        while self.ready and self._away < self._window:
            part = self.ready.popleft()
            self._away += 1
            yield part, part.subtree()

    def take_back(self, part: Part, visit: Visit) -> None:
        """A visit is over."""
        self._away -= 1
        self._note_explored(part, visit)
        path = part.path()
        for reversal in visit.reversals:
            self._plan(path[reversal.frame][0], [(dep, 0) for dep in reversal.sequence], reversal.uncertain)
        part.stack = visit.stack
        if not part.stack:
            self._finish(part)
        else:
            while len(self.ready) + self._away < self._window and (rest := self._split(part)) is not None:
                part = rest
            self.ready.append(part)
        for node, _, _ in path:
            self._begin_next(node)

    def _note_explored(self, part: Part, visit: Visit) -> None:
        root = visit.root
        if root is None:
            part.explored = True
            return
        assert part.branch is not None
        assert part.node is not None
        part.branch.dep = root.dep
        if root.explored and not part.explored:
            part.explored = True
            part.node.sleep[root.dep.elem] = root.dep

    def _plan(self, node: Node, sequence: Sequence, uncertain: bool) -> None:
        """Plan a wakeup sequence, unless what sleeps or is under way covers it."""
        rules = self._rules
        rules.strict = node.beside
        if any(rules._is_initial(asleep, sequence) for asleep in node.sleep.values()):
            return
        for part in node.parts:
            assert part.branch is not None
            if not part.explored and rules._is_initial(part.branch.dep, sequence):
                part.branch.absorbed.append(sequence)
                return
        rules._insert(node.pending, sequence, uncertain=uncertain)

    def _split(self, part: Part) -> Part | None:
        """Own more of a part, down to its first state with several branches; gives what goes on from there, if any."""
        stack = part.stack
        upper = 0
        while not upper or len(stack[upper - 1].tree) == 1:
            current = stack[upper].current if upper < len(stack) else None
            if current is None or not current.explored:
                return None  # what is planned beside it has to wait for its first complete run
            upper += 1
        part.stack = []
        for frame in stack[:upper]:
            branch = frame.current
            assert branch is not None
            sleep = frame.sleep | {branch.dep.elem: branch.dep}
            node = Node(part, sleep, frame.tree[1:], part.beside, finished=frame.finished)
            part.below = node
            part = Part(node, branch, dict(frame.sleep), node.beside, explored=True)
            node.parts.append(part)
            if frame is stack[upper - 1]:
                self._begin_next(node)
        part.stack = stack[upper:]
        return part

    def _begin_next(self, node: Node) -> None:
        """Begin a state's next branch, when all before it have had a complete run; end the state when there is none."""
        if not all(part.explored for part in node.parts):
            return
        while node.pending and node.pending[0].dep.elem in node.sleep:
            node.pending.pop(0)
        if node.pending:
            part = Part(node, node.pending.pop(0), dict(node.sleep), node.beside or bool(node.parts))
            node.parts.append(part)
            self.ready.append(part)
        elif not node.parts and node.part.below is node:
            node.part.below = None
            self._finish(node.part)

    def _finish(self, part: Part) -> None:
        """Nothing is left of a part."""
        node, branch = part.node, part.branch
        if node is None or branch is None:
            self.done = True
            return
        node.parts.remove(part)
        node.finished += 1
        if not part.explored:
            # It could not be run to its end: it covers nothing.
            for sequence in branch.absorbed:
                self._plan(node, sequence, uncertain=True)
        self._begin_next(node)
