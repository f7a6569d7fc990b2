"""The ``machine`` fixture, under every plugin that runs async tests; and searches on several processes at once."""

from __future__ import annotations

import re

import pytest

from tests.testing.test_plugin import BROKEN, SUITE, _installed

pytest_plugins = ["pytester"]

LIVE = """
import pytest
from slabactors.live import Failed
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free


async def freed_later(machine):
    async with machine as m:
        cpu = m.cpus[0]
        dentry = await m.call(kmem_cache_create(cpu, "dentry", 192))
        web = await m.call(mem_cgroup_create(cpu, "web"))
        obj = await m.call(kmem_cache_alloc(cpu, dentry, web))
        await m.settle()
        await m.call(mem_cgroup_rmdir(cpu, web))
        await m.call(kmem_cache_free(cpu, obj))
        await m.settle()
        assert dict(m.destroyed)


@RUNNER
async def test_it_goes_away(machine):
    await freed_later(machine)


@RUNNER
@pytest.mark.machine(lifecycle="pre-patch")
async def test_it_stays(machine):
    await freed_later(machine)


@RUNNER
async def test_an_assertion(machine):
    async with machine as m:
        assert len(m.cpus) == 4


@RUNNER
async def test_an_exception_of_a_path(machine):
    async def careless(cpu):
        raise LookupError("no such thing")

    async with machine as m:
        with pytest.raises(LookupError):
            await m.call(careless(m.cpus[0]))


@pytest.mark.machine(cpus=3, jitter=0.5)
class TestOptions:
    @RUNNER
    async def test_of_the_class(self, machine):
        async with machine as m:
            assert len(m.cpus) == 3

    @RUNNER
    @pytest.mark.machine(cpus=1, seed=7)
    async def test_of_its_own(self, machine):
        async with machine as m:
            assert len(m.cpus) == 1


def test_that_does_not_enter_it(machine):
    pass
"""

RUNNERS = {
    "asyncio strict": ("@pytest.mark.asyncio", ("anyio", "trio"), "asyncio_mode = strict"),
    "asyncio auto": ("", ("anyio", "trio"), "asyncio_mode = auto"),
    "anyio asyncio": ("@pytest.mark.anyio", ("asyncio", "trio"), ""),
    "anyio trio": ("@pytest.mark.anyio", ("asyncio", "trio"), ""),
    "trio": ("@pytest.mark.trio", ("asyncio", "anyio"), ""),
    "trio mode": ("", ("asyncio", "anyio"), "trio_mode = true"),
}
"""What marks a test, which plugins keep out of it, and the settings."""


@pytest.fixture
def suite(pytester, monkeypatch):
    """Write a suite and run it with some plugins left out."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text, *arguments, without=(), settings=""):
        if text:
            pytester.makepyfile(test_suite=text)
        scope = "" if "asyncio" in without else "asyncio_default_fixture_loop_scope = function\n"
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{scope}{settings}\n")
        left_out = [word for name in without for word in ("-p", f"no:{name}")]
        plugin = () if _installed() else ("-p", "slabactors.pytest_plugin")
        return pytester.runpytest_subprocess(*plugin, "-q", *left_out, *arguments)

    return run


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_fixture_works_under_every_plugin_and_failures_read_the_same(suite, runner):
    """The machine brings no event loop of its own; warnings are errors, so that nothing is left open."""
    marker, without, settings = RUNNERS[runner]
    text = LIVE.replace("@RUNNER", marker) if marker else re.sub(r" *@RUNNER\n", "", LIVE)
    backend = "trio" if "trio" in runner else "asyncio"
    if "anyio" in runner:
        text += f"\n@pytest.fixture\ndef anyio_backend():\n    return {backend!r}\n"
    result = suite(text, without=without, settings=settings)
    result.assert_outcomes(passed=5, failed=2)
    out = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*_ test_it_stays* _*",
            f"zombie: empty dead cache never destroyed, live on {backend} (seed 0)",
            "dentry(1:web) is still there when nothing has moved for two retry periods: *",
            "*- slabactors -*",
            "zombie: empty dead cache never destroyed",
            "   in 1 execution, first in number 0; shrunk from * steps to 0 with 0 preemptions (* replays)",
            "*kmem_cache_alloc * mem_cgroup_rmdir *",
            "*params->dead = true*",
            "*_ test_an_assertion* _*",
        ]
    )
    assert "assert 2 == 4" in out
    assert out.count("- slabactors -") == 1
    assert "slabactors/live.py" not in out
    assert "was never awaited" not in out


def test_under_anyios_plugin_a_test_runs_on_both_event_loops(suite):
    text = LIVE.replace("@RUNNER", "@pytest.mark.anyio")
    result = suite(text, "-vv", without=("asyncio", "trio"))
    names = set(re.findall(r"test_it_goes_away\[(\w+)\] PASSED", result.stdout.str()))
    assert names == {"asyncio", "trio"}


def test_a_failure_among_others_keeps_its_report(suite):
    """What a block has raised beside a bug comes out in a group; both are shown."""
    text = """
import pytest
from slabactors.errors import KernelBug
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free


@pytest.mark.anyio
async def test_both(machine):
    async with machine as m:
        cpu = m.cpus[0]
        dentry = await m.call(kmem_cache_create(cpu, "dentry", 192))
        obj = await m.call(kmem_cache_alloc(cpu, dentry))
        await m.call(kmem_cache_free(cpu, obj))
        try:
            await m.call(kmem_cache_free(cpu, obj))
        except KernelBug:
            raise LookupError("something else")


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
    result = suite(text, without=("asyncio", "trio"))
    result.assert_outcomes(failed=1)
    out = result.stdout.str()
    assert "LookupError: something else" in out
    result.stdout.fnmatch_lines(["*- slabactors -*", "double-free: double free of an object by kmem_cache_free"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("cpu=4", "unknown parameter of live-machine 'cpu'; did you mean 'cpus'"),
        ("'v5'", "expected options by name, found 'v5'"),
    ],
)
def test_options_that_do_not_fit_are_refused(suite, marker, message):
    text = f"""
import pytest

@pytest.mark.anyio
@pytest.mark.machine({marker})
async def test_it(machine):
    async with machine:
        pass
"""
    result = suite(text, without=("asyncio", "trio"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert message in result.stdout.str()


def test_the_seed_of_the_command_line_goes_to_live_machines(suite):
    text = LIVE.replace("@RUNNER", "@pytest.mark.anyio")
    result = suite(text, "--slabactors-seed", "9", "-k", "stays", without=("asyncio", "trio"))
    assert "(seed 9)" in result.stdout.str()


def test_the_marker_is_known_and_the_first_parameter_of_a_search_is_no_fixture(suite):
    """A machine under ``@interleavings`` is simulated, and made anew for each execution."""
    text = (
        SUITE
        + """
@interleavings(runs=3)
async def test_searched(machine):
    assert type(machine).__name__ == "Machine"


@pytest.mark.anyio
@pytest.mark.machine(cpus=1)
async def test_live(machine):
    async with machine as m:
        assert type(m).__name__ == "LiveMachine"
"""
    )
    result = suite(text, "--strict-markers", without=("asyncio", "trio"))
    result.assert_outcomes(passed=3)
    assert "@pytest.mark.machine(lifecycle=, seed=" in suite("", "--markers").stdout.str()


# -- on several processes ----------------------------------------------------------------------------------------------


def test_under_xdist_schedules_are_kept_and_tried_first(suite, pytester):
    """Whichever process a test comes to the next time; and what passes is forgotten there, too."""
    text = SUITE + BROKEN + BROKEN.replace("test_race", "test_another_race").replace("cpus=2", "cpus=2, seed=5")
    options = ("-n", "2")
    kept = pytester.path / ".pytest_cache" / "d" / "slabactors"
    first = suite(text, *options, without=("trio",))
    first.assert_outcomes(failed=2)
    assert first.stdout.str().count("- slabactors -") == 2
    assert len(list(kept.glob("*.json"))) >= 2
    again = suite("", *options, without=("trio",))
    again.assert_outcomes(failed=2)
    assert again.stdout.str().count("by a schedule that is known") >= 2
    line = re.search(r"see it again: pytest '(.*?)' --slabactors-replay (\S+)", again.stdout.str())
    assert line is not None
    replayed = suite("", line.group(1), "--slabactors-replay", line.group(2), without=("trio",))
    replayed.assert_outcomes(failed=1)
    harmless = suite(text.replace("await race(machine)", "assert machine"), *options, without=("trio",))
    harmless.assert_outcomes(passed=2)
    assert not list(kept.glob("*.json"))


def test_under_xdist_live_machines_fail_with_their_reports(suite):
    text = LIVE.replace("@RUNNER", "@pytest.mark.anyio")
    result = suite(text, "-n", "2", without=("asyncio", "trio"))
    result.assert_outcomes(passed=9, failed=4)
    assert result.stdout.str().count("- slabactors -") == 2
