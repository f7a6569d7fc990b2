"""The reader of ftrace text, against recordings of a real kernel and against damage."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.errors import TraceFileError
from slabactors.trace.formats.ftrace import (
    EVENTS_KNOWN,
    EXAMPLES_MAX,
    SkipReason,
    TraceEvent,
    TraceFormat,
    parse_trace,
    read_trace,
)

DATA = Path(__file__).parents[1] / "data" / "trace"
RECORDED = {
    name: (DATA / f"trace-{name}.txt").read_text().splitlines(keepends=True) for name in ("cgroup", "private", "kmem")
}
ALLOC = RECORDED["cgroup"][13]
FREE = RECORDED["cgroup"][12]

OLD = """\
# tracer: nop
     kworker/0:1-31    [000] d...     2.185139: timer_start: timer=ffff88001e726b90 function=delayed_work_timer_fn expires=4294907712 [timeout=15017]
     kworker/0:1-31    [000] d...     2.185140: timer_expire_entry: timer=ffff88001e726b90 function=delayed_work_timer_fn now=4294907712
     kworker/0:1-31    [000] dNh1     2.185141: workqueue_queue_work: work struct=ffff88001e726b70 function=kmem_cache_destroy_work_func workqueue=ffff88001f001a00 req_cpu=8 cpu=0
     kworker/0:1-31    [000] ....     2.185142: workqueue_execute_start: work struct ffff88001e726b70: function kmem_cache_destroy_work_func
     kworker/0:1-31    [000] ....     2.185143: workqueue_execute_end: work struct ffff88001e726b70
          <idle>-0     [001] ..s.     2.185144: kmem_cache_alloc: call_site=ffffffff8113f1a5 ptr=ffff88001e726c00 bytes_req=192 bytes_alloc=192 gfp_flags=GFP_KERNEL
           <...>-12    [001]          2.185145: kmem_cache_alloc_node: call_site=ffffffff8113f1a5 ptr=ffff88001e726d00 bytes_req=192 bytes_alloc=192 gfp_flags=GFP_NOWAIT node=0
              sh-40    [001] ....     2.185146: kmem_cache_free: call_site=ffffffff8113f1a5 ptr=ffff88001e726c00
              sh-40    [001] ....     2.185147: mm_page_free_batched: page=ffffea0000722400 pfn=117648 order=0 cold=0
"""  # noqa: E501  lines as Linux 3.8 prints them


def one(line: str) -> TraceEvent:
    """The only event of a line."""
    trace = parse_trace([line])
    assert not trace.skipped, trace.skipped
    (event,) = trace.events
    return event


def reasons(*lines: str) -> list[SkipReason]:
    return [skipped.reason for skipped in parse_trace(lines).skipped]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (
            "cgroup",
            {
                "kmem_cache_free": 1696,
                "kmem_cache_alloc": 1641,
                "workqueue_execute_start": 57,
                "workqueue_execute_end": 57,
                "workqueue_queue_work": 54,
                "workqueue_activate_work": 54,
                "tracing_mark_write": 8,
                "cgroup_notify_populated": 8,
                "cgroup_rmdir": 2,
                "cgroup_release": 2,
                "cgroup_mkdir": 2,
                "cgroup_attach_task": 2,
            },
        ),
        (
            "private",
            {
                "kmem_cache_alloc": 1278,
                "kmem_cache_free": 1111,
                "mm_page_alloc": 141,
                "mm_page_free": 117,
                "workqueue_execute_start": 37,
                "workqueue_execute_end": 37,
                "workqueue_queue_work": 21,
                "workqueue_activate_work": 21,
                "tracing_mark_write": 20,
            },
        ),
        (
            "kmem",
            {
                "kmem_cache_alloc": 142,
                "kmem_cache_free": 131,
                "mm_page_free": 70,
                "mm_page_alloc": 69,
                "mm_page_free_batched": 59,
                "kmalloc": 23,
                "kfree": 19,
            },
        ),
    ],
)
def test_counts(name, counts):
    """Every line of a recording that is not a comment becomes an event; the header says how many there are."""
    trace = read_trace(DATA / f"trace-{name}.txt")
    assert Counter(event.name for event in trace.events) == counts
    unknown = 48 if name == "kmem" else 0
    assert trace.skipped_counts == ({SkipReason.UNKNOWN_EVENT: unknown} if unknown else {})
    assert trace.unknown_events == ({"rss_stat": unknown} if unknown else {})
    written = re.search(r"entries-written: (\d+)/(\d+)", "".join(RECORDED[name][:4]))
    assert written is not None
    assert len(trace.events) + unknown == int(written[2])
    assert trace.format is TraceFormat.FTRACE
    assert trace.lines == len(RECORDED[name])
    assert trace.lost == trace.overwritten == 0


def test_nothing_of_a_payload_is_lost():
    """Every value of a recorded payload is in the fields, so the line can be put together again."""
    for lines in RECORDED.values():
        for event in parse_trace(lines).events:
            payload = lines[event.line - 1].rstrip("\n").split(f" {event.name}: ", 1)[1]
            if event.name.startswith("workqueue_execute"):
                text = "work struct {work}: function {function}".format(**event.fields)
            elif event.name == "workqueue_activate_work":
                text = f"work struct {event.fields['work']}"
            elif event.name == "tracing_mark_write":
                text = event.fields["text"]
            else:
                text = " ".join(f"{key}={value}" for key, value in event.fields.items())
                text = text.replace("work=", "work struct=", 1) if "work" in event.fields else text
            assert text == payload


def test_an_event_has_what_its_line_says():
    """Line, task, pid, CPU, time in microseconds, name, fields and flags."""
    event = read_trace(DATA / "trace-cgroup.txt").events[14]
    assert (event.line, event.task, event.pid, event.cpu) == (27, "sh", 112, 3)
    assert (event.microseconds, event.name, event.flags) == (5_809_160, "kmem_cache_alloc", ".....")
    assert event.fields == {
        "call_site": "copy_process+0xacd/0x1ae0",
        "ptr": "ffff8880045c4380",
        "bytes_req": "1112",
        "bytes_alloc": "1152",
        "gfp_flags": "GFP_KERNEL|__GFP_ZERO",
        "node": "-1",
        "accounted": "true",
    }


def test_a_call_site_in_a_module_has_a_blank():
    """``symbol+offset/length [module]`` is one value."""
    event = parse_trace(RECORDED["private"][597:598]).events[0]
    assert event.fields["call_site"] == "on_cpu+0x193/0x1c0 [slubor]"
    assert event.fields["ptr"] == "ffff88800a4e5b40"


@pytest.mark.parametrize(
    ("task", "pid"),
    [
        ("kworker/0:2", 64),
        ("<idle>", 0),
        ("<...>", 12),
        ("a-1", 7),
        ("two words", 9),
        ("x: y", 3),
        ("", 5),
        ("b 3", 44),
    ],
)
def test_task_names_may_hold_anything(task, pid):
    """Blanks, dashes, colons and digits belong to the name; the pid is what stands before the CPU."""
    event = one(f"{task:>16}-{pid:<7} [002] d.s2.     1.000002: kfree: call_site=f+0x1/0x2 ptr=ffff888003fd1000\n")
    assert (event.task, event.pid, event.cpu) == (task, pid, 2)


def test_a_marker_may_quote_a_line():
    """The first place that reads as the head of a line is the head."""
    event = one("  sh-112  [003] .....  5.800000: tracing_mark_write:   " + ALLOC)
    assert (event.pid, event.name) == (112, "tracing_mark_write")
    assert event.fields["text"] == ALLOC.strip()
    assert one("sh-112 [003] ..... 5.8: tracing_mark_write: (a) b=c").fields == {"text": "(a) b=c"}


def test_old_kernels():
    """Linux 3.8 prints four flags or none, no names on frees, and other keys."""
    trace = parse_trace(OLD.splitlines(keepends=True))
    assert not trace.skipped
    assert [event.name for event in trace.events] == [
        "timer_start",
        "timer_expire_entry",
        "workqueue_queue_work",
        "workqueue_execute_start",
        "workqueue_execute_end",
        "kmem_cache_alloc",
        "kmem_cache_alloc_node",
        "kmem_cache_free",
        "mm_page_free_batched",
    ]
    start, _, queue, execute, end, alloc, node, free, _ = trace.events
    assert start.fields["timeout"] == "15017"
    assert queue.fields["work"] == execute.fields["work"] == end.fields["work"]
    assert execute.fields["function"] == "kmem_cache_destroy_work_func"
    assert "function" not in end.fields
    assert [event.in_interrupt for event in (start, queue, alloc, node)] == [False, True, True, False]
    assert node.flags == ""
    assert node.fields["node"] == "0"
    assert "name" not in free.fields


def test_newer_timers():
    """Linux 6.1 adds keys to timers; a timer without flags prints an empty value, which is no sign of a cut."""
    line = (
        "sh-1 [000] d..1. 5.000001: timer_start: timer=ffff888003fd1000 function=f [m] expires=4294907712 [timeout=250]"
    )
    trace = parse_trace([f"{line} cpu=1 idx=3 flags=D|I\n", f"{line} cpu=1 idx=3 flags=\n", f"{line} cpu=1 idx=3\n"])
    assert [event.fields["flags"] for event in trace.events] == ["D|I", ""]
    assert {(event.fields["function"], event.fields["timeout"]) for event in trace.events} == {("f [m]", "250")}
    assert trace.skipped_counts == {SkipReason.TRUNCATED: 1}


SYSTEMS = {"kmem": "kmem", "kmal": "kmem", "kfre": "kmem", "mm_p": "kmem", "rss_": "kmem"}
LINE = re.compile(r"\s*(.*?)-(\d+)\s+\[(\d+)\] \S+\s+(\d+)\.(\d+): (\w+): (.*)\n")


def as_perf_script(line: str) -> str:
    match = LINE.fullmatch(line)
    if match is None:
        return line
    task, pid, cpu, seconds, fraction, name, payload = match.groups()
    if name == "tracing_mark_write":
        name, payload = "print", f"tracing_mark_write: {payload}"
    system = SYSTEMS.get(name[:4], name.split("_", maxsplit=1)[0] if name != "print" else "ftrace")
    payload = re.sub(r"(ptr=|page=|struct[ =])([0-9a-f]{16})", r"\g<1>0x\2", payload)
    task = "swapper" if task == "<idle>" else task
    return f"{task:>16} {pid:>5} [{cpu}] {seconds:>5}.{fraction}: {system}:{name}: {payload}\n"


def as_trace_cmd(line: str) -> str:
    match = LINE.fullmatch(line)
    if match is None:
        return line
    task, pid, cpu, seconds, fraction, name, payload = match.groups()
    return f"{task:>16}-{pid:<5} [{cpu}] {seconds:>5}.{fraction}: {name}: {' ' * (20 - len(name))}{payload}\n"


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize(
    ("convert", "expected"), [(as_perf_script, TraceFormat.PERF_SCRIPT), (as_trace_cmd, TraceFormat.TRACE_CMD)]
)
def test_other_printers(name, convert, expected):
    """``perf script`` and ``trace-cmd report`` of the same recording give the same events."""
    original = parse_trace(RECORDED[name])
    converted = parse_trace("\n" if line.startswith("#") else convert(line) for line in RECORDED[name])
    assert converted.events == original.events
    assert converted.format is expected
    assert converted.unknown_events == original.unknown_events


def test_marks_of_other_printers():
    """Headers, call chains and periods of other tools are no events and no damage."""
    lines = [
        "cpus=4\n",
        "perf 12 [001] 3.000001:     1   kmem:kfree: (kfree+0x10) call_site=ffffffff8785c74f ptr=0xffff9234810d5000\n",
        "\tffffffff8782660d kmem_cache_alloc+0xfd ([kernel.kallsyms])\n",
        "\n",
        "sh-112 ( 112) [003] ..... 4.000000123: kfree: call_site=f+0x1/0x2 ptr=0x10\n",
        "sh-112 [003] ..... 4.000001: <stack trace>\n",
        " => do_syscall_64\n",
    ]
    trace = parse_trace(lines)
    assert [event.fields["ptr"] for event in trace.events] == ["ffff9234810d5000", "0000000000000010"]
    assert [event.microseconds for event in trace.events] == [3_000_001, 4_000_000]
    assert trace.skipped_counts == {SkipReason.STACK_TRACE: 3}
    assert trace.format is TraceFormat.TRACE_CMD


def test_null_is_a_failed_allocation_and_a_hidden_pointer_is_of_no_use():
    """``(null)`` stays in the event; ``(____ptrval____)`` is the same for all, so the line is counted and skipped."""
    pointer = "ffff888003fd1000"
    assert one(ALLOC.replace(pointer, "(null)")).fields["ptr"] == "(null)"
    assert reasons(ALLOC.replace(pointer, "(____ptrval____)")) == [SkipReason.HIDDEN_POINTER]


def test_lost_events_are_counted():
    """The kernel, trace-cmd and perf each say in their own way that events are missing."""
    trace = parse_trace(
        [
            "# entries-in-buffer/entries-written: 100/130   #P:4\n",
            "CPU:2 [LOST 17 EVENTS]\n",
            "CPU:7 [204600 EVENTS DROPPED]\n",
            "CPU:1 [EVENTS DROPPED]\n",
            "perf 1 [000] 3.1: PERF_RECORD_LOST lost 5\n",
        ]
    )
    assert (trace.lost, trace.overwritten) == (17 + 204600 + 5, 30)
    assert trace.skipped_counts == {SkipReason.LOST_EVENTS: 4}


def test_emptied_names():
    """The trace option nohash-ptr empties every text: no name, no flags, and the event is still one."""
    assert one(FREE.split("name=", maxsplit=1)[0] + "name=\n").fields["name"] == ""
    fields = one(ALLOC.split("GFP_KERNEL", maxsplit=1)[0] + " node=-1 accounted=\n").fields
    assert (fields["gfp_flags"], fields["node"], fields["accounted"]) == ("", "-1", "")
    assert one(ALLOC.split("GFP_KERNEL", maxsplit=1)[0] + "\n").fields["gfp_flags"] == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello\n", SkipReason.NOT_AN_EVENT),
        ("sh-112 [003] ..... 5.800000: do_exit <-make_task_dead\n", SkipReason.NOT_AN_EVENT),
        ("sh-112 [003] ..... 5.800000: sched_switch: prev_comm=sh\n", SkipReason.UNKNOWN_EVENT),
        ("sh-112 [003] ..... 5.800000: kfree: call_site=f ptr=zzz more\n", SkipReason.MALFORMED),
        ("sh-112 [9999] ..... 5.800000: kfree: call_site=f ptr=ffff888003fd1000\n", SkipReason.MALFORMED),
        ("sh-112 [003] ..... 5.8", SkipReason.TRUNCATED),
        ("sh-112 [003] ..... 5.800000: kfree: call_site=f ptr=ffff88800", SkipReason.TRUNCATED),
        (FREE.rstrip("\n") + ALLOC, SkipReason.MALFORMED),
        ("x" * 100_000, SkipReason.NOT_AN_EVENT),
    ],
)
def test_each_reason(line, reason):
    """A line that gives no event says why."""
    assert reasons(line) == [reason]


@pytest.mark.parametrize(
    "line", [ALLOC, FREE, RECORDED["cgroup"][311], RECORDED["cgroup"][2548], RECORDED["cgroup"][99]]
)
def test_a_cut_line_is_never_an_event(line):
    """Wherever the last line of a file breaks off, it is counted and gives nothing, even where its rest would parse."""
    for length in range(1, len(line)):
        trace = parse_trace([line, line[:length]])
        assert [event.line for event in trace.events] == [1]
        assert [skipped.line for skipped in trace.skipped] == ([2] if line[:length].strip() else [])
        assert set(trace.skipped_counts) <= {SkipReason.TRUNCATED}


def test_a_line_cut_in_the_middle_of_a_file_lacks_a_key():
    """A kernel prints the same keys each time, so a line without ``accounted`` after one with it is cut."""
    for length in range(ALLOC.index("gfp_flags"), len(ALLOC) - 1):
        assert reasons(ALLOC, ALLOC[:length] + "\n") == [SkipReason.TRUNCATED]


def test_examples_are_bounded_and_counts_exact():
    """A file of rubbish costs a few lines of memory, and says where it starts."""
    trace = parse_trace(f"rubbish {number}\n" for number in range(1000))
    assert [skipped.line for skipped in trace.skipped] == list(range(1, EXAMPLES_MAX + 1))
    assert trace.skipped_counts == {SkipReason.NOT_AN_EVENT: 1000}
    unknown = parse_trace(f"sh-1 [000] .... 1.000000: e{number}: a=1\n" for number in range(1000)).unknown_events
    assert sum(unknown.values()) == 1000
    assert unknown["(others)"] == 800
    assert len(parse_trace(["x" * 500]).skipped[0].text) == 80


def test_later_kernels_may_append_keys():
    """A key that this reader does not know is no reason to lose the event."""
    assert one(ALLOC.rstrip("\n") + " colour=blue\n").fields == one(ALLOC).fields


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"\x17\x08\x44tracing6\x00", "trace-cmd report -i"),
        (b"PERFILE2\x68\x00", "perf script -i"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        ("kfree".encode("utf-16"), "iconv"),
        (b"text\x00text", "NUL"),
        (bytes(range(128, 256)) * 8, "unprintable"),
    ],
)
def test_what_is_not_text(tmp_path, content, advice):
    """A binary file is refused with what was expected, what was found, and what to type."""
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    with pytest.raises(TraceFileError, match=r"expected ftrace text .* found ") as caught:
        read_trace(path)
    assert advice in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_cannot_be_opened(tmp_path):
    """A missing file and a directory are the user's mistake, not a traceback of the operating system."""
    with pytest.raises(TraceFileError, match="No such file"):
        read_trace(tmp_path / "none")
    with pytest.raises(TraceFileError, match="a directory"):
        read_trace(tmp_path)
    with pytest.raises(TraceFileError):
        read_trace("a\0b")


def test_bytes_that_are_not_utf8(tmp_path):
    """Names of tasks are any bytes; they do not end the reading, nor do CRLF, a byte order mark or endless lines."""
    path = tmp_path / "trace.txt"
    line = ALLOC.replace("sh-112", "s\xe9-112")
    path.write_bytes(
        b"\xef\xbb\xbf" + line.encode("latin-1").replace(b"\n", b"\r\n") + b"x" * 200_000 + b"\n" + FREE.encode()
    )
    trace = read_trace(path)
    assert [(event.line, event.task) for event in trace.events] == [(1, "s\ufffd"), (3, "sh")]
    assert trace.skipped_counts.keys() <= {SkipReason.NOT_AN_EVENT, SkipReason.TRUNCATED}
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert (read_trace(empty).events, read_trace(empty).format) == ([], TraceFormat.UNKNOWN)


def test_every_understood_event_has_a_grammar():
    """The closed set of names; a reader of the documentation finds each of them."""
    assert set(EVENTS_KNOWN) >= {
        *("kmem_cache_alloc", "kmem_cache_alloc_node", "kmem_cache_free", "kmalloc", "kmalloc_node", "kfree"),
        *("mm_page_alloc", "mm_page_free", "mm_page_free_batched"),
        *("cgroup_mkdir", "cgroup_rmdir", "cgroup_release", "cgroup_attach_task", "cgroup_notify_populated"),
        *("workqueue_queue_work", "workqueue_activate_work", "workqueue_execute_start", "workqueue_execute_end"),
        *("timer_init", "timer_start", "timer_cancel", "timer_expire_entry", "timer_expire_exit", "tracing_mark_write"),
    }


SAMPLES = [line for lines in RECORDED.values() for line in lines[12::97]] + OLD.splitlines(keepends=True)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    line = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(0, 3))):
        at, end = sorted((draw(st.integers(0, len(line))), draw(st.integers(0, len(line)))))
        line = line[:at] + draw(st.one_of(st.just(""), st.text(max_size=5), st.sampled_from(SAMPLES))) + line[end:]
    return line


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(damaged(), st.text(max_size=40)), max_size=12))
def test_damage_is_counted_and_never_raised(lines):
    """Whatever a line holds, it is an event, one skipped line, or a comment."""
    trace = parse_trace(lines)
    plain = sum(1 for line in lines if (text := line.strip().lstrip("\ufeff")) and not text.startswith("#"))
    assert len(trace.events) + sum(trace.skipped_counts.values()) == plain
    assert all(0 <= event.cpu < 8192 and event.microseconds >= 0 for event in trace.events)
    assert [event.line for event in trace.events] == sorted({event.line for event in trace.events})


@settings(deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.integers(0, 60),
    st.sampled_from([" ", "-", "pid=", "1 ", "[0]", "("]),
    st.integers(500, 4000),
)
def test_no_line_takes_long(line, at, piece, count):
    """A long run of one thing cannot make the match quadratic: this test would not end otherwise."""
    parse_trace([line[:at] + piece * count + line[at:]])
