"""A workload of slab caches and cgroups, as a recording of a real kernel gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

SAMPLES_MAX = 64
"""Points in `RebuildSummary.live`."""


@dataclass(frozen=True, slots=True)
class CacheSeen:
    """A slab cache that served allocations.

    Attributes:
        name: the kernel's, or ``kmalloc-N``, ``kmalloc-cg-N``, ``kmalloc-rcl-N`` or ``size-N``, N being `size`.
        object_size: bytes that its users may use (``bytes_req``; for kmalloc caches `size`).
        size: bytes from one object to the next (``bytes_alloc``).
        accounted: every allocation from it was charged to a memory cgroup, if the task was in one.
    """

    name: str
    object_size: int
    size: int
    accounted: bool


@dataclass(frozen=True, slots=True)
class Alloc:
    """One object is allocated; `cache` indexes `Workload.caches`, `cgroup` is None for the root group."""

    line: int
    microseconds: int
    cpu: int
    cache: int
    cgroup: str | None
    obj: int


@dataclass(frozen=True, slots=True)
class Free:
    """One object is freed.

    `seen` is false when the trace has no event for it: then line, time and CPU are those of the allocation that got the
    same address again, the latest moment at which it can have happened.
    """

    line: int
    microseconds: int
    cpu: int
    cache: int
    obj: int
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Mkdir:
    """A cgroup is made."""

    line: int
    microseconds: int
    cpu: int
    path: str


@dataclass(frozen=True, slots=True)
class Rmdir:
    """A cgroup's directory is removed; it takes no more tasks, and lives on while it is charged."""

    line: int
    microseconds: int
    cpu: int
    path: str


@dataclass(frozen=True, slots=True)
class Release:
    """The last reference to a removed cgroup is gone."""

    line: int
    microseconds: int
    cpu: int
    path: str


@dataclass(frozen=True, slots=True)
class Attach:
    """A task moves into a cgroup; ``/`` is the root group."""

    line: int
    microseconds: int
    cpu: int
    path: str
    pid: int


Action: TypeAlias = Alloc | Free | Mkdir | Rmdir | Release | Attach


@dataclass(frozen=True, slots=True)
class LiveSample:
    """Objects allocated and not yet freed at one time, and the bytes they take (``bytes_alloc``)."""

    microseconds: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SkipTally:
    """How many lines were skipped for one reason, and the numbers of the first few."""

    count: int
    first_lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RebuildSummary:
    """What became of the events.

    ``allocations == matched + frees_unseen + live_at_end``, and
    ``frees == matched + frees_before_trace + frees_of_nothing``.

    Attributes:
        events: events read, by name.
        skipped: lines skipped, by reason.
        unknown_events: lines of events that are not understood, by name (they are in `skipped` too).
        allocations: `Alloc` actions.
        allocations_failed: the pointer was NULL, or an empty one for a size of 0; no action.
        allocations_impossible: the sizes cannot be those of a slab object; no action.
        frees: free events.
        matched: frees of an object whose allocation is in the trace.
        frees_before_trace: of objects born before the trace, or allocated without an event (in bulk); no action.
        frees_of_nothing: ``kfree(NULL)``; no action.
        frees_unseen: objects whose address was allocated again with no free between (freed in bulk, or the event lost).
        live_at_end: objects never freed in the trace.
        live_peak: the most objects at one time.
        live: objects over time, at most `SAMPLES_MAX` points, equally many allocations and frees apart.
        cgroups_before_trace: groups in `Workload.cgroups` with no `Mkdir`.
        cgroups_created: `Mkdir` actions.
        cgroups_removed: `Rmdir` actions.
        cgroups_released: `Release` actions.
        releases_before_trace: releases of groups that were removed before the trace; no action.
        attaches_refused: to a group already removed; no action.
        other_hierarchies: cgroup events of a hierarchy other than the chosen one; no action.
        out_of_order: events with a time before that of the line above them; they were sorted.
        events_lost: what the printer and the header report as lost or overwritten.
    """

    events: Mapping[str, int]
    skipped: Mapping[str, SkipTally]
    unknown_events: Mapping[str, int]
    allocations: int = 0
    allocations_failed: int = 0
    allocations_impossible: int = 0
    frees: int = 0
    matched: int = 0
    frees_before_trace: int = 0
    frees_of_nothing: int = 0
    frees_unseen: int = 0
    live_at_end: int = 0
    live_peak: int = 0
    live: tuple[LiveSample, ...] = ()
    cgroups_before_trace: int = 0
    cgroups_created: int = 0
    cgroups_removed: int = 0
    cgroups_released: int = 0
    releases_before_trace: int = 0
    attaches_refused: int = 0
    other_hierarchies: int = 0
    out_of_order: int = 0
    events_lost: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """What to play.

    Attributes:
        caches: in the order of their first allocation.
        cgroups: paths, in the order in which they were first heard of, without the root group.  A path that is made
            again while the trace runs is another group, ``/a#2``.
        cpus: the highest CPU that recorded anything, plus one; at least 1.
        actions: in the order of time, of lines where times are equal.
    """

    caches: tuple[CacheSeen, ...]
    cgroups: tuple[str, ...]
    cpus: int
    actions: tuple[Action, ...]
    summary: RebuildSummary
