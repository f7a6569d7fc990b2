"""Runs as ftrace text: lines as the release prints them, which give the run's allocations, frees and groups again."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import slabactors.mm.slab_array
import slabactors.mm.slub_cpu
from slabactors import cli
from slabactors.actors import operations
from slabactors.errors import LogFileError, UsageError
from slabactors.trace.formats.ftrace import Trace, TraceFormat, parse_trace, read_trace
from slabactors.trace.formats.ftrace_write import ALLOCATIONS, FREES, Release, ftrace_text
from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader, StepLine
from slabactors.trace.rebuild import Alloc, Free, Mkdir, Rmdir, Workload, rebuild
from slabactors.trace.rebuild import Release as Released
from tests.cli.conftest import HEAD

DATA = Path(__file__).parents[1] / "data" / "trace"
STORY = (
    HEAD
    + """
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free


@scenario(title="a story", cpus=2, lifecycle="{lifecycle}", allocator="{allocator}")
async def story(machine: Machine) -> None:
    one, other = machine.cpus

    async def use(cpu, cache, group, count):
        held = []
        for number in range(count):
            held.append(await kmem_cache_alloc(cpu, cache, group))
            if number % 3 == 2:
                await kmem_cache_free(one if number % 2 else other, held.pop(0))
        return held

    dentry = await kmem_cache_create(one, "dentry", 192)
    inode = await kmem_cache_create(one, "inode", 600)
    buffer = await kmem_cache_create(one, "kmalloc-96", 96)
    web = await mem_cgroup_create(one, "web")
    mail = await mem_cgroup_create(other, "mail/in")
    kept = await use(one, dentry, web, 60)
    await use(other, inode, None, 30)
    await parallel(
        one.task(use(one, inode, mail, 50), "mail daemon"),
        other.task(use(other, dentry, web, 50), "web server"),
        other.task(use(other, buffer, web, 20), "web server"),
    )
    await mem_cgroup_rmdir(one, web)
    for obj in kept:
        await kmem_cache_free(other, obj)
"""
)
KINDS = [("v5", "slub-3.8"), ("v3.10", "slub-6.1"), ("v3.8", "slab-3.8")]


@pytest.fixture(scope="module", params=KINDS, ids="/".join)
def log(request, tmp_path_factory) -> Path:
    """A run with two groups, of which one goes away, three caches, and all ways in which objects come and go."""
    lifecycle, allocator = request.param
    where = tmp_path_factory.mktemp("runs")
    (where / "story.py").write_text(STORY.format(lifecycle=lifecycle, allocator=allocator))
    cli.run(["run", str(where / "story.py"), "--log", str(where / "run.jsonl")])
    return where / "run.jsonl"


def text_of(path: Path, release: str = "3.8", first: int | None = None, last: int | None = None) -> list[str]:
    with LogReader(path) as log:
        return list(ftrace_text(log, Filter(first=first, last=last), Release(release)))


def read_back(path: Path, release: str = "3.8") -> tuple[Trace, Workload]:
    """The workload that the text gives, none of whose lines is skipped."""
    trace = parse_trace(line for piece in text_of(path, release) for line in piece.splitlines(keepends=True))
    assert not trace.skipped
    assert trace.format is TraceFormat.FTRACE
    return trace, rebuild(trace)


def steps_of(path: Path) -> list[StepLine]:
    with LogReader(path) as log:
        return list(log.steps())


def handed_out(steps: list[StepLine]) -> list[tuple[str, str, str]]:
    """What the log says of objects: verb, CPU's part of the cache, object."""
    found = []
    for step in steps:
        if re.match(r"cpu\d+/", step.actor):
            if step.operation == "free":
                found.append(("free", step.actor, step.args[0]))
            elif isinstance(step.reply, str) and re.fullmatch(r"slab\d+\[\d+\]", step.reply):
                found.append(("alloc", step.actor, step.reply))
    return found


def test_the_same_objects_come_and_go_on_the_same_cpus(log):
    """In the same order, whichever release's format it is."""
    wanted = handed_out(steps_of(log))
    assert min(Counter(verb for verb, _, _ in wanted).values()) > 100
    for release in Release:
        _, workload = read_back(log, release)
        names: dict[int, str] = {}
        found: list[tuple[str, str, int]] = []
        for action, (_, _, obj) in zip(
            [action for action in workload.actions if isinstance(action, Alloc | Free)], wanted, strict=True
        ):
            if isinstance(action, Alloc):
                names[action.obj] = obj
            found.append(("alloc" if isinstance(action, Alloc) else "free", f"cpu{action.cpu}", action.obj))
        assert [(verb, cpu, names[obj]) for verb, cpu, obj in found] == [
            (verb, actor.partition("/")[0], obj) for verb, actor, obj in wanted
        ]
        summary = workload.summary
        assert (summary.frees_before_trace, summary.frees_unseen, summary.out_of_order) == (0, 0, 0)


def test_groups_are_made_removed_and_released_when_the_log_says_so(log):
    """``web`` is removed, with the number of the jiffy; only one that has no more caches is released."""
    steps = steps_of(log)
    offline = [step for step in steps if step.operation == "css_offline"]
    freed = [step for step in steps if step.actor.startswith("memcg ") and step.operation == "free"]
    for release in Release:
        _, workload = read_back(log, release)
        assert [action.path for action in workload.actions if isinstance(action, Mkdir)] == ["/web", "/mail/in"]
        deaths = [action for action in workload.actions if isinstance(action, Rmdir)]
        assert [(death.path, death.microseconds // 1000) for death in deaths] == [("/web", offline[0].jiffies)]
        assert len([action for action in workload.actions if isinstance(action, Released)]) == len(freed)


def test_6_1_says_which_cache_and_which_group(log):
    """Every object belongs to the root cache that it belonged to, and is charged to the group whose child served it."""
    _, workload = read_back(log, "6.1")
    assert {(cache.name, cache.object_size) for cache in workload.caches} == {
        ("dentry", 192),
        ("inode", 600),
        ("kmalloc-96", 96),
    }
    groups = {"": None, "(1:web)": "/web", "(0:web)": "/web", "(2:mail/in)": "/mail/in", "(1:mail/in)": "/mail/in"}
    wanted = []
    for verb, actor, _ in handed_out(steps_of(log)):
        if verb == "alloc":
            root, child = re.fullmatch(r"cpu\d+/([\w-]+)(\(.*\))?", actor).groups(default="")  # type: ignore[union-attr]
            wanted.append((root, groups[child]))
    found = [
        (workload.caches[action.cache].name, action.cgroup) for action in workload.actions if isinstance(action, Alloc)
    ]
    assert found == wanted
    assert set(Counter(found)) >= {("dentry", "/web"), ("inode", None), ("inode", "/mail/in"), ("kmalloc-96", "/web")}


def test_3_8_says_neither(log):
    """Caches are told apart by the sizes of their objects alone."""
    _, workload = read_back(log)
    assert [cache.name for cache in workload.caches] == [
        f"size-{cache.size}" if "kmalloc" not in cache.name else cache.name for cache in workload.caches
    ]
    assert len(workload.caches) == 3
    assert {action.cgroup for action in workload.actions if isinstance(action, Alloc)} == {None}


LINE = {
    "3.8": re.compile(r".{16}-\d{4,5} +\[\d{3}\] \.\.\.\. [ \d]{5}\.\d{6}: \w+: .+\n"),
    "6.1": re.compile(r".{16}-\d{4,7} +\[\d{3}\] \.\.\.\.\. [ \d]{5}\.\d{6}: \w+: .+\n"),
}
POINTER = "[0-9a-f]{16}"
PAYLOADS = {
    "kmem_cache_alloc": rf"call_site={POINTER} ptr={POINTER} bytes_req=\d+ bytes_alloc=\d+ gfp_flags=GFP_KERNEL",
    "kmalloc": rf"call_site={POINTER} ptr={POINTER} bytes_req=96 bytes_alloc=\d+ gfp_flags=GFP_KERNEL",
    "kmem_cache_free": rf"call_site={POINTER} ptr={POINTER}",
    "kfree": rf"call_site={POINTER} ptr={POINTER}",
    "workqueue_queue_work": rf"work struct={POINTER} function=\w+ workqueue={POINTER} req_cpu=8 cpu=\d",
    "workqueue_activate_work": rf"work struct {POINTER}",
    "workqueue_execute_start": rf"work struct {POINTER}: function \w+",
    "workqueue_execute_end": rf"work struct {POINTER}",
    "cgroup_mkdir": r"root=0 id=\d+ level=[12] path=/\S+",
    "cgroup_rmdir": r"root=0 id=\d+ level=[12] path=/\S+",
    "cgroup_release": r"root=0 id=\d+ level=[12] path=/\S+",
}


@pytest.mark.parametrize("release", ["3.8", "6.1"])
def test_lines_are_as_wide_as_the_kernels(log, release):
    head, *lines = text_of(log, release)
    assert head.startswith("# tracer: nop\n#\n")
    assert all(line.startswith("#") for line in head.splitlines())
    assert all(LINE[release].fullmatch(line) for line in lines)


def test_3_8_prints_what_3_8_printed(log):
    """Field by field, and nothing that came later."""
    seen = set()
    for line in text_of(log)[1:]:
        event, payload = re.fullmatch(r".*\d: (\w+): (.+)\n", line).groups()  # type: ignore[union-attr]
        assert re.fullmatch(PAYLOADS[event], payload), line
        seen.add(event)
    assert {"kmem_cache_alloc", "kmalloc", "kmem_cache_free", "kfree", "cgroup_mkdir", "cgroup_rmdir"} <= seen


def test_every_work_is_queued_started_and_ended(log):
    """By the same address and, where it has one, name of the function; as often as the log says."""
    trace, _ = read_back(log)
    steps = steps_of(log)
    counts = Counter(event.name for event in trace.events)
    for event, actor, operation in (
        ("workqueue_queue_work", "system_wq", "insert"),
        ("workqueue_execute_end", "system_wq", "done"),
    ):
        assert counts[event] == sum(step.actor == actor and step.operation == operation for step in steps) > 0
    assert counts["workqueue_execute_start"] == sum(step.operation == "clear_pending" for step in steps)
    functions: dict[str, set[str]] = {}
    for event in trace.events:
        if "work" in event.fields and "function" in event.fields:
            functions.setdefault(event.fields["work"], set()).add(event.fields["function"])
    for names in functions.values():
        assert len({name for name in names if not name.startswith("0x")}) == 1, "an address until the log has named it"


def test_no_two_objects_overlap(log):
    """While both are there, in the address space that is made up for them."""
    trace, _ = read_back(log)
    live: dict[int, int] = {}
    for event in trace.events:
        if event.name in {"kmem_cache_alloc", "kmalloc"}:
            start, size = int(event.fields["ptr"], 16), int(event.fields["bytes_alloc"])
            assert all(start + size <= other or other + room <= start for other, room in live.items())
            live[start] = size
        elif event.name in {"kmem_cache_free", "kfree"}:
            del live[int(event.fields["ptr"], 16)]


def test_a_recording_comes_back(tmp_path, capsys):
    """A real kernel's recording, played and written as 6.1, is the same workload again: played once more, it has as
    many objects, caches, children and works."""
    told = []
    for number in range(2):
        source = DATA / "trace-cgroup.txt" if number == 0 else tmp_path / "again.txt"
        assert cli.run(["trace", str(source), "--log", str(tmp_path / "run.jsonl"), "--json"]) == cli.FINE
        told.append(json.loads(capsys.readouterr().out))
        (tmp_path / "again.txt").write_text("".join(text_of(tmp_path / "run.jsonl", "6.1")))
    for name in ("cpus", "roots", "children_created", "children_destroyed", "allocated", "freed", "work_runs"):
        assert told[0][name] == told[1][name], name
    one, other = (rebuild(read_trace(path)) for path in (DATA / "trace-cgroup.txt", tmp_path / "again.txt"))

    def objects(workload: Workload) -> Counter[tuple[str, str | None, bool]]:
        freed = {action.obj for action in workload.actions if isinstance(action, Free)}
        return Counter(
            (workload.caches[action.cache].name, action.cgroup, action.obj in freed)
            for action in workload.actions
            if isinstance(action, Alloc)
        )

    assert objects(one) == objects(other)


def test_parts_of_a_run_are_parts_of_its_text(log):
    """With the same pids and addresses; 6.1 says once more who is in which group, which takes time."""
    middle = steps_of(log)[-1].step // 2
    for release in Release:
        whole = text_of(log, release)[1:]
        parts = text_of(log, release, last=middle)[1:] + text_of(log, release, first=middle + 1)[1:]
        if release is Release.V3_8:
            assert parts == whole
        one, other = (
            [re.sub(r"\d+\.\d{6}", "", line) for line in lines if "attach" not in line] for lines in (parts, whole)
        )
        assert one == other


def test_the_operations_that_it_knows_are_those_of_the_allocators():
    """Every operation that is named exists, and every one that returns an object is named."""
    actors: dict[str, Any] = {
        "kmem_cache_cpu": slabactors.mm.slub_cpu.KmemCacheCpu,
        "array_cache": slabactors.mm.slab_array.ArrayCache,
    }
    assert set(actors) == set(ALLOCATIONS) == set(FREES)
    for role, actor in actors.items():
        assert actor.role == role
        found = {found.name: found for found in operations(actor)}
        assert {*ALLOCATIONS[role], *FREES[role]} <= set(found)
        returning = {
            name for name in found if "SlabObject" in str(found[name].function.__annotations__.get("return", ""))
        }
        assert returning == set(ALLOCATIONS[role])


def test_a_log_without_its_last_line_is_refused(log, tmp_path):
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="has no last line"):
        text_of(cut)


def test_a_log_without_sizes_is_refused(log, tmp_path):
    old = tmp_path / "old.jsonl"
    old.write_text(log.read_text().replace('"object_size"', '"obj_size"'))
    with pytest.raises(UsageError, match="does not say how large objects are"):
        text_of(old)


def test_a_cache_that_the_last_line_leaves_out_is_refused(log, tmp_path):
    *lines, end = log.read_text().splitlines()
    last = json.loads(end)
    last["caches"] = last["caches"][:1]
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join([*lines, json.dumps(last), ""]))
    with pytest.raises(LogFileError, match="knows nothing of the cache"):
        text_of(changed)
