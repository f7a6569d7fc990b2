"""A run as the ftrace text that a kernel would have recorded of it, which `slabactors.trace.formats.ftrace` reads.

The events are those of slab objects, of cgroups and of work items.  What a log does not have is made up, the same every
time: addresses, pids and the moment within a jiffy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from slabactors.errors import LogFileError, UsageError
from slabactors.trace.query import Filter, select
from slabactors.trace.reader import LogReader, StepLine

ALLOCATIONS: Final = {
    "kmem_cache_cpu": ("alloc", "alloc_on", "install", "install_new", "alloc_many"),
    "array_cache": ("alloc", "refilled", "alloc_after_grow"),
}
"""By role of a CPU's part of a cache, the operations that hand out what they return, when that is an object."""
FREES: Final = {"kmem_cache_cpu": ("free", "free_many"), "array_cache": ("free",)}
"""The operations by which objects come back: the first step of a free, whatever comes of it."""

_ALLOCATING = {name for names in ALLOCATIONS.values() for name in names}
_FREEING = {name for names in FREES.values() for name in names}
_OBJECT = re.compile(r"slab(\d+)\[(\d+)\]")
_OF_A_CPU = re.compile(r"cpu(\d+)/(.+)")
_CHILD = re.compile(r"(?P<root>.+)\((?P<id>\d+):(?P<group>.*)\)")
_KMALLOC = re.compile(r"kmalloc-(?:(?P<kind>cg|rcl)-)?\d+")
_LANE_CPU = re.compile(r"(?:cpu|kworker/)(\d+)")

_LEGEND = """\
#                              _-----=> irqs-off
#                             / _----=> need-resched
#                            | / _---=> hardirq/softirq
#                            || / _--=> preempt-depth
"""
_HEADERS = {
    "3.8": _LEGEND
    + """\
#                            ||| /     delay
#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION
#              | |       |   ||||       |         |
""",
    "6.1": _LEGEND
    + """\
#                            ||| / _-=> migrate-disable
#                            |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
""",
}

_SLAB_BYTES = 1 << 22  # the largest block that the page allocator has
_DIRECT_MAP = 0xFFFF_8800_0000_0000
_TEXT = 0xFFFF_FFFF_8100_0000
_WORKS = _DIRECT_MAP - (1 << 40)  # no slab is there
_FIRST_PID = 1000
_NR_CPUS = 8


class Release(StrEnum):
    """Whose format it is: 3.8 names no caches and says nothing of accounting, 6.1 does both."""

    V3_8 = "3.8"
    V6_1 = "6.1"


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What the log's last line says of a cache, in bytes."""

    object_size: int
    size: int


def ftrace_text(log: LogReader, which: Filter, release: Release = Release.V3_8) -> Iterator[str]:
    """The text, line by line.

    Raises:
        UsageError: the log has no last line, which has the sizes of caches, or an older one that has not.
    """
    recorder = _Recorder(log.path, _sizes(log), release)
    yield f"# tracer: nop\n#\n{_HEADERS[release]}"
    begun = False
    for step in select(log, Filter(last=which.last, until=which.until)):
        # What comes before is not written, but remembered: pids and addresses are the same in every part of a run.
        passes = which.passes(step)
        if passes and not begun:
            begun = True
            recorder.forget_groups()
        lines = list(recorder.lines(step))
        if passes:
            yield from lines


def _sizes(log: LogReader) -> dict[str, _Sizes]:
    end = log.ending()
    if end is None:
        raise UsageError(
            f"{log.path} has no last line, and only that says how large objects are.\n"
            "  Let the run come to its end, or write it again: slabactors run TARGET --log FILE.jsonl"
        )
    if any("object_size" not in row for row in end.caches):
        raise UsageError(
            f"{log.path} does not say how large objects are: an older version wrote it.\n"
            "  Write it again: slabactors run TARGET --log FILE.jsonl"
        )
    return {row["cache"]: _Sizes(row["object_size"], row["size"]) for row in end.caches}


class _Recorder:
    """What one pass over the steps must remember."""

    def __init__(self, path: Path, sizes: dict[str, _Sizes], release: Release) -> None:
        self._path = path
        self._sizes = sizes
        self._named = release is Release.V6_1
        self._microseconds = 0
        self._pids: dict[str, int] = {}
        self._sites: dict[str, int] = {}
        self._group_of: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._made = 1  # the root group
        self._works: dict[str, int] = {}
        self._functions: dict[str, str] = {}
        self._working: dict[str, str] = {}

    def lines(self, step: StepLine) -> Iterator[str]:
        """The lines of a step; most have none."""
        match step.actor, step.operation:
            case "cgroups", "new_id" | "reserve_id" if step.args:
                yield from self._made_group(step, str(step.args[0]))
            case _, "css_offline" if step.actor.startswith("memcg "):
                yield from self._group(step, "cgroup_rmdir")
            case _, "free" if step.actor.startswith("memcg "):
                yield from self._group(step, "cgroup_release")
                self._ids.pop(_path_of(step.actor.removeprefix("memcg ")), None)
            case "system_wq", _:
                yield from self._queue(step)
            case _, "init" if step.args and isinstance(step.args[0], str):
                self._functions[step.actor] = step.args[0]
            case _, "clear_pending" if step.reply is not None:
                self._functions[step.actor] = str(step.reply)
                yield self._line(
                    step, f"workqueue_execute_start: work struct {self._work(step.actor)}: {self._calls(step.actor)}"
                )
            case _:
                yield from self._objects(step)

    def forget_groups(self) -> None:
        """Nobody has read which task is in which group."""
        self._group_of.clear()

    # -- objects -------------------------------------------------------------------------------------------------------

    def _objects(self, step: StepLine) -> Iterator[str]:
        place = _OF_A_CPU.fullmatch(step.actor)
        if place is None or step.operation not in _ALLOCATING | _FREEING:
            return
        cpu, cache = int(place[1]), place[2]
        if step.operation in _FREEING:
            for obj in _objects_in(step.args):
                yield self._line(step, self._free(cache, obj), cpu)
            return
        for obj in _objects_in([step.reply]):
            if self._named and (child := _CHILD.fullmatch(cache)) is not None:
                yield from self._charge(step, _path_of(child["group"]), cpu)
            yield self._line(step, self._alloc(cache, obj), cpu)

    def _alloc(self, cache: str, obj: re.Match[str]) -> str:
        kmalloc = self._kmalloc(cache)
        kind = kmalloc["kind"] if kmalloc is not None else None
        sizes = self._sizes_of(cache)
        flags = "GFP_KERNEL|__GFP_RECLAIMABLE" if self._named and kind == "rcl" else "GFP_KERNEL"
        event = "kmem_cache_alloc" if kmalloc is None else "kmalloc"
        where = f"{self._site('alloc', cache)} ptr={self._address(obj, sizes)}"
        text = f"{event}: {where} bytes_req={sizes.object_size} bytes_alloc={sizes.size} gfp_flags={flags}"
        if not self._named:
            return text
        accounted = kind == "cg" or _CHILD.fullmatch(cache) is not None
        return f"{text} node=-1 accounted={'true' if accounted else 'false'}"

    def _free(self, cache: str, obj: re.Match[str]) -> str:
        text = f"{self._site('free', cache)} ptr={self._address(obj, self._sizes_of(cache))}"
        if self._kmalloc(cache) is not None:
            return f"kfree: {text}"
        return f"kmem_cache_free: {text}" + (f" name={_root_of(cache)}" if self._named else "")

    def _kmalloc(self, cache: str) -> re.Match[str] | None:
        # Since 5.14 what kmalloc() charges comes from caches of its own, and a reader would take a child's for these.
        return _KMALLOC.fullmatch(cache if self._named else _root_of(cache))

    def _sizes_of(self, cache: str) -> _Sizes:
        sizes = self._sizes.get(cache)
        if sizes is None:
            raise LogFileError(
                f"{self._path}: its last line knows nothing of the cache {cache}.\n"
                "  Somebody has changed the file; write it again: slabactors run TARGET --log FILE.jsonl"
            )
        return sizes

    @staticmethod
    def _address(obj: re.Match[str], sizes: _Sizes) -> str:
        return f"{_DIRECT_MAP + int(obj[1]) * _SLAB_BYTES + int(obj[2]) * sizes.size:016x}"

    def _site(self, verb: str, cache: str) -> str:
        # One for each cache, since readers of traces guess by it which cache an object is of that is never freed.
        name = "_".join(f"{verb} {_root_of(cache)}".split())
        return f"call_site={name}+0x10/0x20" if self._named else f"call_site={self._symbol(name):016x}"

    def _symbol(self, name: str) -> int:
        return _TEXT + 0x20 * self._sites.setdefault(name, len(self._sites)) + 0x10

    # -- cgroups -------------------------------------------------------------------------------------------------------

    def _made_group(self, step: StepLine, label: str) -> Iterator[str]:
        path = _path_of(label)
        if path not in self._ids:
            yield from self._group(step, "cgroup_mkdir", path)

    def _group(self, step: StepLine, event: str, path: str | None = None) -> Iterator[str]:
        path = path or _path_of(step.actor.removeprefix("memcg "))
        yield self._line(step, f"{event}: root=0 id={self._id(path)} level={path.count('/')} path={path}")

    def _charge(self, step: StepLine, path: str, cpu: int) -> Iterator[str]:
        """Whoever is served by a child cache is in its group: says so when it was in another one."""
        pid = self._pid(step)
        if self._group_of.get(pid) == path:
            return
        self._group_of[pid] = path
        group = f"dst_root=0 dst_id={self._id(path)} dst_level={path.count('/')} dst_path={path}"
        yield self._line(step, f"cgroup_attach_task: {group} pid={pid} comm={_comm(step)}", cpu)

    def _id(self, path: str) -> int:
        if path not in self._ids:
            self._made += 1
            self._ids[path] = self._made
        return self._ids[path]

    # -- work items ----------------------------------------------------------------------------------------------------

    def _queue(self, step: StepLine) -> Iterator[str]:
        match step.operation, step.args, step.reply:
            case "insert", [str(work), int(cpu)], _:
                queue = "workqueue=system_wq" if self._named else f"workqueue={_WORKS - 0x100:016x}"
                text = f"work struct={self._work(work)} {self._calls(work, '=')} {queue} req_cpu={_NR_CPUS} cpu={cpu}"
                yield self._line(step, f"workqueue_queue_work: {text}", cpu)
                yield self._line(step, f"workqueue_activate_work: work struct {self._work(work)}", cpu)
            case "take", [_, str(worker)], str(work):
                self._working[worker] = work
            case "done", [str(worker)], _ if worker in self._working:
                work = self._working.pop(worker)
                calls = f": {self._calls(work)}" if self._named else ""
                yield self._line(step, f"workqueue_execute_end: work struct {self._work(work)}{calls}")
            case _:
                pass

    def _work(self, work: str) -> str:
        return f"{_WORKS + 0x200 * self._works.setdefault(work, len(self._works)):016x}"

    def _calls(self, work: str, sign: str = " ") -> str:
        # An address is what the kernel prints of a function that has no symbol.
        name = self._functions.get(work, "").rpartition(".")[2]
        return f"function{sign}{name or f'{self._symbol(work):#x}'}"

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _line(self, step: StepLine, event: str, cpu: int | None = None) -> str:
        if cpu is None:
            lane = _LANE_CPU.match(step.lane)
            cpu = int(lane[1]) if lane is not None else 0
        # Within a jiffy every event has its microsecond, as long as there are any left.
        jiffy = step.jiffies * 1000
        self._microseconds = jiffy if self._microseconds < jiffy else min(self._microseconds + 1, jiffy + 999)
        whole, fraction = divmod(self._microseconds, 1_000_000)
        task = f"{_comm(step):>16}-{self._pid(step):<{7 if self._named else 5}}"
        return f"{task} [{cpu:03}] {'.....' if self._named else '....'} {whole:5}.{fraction:06}: {event}\n"

    def _pid(self, step: StepLine) -> int:
        return self._pids.setdefault(step.path, _FIRST_PID + len(self._pids))


def _objects_in(values: list[Any]) -> Iterator[re.Match[str]]:
    for value in values:
        if isinstance(value, list):
            yield from _objects_in(value)
        elif isinstance(value, str) and (found := _OBJECT.fullmatch(value)) is not None:
            yield found


def _root_of(cache: str) -> str:
    child = _CHILD.fullmatch(cache)
    return cache if child is None else child["root"]


def _name_of(step: StepLine) -> str:
    name = step.path.rpartition("/")[2].rpartition(".")[0]
    # A kworker is called as its lane is.
    return step.lane if step.lane.endswith(f"/{name}") else name or "?"


def _comm(step: StepLine) -> str:
    return " ".join(_name_of(step).split())[:15] or "?"


def _path_of(label: str) -> str:
    return "/" + label.strip("/")
