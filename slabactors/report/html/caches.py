"""Every cache of a run, step by step: whether it is dead, its pages, slabs and objects, and what its work does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from slabactors.report.html.recording import Recording
from slabactors.trace.reader import StepLine

COLUMNS: Final = ("state", "pages", "slabs", "objects", "partial", "percpu", "work")
"""What is told of a cache.

state: alive, dead (its memcg is gone, or it is marked so), destroyed.  pages: that are counted for a child.  slabs: of
all nodes.  objects: handed out and not given back.  partial: slabs on the nodes' partial lists.  percpu: slabs that
CPUs hold.  work: what its destroy work does.
"""

TOTALS: Final = (
    ("Pages of dead caches", "pages"),
    ("Dead caches", "caches"),
    ("Pages of child caches", "pages"),
    ("Slabs", "slabs"),
    ("Objects in use", "objects"),
    ("Destroy works queued, armed or running", "works"),
)
"""What is added up over all caches, with its unit."""

Series = list[tuple[int, Any]]
"""Position of a step, -1 for before the first, and the value from there on."""

_CHILD = re.compile(r"^(.*)\((\d+):(.*)\)$", re.DOTALL)
_SLAB = re.compile(r"^(slab\d+)(?:\[\d+\])?$")
_COUNT = re.compile(r"^(\d+) elements$")


@dataclass(slots=True)
class CacheLife:
    """One cache.

    Attributes:
        name: its name.
        root: name of its root; None for one that is a root.
        actors: it and all that belongs to it, in the order in which they were first seen.
        series: for each of `COLUMNS` what it was when.
    """

    name: str
    root: str | None
    memcg: str | None
    actors: list[str] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=lambda: {column: [] for column in COLUMNS})

    @property
    def now(self) -> dict[str, Any]:
        """The values at this moment."""
        return {column: series[-1][1] if series else None for column, series in self.series.items()}


class Caches:
    """Follows the caches of a run from its first step to its last.

    Args:
        recording: the run.

    Attributes:
        lives: the caches by name.
        totals: for each of `TOTALS` what it was when.
    """

    def __init__(self, recording: Recording) -> None:
        self.lives: dict[str, CacheLife] = {}
        self.totals: list[Series] = [[] for _ in TOTALS]
        self._cells: dict[str, dict[str, Any]] = {actor: dict(cells) for actor, cells in recording.initial.items()}
        self._owners = dict(recording.owners)
        self._slabs: dict[str, set[str]] = {}
        self._in_hand: dict[str, int] = {}
        """Free objects of a slab that a path carries from the slab to a CPU or back."""
        self._gone: set[str] = set()
        self._running: set[str] = set()
        self._unborn: set[str] = set()
        """Caches that are made in the course of the run."""
        self._sums = [0] * len(TOTALS)
        self._parts: dict[str, list[int]] = {}
        self._actors: dict[str, str | None] = {}
        for name in _names_in(recording):
            child = _CHILD.match(name)
            self.lives[name] = CacheLife(name, child and child[1], child and f"memcg {child[3]}")
        self._unborn = _made_later(recording, self.lives)
        if not recording.whole:
            _claim_early(recording.steps, self._owners, self.lives)
        for slab, owner in self._owners.items():
            self._adopt(slab, owner)
        for actor in self._cells:
            self._owner(actor)
        for name in self.lives:
            self._look(name, -1)
        self._add_up(self.lives, -1)
        for position, step in enumerate(recording.steps):
            if position != recording.broke:
                self._take(position, step)

    # -- who belongs to whom -------------------------------------------------------------------------------------------

    def _owner(self, actor: str) -> str | None:
        """The cache that an actor belongs to, if it does."""
        if actor in self._actors:
            return self._actors[actor]
        name = actor.partition("/")[2] if re.match(r"^(cpu|node)\d+/", actor) else actor
        for ending in (".params", ".destroy"):
            name = name.removesuffix(ending)
        owner = self._owners.get(actor) or (name if name in self.lives else None)
        if owner in self.lives:
            if actor not in self.lives[owner].actors:
                self.lives[owner].actors.append(actor)
            self._actors[actor] = owner
            return owner
        if not _SLAB.match(actor):
            self._actors[actor] = None
        return None

    def _adopt(self, slab: str, owner: str) -> None:
        if owner in self.lives:
            self._owners[slab] = owner
            self._slabs.setdefault(owner, set()).add(slab)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _take(self, position: int, step: StepLine) -> None:
        self._cells.setdefault(step.actor, {}).update(step.changed)
        owner = self._owner(step.actor)
        affected = {owner} if owner is not None else set()
        self._unborn -= affected
        if owner is not None and not _SLAB.match(step.actor):
            for slab in _slabs_in([step.args, step.reply]):
                if slab not in self._owners:
                    self._adopt(slab, owner)
        self._carry(step)
        if step.operation == "free":
            self._free(step.actor, owner)
        if step.operation == "install_new" and step.args:
            self._install(step)
        if "online" in step.changed:
            affected.update(life.name for life in self.lives.values() if life.memcg == step.actor)
        if "executing" in step.changed:
            affected.update(self._work_changed(step.changed["executing"]))
        for name in affected:
            self._look(name, position)
        if affected:
            self._add_up(affected, position)

    def _free(self, actor: str, owner: str | None) -> None:
        if owner == actor:
            self._gone.add(actor)
        elif owner is not None and _SLAB.match(actor):
            self._slabs[owner].discard(actor)

    def _carry(self, step: StepLine) -> None:
        """A flush takes a CPU's freelist and then gives it to the slab; a refill goes the other way."""
        match step.operation, step.args, step.reply:
            case (("begin_flush" | "flush_page"), _, [str(slab), list(freelist), *_]):
                self._in_hand[slab] = len(freelist)
            case (("get_freelist" | "acquire"), _, list(freelist)) if "inuse" in step.changed:
                self._in_hand[step.actor] = len(freelist)
            case "install", [str(slab), *_], _:
                self._in_hand.pop(slab, None)
            case _ if "inuse" in step.changed or step.operation == "free":
                self._in_hand.pop(step.actor, None)

    def _install(self, step: StepLine) -> None:
        """A new slab of SLUB counts all its objects as used once a CPU holds it; its freelist has the free ones."""
        freelist = step.changed.get("freelist")
        if freelist is not None:
            self._cells.setdefault(str(step.args[0]), {}).setdefault("inuse", _length(freelist) + 1)

    def _work_changed(self, executing: Any) -> set[str]:
        before, self._running = self._running, set()
        if isinstance(executing, dict):
            self._running = {
                str(entry[1]) for entry in executing.values() if isinstance(entry, list) and len(entry) > 1
            }
        works = before ^ self._running
        return {work.removesuffix(".destroy") for work in works} & self.lives.keys()

    # -- what a cache is like ------------------------------------------------------------------------------------------

    def _look(self, name: str, position: int) -> None:
        life = self.lives[name]
        gone = name in self._gone
        values: dict[str, Any] = dict.fromkeys(COLUMNS)
        if gone:
            values["state"] = "destroyed"
        elif name not in self._unborn:
            parts = [(actor, self._cells[actor]) for actor in life.actors if actor in self._cells]
            values.update(_shape(parts), objects=self._objects(name, parts), **self._fate(life))
        for column, value in values.items():
            series = life.series[column]
            if (series[-1][1] if series else None) != value:
                series.append((position, value))

    def _fate(self, life: CacheLife) -> dict[str, Any]:
        if life.root is None:
            return {"state": "alive"}
        params = self._cells.get(f"{life.name}.params", {})
        offline = self._cells.get(life.memcg or "", {}).get("online") is False
        work = self._cells.get(f"{life.name}.destroy", {})
        return {
            "state": "dead" if params.get("dead") or offline else "alive",
            "pages": params.get("pages"),
            "work": _work(work, f"{life.name}.destroy" in self._running),
        }

    def _objects(self, name: str, parts: list[tuple[str, dict[str, Any]]]) -> int | None:
        counts = [self._cells.get(slab, {}).get("inuse") for slab in self._slabs.get(name, ())]
        known = [count for count in counts if isinstance(count, int)]
        if not known:
            # Without a slab there is no object; with one of which nothing is known there may be.
            return None if counts else 0 if any("nr_slabs" in cells for _, cells in parts) else None
        free = sum(_length(cells[cell]) for _, cells in parts for cell in ("entries", "shared") if cell in cells)
        free += sum(_length(cells["freelist"]) for actor, cells in parts if "/" in actor and "freelist" in cells)
        free += sum(self._in_hand.get(slab, 0) for slab in self._slabs[name])
        return max(0, sum(known) - free)

    def _add_up(self, names: Iterable[str], position: int) -> None:
        for name in names:
            life = self.lives[name]
            now = life.now
            dead = now["state"] == "dead"
            pages = now["pages"] or 0
            part = [
                pages if dead else 0,
                int(dead),
                pages,
                now["slabs"] or 0,
                now["objects"] or 0,
                int(now["work"] not in (None, "idle", "never initialised")),
            ]
            before = self._parts.get(life.name)
            if before != part:
                self._parts[life.name] = part
                for index, value in enumerate(part):
                    self._sums[index] += value - (before[index] if before is not None else 0)
        for series, value in zip(self.totals, self._sums, strict=True):
            if not series or series[-1][1] != value:
                series.append((position, value))


def _shape(parts: list[tuple[str, dict[str, Any]]]) -> dict[str, int | None]:
    """Slabs and where they are listed, of either allocator."""
    found: dict[str, int | None] = {"slabs": None, "partial": None, "percpu": None}
    for actor, cells in parts:
        for cell, value in cells.items():
            match cell:
                case "nr_slabs":
                    _count(found, "slabs", value)
                case "slabs_full" | "slabs_partial" | "slabs_free":
                    _count(found, "slabs", _length(value))
                    if cell == "slabs_partial":
                        _count(found, "partial", _length(value))
                case "page":
                    _count(found, "percpu", int(value is not None))
                case "partial":
                    _count(found, "partial" if actor.startswith("node") else "percpu", _length(value))
    return found


def _count(found: dict[str, int | None], column: str, number: int) -> None:
    found[column] = (found[column] or 0) + number


def _work(cells: dict[str, Any], running: bool) -> str | None:
    """What a work item does, in words."""
    if not cells and not running:
        return None
    doing = ["running"] if running else []
    if cells.get("pending"):
        doing.append("queued" if cells.get("deadline") is None else "timer armed")
    if not doing:
        return "never initialised" if cells.get("initialised") is False else "idle"
    return ", ".join(doing)


def _length(value: Any) -> int:
    """How many elements a list has; long ones are told by their number."""
    if isinstance(value, str):
        match = _COUNT.match(value)
        return int(match[1]) if match else 0
    return len(value) if isinstance(value, list | dict) else 0


def _slabs_in(value: Any) -> Iterator[str]:
    """The slabs that a value of a step names."""
    if isinstance(value, str):
        match = _SLAB.match(value)
        if match:
            yield match[1]
    elif isinstance(value, list):
        for one in value:
            yield from _slabs_in(one)


def _claim_early(steps: list[StepLine], owners: dict[str, str], lives: dict[str, CacheLife]) -> None:
    """Find the caches of slabs that were there before a log began: those that no step of it makes."""
    made: set[str] = set()
    for step in steps:
        if step.operation == "get_pages" and isinstance(step.reply, int):
            made.add(f"slab{step.reply}")
        name = step.actor.partition("/")[2]
        if name in lives:
            for slab in _slabs_in([step.args, step.reply]):
                if slab not in made:
                    owners.setdefault(slab, name)


def _made_later(recording: Recording, lives: dict[str, CacheLife]) -> set[str]:
    """The caches that were not there before the first step."""
    if recording.whole:
        return set(lives) - {actor for actor in recording.initial if actor in lives}
    published = (step.args[1] for step in recording.steps if step.operation == "publish" and len(step.args) > 1)
    return {name for name in published if name in lives}


def _names_in(recording: Recording) -> list[str]:
    """The caches of a run, those that were made first before the others."""
    names = dict.fromkeys(recording.caches)
    for step in recording.steps:
        actor = step.actor
        match = re.match(r"^(?:cpu|node)\d+/(.+)$", actor, re.DOTALL)
        if match:
            names[match[1]] = None
        elif actor.endswith(".params"):
            names[actor.removesuffix(".params")] = None
    return list(names)
