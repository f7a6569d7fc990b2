"""The workload that a recording gives, against the log of the program that was recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.trace.formats.ftrace import Trace, parse_trace, read_trace
from slabactors.trace.rebuild import (
    Alloc,
    Attach,
    CacheSeen,
    Free,
    LiveSample,
    Mkdir,
    Release,
    Rmdir,
    Workload,
    rebuild,
)
from slabactors.trace.workload import SAMPLES_MAX

DATA = Path(__file__).parents[1] / "data" / "trace"
PAGE = 4096


def recorded(name: str) -> tuple[Trace, Workload]:
    trace = read_trace(DATA / f"trace-{name}.txt")
    return trace, rebuild(trace)


@pytest.fixture(scope="module")
def private() -> tuple[Trace, Workload]:
    return recorded("private")


@pytest.fixture(scope="module")
def cgroup() -> tuple[Trace, Workload]:
    return recorded("cgroup")


def cache_of(workload: Workload, name: str) -> int:
    return [cache.name for cache in workload.caches].index(name)


def log_of(workload: str) -> list[dict[str, Any]]:
    lines = (DATA / "trace-private.jsonl").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["w"] == workload]


def check(workload: Workload) -> None:
    """What holds of every workload, whatever the trace was."""
    live: dict[int, int] = {}
    summary = workload.summary
    peak = 0
    for action in workload.actions:
        assert 0 <= action.cpu < workload.cpus
        if isinstance(action, Alloc):
            assert action.obj not in live
            assert action.cgroup is None or action.cgroup in workload.cgroups
            live[action.obj] = action.cache
            peak = max(peak, len(live))
        elif isinstance(action, Free):
            assert live.pop(action.obj) == action.cache
        else:
            assert action.path in workload.cgroups or (isinstance(action, Attach) and action.path == "/")
    allocs = [action for action in workload.actions if isinstance(action, Alloc)]
    frees = [action for action in workload.actions if isinstance(action, Free)]
    assert [alloc.obj for alloc in allocs] == list(range(summary.allocations))
    assert summary.allocations == summary.matched + summary.frees_unseen + summary.live_at_end
    assert summary.frees == summary.matched + summary.frees_before_trace + summary.frees_of_nothing
    assert Counter(free.seen for free in frees) == Counter({True: summary.matched, False: summary.frees_unseen})
    assert (len(live), peak) == (summary.live_at_end, summary.live_peak)
    assert {alloc.cache for alloc in allocs} == set(range(len(workload.caches)))
    assert len({cache.name for cache in workload.caches}) == len(workload.caches)
    assert all(0 < cache.object_size <= cache.size for cache in workload.caches)
    assert [a.microseconds for a in workload.actions] == sorted(a.microseconds for a in workload.actions)
    assert len(summary.live) <= SAMPLES_MAX
    assert not allocs or summary.live[-1].objects == summary.live_at_end


@pytest.mark.parametrize(
    ("name", "allocations", "matched", "before", "nothing", "live"),
    [("cgroup", 1641, 1571, 125, 0, 70), ("private", 1278, 1074, 37, 0, 204), ("kmem", 165, 122, 23, 5, 43)],
)
def test_totals(name, allocations, matched, before, nothing, live):
    """The numbers that a few lines of shell give for these files."""
    _, workload = recorded(name)
    check(workload)
    summary = workload.summary
    assert (summary.allocations, summary.matched, summary.live_at_end) == (allocations, matched, live)
    assert (summary.frees_before_trace, summary.frees_of_nothing, summary.frees_unseen) == (before, nothing, 0)
    assert workload.cpus == 4
    assert (summary.out_of_order, summary.events_lost, summary.allocations_failed) == (0, 0, 0)


@pytest.mark.parametrize(("name", "object_size", "size"), [("pa", 192, 192), ("pb", 1000, 1024)])
def test_private_caches_agree_with_their_log(private, name, object_size, size):
    """Every single allocation and free of a step is there, on its CPU and in its slabs; bulk steps leave nothing."""
    trace, workload = private
    cache = cache_of(workload, name)
    assert workload.caches[cache] == CacheSeen(name, object_size, size, accounted=False)
    events = {event.line: event for event in trace.events}
    markers = [(event.line, event.fields["text"]) for event in trace.events if event.name == "tracing_mark_write"]
    ends = [line for line, _ in markers[1:]] + [trace.lines + 1]
    steps = {text: (line, end) for (line, text), end in zip(markers, ends, strict=True)}
    slab_bytes = PAGE << next(e["d"]["order"] for e in log_of("private") if e["op"].startswith(f"create {name} "))
    orphans = [  # a free of what was allocated in bulk has an event, and no allocation to go with it
        event
        for event in trace.events
        if event.fields.get("name") == name
        and not any(isinstance(action, Free) and action.line == event.line for action in workload.actions)
    ]
    matched = 0
    for entry in log_of("private"):
        operation, _, target, *rest = [*entry["op"].split(), "", ""]
        if target != name or operation not in {"alloc", "free", "allocb", "freeb"}:
            continue
        first, end = steps[entry["op"]]
        mine = [
            action
            for action in workload.actions
            if isinstance(action, (Alloc, Free)) and action.cache == cache and first < action.line < end
        ]
        born_in_bulk = operation == "free" and rest[0] == "v"
        if operation in {"allocb", "freeb"} or born_in_bulk:
            assert mine == []
            assert len([e for e in orphans if first < e.line < end]) == (entry["d"]["n"] if born_in_bulk else 0)
            continue
        assert len(mine) == entry["d"]["n"]
        assert {type(action) for action in mine} == {Alloc if operation == "alloc" else Free}
        assert {action.cpu for action in mine} == {entry["d"]["cpu_ran"]}
        slabs = [int(events[action.line].fields["ptr"], 16) // slab_bytes for action in mine]
        runs = [len(list(run)) for _, run in groupby(slabs)]
        assert runs == [count for _, count in entry["d"]["from" if operation == "alloc" else "to"]]
        matched += len(mine)
    assert (matched, len(orphans)) == {"pa": (94 + 94, 10), "pb": (60 + 60, 0)}[name]


def test_all_private_events_are_used(private):
    """318 events belong to the two caches: 308 are actions, 10 free what was born in bulk."""
    _, workload = private
    caches = {cache_of(workload, "pa"), cache_of(workload, "pb")}
    assert sum(isinstance(a, (Alloc, Free)) and a.cache in caches for a in workload.actions) == 308


def test_the_cache_between_the_cgroups(cgroup):
    """``px`` is allocated on CPU 1 and freed on CPU 3, twenty objects each, and charged to no group."""
    _, workload = cgroup
    cache = cache_of(workload, "px")
    mine = [a for a in workload.actions if isinstance(a, (Alloc, Free)) and a.cache == cache]
    assert Counter((type(a), a.cpu) for a in mine) == {(Alloc, 1): 20, (Free, 3): 20}
    assert all(a.cgroup is None for a in mine if isinstance(a, Alloc))


def test_two_cgroups_come_and_go(cgroup):
    """Their lines, in order, and nobody else's."""
    _, workload = cgroup
    assert workload.cgroups == ("/oracle/a", "/oracle/b")
    life = [a for a in workload.actions if isinstance(a, (Mkdir, Attach, Rmdir, Release))]
    assert [(type(a), a.line, a.cpu, a.path) for a in life] == [
        (Mkdir, 100, 2, "/oracle/a"),
        (Attach, 312, 0, "/oracle/a"),
        (Mkdir, 636, 2, "/oracle/b"),
        (Attach, 889, 0, "/oracle/b"),
        (Rmdir, 2325, 0, "/oracle/a"),
        (Rmdir, 2361, 0, "/oracle/b"),
        (Release, 3447, 0, "/oracle/a"),
        (Release, 3509, 0, "/oracle/b"),
    ]
    assert [a.pid for a in life if isinstance(a, Attach)] == [125, 128]
    summary = workload.summary
    assert (summary.cgroups_created, summary.cgroups_removed, summary.cgroups_released) == (2, 2, 2)
    assert (summary.cgroups_before_trace, summary.attaches_refused, summary.other_hierarchies) == (0, 0, 0)


def test_removed_cgroups_are_kept_by_their_files(cgroup):
    """At rmdir nine files charge each group: memory.stat said 36,864 bytes of file pages.

    At release one inode of the first is left.  6.1 hands objects over to the parent when a group goes offline, so they
    do not hold it; the inode is freed three lines later, by the RCU batch that the release had interrupted.
    """
    _, workload = cgroup
    charged: dict[int, tuple[str, str]] = {}
    at: dict[tuple[type, str], Counter[str]] = {}
    for action in workload.actions:
        if isinstance(action, Alloc) and action.cgroup is not None:
            charged[action.obj] = action.cgroup, workload.caches[action.cache].name
            assert workload.caches[action.cache].accounted
        elif isinstance(action, Free):
            charged.pop(action.obj, None)
        elif isinstance(action, (Rmdir, Release)):
            mine = Counter(cache for group, cache in charged.values() if group == action.path)
            at[type(action), action.path] = mine
    for path in workload.cgroups:
        assert at[Rmdir, path] == {"dentry": 36_864 // PAGE, "shmem_inode_cache": 36_864 // PAGE}
    assert at[Release, "/oracle/a"] == {"shmem_inode_cache": 1}
    assert at[Release, "/oracle/b"] == {}
    assert not charged


def test_only_the_attached_task_is_charged(cgroup):
    """The pid of the attach event counts, from its line on, until the group has no task left."""
    trace, workload = cgroup
    pids = {event.line: event.pid for event in trace.events}
    by_group: dict[str | None, list[int]] = {}
    for action in workload.actions:
        if isinstance(action, Alloc):
            by_group.setdefault(action.cgroup, []).append(action.line)
    for path, pid, first, last in (("/oracle/a", 125, 312, 553), ("/oracle/b", 128, 889, 1127)):
        assert {pids[line] for line in by_group[path]} == {pid}
        assert all(first < line < last for line in by_group[path])
        assert len(by_group[path]) == 72


# Small traces, made by hand.

NOW = 1_000_000


class Script:
    """Writes ftrace text, one event a microsecond."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, text: str, *, cpu: int = 0, pid: int = 10, flags: str = ".....", task: str = "sh") -> Script:
        time = NOW + len(self.lines)
        self.lines.append(f"{task:>16}-{pid:<7} [{cpu:03}] {flags} {time // NOW:5}.{time % NOW:06}: {text}\n")
        return self

    def alloc(
        self,
        ptr: int | str,
        size: int = 64,
        *,
        req: int = 0,
        site: str = "f",
        name: str = "kmem_cache_alloc",
        **kw: Any,
    ) -> Script:
        accounted = str(kw.pop("accounted", False)).lower()
        where = ptr if isinstance(ptr, str) else f"{ptr:016x}"
        return self.event(
            f"{name}: call_site={site}+0x1/0x9 ptr={where} bytes_req={req or size} bytes_alloc={size} "
            f"gfp_flags=GFP_KERNEL node=-1 accounted={accounted}",
            **kw,
        )

    def free(self, ptr: int, name: str | None = "box", **kw: Any) -> Script:
        if name is None:
            return self.event(f"kfree: call_site=g+0x1/0x9 ptr={ptr:016x}", **kw)
        return self.event(f"kmem_cache_free: call_site=g+0x1/0x9 ptr={ptr:016x} name={name}", **kw)

    def group(self, what: str, number: int, path: str = "/g", *, root: int = 0, **kw: Any) -> Script:
        return self.event(f"cgroup_{what}: root={root} id={number} level=1 path={path}", **kw)

    def attach(self, number: int, pid: int, path: str = "/g", *, root: int = 0) -> Script:
        text = f"dst_root={root} dst_id={number} dst_level=1 dst_path={path} pid={pid} comm=sh"
        return self.event(f"cgroup_attach_task: {text}", pid=1)

    def workload(self, **kw: Any) -> Workload:
        trace = parse_trace(self.lines)
        assert not trace.skipped
        workload = rebuild(trace, **kw)
        check(workload)
        return workload

    def charged(self, **kw: Any) -> list[str | None]:
        return [action.cgroup for action in self.workload(**kw).actions if isinstance(action, Alloc)]


A, B, C, D = (0xFFFF888000001000 + 64 * number for number in range(4))


def test_an_empty_trace():
    """Nothing recorded, nothing to do."""
    workload = Script().workload()
    assert (workload.caches, workload.cgroups, workload.cpus, workload.actions) == ((), (), 1, ())


def test_an_address_is_another_object_after_its_free():
    """Objects are lifetimes of an address; the free may come from any CPU and task."""
    workload = Script().alloc(A).free(A, cpu=3, pid=99).alloc(A, cpu=1).free(A).workload()
    assert workload.actions == (
        Alloc(1, NOW, 0, 0, None, 0),
        Free(2, NOW + 1, 3, 0, 0),
        Alloc(3, NOW + 2, 1, 0, None, 1),
        Free(4, NOW + 3, 0, 0, 1),
    )
    assert workload.summary.live == (
        LiveSample(NOW, 1, 64),
        LiveSample(NOW + 1, 0, 0),
        LiveSample(NOW + 2, 1, 64),
        LiveSample(NOW + 3, 0, 0),
    )


def test_a_free_that_left_no_event():
    """An address allocated twice was freed in between; the object ends there, and is counted."""
    workload = Script().alloc(A).alloc(A, cpu=2).free(A).workload()
    assert workload.actions[1] == Free(2, NOW + 1, 2, 0, 0, seen=False)
    assert (workload.summary.frees_unseen, workload.summary.matched) == (1, 1)


def test_what_is_no_object():
    """Failed allocations, sizes of zero, impossible sizes, kfree(NULL) and objects born before the trace: no action."""
    script = Script().alloc("(null)").alloc(0).alloc(0x10).alloc(A, 64, req=65).alloc(A, 1 << 23)
    summary = script.free(0, None).free(0x10, None).free(B).workload().summary
    assert (summary.allocations, summary.allocations_failed, summary.allocations_impossible) == (0, 3, 2)
    assert (summary.frees, summary.frees_of_nothing, summary.frees_before_trace) == (3, 2, 1)


def test_caches_are_named_by_frees_then_sites_then_sizes():
    """An object that is never freed belongs where its likes were freed; what is like nothing gets a made-up cache."""
    workload = (
        Script()
        .alloc(A, 64, site="f")
        .alloc(B, 64, site="f")
        .alloc(C, 64, site="other")
        .alloc(D, 96, site="f")
        .alloc(0xFFFF888000009000, 64, site="other", accounted=True)
        .free(A, "box")
        .workload()
    )
    names = [workload.caches[a.cache].name for a in workload.actions if isinstance(a, Alloc)]
    assert names == ["box", "box", "box", "size-96", "size-64"]


def test_sizes_of_two_caches_tell_nothing():
    """Where two caches have the same sizes, an unknown call site gets neither."""
    workload = (
        Script().alloc(A, site="f").alloc(B, site="g").alloc(C, site="h").free(A, "box").free(B, "bag").workload()
    )
    assert [cache.name for cache in workload.caches] == ["box", "bag", "size-64"]


def test_emptied_names_are_no_names():
    """With the option nohash-ptr every name is empty, and all caches are made up from sizes."""
    workload = Script().alloc(A, 64, req=50).alloc(B, 64, req=60).free(A, "").workload()
    assert workload.caches == (CacheSeen("size-64", 60, 64, accounted=False),)
    assert workload.summary.matched == 1


def test_kmalloc_has_caches_of_its_own():
    """By the size that was served; accounted ones apart, as in the kernel.  Both kinds of free fit."""
    script = Script().alloc(A, 96, req=70, name="kmalloc").alloc(B, 96, name="kmalloc", accounted=True)
    workload = script.alloc(C, 96).free(A, None).free(B, "kmalloc-cg-96").free(C, None).workload()
    assert workload.caches == (
        CacheSeen("kmalloc-96", 96, 96, accounted=False),
        CacheSeen("kmalloc-cg-96", 96, 96, accounted=True),
        CacheSeen("size-96", 96, 96, accounted=False),
    )
    assert workload.summary.matched == 3


def test_old_kernels_name_nothing():
    """Linux 3.8 prints neither names nor accounting: sizes make the caches."""
    head = "sh-1 [001] d... "
    text = "call_site=ffffffff8113f1a5 ptr=ffff88001e726c00"
    workload = rebuild(
        parse_trace(
            [
                f"{head} 2.000001: kmem_cache_alloc: {text} bytes_req=184 bytes_alloc=192 gfp_flags=GFP_KERNEL\n",
                f"{head} 2.000002: kmem_cache_free: {text}\n",
                f"{head} 2.000003: kmalloc_node: {text} bytes_req=100 bytes_alloc=128 gfp_flags=GFP_KERNEL node=0\n",
                f"{head} 2.000004: kfree: {text}\n",
            ]
        )
    )
    check(workload)
    assert [(cache.name, cache.object_size) for cache in workload.caches] == [("size-192", 184), ("kmalloc-128", 128)]
    assert (workload.summary.matched, workload.cpus) == (2, 2)


def test_who_is_charged():
    """The task of the attach event, for accounted allocations, outside interrupts."""
    script = Script().alloc(A, accounted=True, pid=7).group("mkdir", 5).attach(5, 7)
    script.alloc(B, accounted=True, pid=7).alloc(C, pid=7).alloc(D, accounted=True, pid=8)
    script.alloc(A + 0x1000, accounted=True, pid=7, flags="d.h1.").alloc(
        A + 0x2000, accounted=True, pid=0, task="<idle>"
    )
    assert script.charged() == [None, "/g", None, None, None, None]


def test_tasks_leave_their_group():
    """By attaching to the root, when the group is empty, or when it is removed: then a pid belongs to someone else."""
    for leave in ("attach", "populated", "rmdir"):
        script = Script().group("mkdir", 5).attach(5, 7).alloc(A, accounted=True, pid=7)
        if leave == "attach":
            script.attach(1, 7, "/")
        elif leave == "populated":
            script.event("cgroup_notify_populated: root=0 id=5 level=1 path=/g val=0")
        else:
            script.group("rmdir", 5)
        assert script.alloc(B, accounted=True, pid=7).charged() == ["/g", None]


def test_children_are_in_the_group_of_their_parent():
    """Where forks were recorded; a pid that comes back is the new task's."""
    fork = "sched_process_fork: comm=sh pid={} child_comm=sh child_pid={}"
    script = Script().group("mkdir", 5).attach(5, 7).event(fork.format(7, 8)).alloc(A, accounted=True, pid=8)
    assert script.event(fork.format(1, 8)).alloc(B, accounted=True, pid=8).charged() == ["/g", None]


def test_a_removed_group_takes_no_task():
    """The attach is counted and left out."""
    script = Script().group("mkdir", 5).group("rmdir", 5).attach(5, 7).alloc(A, accounted=True, pid=7)
    assert script.charged() == [None]
    assert script.workload().summary.attaches_refused == 1
    assert not any(isinstance(action, Attach) for action in script.workload().actions)


def test_a_path_made_again_is_another_group():
    """The first may still be dying while the second takes tasks; their ids tell them apart."""
    script = Script().group("mkdir", 5).attach(5, 7).group("rmdir", 5).group("mkdir", 6).attach(6, 8)
    script.alloc(A, accounted=True, pid=8).group("release", 5).group("rmdir", 6).group("release", 6).group("mkdir", 9)
    workload = script.workload()
    assert workload.cgroups == ("/g", "/g#2", "/g#3")
    assert [a.path for a in workload.actions if isinstance(a, Release)] == ["/g", "/g#2"]
    assert script.charged() == ["/g#2"]


def test_groups_older_than_the_trace():
    """A group without a mkdir is in the list; one that was dying already when the trace began is not."""
    script = Script().group("release", 3, "/old").attach(5, 7).alloc(A, accounted=True, pid=7).group("rmdir", 5)
    workload = script.workload()
    assert workload.cgroups == ("/g",)
    summary = workload.summary
    assert (summary.cgroups_before_trace, summary.releases_before_trace, summary.cgroups_released) == (1, 1, 0)


def test_one_hierarchy_counts():
    """With version 1 groups a path exists once in each hierarchy: one of them is taken, the others are counted."""
    script = Script().group("mkdir", 5, root=3).attach(5, 7, root=3).group("mkdir", 5, "/m", root=4)
    script.attach(5, 7, "/m", root=4).alloc(A, accounted=True, pid=7)
    assert script.charged() == ["/g"]
    assert script.charged(hierarchy=4) == ["/m"]
    assert script.workload().summary.other_hierarchies == 2


def test_lines_out_of_order_are_sorted():
    """By time, and counted; a file of several CPUs' buffers one after the other is still one workload."""
    script = Script().alloc(A).free(A).alloc(B)
    script.lines.reverse()
    workload = script.workload()
    assert [type(action) for action in workload.actions] == [Alloc, Free, Alloc]
    assert workload.summary.out_of_order == 2


def test_the_series_is_small_and_ends_at_the_end():
    """However long the trace, at most 64 points."""
    script = Script()
    for number in range(1000):
        script.alloc(A + 64 * number)
    live = script.workload().summary.live
    assert len(live) == 63
    assert live[-1] == LiveSample(NOW + 999, 1000, 64_000)


def test_skipped_lines_are_in_the_summary():
    """With their reasons, numbers and first places."""
    lines = ["junk\n", *Script().alloc(A).lines, "CPU:0 [LOST 3 EVENTS]\n", "junk\n"]
    summary = rebuild(parse_trace(lines)).summary
    assert {reason: (t.count, t.first_lines) for reason, t in summary.skipped.items()} == {
        "not an event line": (2, (1, 4)),
        "lost events": (1, (3,)),
    }
    assert summary.events_lost == 3
    assert summary.events == {"kmem_cache_alloc": 1}


def test_same_file_same_workload():
    """No order of a hash table shows: two interpreters with different hash seeds agree."""
    program = "import sys; from slabactors.trace.formats.ftrace import read_trace"
    program += "; from slabactors.trace.rebuild import rebuild; print(rebuild(read_trace(sys.argv[1])))"
    path = os.pathsep.join(filter(None, sys.path))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(DATA / "trace-cgroup.txt")],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


LINES = [
    line
    for name in ("cgroup", "kmem")
    for line in (DATA / f"trace-{name}.txt").read_text().splitlines(keepends=True)
    if "kmem_cache" in line or "kmalloc" in line or "kfree" in line or "cgroup_" in line
]
CGROUPS = [line for line in LINES if "cgroup_" in line]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_mixture_of_lines_rebuilds(data):
    """Lines left out, repeated, swapped and cut: the counts still add up, and nothing is freed twice."""
    lines = data.draw(st.lists(st.one_of(st.sampled_from(LINES[:60]), st.sampled_from(CGROUPS)), max_size=60))
    cuts = data.draw(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 200)), max_size=5))
    for position, length in cuts:
        if position < len(lines):
            lines[position] = lines[position][:length]
    check(rebuild(parse_trace(lines)))


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, len(LINES) - 1)), st.integers(0, len(LINES)))
def test_a_recording_with_holes_rebuilds(holes, end):
    """As a reader that fell behind, or a full buffer, leaves it."""
    check(rebuild(parse_trace(line for number, line in enumerate(LINES[:end]) if number not in holes)))
