"""``slabactors compare``: the table, the document, the pictures, and what it makes of mistakes."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli import compare as compare_command
from slabactors.lifecycle import SHIPPED_GENERATIONS
from slabactors.report import comparing, plotting
from slabactors.report.comparing import compare
from slabactors.report.plotting import drawn_digest, plot
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.cli.conftest import listing, refused

STORY = """
@scenario(title="freed twenty seconds after the removal", cpus=2)
async def leave(machine: Machine, *, seconds: int = 20) -> None:
    cpu0, cpu1 = machine.cpus
    box = await kmem_cache_create(cpu0, "box", 1000)
    group = await mem_cgroup_create(cpu0, "web")
    await memcg_create_kmem_cache(cpu0, box, group)
    held = await kmem_cache_alloc(cpu0, box, group)
    await mem_cgroup_rmdir(cpu0, group)
    await sleep(seconds * 1000)
    await kmem_cache_free(cpu1, held)
"""
IMPORTS = """\
from slabactors.actors import sleep
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario
"""
HOUR = "containers/come-and-go"
SHARED = ("v5.9", "v5.19", "v6.0-rc4", "v6.0", "v6.6")
"""Generations in which no group has caches of its own."""
SMALL = [word for name in ("containers=3", "minutes=4", "objects=6", "roots=2") for word in ("--set", name)]


@pytest.fixture
def leave(write) -> Path:
    return write(STORY, head=IMPORTS)


def both(*more: object) -> list[object]:
    return ["--lifecycle", "v3.8", "--lifecycle", "v4.0", "--runs", 3, *more]


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_lifecycle_and_the_bugs_below(command, leave):
    said = command("compare", leave, *both())
    assert said.code == BUG
    lines = [line.split() for line in said.out.splitlines()]
    [header] = [line for line in lines if line[:1] == ["lifecycle"]]
    rows = {line[0]: dict(zip(header, line, strict=True)) for line in lines if line[:1] in (["v3.8"], ["v4.0"])}
    wanted = {"broken": "3/3", "dead": "3", "never": "3", "median": "never", "p90": "never", "longest": "-"}
    assert wanted.items() <= rows["v3.8"].items()
    assert {"peak": "4", "end": "4", "page-seconds": "80"}.items() <= rows["v3.8"].items()
    wanted = {"broken": "0/3", "dead": "3", "never": "0", "median": "20.00", "p90": "20.00", "longest": "20.00"}
    assert wanted.items() <= rows["v4.0"].items()
    assert {"peak": "4", "end": "0", "page-seconds": "80"}.items() <= rows["v4.0"].items()
    assert "v3.8: zombie: empty dead cache never destroyed\n   in 3 runs, first with seed 0: " in said.out
    assert f"   see it again: slabactors run {leave} --lifecycle v3.8 --seed 0\n" in said.out
    assert "v4.0: " not in said.out


def test_what_it_says_to_type_shows_the_bug(command, leave):
    said = command("compare", leave, *both("--seed", 5, "--set", "seconds=7"))
    [again] = [line.partition("slabactors ")[2] for line in said.out.splitlines() if "see it again" in line]
    assert "--seed 5 --set seconds=7" in again
    assert "zombie: empty dead cache never destroyed" in command(*again.split()).out


def test_a_comparison_without_a_bug_ends_well(command, leave):
    said = command("compare", leave, "--lifecycle", "v4.0", "--lifecycle", "v5.3", "--runs", 2)
    assert said.code == FINE
    assert "see it again" not in said.out


def test_all_generations_are_compared_unless_some_are_named(command, leave):
    document = command("compare", leave, "--runs", 1, "--json").document
    assert [one["lifecycle"] for one in document["lifecycles"]] == list(SHIPPED_GENERATIONS)
    mutants = command("compare", leave, "--runs", 1, "--json", "--lifecycle", "v5-no-retry", "--lifecycle", "v5")
    assert [one["lifecycle"] for one in mutants.document["lifecycles"]] == ["v5-no-retry", "v5"]


def test_a_lifecycle_that_is_named_twice_is_played_once(command, leave):
    document = command("compare", leave, "--runs", 1, "--json", *["--lifecycle", "v4.0"] * 2).document
    assert len(document["lifecycles"]) == 1


def test_the_document_has_what_the_page_says(command, leave):
    document = command("compare", leave, *both("--json")).document
    assert {name: value for name, value in document.items() if name != "lifecycles"} == {
        "scenario": str(leave),
        "parameters": {},
        "seed": 0,
        "runs": 3,
        "time": "quiescent",
        "finished": True,
        "verdict": "broken",
    }
    merged, later = document["lifecycles"]
    [finding] = merged.pop("findings")
    assert finding.pop("message").startswith("box(0:web) is still there")
    assert finding == {
        "signature": "zombie: empty dead cache never destroyed", "kind": "zombie", "count": 3, "first_seed": 0
    }  # fmt: skip
    assert merged.pop("works") > 0
    assert merged.pop("messages") > 0
    assert merged == {
        "lifecycle": "v3.8",
        "release": "3.8, 2013-02-18: as released",
        "runs": 3,
        "broken": 3,
        "bounded": 0,
        "cut_short": 0,
        "at_rest": 3,
        "dead": 3,
        "destroyed": 0,
        "never": 3,
        "seconds_to_destruction": {"median": None, "p90": None, "longest": None},
        "pages": {"peak": 4, "end": 4, "page_seconds": 80.0},
        "pinned": [[0.0, 4, 4, 4]],
    }
    assert later["seconds_to_destruction"] == {"median": 20.0, "p90": 20.0, "longest": 20.0}
    assert later["pinned"] == [[0.0, 4, 4, 4], [20.0, 0, 0, 0]]
    assert later["findings"] == []


def test_the_same_seeds_give_the_same_bytes_in_several_processes_too(command, process):
    words = ["compare", HOUR, *SMALL, *both("--json", "--plot")]
    first = command(*words, "one.svg")
    second = process(*words, "two.svg", "--jobs", 2, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert first.out == second.out
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()


def test_findings_are_saved_and_can_be_replayed(command, leave):
    said = command("compare", leave, *both("--save", "findings"))
    [file] = [line.partition("replay ")[2] for line in said.out.splitlines() if "see it again" in line]
    assert listing(Path("findings")) == {Path(file).name}
    again = command("replay", file)
    assert again.code == BUG
    assert "zombie: empty dead cache never destroyed" in again.out


def test_ctrl_c_while_findings_are_shrunken_saves_the_best_of_each_and_another_one_those_that_are_done(
    command, leave, monkeypatch
):
    shorten, begun = compare_command.shorten_record, []

    def interrupted(*arguments, **options):
        begun.append(arguments)
        if len(begun) in at:
            os.kill(os.getpid(), signal.SIGINT)
        return shorten(*arguments, **options)

    monkeypatch.setattr(compare_command, "shorten_record", interrupted)
    words = ["--lifecycle", "pre-patch", "--lifecycle", "v3.8", "--lifecycle", "v3.10", "--runs", 2, "--save"]
    at = [1]
    said = command("compare", leave, *words, "once")
    assert (said.code, said.err, len(listing(Path("once")))) == (BUG, "", 3)
    begun.clear()
    at = [1, 2]
    said = command("compare", leave, *words, "twice")
    assert said.err == "slabactors: interrupted; 1 of 3 distinct bugs were saved.\n"
    assert (said.code, len(listing(Path("twice")))) == (BUG, 1)
    assert said.out.count("see it again: slabactors replay") == 1
    assert said.out.count("see it again: slabactors run") == 2


# -- the picture -------------------------------------------------------------------------------------------------------


def test_the_picture_opens(command, leave):
    said = command("compare", leave, *both("--plot", "compare.svg"))
    assert said.out.endswith("The plot is in compare.svg.\n")
    assert said.err == ""
    root = ElementTree.parse("compare.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert command("compare", leave, *both("--plot", "compare.PNG")).code == BUG
    head = Path("compare.PNG").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = struct.unpack(">II", head[16:24])
    assert wide > high > 500
    assert listing(Path()) == {"story.py", "compare.svg", "compare.PNG"}


def texts(svg: bytes) -> list[str]:
    """What a picture says: letters are drawn, and what they say is in a comment before them."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


@pytest.mark.parametrize("count", [1, 2, 5, len(SHIPPED_GENERATIONS)])
def test_the_picture_names_every_lifecycle_in_both_panels_and_what_stays(count):
    programs = [
        find(HOUR)
        .bind(lifecycle_name=name, settings={"containers": 3, "minutes": 4, "objects": 6, "roots": 2})
        .under(TimePolicy.QUIESCENT)
        for name in SHIPPED_GENERATIONS[:count]
    ]
    *_, comparison = compare(programs, runs=2)
    picture = plot(comparison, ".svg")
    said = texts(picture)
    for one in comparison.lifecycles:
        assert said.count(one.name) == 2, one.name
        if one.pages_left:
            assert f"{one.pages_left} pages stay" in said
        if one.never:
            assert f"{100 * one.never / one.dead:.0f}%" in said
    none_dies = [one.name for one in comparison.lifecycles if not one.dead]
    assert none_dies == [name for name in SHIPPED_GENERATIONS[:count] if name in SHARED]
    assert said.count("no cache dies") == 2 * len(none_dies)
    story = " ".join(said)
    assert "is a zombie: its pages stay" in story
    assert "seeds 0 to 1, containers=3, minutes=4, objects=6, roots=2." in story
    assert f"what is drawn: {drawn_digest(comparison)}" in picture.decode()


def test_the_picture_does_not_depend_on_the_users_own_style(command, leave):
    import matplotlib

    command("compare", leave, *both("--plot", "one.svg"))
    with matplotlib.rc_context():
        matplotlib.rcParams["axes.labelpad"] = 40
        matplotlib.rcParams["xtick.direction"] = "in"
        matplotlib.rcParams["font.size"] = 30
        matplotlib.rcParams["font.family"] = ["No Such Font"]
        said = command("compare", leave, *both("--plot", "two.svg"))
        assert matplotlib.rcParams["font.size"] == 30
    assert said.err == ""
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()


def test_a_digest_of_what_is_drawn_is_another_one_for_other_figures():
    def digest(**settings: object) -> str:
        bound = find(HOUR).bind(settings={"containers": 2, "minutes": 2, "objects": 4, "roots": 2, **settings})
        *_, comparison = compare([bound.under(TimePolicy.QUIESCENT)], runs=1)
        return drawn_digest(comparison)

    assert digest() == digest()
    assert digest() != digest(workload=1)


def test_runs_that_break_are_told_in_the_picture_and_below_the_table(command):
    """The figures are of the others, so that they look better than the lifecycle is."""
    words = ["dead-cache/rmdir-races-last-free", "--lifecycle", "v5", "--lifecycle", "v4.0", "--runs", 20]
    said = command("compare", *words, "--plot", "races.svg").out
    patch, later = command("compare", *words, "--json").document["lifecycles"]
    cut, rest = patch["cut_short"], patch["at_rest"]
    assert (cut > 1, rest > 1, cut + rest) == (True, True, 20)
    assert f"\nv5: {cut} of 20 runs cut short by a bug; the figures are of the {rest} that came to rest.\n" in said
    assert (later["cut_short"], said.count("cut short by a bug")) == (0, 1)
    drawn = texts(Path("races.svg").read_bytes())
    assert drawn.count(f"{cut} runs cut short by a bug") == 1
    assert "Runs that were cut short are counted and left out." in " ".join(drawn)


def test_a_lifecycle_of_which_no_run_came_to_rest_has_no_figures(command):
    """An hour in which a counter is set to zero behind the pages that it should have counted."""
    words = [HOUR, "--lifecycle", "verify-dead", "--runs", 1, "--plot", "hour.svg"]
    said = command("compare", *words).out
    [row] = [line.split() for line in said.splitlines() if line.startswith("verify-dead  ")]
    assert row[1:] == ["1/1", "0", "0", *["-"] * 8]
    assert "\nverify-dead: 1 of 1 run cut short by a bug; no run came to rest.\n" in said
    drawn = texts(Path("hour.svg").read_bytes())
    assert (drawn.count("no run came to rest"), drawn.count("1 run cut short by a bug")) == (2, 1)


def test_a_zombie_cuts_nothing_short(command, leave):
    said = command("compare", leave, *both("--plot", "p.svg")).out
    assert "cut short" not in said
    assert "cut short" not in Path("p.svg").read_text()


def test_nothing_of_matplotlib_is_imported_without_a_plot(leave):
    code = (
        "import sys; from slabactors.cli import run;"
        f"run(['compare', {str(leave)!r}, '--lifecycle', 'v4.0', '--runs', '1']);"
        "sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_display_is_not_asked_for(process, leave):
    said = process("compare", leave, *both("--plot", "p.png"), env={**os.environ, "MPLBACKEND": "TkAgg", "DISPLAY": ""})
    assert (said.code, said.err) == (BUG, "")


# -- mistakes and interruptions ----------------------------------------------------------------------------------------


def test_mistakes_are_told_before_anything_is_run(command, leave, monkeypatch):
    monkeypatch.setattr(comparing, "play", lambda *_: pytest.fail("something was run"))
    refused(command("compare", leave, "--lifecycle", "v3.7"), "unknown lifecycle 'v3.7'; did you mean 'v3.", "Known: ")
    refused(command("compare", "no/such"), "unknown scenario 'no/such'")
    refused(command("compare", leave, "--set", "nonsense=1"), "unknown parameter")
    refused(command("compare", leave, "--runs", 0), "--runs must be at least 1, not 0", "--runs 20")
    refused(command("compare", leave, "--seeds", -1), "--runs must be at least 1, not -1")
    refused(command("compare", leave, "--jobs", 0), "--jobs must be from 1 to")
    refused(command("compare", leave, "--plot", "p.pdf"), "end in .svg or .png, found 'p.pdf'", "--plot p.svg")
    refused(command("compare", leave, "--plot", "plot"), "found 'plot'", "--plot plot.svg")
    refused(command("compare", leave, "--plot", "no/such/p.svg"), "cannot write no/such/p.svg: No such file")
    Path("d.svg").mkdir()
    refused(command("compare", leave, "--plot", "d.svg"), "cannot write d.svg: Is a directory", "--plot FILE")
    refused(command("compare", leave, "--save", leave), "cannot write findings")
    assert listing(Path()) == {"story.py"}


def test_without_matplotlib_it_says_what_to_install(command, leave, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(command("compare", leave, *both("--plot", "p.svg")), "pip install 'slabactors[plot]'")
    assert command("compare", leave, *both()).code == BUG


def test_ctrl_c_gives_what_there_is(command, leave, monkeypatch):
    play, played = comparing.play, []

    def interrupted(program, seed):
        if len(played) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        played.append(seed)
        return play(program, seed)

    monkeypatch.setattr(comparing, "play", interrupted)
    words = ["--lifecycle", "v4.0", "--lifecycle", "v5.3", "--runs", 50, "--plot", "p.svg", "--json"]
    said = command("compare", leave, *words)
    assert said.code == UNDETERMINED
    assert said.err == "slabactors: interrupted after 3 runs; this is what there is so far.\n"
    assert (said.document["finished"], said.document["verdict"]) == (False, "undetermined")
    assert [one["runs"] for one in said.document["lifecycles"]] == [2, 1]
    assert ", interrupted." in Path("p.svg").read_text()


def test_ctrl_c_before_the_first_run_gives_no_picture(command, leave, monkeypatch):
    def at_once(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        yield comparing.Comparison([find(str(leave)).bind()], 0, 3)

    monkeypatch.setattr("slabactors.cli.compare.compare", at_once)
    said = command("compare", leave, *both("--plot", "p.svg"))
    assert said.code == UNDETERMINED
    assert "interrupted after 0 runs" in said.err
    assert listing(Path()) == {"story.py"}


def test_a_run_that_hits_the_bound_on_steps_is_said_to(command, leave, write):
    short = write(STORY.replace("cpus=2", "cpus=2, steps_max=30"), head=IMPORTS)
    said = command("compare", short, "--lifecycle", "v4.0", "--runs", 2)
    assert said.code == UNDETERMINED
    assert "2 runs hit the bound on steps." in said.out
    document = command("compare", short, "--lifecycle", "v4.0", "--runs", 2, "--json", "--plot", "p.svg").document
    assert document["lifecycles"][0]["bounded"] == 2
    assert (document["lifecycles"][0]["at_rest"], document["lifecycles"][0]["cut_short"]) == (0, 0)
    drawn = Path("p.svg").read_text()
    assert "no run came to rest" in drawn
    assert "2 runs hit the bound -->" in drawn
    assert "by a bug" not in drawn + said.out


def test_formats_are_those_that_can_be_written():
    assert plotting.FORMATS == (".svg", ".png")
