"""Replays a recording of a real kernel and says whether the model does the same.

Where the recorded kernel was free to choose (the order in which the CPUs of a flush reach a node's list), the model
agrees when some order gives what was recorded, there and at every later position of the sequence: a depth-first search
over the orders of each flush, the default one first.  A sequence is played again from its beginning for each order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from slabactors.errors import KernelBug
from slabactors.workload.compare import Comparer, Difference, comparer
from slabactors.workload.language import Destroy, Op, Set, Shrink
from slabactors.workload.machines import Shape, shape_of
from slabactors.workload.orders import InOrder, Order, orders
from slabactors.workload.player import Document, Player
from slabactors.workload.recording import Entry, Recording, Sequence
from slabactors.workload.sense import Sense

OPS_MAX = 400_000
"""Operations that one sequence may be played with, all orders together, before it counts as undetermined."""


@dataclass(slots=True)
class Verdict:
    """What became of a recording.

    Attributes:
        sequences: how many there are.
        operations: positions of all of them.
        equal: positions at which everything is as it was recorded.
        different: positions at which something is not, whatever the orders; at most one of a sequence.
        undetermined: positions behind a difference, and those for which not all orders could be tried.
        first: the first difference: sequence, position, operation, field, and both values.
        chosen: for each sequence that needed another order than the default: at which positions, and which.
    """

    sequences: int = 0
    operations: int = 0
    equal: int = 0
    different: int = 0
    undetermined: int = 0
    first: dict[str, Any] | None = None
    chosen: dict[str, dict[int, Order]] = field(default_factory=dict)


@dataclass(slots=True)
class _Flush:
    """An operation at which several CPUs give up what they own.

    Attributes:
        at: which operation of the sequence.
        tried: the order it is played in now; None for the default.
        left: the orders that are left.
        ends: the states it has led to.
    """

    at: int
    tried: Order | None
    left: Iterator[Order]
    ends: set[Any]


def check_recording(
    recording: Recording,
    model: str,
    *,
    cpus: int | None = None,
    nodes: int | None = None,
    progress: Callable[[int], None] | None = None,
    ops_max: int = OPS_MAX,
) -> Verdict:
    """Replay every sequence.

    Args:
        recording: what was read.
        model: name of the allocator model.
        cpus: CPUs of the recorded machine; by default what the recording shows.
        nodes: its memory nodes; by default what the recording shows.
        progress: called with how many sequences are done.
        ops_max: see `OPS_MAX`.

    Raises:
        WorkloadError: a sequence makes no sense: it uses what it has not created.
    """
    shape = shape_of(recording, model, cpus=cpus, nodes=nodes)
    verdict = Verdict()
    for done, sequence in enumerate(recording.sequences, 1):
        one = shape if sequence.cpus is None or cpus is not None else shape.with_cpus(sequence.cpus)
        _Replay(recording, sequence, model, one, ops_max).into(verdict)
        if progress is not None:
            progress(done)
    return verdict


class _Replay:
    """One sequence, played until everything is as recorded or no order is left."""

    def __init__(self, recording: Recording, sequence: Sequence, model: str, shape: Shape, ops_max: int) -> None:
        self.recording = recording
        self.sequence = sequence
        self.model = model
        self.shape = shape
        self.ops_left = ops_max
        self.entries = [entry for entry in sequence.entries for _ in entry.ops]
        """The entry of each operation."""
        self.flushes: list[_Flush] = []
        self.furthest = -1
        self.difference: tuple[Entry, Difference] | None = None

    def into(self, verdict: Verdict) -> None:
        """Search, and add what came of it."""
        complete = self._search()
        entries = self.sequence.entries
        verdict.sequences += 1
        verdict.operations += len(entries)
        if self.difference is None:
            verdict.equal += len(entries)
            changed = {flush.at: flush.tried for flush in self.flushes if flush.tried is not None}
            if changed:
                verdict.chosen[self.sequence.name] = {self.entries[at].position: order for at, order in changed.items()}
            return
        entry, difference = self.difference
        verdict.equal += entry.position
        rest = len(entries) - entry.position
        verdict.different += 1 if complete else 0
        verdict.undetermined += rest - 1 if complete else rest
        if complete and verdict.first is None:
            verdict.first = {
                "sequence": self.sequence.name,
                "position": entry.position,
                "op": entry.text,
                "field": difference.field,
                "recorded": difference.recorded,
                "ours": difference.ours,
                "line": entry.line,
            }

    def _search(self) -> bool:
        """Whether the answer is final: all is equal, or every order was tried."""
        while True:
            fits = self._play_once()
            if fits:
                self.difference = None
                return True
            if self.ops_left <= 0:
                return False
            while self.flushes:
                last = self.flushes[-1]
                last.tried = next(last.left, None)
                if last.tried is not None:
                    break
                self.flushes.pop()
            if not self.flushes:
                return True

    def _play_once(self) -> bool:
        """Play from the beginning with the orders that are chosen; whether all was as recorded."""
        player = Player(self.model, self.shape.cpus, self.shape.nodes)
        self.shape.place(player.machine)
        compare = comparer(self.recording.format, player.machine.allocator.layout)
        sense = Sense(
            self.shape.cpus,
            self.shape.nodes,
            lambda spec: player.machine.allocator.geometry(spec, player.machine),
        )
        chosen = {flush.at: flush for flush in self.flushes}
        document: Document = {}
        at = 0
        try:
            for entry in self.sequence.entries:
                for op in entry.ops:
                    sense.check(op)
                    document = self._play(player, op, at, chosen)
                    at += 1
                if not self._as_recorded(player, compare, entry, document):
                    return False
                flush = self.flushes[-1] if self.flushes else None
                if flush is not None and flush.at == at - 1 and entry.ops and not self._leads_on(player, flush):
                    return False
        finally:
            player.close()
        return True

    def _play(self, player: Player, op: Op, at: int, chosen: dict[int, _Flush]) -> Document:
        self.ops_left -= 1
        turns = None
        flushing = _flushing(player, op)
        if flushing is not None:
            flush = chosen.get(at)
            if flush is None:
                sections = player.view.sections(player.caches[flushing].cache)
                if len(sections) > 1:
                    self.flushes.append(_Flush(at, None, orders(sections), set()))
            elif flush.tried is not None:
                turns = InOrder(flush.tried)
        try:
            return player.play(op, turns)
        except KernelBug as bug:
            return {"bug": bug.message}

    def _leads_on(self, player: Player, flush: _Flush) -> bool:
        """Whether the state after a flush is a new one: what follows depends on nothing else."""
        state = player.fingerprint()
        if state in flush.ends:
            return False
        flush.ends.add(state)
        return True

    def _as_recorded(self, player: Player, compare: Comparer, entry: Entry, document: Document) -> bool:
        if "bug" in document:
            found: Difference | None = Difference("finding", None, document["bug"])
        else:
            found = next(compare.differences(player, entry, document), None)
        if found is None:
            return True
        if entry.position > self.furthest:
            self.furthest = entry.position
            self.difference = entry, found
        return False


def _flushing(player: Player, op: Op) -> str | None:
    """The cache of which an operation makes all CPUs give up what they own, if it shows in which order they do."""
    match op:
        case Shrink():
            return op.name
        case Set() if op.file in ("cpu_partial", "shrink"):
            return op.name
        case Destroy() if player.caches[op.name].held:  # otherwise everything goes, in any order
            return op.name
    return None


def first_difference_text(first: dict[str, Any]) -> str:
    """The first difference, in a sentence."""
    return (
        f"{first['sequence']}, position {first['position']} (line {first['line']}), {first['op']}: "
        f"{first['field']} was {first['recorded']}, here {first['ours']}"
    )
