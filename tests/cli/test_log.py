"""``slabactors log``: see, follow, explain, compare, count and query a run's log; and every way a log can be bad."""

from __future__ import annotations

import gzip
import json
import resource
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.cli.log import LANES_MAX
from slabactors.errors import LogFileError
from slabactors.trace import reader
from slabactors.trace.export import FORMATS
from slabactors.trace.reader import LogReader
from slabactors.trace.sql import COLUMNS, shipped
from tests.cli.conftest import HEAD, listing, refused

STORY = "dead-cache/rmdir-races-last-free"


@pytest.fixture(scope="session")
def logs(tmp_path_factory) -> dict[str, Path]:
    """Two runs of one story, of which the first breaks, and a live one of another."""
    where = tmp_path_factory.mktemp("logs")
    for seed in (3, 4):
        cli.run(["run", STORY, "--seed", str(seed), "--log", str(where / f"seed{seed}.jsonl")])
    cli.run(["run", "dead-cache/emptied", "--runtime", "trio", "--log", str(where / "live.jsonl")])
    return {file.stem: file for file in where.glob("*.jsonl")}


@pytest.fixture
def log(logs) -> Path:
    return logs["seed3"]


def steps_of(path: Path) -> list[dict]:
    """The lines between the first and the last."""
    return [json.loads(line) for line in path.read_text().splitlines()][1:-1]


# -- what is in the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["seed3", "live"])
def test_every_step_says_which_earlier_ones_it_comes_after(logs, name):
    """Its own path's last step is always among them, and a child comes after the step at which it was spawned."""
    last: dict[str, int] = {}
    for step in steps_of(logs[name]):
        assert all(cause < step["step"] for cause in step["causes"])
        if step["path"] in last:
            assert last[step["path"]] in step["causes"]
        last[step["path"]] = step["step"]


def test_a_path_comes_after_the_last_steps_of_those_it_waited_for(command, write, tmp_path):
    story = """
class Box(Actor):
    def __init__(self, name):
        super().__init__(name)
        self.value = 0

    @operation(writes="value")
    def put(self, value: int) -> None:
        '''``box = value``.'''
        self.value = value

    @operation(reads="value")
    def get(self) -> int:
        '''``box``.'''
        return self.value


@scenario(title="two writers, then a reader")
async def story(machine: Machine) -> None:
    left, right, third = Box("left"), Box("right"), Box("third")
    await parallel(left.put(1), right.put(2))
    await third.get()
    await left.get()
"""
    file = write(story)
    command("run", f"{file}:story", "--log", "run.jsonl")
    puts, (third, left) = [], (None, None)
    for step in steps_of(tmp_path / "run.jsonl"):
        match step["operation"], step["actor"]:
            case "put", _:
                puts.append(step["step"])
                assert step["changed"] == {"value": 1 if step["actor"] == "left" else 2}
            case _, "third":
                third = step
            case _, "left":
                left = step
    assert third["causes"] == puts
    assert third["changed"] == {}
    assert set(left["causes"]) >= {third["step"]}


def test_the_end_of_a_broken_run_says_at_which_step(log):
    end = json.loads(log.read_text().splitlines()[-1])
    assert end["level"] == "error"
    assert end["broke"]["operation"] == "free"
    assert end["broke"]["actor"].endswith(".params")


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_prints_every_step_and_the_end(command, log):
    said = command("log", "show", log)
    lines = said.out.splitlines()
    assert said.code == cli.FINE
    assert [line.split()[0] for line in lines if line.startswith("#")] == [f"#{one['step']}" for one in steps_of(log)]
    assert "  freed-active-work: free of an active work item by kworker" in lines


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--actor", "*.destroy"], lambda one: one["actor"].endswith(".destroy")),
        (["--operation", "*pending"], lambda one: one["operation"].endswith("pending")),
        (["--lane", "kworker/*"], lambda one: one["lane"].startswith("kworker")),
        (["--path", "rmdir"], lambda one: "rmdir" in one["path"]),
        (["--path", "main.2/free.1"], lambda one: one["path"] == "main.2/free.1"),
        (["--cache", "dentry(1:web)"], lambda one: "dentry(1:web)" in one["actor"]),
        (["--from", "10", "--to", "20"], lambda one: 10 <= one["step"] <= 20),
        (["--act", "2"], lambda one: one["act"] == 2),
        (["--since", "0.5"], lambda one: one["seconds"] >= 0.5),
        (["--until", "0"], lambda one: one["seconds"] == 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filters_choose_the_steps_that_they_say(command, log, options, wanted):
    said = command("log", "show", log, *options, "--json")
    shown = [json.loads(line)["step"] for line in said.out.splitlines()]
    assert shown == [one["step"] for one in steps_of(log) if wanted(one)]


def test_the_lines_of_json_are_those_of_the_file(command, log):
    shown = [json.loads(line) for line in command("log", "show", log, "--json", "--limit", 5).out.splitlines()]
    assert shown == [{key: value for key, value in one.items() if key != "level"} for one in steps_of(log)[:5]]


def test_lanes_have_a_column_for_each_path(command, log):
    said = command("log", "show", log, "--lanes", "--from", 15, "--to", 24)
    head = said.out.splitlines()[0].split("  ")
    assert [name for name in (part.strip() for part in head) if name] == ["kworker/0", "cpu0 rmdir", "cpu1 free"]
    assert "test_and_set_bit" in said.out


def test_more_lanes_than_fit_are_refused(command, write):
    names = ", ".join(f"Box('{number}').put()" for number in range(LANES_MAX + 1))
    write(
        "class Box(Actor):\n    @operation\n    def put(self) -> None:\n        '''``put``.'''\n\n"
        f"@scenario(title='many')\nasync def many(machine: Machine) -> None:\n    await parallel({names})\n",
        "many.py",
        HEAD,
    )
    command("run", "many.py", "--log", "many.jsonl")
    refused(command("log", "show", "many.jsonl", "--lanes"), f"{LANES_MAX + 1} paths", "--path")


# -- follow and why ----------------------------------------------------------------------------------------------------


def test_following_a_cache_shows_what_it_and_its_parts_handled_and_who_handed_it_on(command, log):
    said = command("log", "follow", log, "dentry(1:web)", "--json")
    shown = [json.loads(line) for line in said.out.splitlines()]
    assert {"dentry(1:web).params", "dentry(1:web).destroy", "node0/dentry(1:web)"} <= {one["actor"] for one in shown}
    elsewhere = [one for one in shown if "dentry(1:web)" not in one["actor"]]
    assert elsewhere
    assert all("dentry(1:web)" in json.dumps([one["args"], one["reply"]]) for one in elsewhere)


def test_following_what_the_log_does_not_know_is_refused(command, log):
    refused(command("log", "follow", log, "nobody"), "'nobody'", "log stats")


def past_of(steps: list[dict], number: int) -> set[int]:
    """The causal past by the definition."""
    causes = {one["step"]: one["causes"] for one in steps}
    found, new = set(), {number}
    while new:
        found |= new
        new = {cause for one in new for cause in causes[one]} - found
    return found


@pytest.mark.parametrize("name", ["seed3", "seed4", "live"])
def test_why_tells_the_whole_causal_past_when_there_is_room(command, logs, name):
    steps = steps_of(logs[name])
    for number in (steps[0]["step"], steps[len(steps) // 2]["step"], steps[-1]["step"]):
        document = command("log", "why", logs[name], number, "--limit", 10_000, "--json").document
        assert {one["step"] for one in document["steps"]} == past_of(steps, number)
        assert document["older"] == 0


def test_why_tells_the_nearest_and_how_many_it_leaves_out(command, log):
    last = steps_of(log)[-1]["step"]
    document = command("log", "why", log, last, "--limit", 4, "--json").document
    assert [one["step"] for one in document["steps"]] == sorted(past_of(steps_of(log), last))[-4:]
    assert document["older"] > 0
    assert command("log", "why", log, last, "--limit", 4).out.startswith("(and what led to ")


def test_a_step_that_there_is_not_is_refused(command, log):
    refused(command("log", "why", log, 99_999), "no step 99999", "log stats")


# -- diff --------------------------------------------------------------------------------------------------------------


def test_a_log_does_not_part_from_itself(command, log):
    said = command("log", "diff", log, log)
    assert said.code == cli.FINE
    assert f"The same {len(steps_of(log))} steps." in said.out


def test_diff_shows_the_first_step_that_differs(command, logs, tmp_path):
    lines = logs["seed3"].read_text().splitlines(keepends=True)
    changed = json.loads(lines[11])
    changed["reply"] = "something else"
    (tmp_path / "other.jsonl").write_text("".join([*lines[:11], json.dumps(changed) + "\n", *lines[12:]]))
    said = command("log", "diff", logs["seed3"], "other.jsonl", "--json")
    document = said.document
    assert said.code == cli.BUG
    assert document["same_steps"] == 10
    assert [one["step"] for one in document["before"]] == [7, 8, 9]
    assert document["left"][0]["step"] == document["right"][0]["step"] == 10
    assert document["right"][0]["reply"] == "something else"
    assert "They differ in reply." in command("log", "diff", logs["seed3"], "other.jsonl").out


def test_diff_says_what_else_was_run(command, logs):
    said = command("log", "diff", logs["seed3"], logs["seed4"])
    assert said.code == cli.BUG
    assert said.out.startswith("seed: 3 | 4\n")


def test_a_run_that_goes_on_longer_parts_where_the_other_ends(command, log, tmp_path):
    lines = log.read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[:20]))
    said = command("log", "diff", log, "short.jsonl")
    assert said.code == cli.BUG
    assert "short.jsonl has no more steps" in said.out
    assert "has no end" in said.err


# -- stats and sql -----------------------------------------------------------------------------------------------------


def test_stats_count_every_step_once_in_every_list(command, log):
    document = command("log", "stats", log, "--json").document
    count = len(steps_of(log))
    assert document["steps"] == count
    assert all(sum(document[name].values()) == count for name in ("lanes", "actors", "operations"))
    assert sum(document["changes"].values()) == sum(bool(one["changed"]) for one in steps_of(log))
    assert f"{count} steps" in command("log", "stats", log).out


def test_sql_sees_every_step_with_every_column(command, log):
    said = command("log", "sql", log, "SELECT * FROM steps ORDER BY step", "--json")
    rows = said.document
    assert [row["step"] for row in rows] == [one["step"] for one in steps_of(log)]
    assert list(rows[0]) == [name for name in COLUMNS if name != "event"]
    assert [row["causes"] for row in rows] == [one["causes"] for one in steps_of(log)]


def test_the_query_for_queue_attempts_finds_the_window_that_breaks_the_founding_patch(command, log):
    """Between the moment the work is no longer pending and its end, a free looks, sees that, and queues it again."""
    rows = command("log", "sql", log, "--query", "queue-attempts", "--json").document
    assert [(row["operation"], row["reply"]) for row in rows] == [
        ("is_pending", "false"),
        ("test_and_set_pending", "true"),
    ]
    assert {row["lane"] for row in rows} == {"cpu1"}


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_query_answers_and_says_what_it_asks(command, logs, name):
    for log in logs.values():
        assert command("log", "sql", log, "--query", name).code == cli.FINE
    assert f"{name} " in command("log", "sql", "--list").out


def test_more_rows_than_asked_for_are_announced(command, log):
    said = command("log", "sql", log, "SELECT step FROM steps", "--limit", 3)
    assert "3 rows" in said.out
    assert "more than 3 rows" in said.err


def test_bad_queries_are_refused(command, log):
    refused(command("log", "sql", log, "SELECT nope FROM steps"), "nope", "columns step, act")
    refused(command("log", "sql", log, "--query", "nope"), "nope", "queue-attempts")
    refused(command("log", "sql", log), "--query NAME")
    refused(command("log", "sql"), "--list")


# -- bad logs ----------------------------------------------------------------------------------------------------------

COMMANDS = [
    ["show"],
    ["stats"],
    ["follow", "slab0"],
    ["why", "3"],
    ["sql", "SELECT count(*) FROM steps"],
    ["diff", "bad.jsonl"],
    *(["export", "--format", name] for name in FORMATS),
    ["report"],
]


def ask(command, name, file):
    verb = ["log", name[0]] if name[0] != "report" else ["report"]
    return command(*verb, file, *name[1:])


def cut_in_a_letter(lines):
    """Lines of which the last one ends in the middle of a letter's bytes."""
    step = json.loads(lines[-1]) | {"reply": "é"}
    whole = json.dumps(step, ensure_ascii=False).encode()
    return b"".join(lines[:-1]) + whole[: whole.index("é".encode()) + 1]


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name[0])
@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is empty"),
        ("{}\n", "is not a log"),
        ('{"some": "other JSON"}\n{"x": 1}\n', "is not a log"),
        ("[1, 2]\n", "is not a log"),
        ("Feb 30 kernel: oops\n", "is not a log"),
        ("\x00\x01\x02", "is not a log"),
        ('{"event": "run", "schema": 1, "version": "0.1.0"}\n', "has schema 1, of slabactors 0.1.0"),
        ('{"event": "run", "schema": 2, "seed": "many"}\n', "line 1"),
        ('{"event": "run", "schema": 3, "version": "9.0"}\n', "has schema 3, of slabactors 9.0"),
        ('{"event": "run", "sche', "is not a log"),
        ('{"level": "info", "msg": "of another program"}\n' * 3, "is not a log"),
        ('[\n{"event": "run", "schema": 2}\n]\n', "is not a log"),
        ("[" * 100_000 + "\n", "is not a log"),
        ('{"event": "run", "schema": 2, "parameters": {"a": ' + "[" * 100_000, "is not a log"),
        (b"\xff\xfe{\x00", "is not a log"),
        (b'\xef\xbb\xbf{"event": "run", "schema": 2}\n', "is not a log"),
        (gzip.compress(b"{}", mtime=0), "is not a log"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_is_no_log_is_refused_by_every_command(command, tmp_path, name, text, fragment):
    (tmp_path / "bad.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(ask(command, name, "bad.jsonl"), "bad.jsonl", fragment)
    assert listing(tmp_path) == {"bad.jsonl"}


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("cut", ["in a line", "in a letter", "after the first line", "before its end"])
def test_every_command_reads_a_half_written_log_as_far_as_it_goes(command, log, tmp_path, name, cut):
    lines = log.read_bytes().splitlines(keepends=True)
    data = {
        "in a line": b"".join(lines[:20]) + lines[20][:50],
        "in a letter": cut_in_a_letter(lines[:21]),
        "after the first line": lines[0],
        "before its end": b"".join(lines[:20]) + lines[20].rstrip(),
    }[cut]
    (tmp_path / "bad.jsonl").write_bytes(data)
    said = ask(command, name, "bad.jsonl")
    if "ftrace" in name:
        assert said.code == cli.MISTAKE
        assert "bad.jsonl has no last line, and only that says how large objects are" in said.err
    elif cut == "after the first line" and name[0] in ("follow", "why"):
        assert said.code == cli.MISTAKE
        assert "slabactors log stats bad.jsonl" in said.err
    else:
        assert said.code == cli.FINE, said.err
        assert "bad.jsonl has no end" in said.err or "bad.jsonl is not whole" in said.err
    if name[0] == "sql":
        steps = {"in a line": 19, "in a letter": 19, "after the first line": 0, "before its end": 20}[cut]
        assert said.out.split()[2] == str(steps)
    assert "itself failed" not in said.err


@pytest.mark.parametrize("name", [one for one in COMMANDS if one[0] != "why"], ids=" ".join)
@pytest.mark.parametrize(
    "line",
    [b'{"msg": "of another program"}', b"\x00\xff", b'{"event": "step", "actor": "\xff"}', b"[" * 100_000, b"[1]"],
    ids=["foreign", "binary", "no UTF-8", "deep", "array"],
)
def test_every_command_names_a_damaged_line(command, log, tmp_path, name, line):
    """And what it was to write is not there."""
    lines = log.read_bytes().splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_bytes(b"".join([*lines[:20], line + b"\n", *lines[20:]]))
    if name[0] == "sql" and line.startswith(b"{") and b"\xff" not in line:
        return  # what is JSON and no step is no row
    said = ask(command, name, "bad.jsonl")
    assert said.code == cli.MISTAKE
    assert "bad.jsonl, line 21, is not an event of a run" in said.err
    assert listing(tmp_path) == {"bad.jsonl"}


def test_a_line_that_why_comes_across_is_named(command, log, tmp_path):
    lines = log.read_bytes().splitlines(keepends=True)
    for broken in (b'"\xff"\n', lines[20][:30] + lines[0]):
        (tmp_path / "bad.jsonl").write_bytes(b"".join([*lines[:20], broken, *lines[20:]]))
        refused(command("log", "why", "bad.jsonl", 30, "--limit", 1000), "bad.jsonl, line 21, is not an event")


def test_what_has_no_lines_is_not_read_whole(process, tmp_path):
    """A disk image by mistake: ten gigabytes of nothing, in a process that may not hold one."""
    with (tmp_path / "disk.jsonl").open("wb") as file:
        file.truncate(10 << 30)

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (300_000_000, 300_000_000))

    for line in (["log", "stats"], ["log", "sql", "--query", "queue-attempts"], ["report"], ["replay"], ["why"]):
        said = process(*line[:2] if line[0] == "log" else line, "disk.jsonl", *line[2:], preexec_fn=little_memory)
        refused(said, "disk.jsonl")


@pytest.mark.parametrize("verb", ["replay", "why"])
def test_a_log_given_for_a_finding_is_known_as_one(command, log, verb):
    refused(command(verb, log), "is the log of a run, not a finding", f"slabactors log why {log} STEP")


def test_sql_leaves_nothing_where_somebody_types(command, log, tmp_path):
    """What does not fit in memory is in a directory of its own, which goes away."""
    rows = command("log", "sql", log, "SELECT current_setting('temp_directory') AS place", "--json").document
    place = Path(rows[0]["place"])
    assert not place.is_relative_to(tmp_path)
    assert place.is_absolute()
    assert not place.exists()


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name[0])
def test_a_log_that_is_not_there_is_refused(command, name):
    refused(ask(command, name, "nowhere.jsonl"), "nowhere.jsonl", "No such file")


def test_a_half_written_log_is_read_as_far_as_it_goes(command, log, tmp_path):
    data = log.read_bytes()
    (tmp_path / "half.jsonl").write_bytes(data[: len(data) // 2])
    said = command("log", "show", "half.jsonl", "--json")
    whole = [one["step"] for one in steps_of(log)]
    shown = [json.loads(line)["step"] for line in said.out.splitlines()]
    assert said.code == cli.FINE
    assert 5 < len(shown) < len(whole)
    assert shown == whole[: len(shown)]
    assert "half.jsonl has no end" in said.err
    assert command("log", "why", "half.jsonl", shown[-1]).code == cli.FINE


def test_a_damaged_line_is_named(command, log, tmp_path):
    lines = log.read_text().splitlines(keepends=True)
    lines[7] = lines[7].replace('"actor"', '"axtor"')
    (tmp_path / "bad.jsonl").write_text("".join(lines))
    said = command("log", "stats", "bad.jsonl")
    assert said.code == cli.MISTAKE
    assert "bad.jsonl, line 8" in said.err
    assert "actor" in said.err


def test_two_runs_in_one_file_are_told_apart(command, logs, tmp_path):
    (tmp_path / "bad.jsonl").write_text(logs["seed3"].read_text() + logs["seed4"].read_text())
    count = len(logs["seed3"].read_text().splitlines())
    for name in COMMANDS:
        said = ask(command, name, "bad.jsonl")
        assert said.code == cli.MISTAKE, name
        assert f"line {count + 1}, is of another run" in said.err
        assert f"split -l {count}" in said.err
    assert listing(tmp_path) == {"bad.jsonl"}


def test_a_second_run_is_found_wherever_it_begins(logs, tmp_path, monkeypatch):
    """Also where the bytes that tell it are in two of the blocks that are read."""
    text = logs["seed3"].read_text()
    (tmp_path / "both.jsonl").write_text(text + logs["seed4"].read_text())
    wanted = f"line {len(text.splitlines()) + 1}, is of another run"
    for block in range(len(text) - 30, len(text) + 30):
        monkeypatch.setattr(reader, "SCAN", block)
        with LogReader(tmp_path / "both.jsonl") as log, pytest.raises(LogFileError, match=wanted):
            log.check_alone()
        with LogReader(logs["seed3"]) as log:
            log.check_alone()


# -- long logs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_log_is_read_in_little_memory(process, log, tmp_path):
    """Two hundred thousand steps, fifty megabytes: every command works in a process that may not hold them."""
    first, *steps, end = log.read_text().splitlines()
    long = tmp_path / "long.jsonl"
    parsed = [json.loads(step) for step in steps]
    with long.open("w") as file:
        file.write(first + "\n")
        for number in range(200_000):
            step = dict(parsed[number % len(parsed)])
            step["step"], step["causes"] = number, [number - 1] if number else []
            file.write(json.dumps(step, separators=(",", ":")) + "\n")
        file.write(end + "\n")
    assert long.stat().st_size > 50_000_000

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (110_000_000, 110_000_000))

    for arguments, wanted in (
        (["show", "--from", 199_990], "#199990"),
        (["stats"], "200000 steps"),
        (["why", 150_000], "#149999"),
        (["diff", long], "The same 200000 steps."),
    ):
        verb, *rest = arguments
        said = process("log", verb, long, *rest, preexec_fn=little_memory)
        assert said.code == cli.FINE, said.err
        assert wanted in said.out
