"""The ``machine`` fixture, under every plugin that runs async tests; and searches on several processes at once."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from slabactors import cli
from tests.cli.conftest import PROGRAM
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


# -- replaying a failure -----------------------------------------------------------------------------------------------

FAILS = """
import anyio
import pytest

from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def pair(cpu, cache, note=None):
    return [await kmem_cache_alloc(cpu, cache), await kmem_cache_alloc(cpu, cache)]


async def two(m, note=None):
    dentry = await m.call(kmem_cache_create(m.cpus[0], "dentry", 192))
    return await m.call(pair(m.cpus[0], dentry, note))
"""


def sections(result):
    """What the plugin says about each failed test."""
    parts = re.split(r"^_{5,} (test_\w+) _{5,}$", result.stdout.str(), flags=re.MULTILINE)
    return {
        name: part.partition("- slabactors -")[2].partition("\n")[2]
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.fixture
def replay_line(pytester):
    """Type the line that a section says, and give what the command says and its exit code."""

    def run(section):
        [line] = re.findall(r"again: slabactors (replay .*)", section)
        done = pytester.run(*PROGRAM, *shlex.split(line))
        return done.stdout.str(), done.ret

    return run


def test_a_bug_that_a_test_has_found_live_replays_from_the_line_it_says(suite, replay_line):
    """What was called is in the file, functions of the test among it; pytest is not needed to see it again."""
    text = (
        FAILS
        + """
async def test_freed_twice(machine):
    async def free_all(objects, *, cpu):
        for obj in objects:
            await kmem_cache_free(cpu, obj)

    async with machine as m:
        objects = await two(m)
        await m.settle()
        await m.call(free_all(objects, cpu=m.cpus[1]))
        await m.call(free_all(objects[1:], cpu=m.cpus[0]))
"""
    )
    section = sections(suite(text, without=("asyncio", "trio")))["test_freed_twice"]
    assert section.startswith("double-free: double free of an object by free_all\n")
    out, code = replay_line(section)
    assert code == cli.BUG
    assert out.startswith("test_suite.py::test_freed_twice under v5: reproduced in ")
    assert "double-free: double free of an object by free_all\n" in out


@pytest.mark.parametrize("where", ["in the block", "after the block", "in a task group"])
def test_what_a_test_asserts_of_a_sound_machine_replays_up_to_there(suite, replay_line, pytester, where):
    """The run ends where the test has failed; the log of the replay says where it had waited for rest."""
    body = {
        "in the block": "        assert first is second",
        "after the block": "    assert first is second",
        "in a task group": """\
        async def look():
            assert first is second

        async with anyio.create_task_group() as group:
            group.start_soon(look)""",
    }[where]
    text = (
        FAILS
        + f"""
async def test_same(machine):
    async with machine as m:
        first, second = await two(m)
        await m.settle()
{body}
"""
    )
    result = suite(text, without=("asyncio", "trio"))
    assert "assert slab0[20] is slab0[19]" in result.stdout.str()
    section = sections(result)["test_same"]
    line = next(number for number, row in enumerate(text.strip().splitlines(), 1) if "assert first" in row)
    assert section.startswith(f"main raised AssertionError at test_suite.py:{line}: ")
    out, code = replay_line(section.replace("replay ", "replay --log run.jsonl "))
    assert code == cli.BUG
    assert f"exception: AssertionError at test_suite.py:{line} by main" in out
    steps = [json.loads(row) for row in (pytester.path / "run.jsonl").read_text().splitlines()][1:-1]
    assert [step["operation"] for step in steps if step["path"] == "main.2"] == ["call", "call", "settle", "settled"]


def test_what_cannot_be_replayed_is_said_with_the_reason(suite, pytester):
    """An object of the test's own as an argument, or a path that awaits the event loop."""
    text = (
        FAILS
        + """
async def test_own_object(machine):
    async with machine as m:
        first, _ = await two(m, object())
        await m.call(kmem_cache_free(m.cpus[0], first))
        await m.call(kmem_cache_free(m.cpus[0], first))


async def test_own_object_of_a_sound_machine(machine):
    async with machine as m:
        first, second = await two(m, object())
        assert first is second


async def test_event_loop(machine):
    async with machine as m:
        await m.call(anyio.sleep(0))
        assert not m


async def test_that_has_called_nothing(machine):
    async with machine as m:
        assert not m.cpus
"""
    )
    said = sections(suite(text, without=("asyncio", "trio")))
    reason = "<object object at 0x"
    assert "it cannot be replayed elsewhere: <object object at 0x" in said["test_own_object"]
    assert "double-free" in said["test_own_object"]
    assert said["test_own_object_of_a_sound_machine"].startswith(f"The live machine's run cannot be replayed: {reason}")
    assert said["test_event_loop"].startswith(
        "The live machine's run cannot be replayed: a path has awaited something of the event loop"
    )
    assert not said["test_that_has_called_nothing"]
    assert not list((pytester.path / ".pytest_cache" / "d").glob("slabactors/*.json"))


def test_a_file_says_so_when_the_test_has_changed(suite, replay_line, pytester):
    """A function that is gone is named; nothing else is run in its place."""
    text = (
        FAILS
        + """
async def test_same(machine):
    async with machine as m:
        first, second = await two(m)
        assert first is second
"""
    )
    section = sections(suite(text, without=("asyncio", "trio")))["test_same"]
    file = pytester.path / "test_suite.py"
    file.write_text(file.read_text().replace("pair(", "couple("))
    [line] = re.findall(r"again: slabactors (replay .*)", section)
    done = pytester.run(*PROGRAM, *shlex.split(line))
    assert done.ret == cli.MISTAKE
    assert "there is no pair in test_suite.py" in done.stderr.str()
    file.write_text("raise RuntimeError('no more')")
    done = pytester.run(*PROGRAM, *shlex.split(line))
    assert done.ret == cli.MISTAKE
    assert "test_suite.py cannot be imported: RuntimeError: no more" in done.stderr.str()


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
