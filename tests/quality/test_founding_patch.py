"""The bugs of the founding patch that must be found, and how they must be told."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from slabactors import cli
from slabactors.errors import Kind
from slabactors.scenario import find, shipped
from slabactors.trace.race_table import ROWS_MAX
from tests.support import smaller

STORY = "dead-cache/rmdir-races-last-free"
RUNS = 20_000


@dataclass(frozen=True)
class Said:
    """What a command did, with ``--json``."""

    code: int
    document: Any


@pytest.fixture
def ask(capsys):
    """A command with ``--json``, in this process."""

    def go(*arguments: object) -> Said:
        capsys.readouterr()
        code = cli.run([*map(str, arguments), "--json"])
        return Said(code, json.loads(capsys.readouterr().out))

    return go


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """What 20,000 runs of the founding patch find, with the findings' files.

    By the default strategy its five bugs are hit by 1 in 4, 1 in 50, 1 in 120, 1 in 300 and 1 in 500 runs: 20,000 runs
    miss the rarest of these with p < 1e-13.
    """
    directory = tmp_path_factory.mktemp("found")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = cli.run(["explore", STORY, "--lifecycle", "v5", "--runs", str(RUNS), "--save", str(directory), "--json"])
    return Said(code, json.loads(out.getvalue()))


def test_the_founding_patch_is_broken_in_several_ways(explored):
    """Five distinct bugs of three kinds; three of them, each at another step, are uses after free."""
    assert explored.code == cli.BUG
    document = explored.document
    assert (document["verdict"], document["executions"], document["lifecycle"]) == ("broken", RUNS, "v5")
    findings = document["findings"]
    assert len({one["signature"] for one in findings}) == len(findings) >= 5
    kinds = Counter(Kind(one["kind"]) for one in findings)
    assert kinds >= Counter({Kind.FREED_ACTIVE_WORK: 1, Kind.UNINITIALISED_WORK: 1, Kind.USE_AFTER_FREE: 3})
    assert all(document["sometimes"].values())


def test_every_table_is_short_and_shows_the_step_that_breaks(explored):
    """At most twelve rows, in the order of time, by more than one path, and the last of them is where it broke."""
    for finding in explored.document["findings"]:
        rows = finding["steps"]
        assert 2 <= len(rows) <= ROWS_MAX == 12
        assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
        assert [row["broke"] for row in rows] == [False] * (len(rows) - 1) + [True]
        assert rows[-1]["step"] == len(finding["schedule"]) - 1
        assert len({row["who"] for row in rows}) >= 2
        assert all(row["what"] for row in rows)


def test_every_finding_is_seen_again_from_its_file(explored, ask):
    """Replay shows the same bug in as many steps as the schedule has; why tells a chain that ends where it broke."""
    for finding in explored.document["findings"]:
        again = ask("replay", finding["file"])
        assert again.code == cli.BUG
        assert again.document["reproduced"] is True
        assert again.document["signature"] == finding["signature"]
        assert again.document["deliveries"] == len(finding["schedule"])
        assert again.document["steps"] == finding["steps"]
        told = ask("why", finding["file"])
        assert told.code == cli.BUG
        chain = told.document["chain"]
        assert chain[-1]["step"] == len(finding["schedule"]) - 1
        assert chain[-1]["step"] == finding["steps"][-1]["step"]
        assert chain[-1]["because"], "what broke it must follow from what another path did"
        assert told.document["steps"] == finding["steps"]


SHRUNKEN = {
    "freed-active-work: free of an active work item by kworker": (1, 33),
    "uninitialised-work: queueing of an uninitialised work item by free": (1, 13),
    "use-after-free: work.is_pending after free by free": (1, 32),
    "use-after-free: memcg_cache_params.is_dead after free by free": (1, 31),
    "use-after-free: work.test_and_set_pending after free by free": (2, 33),
}
"""What each bug takes: preemptions, which is proved to be the fewest, and steps."""


def test_each_bug_shrinks_to_what_it_takes(explored):
    """One preemption, and two for the last; all schedules with fewer were explored."""
    findings = explored.document["findings"]
    assert {one["signature"]: (one["preemptions"], len(one["schedule"])) for one in findings} == SHRUNKEN
    assert all(one["preemptions_minimum"] for one in findings)


def test_each_report_names_two_steps_whose_other_order_is_harmless(explored):
    """Of different paths, in a run that was really made."""
    for finding in explored.document["findings"]:
        pair = finding["racing_pair"]
        assert pair["reversed"] == "clean"
        assert pair["first"]["who"] != pair["second"]["who"]
        assert pair["first_difference"]["what"] != pair["first_difference"]["instead"]


# -- the repair --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(shipped()))
def test_the_repair_is_clean(ask, target):
    """No bug in 700 runs: one that 1 in 50 shows is missed with p < 1e-6.

    Where v5 is broken, more than 1 in 4 random runs of the same story show it.
    """
    said = ask("explore", target, "--lifecycle", "repaired", "--runs", 700, "--seed", 1, *smaller(target))
    assert said.code == cli.FINE
    assert said.document["verdict"] == "clean"
    assert said.document["findings"] == []
    assert said.document["bounded"] == 0
    assert said.document["sometimes"]["hung_task: a memcg with a child cache went offline"]
    assert said.document["sometimes"]["debugobjects: a work item ran"]


RACELESS = ["dead-cache/emptied", "dead-cache/freed-later", "dead-cache/reaper"]
RARE = ["containers/come-and-go"]
"""Hardly ever two things meet in it: it shows what is left behind, and breaks v5 in few runs."""


@pytest.mark.parametrize("target", [name for name in shipped() if name not in [*RACELESS, *RARE]])
def test_the_same_stories_break_the_founding_patch(ask, target):
    """More than 1 in 4 random runs shows a bug of v5: 100 miss them all with p < 1e-12."""
    said = ask("explore", target, "--lifecycle", "v5", "--strategy", "random", "--runs", 100, "--seed", 1)
    assert said.code == cli.BUG


@pytest.mark.parametrize("target", RACELESS)
def test_the_founding_patch_does_what_it_is_for(ask, target):
    """Where nothing races, the patch is fine: 300 runs show no bug."""
    said = ask("explore", target, "--lifecycle", "v5", "--runs", 300, "--seed", 1)
    assert (said.code, said.document["verdict"]) == (cli.FINE, "clean")


# -- before and after the patch ----------------------------------------------------------------------------------------


def end_of(path) -> dict[str, Any]:
    """The last line of a log, and its only child cache."""
    return json.loads(path.read_text().splitlines()[-1])


@pytest.mark.parametrize("target", ["dead-cache/emptied", "dead-cache/freed-later"])
def test_before_the_patch_a_dead_cache_stays_for_ever(ask, tmp_path, target):
    """A zombie in every run: dead, empty of objects, with pages, and no work pending to come back for them."""
    for seed in range(5):
        said = ask("run", target, "--lifecycle", "pre-patch", "--seed", seed, "--log", tmp_path / "run.jsonl")
        assert said.code == cli.BUG
        assert said.document["finding"]["kind"] == "zombie"
        (child,) = [cache for cache in end_of(tmp_path / "run.jsonl")["caches"] if "(" in cache["cache"]]
        assert (child["state"], child["work_pending"], child["seconds_to_destruction"]) == ("dead", False, None)
        assert child["pages"] > 0
    found = ask("explore", target, "--lifecycle", "pre-patch", "--runs", 50).document["findings"]
    assert [(one["kind"], one["count"]) for one in found] == [("zombie", 50)]
    assert len(found[0]["steps"]) <= ROWS_MAX


@pytest.mark.parametrize(("target", "seconds"), [("dead-cache/emptied", 0), ("dead-cache/freed-later", 60)])
def test_with_the_patch_it_goes_away(ask, tmp_path, target, seconds):
    """Destroyed at once when it is empty, and by the minute's retry when its objects are freed later."""
    for seed in range(5):
        said = ask("run", target, "--lifecycle", "v5", "--seed", seed, "--log", tmp_path / "run.jsonl")
        assert said.code == cli.FINE
        end = end_of(tmp_path / "run.jsonl")
        assert end["ending"] == "done"
        (child,) = [cache for cache in end["caches"] if "(" in cache["cache"]]
        assert child["state"] == "destroyed"
        assert child["seconds_to_destruction"] == pytest.approx(seconds, abs=0.5)
        assert end["seconds"] >= child["seconds_to_destruction"]


def test_the_minute_of_the_retry_is_what_a_late_free_waits_for(ask):
    """Freed after 20 seconds or after 50, it goes at the first retry; after 70, at the second."""
    for freed, gone in ((20, 60), (50, 60), (70, 120)):
        said = ask("run", "dead-cache/freed-later", "--set", f"seconds={freed}")
        (child,) = [cache for cache in said.document["caches"] if "(" in cache["cache"]]
        assert child["seconds_to_destruction"] == pytest.approx(gone, abs=1)


def test_the_allocators_own_reserve_decides_whether_a_free_gives_the_slab_back(ask):
    """With SLUB's own ``min_partial`` only a shrink empties the cache, and the last free does not race the work."""
    said = ask("explore", STORY, "--set", "min_partial=5", "--runs", 300)
    assert (said.code, said.document["findings"]) == (cli.FINE, [])
    assert find(STORY).parameters["min_partial"].default == 0
