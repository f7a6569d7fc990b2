"""The pytest plugin, as a user's suite meets it: pytest runs in a process of its own, in an empty directory."""

from __future__ import annotations

import re
import sys

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from slabactors.actors import parallel, prepare
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.testing import interleavings


async def race(machine):
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    await parallel(cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"), cpu1.task(kmem_cache_free(cpu1, obj), "free"))

"""

BROKEN = """
@interleavings(cpus=2, runs=300)
async def test_race(machine):
    await race(machine)
"""

LINE = re.compile(r"see it again: (pytest .*)")


@pytest.fixture
def suite(pytester, monkeypatch):
    """Write a suite and run it; extra plugins as asked."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text, *arguments, ini=""):
        if text:
            pytester.makepyfile(test_suite=SUITE + text)
        pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{ini}")
        plugin = () if _installed() else ("-p", "slabactors.pytest_plugin")
        return pytester.runpytest_subprocess(*plugin, "-q", *arguments)

    return run


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(one.value == "slabactors.pytest_plugin" for one in entry_points(group="pytest11"))


def test_a_failing_test_shows_its_table_its_racing_pair_its_seed_and_what_to_type(suite):
    result = suite(BROKEN)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "freed-active-work: free of an active work item by kworker, in " in text
    assert "(seed 0)" in text
    assert "- slabactors -" in text
    assert "race: " in text
    assert "<-- breaks" in text
    assert LINE.search(text)
    assert "site-packages" not in text
    assert "simulated.py" not in text


def test_the_line_to_paste_shows_the_bug_again(suite, pytester):
    found = LINE.search(suite(BROKEN).stdout.str())
    assert found is not None
    _, name, option, file = found.group(1).split()
    again = suite("", name.strip("'"), option, file)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*by a schedule that is known*"])
    assert re.search(r"<--\s+breaks", again.stdout.str())


def test_what_failed_is_tried_first_and_forgotten_once_it_passes(suite, pytester):
    kept = pytester.path / ".pytest_cache" / "d" / "slabactors"
    suite(BROKEN)
    assert list(kept.glob("*.json"))
    suite("").stdout.fnmatch_lines(["*by a schedule that is known*"])
    repaired = BROKEN.replace("cpus=2", "cpus=2, lifecycle='repaired'")
    suite(repaired, "-p", "no:randomly").assert_outcomes(passed=1)
    assert list(kept.glob("*.json"))  # they are of another lifecycle
    harmless = BROKEN.replace("await race(machine)", "assert machine")
    suite(harmless).assert_outcomes(passed=1)
    assert not list(kept.glob("*.json"))


def test_an_assertion_of_the_test_is_shown_as_pytest_shows_them(suite):
    result = suite(
        """
@interleavings(runs=3)
async def test_counted(machine):
    await race(machine)
    caches = [cache.name for cache in machine.caches]
    assert caches == ["dentry"]
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['>       assert caches == ["dentry"]', "E*Left contains one more item*", "*slabactors*"]
    )
    text = result.stdout.str()
    assert "During handling" not in text
    assert "simulated.py" not in text


def test_lifecycles_and_runtimes_make_tests(suite):
    result = suite(
        """
@interleavings(lifecycle=["repaired", "v5"], runs=300, runtimes=["sim", "asyncio", "trio"])
async def test_race(machine):
    await race(machine)
""",
        "-vv",
        "-k",
        "repaired or sim",
    )
    outcomes = re.findall(r"test_race\[(.*?)\] (PASSED|FAILED)", result.stdout.str())
    assert {(frozenset(name.split("-")), outcome) for name, outcome in outcomes} == {
        (frozenset({"repaired", "sim"}), "PASSED"),
        (frozenset({"repaired", "asyncio"}), "PASSED"),
        (frozenset({"repaired", "trio"}), "PASSED"),
        (frozenset({"v5", "sim"}), "FAILED"),
    }
    result.assert_outcomes(passed=3, failed=1, deselected=2)


def test_fixtures_parameters_methods_and_drawn_data_reach_the_test(suite):
    result = suite(
        """
from hypothesis import given, settings, strategies as st


@pytest.mark.parametrize("number", [1, 2])
@interleavings(runs=3)
async def test_parameter(machine, number, tmp_path):
    assert tmp_path.is_dir()
    assert number in (1, 2)


class TestMethods:
    @interleavings(runs=3, cpus=4)
    async def test_method(self, machine, number=3):
        assert len(machine.cpus) == 4


@settings(max_examples=5, database=None)
@given(objects=st.integers(1, 3))
@interleavings(runs=3)
async def test_drawn(machine, objects):
    assert 1 <= objects <= 3


@settings(max_examples=20, database=None, derandomize=True)
@given(objects=st.integers(0, 9))
@interleavings(runs=3)
async def test_drawn_and_broken(machine, objects):
    assert objects < 5
"""
    )
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*objects = 5"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_it_lives_with_pytest_asyncio(suite, mode):
    """In both modes; anyio's plugin is there, too."""
    result = suite(
        BROKEN.replace("cpus=2", "cpus=2, lifecycle='repaired'")
        + """
from slabactors.testing import explore, explore_sync, verify


@pytest.mark.asyncio
async def test_awaited():
    (await explore("dead-cache/emptied", runs=20)).check()
    result = await verify("dead-cache/emptied")
    assert (result.verdict, result.exhaustive) == ("verified", True)


@pytest.mark.anyio
async def test_under_anyio():
    result = await explore(race, lifecycle="v5", runs=300)
    assert result.verdict == "broken"
    with pytest.raises(AssertionError, match="freed-active-work|use-after-free"):
        result.check()


def test_without_an_event_loop():
    explore_sync("dead-cache/emptied", runs=20).check()
""",
        ini=f"asyncio_mode = {mode}\n",
    )
    assert result.ret == 0, result.stdout.str()


def test_options_choose_seed_runs_and_profile(suite):
    text = """
seen = []


@interleavings(runs=8)
async def test_counted(machine):
    seen.append(1)


def test_seen():
    import sys
    print("seen", len(seen))
"""
    counts = {}
    for name, options in {
        "own": [],
        "runs": ["--slabactors-runs", "20"],
        "quick": ["--slabactors-profile", "quick"],
        "thorough": ["--slabactors-profile", "thorough"],
    }.items():
        out = suite(text, "-s", *options).stdout.str()
        counts[name] = int(re.search(r"seen (\d+)", out).group(1))
    least = counts["own"] - 8
    assert counts == {"own": 8 + least, "runs": 20 + least, "quick": 2 + least, "thorough": 160 + least}


def test_a_seed_repeats_a_search(suite):
    texts = []
    for _ in range(2):
        out = suite(BROKEN, "-p", "no:cacheprovider", "--slabactors-seed", "7").stdout.str()
        assert "(seed 7)" in out
        texts.append(out[out.index("- slabactors -") : out.index("short test summary")])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--slabactors-runs", "0"], "--slabactors-runs must be at least 1, not 0"),
        (["--slabactors-replay", "nowhere.json"], "there is no file nowhere.json"),
        (["--slabactors-profile", "endless"], "invalid choice: 'endless'"),
    ],
)
def test_wrong_options_are_refused(suite, arguments, fragment):
    result = suite(BROKEN, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert fragment in result.stderr.str()


def test_what_is_no_test_over_a_machine_is_refused(suite):
    result = suite("@interleavings\ndef test_plain(machine):\n    pass\n")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "@interleavings is for an async def over a machine, not test_plain" in result.stdout.str()


def test_the_plugin_imports_nothing_of_slabactors_until_a_test_does(pytester):
    """So that other suites do not pay for it."""
    pytester.makepyfile(
        """
import sys

def test_nothing_is_loaded():
    loaded = {name for name in sys.modules if name.startswith("slabactors")}
    assert loaded <= {"slabactors", "slabactors.pytest_plugin"}
    assert not {"anyio", "structlog", "msgspec", "cyclopts", "rich"} & set(sys.modules)
"""
    )
    plugin = [] if _installed() else ["-p", "slabactors.pytest_plugin"]
    result = pytester.runpytest_subprocess(*plugin, "-q", "-p", "no:anyio", "-p", "no:asyncio")
    assert result.ret == 0, result.stdout.str()
    assert sys.version_info >= (3, 11)
