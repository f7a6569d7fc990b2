"""What machine a recording was made on: as many CPUs and nodes as it shows, and no more than explain it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from slabactors.actors import Clock
from slabactors.errors import WorkloadError
from slabactors.lifecycle import lifecycle
from slabactors.machine import Machine, MachineConfig
from slabactors.mm.models import allocator
from slabactors.workload.language import Alloc, Create, Free
from slabactors.workload.recording import AGAIN, Entry, Format, Recording

CPUS_MAX = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """A machine.

    Attributes:
        cpus: how many CPUs.
        nodes: how many memory nodes.
        node_of: the node of a CPU, where the recording shows it.
    """

    cpus: int
    nodes: int
    node_of: dict[int, int] = field(default_factory=dict)

    def place(self, machine: Machine) -> None:
        """Put the CPUs where the recording has them; the others stay where they were dealt out to, in blocks."""
        for cpu in machine.cpus:
            cpu.node = self.node_of.get(cpu.id, cpu.node)

    def with_cpus(self, cpus: int) -> Shape:
        """The same with another number of CPUs."""
        return replace(self, cpus=cpus)


def shape_of(recording: Recording, model: str, *, cpus: int | None, nodes: int | None) -> Shape:
    """The machine that a recording was made on.

    The smallest one with all CPUs and nodes that it mentions on which every cache has the recorded geometry; when there
    is none, the smallest one with those CPUs, so that the comparison says what differs.

    Raises:
        WorkloadError: it mentions more than `CPUS_MAX` CPUs.
    """
    entries = [entry for sequence in recording.sequences for entry in sequence.entries]
    least = 1 + max((number for entry in entries for number in _cpus(entry)), default=0)
    if least > CPUS_MAX:
        raise WorkloadError(0, f"expected at most {CPUS_MAX} CPUs, found CPU {least - 1}.", AGAIN)
    seen_nodes = 1 + max((number for entry in entries for number in _nodes(entry)), default=0)
    nodes = seen_nodes if nodes is None else nodes
    if cpus is None:
        cpus = _fitting(recording, model, max(least, nodes))
    return Shape(cpus, nodes, dict(_places(entries)) if nodes > 1 else {})


def _cpus(entry: Entry) -> Iterator[int]:
    for op in entry.ops:
        if isinstance(op, Alloc | Free):
            yield op.cpu
    seen = entry.seen
    d = seen.get("d")
    if isinstance(d, dict) and isinstance(d.get("cpu"), dict):
        yield from (int(number) for number in d["cpu"] if number.isdigit())
    for line in seen.get("state", ()):
        found = re.match(r"\s*C(\d{1,6}):", line)
        if found is not None:
            yield int(found[1])


def _nodes(entry: Entry) -> Iterator[int]:
    seen = entry.seen
    d = seen.get("d")
    if isinstance(d, dict) and isinstance(d.get("node"), dict):
        yield from (int(number) for number in d["node"] if number.isdigit())
    for line in seen.get("state", ()):
        found = re.match(r"\s*N(\d{1,4}):", line)
        if found is not None:
            yield int(found[1])


def _places(entries: list[Entry]) -> Iterator[tuple[int, int]]:
    """Node of a CPU, the surest word last: by slabs that it took from a node's list, and by those that it made."""
    taken: list[tuple[int, int]] = []
    made: list[tuple[int, int]] = []
    known: set[tuple[str, int]] = set()
    listed: dict[str, dict[int, int]] = {}
    for entry in entries:
        d = entry.seen.get("d")
        if not isinstance(d, dict) or not isinstance(d.get("slab"), list) or not isinstance(d.get("node"), dict):
            continue
        node_of = {row[0]: row[4] for row in d["slab"] if isinstance(row, list) and len(row) == 5}
        for op in entry.ops:
            name = f"{entry.seen.get('w')}/{getattr(op, 'name', '')}"
            if isinstance(op, Alloc) and op.node is None:
                used = [run[0] for run in d.get("from", ()) if isinstance(run, list) and run]
                made.extend((op.cpu, node_of[slab]) for slab in node_of if (name, slab) not in known)
                lists = listed.get(name, {})
                taken.extend((op.cpu, lists[slab]) for slab in used if slab in lists)
            known.update((name, slab) for slab in node_of)
            listed[name] = {
                slab: int(number)
                for number, slabs in d["node"].items()
                if number.isdigit() and isinstance(slabs, list)
                for slab in slabs
            }
    yield from reversed(taken)
    yield from reversed(made)


def _fitting(recording: Recording, model: str, least: int) -> int:
    wanted = _geometries(recording)
    if recording.format is Format.GEOMETRY or not wanted:
        return least
    for cpus in range(least, CPUS_MAX + 1):
        machine = Machine(Clock(), lifecycle("pre-patch"), MachineConfig(cpus=cpus, allocator=model))
        try:
            if all(_explains(machine, create, seen) for create, seen in wanted):
                return cpus
        except ValueError:
            pass
        finally:
            machine.dispose()
    return least


def _geometries(recording: Recording) -> list[tuple[Create, dict[str, Any]]]:
    """Every cache that was created, once each, with what it says of the number of CPUs."""
    found: dict[str, tuple[Create, dict[str, Any]]] = {}
    for sequence in recording.sequences:
        for entry in sequence.entries:
            for op in entry.ops:
                if isinstance(op, Create):
                    found.setdefault(repr(op.spec), (op, _geometry(entry)))
    return list(found.values())


def _geometry(entry: Entry) -> dict[str, Any]:
    d = entry.seen.get("d")
    if isinstance(d, dict):
        return {key: d[key] for key in ("order", "objects") if key in d}
    state = entry.seen.get("state")
    if not state:
        return {}
    keys = dict(re.findall(r"(\w+)=(-?\d+)(?!\S)", " ".join(state)))
    wanted = {"ord": "order", "objs": "objects", "order": "order", "num": "objects", "free_limit": "free_limit"}
    head = dict(re.findall(r"(\w+)=(-?\d+)(?!\S)", state[0]))
    found = {wanted[key]: int(value) for key, value in head.items() if key in wanted}
    if "free_limit" in keys:
        found["free_limit"] = int(keys["free_limit"])
    return found


def _explains(machine: Machine, create: Create, seen: dict[str, Any]) -> bool:
    shape = allocator(machine.config.allocator).geometry(create.spec, machine)
    free_limit = seen.get("free_limit")
    if free_limit is not None:
        batch = getattr(shape, "batchcount", None)
        if batch is not None and free_limit != (1 + machine.config.cpus) * batch + shape.objects:
            return False
    return all(getattr(shape, key, value) == value for key, value in seen.items() if key != "free_limit")
