"""The page of a run: what is in its document, that nothing of a run can break it, and what mistakes are told of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from slabactors.cli.replay import opened, seen_again
from slabactors.report.html.caches import COLUMNS, Caches
from slabactors.report.html.document import CLOCK, JOINED, MET, OWN, STARTED
from slabactors.report.html.page import as_script
from slabactors.report.html.recording import of_finding, of_log
from slabactors.trace.reader import LogReader, name_of
from tests.cli.conftest import PROGRAM
from tests.docs.pages import ROOT
from tests.report.conftest import TARGET, document_in, typed


class Reader(HTMLParser):
    """Which elements a page has, and what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href") and value[:1] != "#"]


def series(document, cache, column):
    """When a column of a cache had which value."""
    [life] = [one for one in document["caches"] if one["name"] == cache]
    return life["series"][COLUMNS.index(column)]


def at(values, position):
    """The value of a series after a step."""
    return next((value for since, value in reversed(values) if since <= position), None)


# -- the document ------------------------------------------------------------------------------------------------------


def test_the_page_of_a_finding_tells_its_story(finding, page_of):
    document = document_in(page_of(finding))
    facts = dict(map(tuple, document["facts"]))
    assert document["title"] == f"{TARGET} under v5"
    assert facts["Lifecycle"] == "v5"
    assert "1 preemption" in facts["Schedule"]
    assert document["story"].startswith("Removing a memcg while another CPU frees the last object")
    assert document["protocol"].startswith("The founding patch")
    signature, message = document["bug"]
    assert signature == "freed-active-work: free of an active work item by kworker"
    assert message.startswith("ODEBUG: free active")
    assert "came before" in " ".join(document["pair"]["sentences"])


def test_the_step_that_broke_is_the_last_one_and_comes_after_what_it_met(finding, page_of):
    document = document_in(page_of(finding))
    steps, broke = document["steps"], document["broke"]
    assert broke == len(steps["number"]) - 1
    assert document["texts"][steps["does"][broke]] == "kfree(params)"
    causes = dict(map(tuple, steps["causes"][broke]))
    assert OWN in causes.values()
    assert MET in causes.values()


def test_the_rows_of_the_race_table_are_steps_of_the_run(finding, page_of):
    document = document_in(page_of(finding))
    table, steps = document["table"], document["steps"]
    for row in table["rows"]:
        lane = document["lanes"][steps["lane"][row["step"]]]
        assert lane["who"] == table["columns"][row["column"]]
        assert row["text"].startswith(document["texts"][steps["does"][row["step"]]])
    assert [row["step"] for row in table["rows"] if row["broke"]] == [document["broke"]]


def test_the_racing_pair_is_two_steps_of_the_run(finding, page_of):
    document = document_in(page_of(finding))
    steps = document["steps"]
    does = [document["texts"][steps["does"][step]] for step in document["pair"]["steps"]]
    assert does == ["atomic_sub_and_test(pages, &params->nr_pages)", "atomic_read(&params->nr_pages) == 0"]


def test_the_caches_of_a_finding_are_known_from_before_its_first_step(finding, page_of):
    document = document_in(page_of(finding))
    child = "dentry(1:web)"
    assert series(document, child, "state") == [[-1, "alive"], [2, "dead"]]
    assert series(document, child, "objects")[0] == [-1, 1]
    assert series(document, child, "pages")[0] == [-1, 4]
    assert at(series(document, child, "pages"), document["broke"]) == 0
    assert at(series(document, child, "work"), document["broke"]) == "running, queued"


def test_a_log_tells_the_same_of_a_cache_as_the_machine(finding, tmp_path):
    log = tmp_path / "again.jsonl"
    assert typed("replay", finding, "--log", log) == 1
    known, program = opened(finding)
    again, _ = seen_again(known, program)
    of_machine = Caches(of_finding(program, again)).lives["dentry(1:web)"].series
    with LogReader(log) as reader:
        logged = Caches(of_log(reader)).lives["dentry(1:web)"].series
    for column in ("state", "pages", "slabs", "objects", "work"):
        assert logged[column] == of_machine[column], column


def test_a_log_of_a_whole_life_ends_with_the_cache_destroyed(short_log, page_of):
    document = document_in(page_of(short_log))
    child = "dentry(1:web)"
    assert [state for _, state in series(document, child, "state")] == ["alive", "dead", "destroyed"]
    assert [pages for _, pages in series(document, child, "pages")] == [16, 8, 0, None]
    assert [objects for _, objects in series(document, child, "objects")] == [4, 3, 2, 1, 0, None]
    assert "running, timer armed" in [work for _, work in series(document, child, "work")]


def test_objects_that_a_recording_leaves_behind_are_still_in_use_in_the_end(long_log, page_of):
    document = document_in(page_of(long_log))
    [objects] = [total["series"] for total in document["totals"] if total["name"] == "Objects in use"]
    assert objects[-1][1] == 70
    [dead] = [total["series"] for total in document["totals"] if total["name"] == "Pages of dead caches"]
    assert max(pages for _, pages in dead) > 0
    assert dead[-1][1] == 0


def test_causes_say_why_one_path_comes_after_another(short_log, page_of):
    document = document_in(page_of(short_log))
    steps = document["steps"]
    reasons = {why for causes in steps["causes"] for _, why in causes}
    assert {OWN, STARTED, MET} <= reasons <= {OWN, STARTED, JOINED, MET, CLOCK}
    for later, causes in enumerate(steps["causes"]):
        for cause, why in causes:
            assert cause < later
            assert (why == OWN) == (steps["lane"][cause] == steps["lane"][later])


def test_every_path_has_one_lane(short_log, page_of):
    document = document_in(page_of(short_log))
    paths = [lane["path"] for lane in document["lanes"]]
    assert len(set(paths)) == len(paths)
    assert sorted(set(document["steps"]["lane"])) == list(range(len(paths)))
    assert "timer dentry(1:web).destroy" in [lane["who"] for lane in document["lanes"]]


def test_a_path_is_named_by_what_it_does_whatever_its_memcg_is_called():
    assert name_of("main.2/free.1") == "free"
    assert name_of("timer dentry(1:a/b).destroy.0") == "timer dentry(1:a/b).destroy"
    assert name_of("timer dentry(1:a/b).destroy.0/delayed_work_timer_fn.0") == "delayed_work_timer_fn"


def test_the_search_is_counted_from_the_campaign_beside_the_finding(finding, page_of):
    search = document_in(page_of(finding))["search"]
    assert search["campaign"]["executions"] == 300
    assert sum(executions for _, executions, _ in search["campaign"]["shares"]) == 300
    assert [own for *_, own in search["campaign"]["bugs"]].count(True) == 1


def test_a_finding_by_itself_has_no_counts_of_a_campaign(finding, tmp_path, page_of):
    alone = shutil.copy(finding, tmp_path / "alone.json")
    search = document_in(page_of(Path(alone), "alone"))["search"]
    assert search["campaign"] is None
    assert search["strategy"] == "portfolio"


def test_a_damaged_campaign_is_left_out(finding, tmp_path, page_of):
    alone = Path(shutil.copy(finding, tmp_path / "damaged.json"))
    (tmp_path / "campaign.sqlite").write_bytes(b"SQLite format 3\0" + b"no database" * 100)
    assert document_in(page_of(alone, "damaged"))["search"]["campaign"] is None


def test_a_zombie_that_no_step_has_shows_its_loop_or_its_last_steps(command, tmp_path):
    assert (
        command("explore", "dead-cache/emptied", "--lifecycle", "pre-patch", "--runs", 20, "--save", "found").code == 1
    )
    [file, *_] = sorted((tmp_path / "found").glob("*.json"))
    said = command("report", file)
    assert said.code == 0
    document = document_in(file.with_suffix(".html"))
    assert document["broke"] is None
    assert document["table"]["rows"]


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing(finding, page_of):
    text = page_of(finding).read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.loads == ["data:,"]
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text


NASTY = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>&amp;\u2028$title${policy}'\"`"


def nasty_log(file: Path) -> Path:
    """A log in which everything that can be named is called so that it would end a script."""
    step = {
        "event": "step", "step": 0, "act": 1, "jiffies": 0, "seconds": 0.0, "path": f"{NASTY}.0", "lane": NASTY,
        "actor": f"{NASTY}.params", "operation": NASTY, "does": NASTY, "args": [NASTY], "reply": {NASTY: NASTY},
        "causes": [], "changed": {NASTY: NASTY, "pages": 3},
    }  # fmt: skip
    run = {"event": "run", "schema": 2, "scenario": NASTY, "lifecycle": NASTY, "parameters": {NASTY: NASTY}}
    end = {"event": "end", "ending": "bug", "deliveries": 1, "jiffies": 0, "seconds": 0.0, "message": NASTY}
    lines = [run, step, end | {"signature": NASTY, "kind": "property"}]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def test_nothing_that_a_run_names_becomes_markup(tmp_path, page_of):
    page = page_of(nasty_log(tmp_path / "nasty.jsonl"))
    reader = Reader()
    reader.feed(page.read_text())
    assert reader.tags.count("script") == 2
    assert reader.tags.count("img") == 0
    document = document_in(page)
    assert document["caches"][0]["name"] == NASTY
    assert document["bug"] == [NASTY, NASTY]


def test_a_document_in_a_script_is_the_same_document():
    document = {"name": NASTY, "other": ["<", ">", "&", "é", "\U0001f41b", None, 1.5]}
    assert json.loads(as_script(document)) == document
    assert "<" not in as_script(document)
    assert as_script(document).isascii()


@pytest.mark.parametrize("kind", ["finding", "short_log"])
def test_the_same_input_gives_the_same_bytes(kind, request, tmp_path):
    file = request.getfixturevalue(kind)
    pages = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.html"
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"}
        subprocess.run([*PROGRAM, "report", file, "-o", target], env=environment, check=True, capture_output=True)
        pages.append(target.read_bytes())
    assert pages[0] == pages[1]


def test_the_wheel_has_what_the_page_is_made_of(tmp_path):
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    place = ROOT / "slabactors" / "report" / "html"
    for file in place.rglob("*"):
        if file.suffix in (".html", ".css", ".js", ".py"):
            assert file.relative_to(ROOT).as_posix() in packed


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_page_is_beside_its_input_unless_told_otherwise(command, finding, tmp_path):
    mine = Path(shutil.copy(finding, tmp_path / "mine.json"))
    said = command("report", mine)
    assert said.code == 0
    assert said.out.startswith(f"{mine.with_suffix('.html')}: {TARGET} under v5, 33 steps")
    assert mine.with_suffix(".html").is_file()


def test_one_json_document_says_where_the_page_is(command, short_log):
    said = command("report", short_log, "-o", "page.html", "--json")
    assert said.document["file"] == "page.html"
    assert said.document["steps"] == 104
    assert Path("page.html").stat().st_size == said.document["bytes"]


def test_a_log_of_a_run_that_was_stopped_shows_what_there_is(command, short_log, tmp_path):
    whole = short_log.read_bytes().splitlines(keepends=True)
    (tmp_path / "half.jsonl").write_bytes(b"".join(whole[:40]) + whole[40][:50])
    said = command("report", "half.jsonl")
    assert said.code == 0
    assert "half.jsonl is not whole" in said.err
    document = document_in(tmp_path / "half.html")
    assert len(document["steps"]["number"]) == 39
    assert "half.jsonl is not whole" in document["notes"][0]


def test_a_log_without_a_step_is_a_page_too(command, short_log, tmp_path):
    (tmp_path / "begun.jsonl").write_bytes(short_log.read_bytes().splitlines(keepends=True)[0])
    assert command("report", "begun.jsonl").code == 0
    assert document_in(tmp_path / "begun.html")["steps"]["number"] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "cannot read it.json: No such file or directory"),
        ("", "it.json is not a finding"),
        ("[1, 2]", "it.json is JSON but not a finding"),
        ('{"format": "slabactors-finding"', "it.json is not a finding"),
        ('{"event": "step"}\n', "it.json is not a log of a run"),
        ('{"event": "run", "schema": 1}\n', "it.json has schema 1"),
        ("\x7fELF\udce9", "it.json is not a finding"),
    ],
)
def test_what_is_neither_a_finding_nor_a_log_is_refused(command, tmp_path, text, found):
    if text is not None:
        (tmp_path / "it.json").write_bytes(text.encode(errors="surrogateescape"))
    said = command("report", "it.json")
    assert said.code == 2
    assert found in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "it.html").exists()


@pytest.mark.parametrize("name", [".", "/", "below"])
def test_a_directory_is_no_input(command, tmp_path, name):
    (tmp_path / "below").mkdir()
    said = command("report", name)
    assert said.code == 2
    assert "Is a directory" in said.err


def test_a_place_that_cannot_be_written_is_named(command, short_log):
    said = command("report", short_log, "-o", "missing/page.html")
    assert said.code == 2
    assert "cannot write missing/page.html: No such file or directory" in said.err
    assert "-o FILE" in said.err


def test_the_input_is_not_overwritten(command, short_log, tmp_path):
    mine = Path(shutil.copy(short_log, tmp_path / "mine.jsonl"))
    before = mine.read_bytes()
    said = command("report", mine, "-o", mine)
    assert said.code == 2
    assert "what the report is made of" in said.err
    assert mine.read_bytes() == before


def test_without_a_browser_the_page_is_written_and_a_note_says_so(command, short_log, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("webbrowser._tryorder", [])
    said = command("report", short_log, "-o", "page.html", "--open")
    assert said.code == 0
    assert said.err == "slabactors: no browser could be started here; open page.html in one.\n"
    assert Path("page.html").is_file()
