"""A failure reads the same whoever runs the test; and what the next run needs of it is kept, or it is said why not."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.testing.test_live_plugin import LIVE, RUNNERS
from tests.testing.test_plugin import BREAKS, BROKEN, LINE, SUITE, _installed

pytest_plugins = ["pytester"]

FAILING = """
@interleavings(cpus=2, runs=300)
async def test_race(machine):
    await race(machine)


@interleavings(cpus=2, lifecycle=["repaired", "v5"], runs=300, runtimes=["sim"])
async def test_generations(machine):
    await race(machine)


@interleavings(runs=3)
async def test_an_assertion(machine):
    await race(machine)
    caches = [cache.name for cache in machine.caches]
    assert len(caches) == 7, "as many as were made"


@interleavings(lifecycle="repaired", exhaustive=True)
async def test_repaired(machine):
    await race(machine)
"""

STAYS = """
@interleavings(lifecycle="pre-patch", runs=20, runtimes=["sim", "asyncio", "trio"])
async def test_it_stays(machine):
    cpu = machine.cpus[0]
    dentry = await kmem_cache_create(cpu, "dentry", 192)
    web = await mem_cgroup_create(cpu, "web")
    obj = await kmem_cache_alloc(cpu, dentry, web)
    await mem_cgroup_rmdir(cpu, web)
    await kmem_cache_free(cpu, obj)
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """Write a suite and run it with some plugins left out, and nothing known of earlier runs unless asked."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text, *arguments, without=(), settings="", remember=False):
        if text:
            pytester.makepyfile(test_suite=text)
        if not remember:
            shutil.rmtree(pytester.path / ".pytest_cache", ignore_errors=True)
        scope = "" if "asyncio" in without else "asyncio_default_fixture_loop_scope = function\n"
        pytester.makeini(f"[pytest]\n{scope}{settings}\n")
        left_out = [word for name in without for word in ("-p", f"no:{name}")]
        plugin = () if _installed() else ("-p", "slabactors.pytest_plugin")
        return pytester.runpytest_subprocess(*plugin, "-q", *left_out, *arguments)

    return run


def failures_of(result):
    """What pytest says of the tests that failed, by name; only how long something took is left out."""
    out = result.stdout.str()
    section = out[out.index("= FAILURES =") : out.index("= short test summary")]
    parts = re.split(r"^_{3,} (\S+) _{3,}$", section, flags=re.MULTILINE)[1:]
    return {name: re.sub(r"\d+\.\d+ ?s\b", "N s", text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


# -- under every plugin ------------------------------------------------------------------------------------------------


def test_a_failed_search_reads_the_same_under_every_plugin(suite, pytester):
    """Word for word, from the summary over table, racing pair and seed to the line to paste; each plugin is at work."""
    told = {}
    for runner, (marker, without, settings) in RUNNERS.items():
        beside = LIVE[: LIVE.index("@RUNNER\n@pytest.mark.machine(lifecycle")]
        beside = beside.replace("@RUNNER\n", f"{marker}\n" if marker else "")
        if "anyio" in runner:
            beside += f"\n@pytest.fixture\ndef anyio_backend():\n    return {runner.split()[1]!r}\n"
        pytester.makepyfile(test_beside=beside)
        result = suite(SUITE + FAILING, without=without, settings=settings)
        result.assert_outcomes(failed=3, passed=3)
        told[runner] = failures_of(result)
    first = told["asyncio strict"]
    assert set(first) == {"test_race", "test_generations[v5]", "test_an_assertion"}
    for name in ("test_race", "test_generations[v5]"):
        assert "(seed 0)" in first[name]
        assert "   race: " in first[name]
        assert BREAKS.search(first[name])
        assert f"see it again: pytest 'test_suite.py::{name}' --slabactors-replay" in first[name]
    assert (
        "AssertionError: as many as were made\nE       assert 2 == 7\nE        +  where 2 = len(["
        in (first["test_an_assertion"])
    )
    for runner, failures in told.items():
        assert failures == first, runner


def test_what_searches_is_imported_after_collection_and_before_the_first_test(suite):
    """Or the first example that Hypothesis draws would take too long for its deadline."""
    text = """
import sys

collected = "slabactors.searching" in sys.modules


def test_it():
    assert not collected
    assert "slabactors.searching" in sys.modules
"""
    suite(SUITE + text).assert_outcomes(passed=1)


# -- live runs of a search ---------------------------------------------------------------------------------------------


def test_a_live_run_that_breaks_is_told_as_a_search_is(suite):
    """Its schedule is shrunken in the simulator; only how long that was and where it ran is told apart."""
    failures = failures_of(suite(SUITE + STAYS, "--slabactors-seed", "7"))
    texts = {}
    for runtime in ("sim", "asyncio", "trio"):
        text = failures[f"test_it_stays[{runtime}]"]
        heard = "" if runtime == "sim" else f", live on {runtime} (seed 7)"
        assert f"zombie: empty dead cache never destroyed{heard}" in text
        assert f"see it again: pytest 'test_suite.py::test_it_stays[{runtime}]' --slabactors-replay" in text
        table = text[text.index("- slabactors -") : text.index("see it again")]
        texts[runtime] = re.sub(r"   in .*replays?\)", "", table)
    assert "atomic_read(&params->nr_pages) == 0 = false [dentry(1:web).params]" in texts["sim"]
    assert texts["asyncio"] == texts["trio"] == texts["sim"]


def test_the_schedule_of_a_live_run_is_tried_first_replays_and_is_forgotten(suite, pytester):
    kept = pytester.path / ".pytest_cache" / "d" / "slabactors"
    only = ("-k", "trio")
    found = LINE.search(suite(SUITE + STAYS, *only).stdout.str())
    assert found is not None
    assert len(list(kept.glob("*.json"))) == 1
    assert "by a schedule that is known" in suite("", *only, remember=True).stdout.str()
    _, name, option, file = found[1].split()
    replayed = suite("", name.strip("'"), option, file, remember=True)
    replayed.assert_outcomes(failed=1)
    assert "by a schedule that is known" in replayed.stdout.str()
    hosted = STAYS.replace("    cpu =", "    import trio\n    await trio.sleep(0)\n    cpu =")
    told = suite(SUITE + hosted, *only, remember=True).stdout.str()
    assert "live on trio" in told
    assert "its schedule cannot be shown: " in told
    assert not list(kept.glob("*.json"))


def test_a_live_run_that_does_not_end_is_no_success(suite):
    text = """
from dataclasses import replace
from slabactors.scenario import scenario


@scenario(title="for ever")
async def endless(machine):
    cpu = machine.cpus[0]
    dentry = await kmem_cache_create(cpu, "dentry", 192)
    while True:
        await kmem_cache_free(cpu, await kmem_cache_alloc(cpu, dentry))


test_endless = interleavings(replace(endless, steps_max=200), runs=1, runtimes=["sim", "asyncio", "trio"])
"""
    result = suite(SUITE + text)
    result.assert_outcomes(failed=3)
    out = result.stdout.str()
    for where in ("some executions", "the run on asyncio", "the run on trio"):
        assert f"undetermined: {where} hit the bound on steps" in out


# -- a cache that is broken --------------------------------------------------------------------------------------------


def test_what_is_broken_among_the_kept_schedules_is_passed_over(suite, pytester):
    """Files that are none, half of one, one of another version, and a directory: the search is made as ever."""
    whole = suite(SUITE + BROKEN)
    kept = pytester.path / ".pytest_cache" / "d" / "slabactors"
    (file, *_) = kept.glob("*.json")
    text = file.read_text()
    file.unlink()
    (kept / "a.json").write_bytes(b"\x00\xff")
    (kept / "b.json").write_text(text[: len(text) // 2])
    (kept / "c.json").write_text(text.replace('"format_version": 1', '"format_version": 99'))
    (kept / "d.json").write_text("[1, 2]")
    (kept / "e.json").mkdir()
    again = suite("", remember=True)
    assert failures_of(again) == failures_of(whole)
    assert {one.name for one in kept.glob("?.json")} == {"e.json"}


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/cache"])
def test_a_schedule_that_cannot_be_kept_is_shown_all_the_same(suite, pytester, place):
    """Pytest warns of its own files; ours says with the report what to type."""
    (pytester.path / "file").write_text("mine")
    result = suite(SUITE + BROKEN, "-o", f"cache_dir={place}")
    result.assert_outcomes(failed=1)
    out = result.stdout.str()
    assert BREAKS.search(out)
    assert "INTERNALERROR" not in out
    assert "see it again" not in out
    assert "It will not be tried first the next time, for it cannot be kept: " in out
    assert "Keep it elsewhere: pytest -o cache_dir=DIR" in out
    assert (pytester.path / "file").read_text() == "mine"
    suite(
        (SUITE + BROKEN).replace("cpus=2,", "cpus=2, lifecycle='repaired',"), "-o", f"cache_dir={place}"
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00"])
def test_a_file_that_is_no_finding_is_refused_by_its_name(suite, pytester, text):
    (pytester.path / "finding.json").write_text(text)
    result = suite(SUITE + BROKEN, "--slabactors-replay", "finding.json")
    result.assert_outcomes(failed=1)
    assert "FindingFileError: finding.json is " in result.stdout.str()
    assert "explore SCENARIO --save DIR" in result.stdout.str()
