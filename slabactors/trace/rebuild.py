"""Rebuilds, from what a kernel recorded, the workload that its slab caches saw.

Events name addresses; a workload names objects, caches and cgroups.  In between lies inference, and every guess is
either a rule written here or a number in `RebuildSummary`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from slabactors.trace.cgroups import Cgroups, accounted, root_of
from slabactors.trace.formats.ftrace import Trace, TraceEvent
from slabactors.trace.workload import (
    SAMPLES_MAX,
    Action,
    Alloc,
    Attach,
    CacheSeen,
    Free,
    LiveSample,
    Mkdir,
    RebuildSummary,
    Release,
    Rmdir,
    SkipTally,
    Workload,
)

__all__ = [
    "Action",
    "Alloc",
    "Attach",
    "CacheSeen",
    "Free",
    "LiveSample",
    "Mkdir",
    "RebuildSummary",
    "Release",
    "Rmdir",
    "SkipTally",
    "Workload",
    "rebuild",
]

OBJECT_BYTES_MAX = 1 << 22
"""KMALLOC_MAX_SIZE: no slab object is larger, so an event that says so is damaged."""

_ADDRESSES_MIN = 4096  # NULL, ZERO_SIZE_PTR and error pointers of small value are no objects
_ALLOCATIONS = frozenset({"kmem_cache_alloc", "kmem_cache_alloc_node", "kmalloc", "kmalloc_node"})


def rebuild(trace: Trace, *, hierarchy: int | None = None) -> Workload:
    """Turn a trace into a workload.

    Args:
        trace: any; damaged or cut ones give a smaller workload and larger counts.
        hierarchy: the cgroup ``root`` that has the memory controller; by default the unified one (0) where the trace
            has events of it, else the lowest number in the trace.
    """
    events = sorted(trace.events, key=lambda event: event.microseconds)
    if hierarchy is None:
        roots = [root for event in trace.events if (root := root_of(event)) is not None]
        hierarchy = min(roots, default=0)
    history = _History(Cgroups(hierarchy))
    for event in events:
        history.add(event)
    caches, indices = _name_caches(history.lives)
    groups = history.groups
    skipped = {
        reason.value: SkipTally(count, tuple(line.line for line in trace.skipped if line.reason is reason))
        for reason, count in trace.skipped_counts.items()
    }
    peak, live = _live_over_time(history)
    made = Counter(type(step) for step in history.steps)
    matched = sum(1 for step in history.steps if isinstance(step, _FreeStep) and step.seen)
    summary = RebuildSummary(
        events=dict(Counter(event.name for event in trace.events)),
        skipped=skipped,
        unknown_events=dict(trace.unknown_events),
        allocations=len(history.lives),
        allocations_failed=history.allocations_failed,
        allocations_impossible=history.allocations_impossible,
        frees=matched + history.frees_before_trace + history.frees_of_nothing,
        matched=matched,
        frees_before_trace=history.frees_before_trace,
        frees_of_nothing=history.frees_of_nothing,
        frees_unseen=made[_FreeStep] - matched,
        live_at_end=len(history.live),
        live_peak=peak,
        live=live,
        cgroups_before_trace=len(groups.paths) - made[Mkdir],
        cgroups_created=made[Mkdir],
        cgroups_removed=made[Rmdir],
        cgroups_released=made[Release],
        releases_before_trace=groups.releases_before_trace,
        attaches_refused=groups.attaches_refused,
        other_hierarchies=groups.other_hierarchies,
        out_of_order=sum(
            later.microseconds < event.microseconds
            for event, later in zip(trace.events, trace.events[1:], strict=False)
        ),
        events_lost=trace.lost + trace.overwritten,
    )
    return Workload(
        caches=caches,
        cgroups=tuple(groups.paths),
        cpus=max((event.cpu for event in trace.events), default=0) + 1,
        actions=tuple(_action(step, history.lives, indices) for step in history.steps),
        summary=summary,
    )


@dataclass(slots=True)
class _Life:
    """One object from an allocation to its free; an address has many, one after the other."""

    event: TraceEvent
    cgroup: str | None
    object_size: int
    size: int
    name: str = ""  # what the free called its cache

    @property
    def site(self) -> tuple[str, int, int]:
        return self.event.fields["call_site"], self.object_size, self.size

    @property
    def sizes(self) -> tuple[int, int, bool]:
        return self.object_size, self.size, accounted(self.event)


@dataclass(frozen=True, slots=True)
class _AllocStep:
    obj: int


@dataclass(frozen=True, slots=True)
class _FreeStep:
    obj: int
    event: TraceEvent
    seen: bool


_Step: TypeAlias = _AllocStep | _FreeStep | Mkdir | Rmdir | Release | Attach


@dataclass(slots=True)
class _History:
    """The first pass: objects and cgroups are known, caches are not, since only a free may name one."""

    groups: Cgroups
    lives: list[_Life] = field(default_factory=list)
    live: dict[int, int] = field(default_factory=dict)  # address to object
    steps: list[_Step] = field(default_factory=list)
    allocations_failed: int = 0
    allocations_impossible: int = 0
    frees_before_trace: int = 0
    frees_of_nothing: int = 0

    def add(self, event: TraceEvent) -> None:
        if event.name in _ALLOCATIONS:
            self._alloc(event)
        elif event.name in {"kmem_cache_free", "kfree"}:
            self._free(event)
        elif (step := self.groups.add(event)) is not None:
            self.steps.append(step)

    def _alloc(self, event: TraceEvent) -> None:
        fields, address = event.fields, _address(event.fields["ptr"])
        object_size, size = int(fields["bytes_req"]), int(fields["bytes_alloc"])
        if address < _ADDRESSES_MIN:
            self.allocations_failed += 1
        elif not 0 < object_size <= size <= OBJECT_BYTES_MAX:
            self.allocations_impossible += 1
        else:
            if address in self.live:
                self.steps.append(_FreeStep(self.live[address], event, seen=False))
            self.live[address] = len(self.lives)
            self.steps.append(_AllocStep(len(self.lives)))
            self.lives.append(_Life(event, self.groups.charged(event), object_size, size))

    def _free(self, event: TraceEvent) -> None:
        address = _address(event.fields["ptr"])
        if address < _ADDRESSES_MIN:
            self.frees_of_nothing += 1
        elif (obj := self.live.pop(address, None)) is None:
            self.frees_before_trace += 1
        else:
            self.lives[obj].name = event.fields.get("name", "")
            self.steps.append(_FreeStep(obj, event, seen=True))


def _address(pointer: str) -> int:
    return 0 if pointer.startswith("(") else int(pointer, 16)


def _kmalloc_cache(event: TraceEvent, size: int) -> str:
    """Since 5.14 accounted and reclaimable allocations have kmalloc caches of their own."""
    if "RECLAIMABLE" in event.fields["gfp_flags"] and "accounted" in event.fields:
        return f"kmalloc-rcl-{size}"
    return f"kmalloc-cg-{size}" if "accounted" in event.fields and accounted(event) else f"kmalloc-{size}"


def _name_caches(lives: Sequence[_Life]) -> tuple[tuple[CacheSeen, ...], list[int]]:
    """The caches, and for each object the index of its own.

    An object belongs to the cache that its free named.  Where no free did, to the cache that most objects of the same
    call site and sizes were of; else to the only named cache of these sizes, if accounting agrees too; else to one made
    up, ``size-N``.
    """
    by_site: dict[tuple[str, int, int], Counter[str]] = {}
    by_sizes: dict[tuple[int, int, bool], dict[str, None]] = {}
    for life in lives:
        if life.name and life.event.name.startswith("kmem"):
            by_site.setdefault(life.site, Counter())[life.name] += 1
            by_sizes.setdefault(life.sizes, {})[life.name] = None

    def name_of(life: _Life) -> str:
        if life.event.name.startswith("kmalloc"):
            return _kmalloc_cache(life.event, life.size)
        if life.name:
            return life.name
        if life.site in by_site:
            return by_site[life.site].most_common(1)[0][0]  # of equals the one seen first
        same_size = list(by_sizes.get(life.sizes, ()))
        return same_size[0] if len(same_size) == 1 else f"size-{life.size}"

    members: dict[str, list[_Life]] = {}
    names = [name_of(life) for life in lives]
    for name, life in zip(names, lives, strict=True):
        members.setdefault(name, []).append(life)
    position = {name: index for index, name in enumerate(members)}
    return tuple(_cache(name, of) for name, of in members.items()), [position[name] for name in names]


def _cache(name: str, lives: Sequence[_Life]) -> CacheSeen:
    # A damaged line may give a cache a second size; most are right.
    (object_size, size), _ = Counter((life.object_size, life.size) for life in lives).most_common(1)[0]
    if lives[0].event.name.startswith("kmalloc"):
        object_size = size
    elif name == f"size-{size}":
        object_size = max(life.object_size for life in lives)
    return CacheSeen(name, object_size, size, all(accounted(life.event) for life in lives))


def _live_over_time(history: _History) -> tuple[int, tuple[LiveSample, ...]]:
    changes = [step for step in history.steps if isinstance(step, (_AllocStep, _FreeStep))]
    stride = -(-len(changes) // SAMPLES_MAX) or 1
    objects = size = peak = 0
    samples: list[LiveSample] = []
    for number, step in enumerate(changes, 1):
        life = history.lives[step.obj]
        sign = 1 if isinstance(step, _AllocStep) else -1
        objects, size = objects + sign, size + sign * life.size
        peak = max(peak, objects)
        if number % stride == 0 or number == len(changes):
            event = step.event if isinstance(step, _FreeStep) else life.event
            samples.append(LiveSample(event.microseconds, objects, size))
    return peak, tuple(samples)


def _action(step: _Step, lives: Sequence[_Life], caches: Sequence[int]) -> Action:
    match step:
        case _AllocStep(obj):
            event = lives[obj].event
            return Alloc(event.line, event.microseconds, event.cpu, caches[obj], lives[obj].cgroup, obj)
        case _FreeStep(obj, event, seen):
            return Free(event.line, event.microseconds, event.cpu, caches[obj], obj, seen)
        case _:
            return step
