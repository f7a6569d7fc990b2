"""A search by several processes finds what one process finds, whatever becomes of the processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from slabactors.errors import KernelBug, Kind, NondeterminismError, UnknownName, UsageError, WorkersLost
from slabactors.explore.campaign import BLOCK, Plan, SearchResult, run_block, search
from slabactors.explore.crew import RETRIES_MAX, Processes
from slabactors.explore.parallel import search_parallel
from slabactors.explore.strategy import STRATEGIES
from slabactors.scenario import Scenario, find
from tests.explore.micro import Micro
from tests.explore.programs import PROGRAMS, SmallProgram

MICRO = Micro("v5", 2, 2)


def ended(results) -> SearchResult:
    """The last result, without how long it took."""
    *_, result = results
    result.seconds = 0
    return result


def alone(program, **options) -> SearchResult:
    """What one process finds."""
    return ended(search(program, **options))


# -- the same sum ------------------------------------------------------------------------------------------------------


def nobody_is_left() -> None:
    """All processes have ended.  A pool's own thread may be reaping one at this moment, and has not said so yet."""
    started = time.monotonic()
    while multiprocessing.active_children() and time.monotonic() - started < 10:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("runs", [1, 2 * BLOCK + 7])
def test_an_executor_finds_what_one_process_finds(strategy, runs):
    """Executions, steps, bugs, counts, the first execution of each and its choices; with every strategy."""
    with ThreadPoolExecutor(3) as executor:
        many = ended(search_parallel(MICRO, executor=executor, jobs=3, strategy=strategy, runs=runs, seed=5))
    assert many == alone(MICRO, strategy=strategy, runs=runs, seed=5)
    assert (many.executions, many.finished) == (runs, True)
    assert list(many.found) == sorted(many.found, key=lambda name: many.found[name].execution)


@pytest.mark.parametrize("name", ["chosen free", "lost update", "guarded"])
def test_every_program_adds_up(name):
    """Also those with choices, timers and guards, and what some run has reached."""
    with ThreadPoolExecutor(2) as executor:
        many = ended(search_parallel(PROGRAMS[name], executor=executor, runs=1000, seed=1))
    assert many == alone(PROGRAMS[name], runs=1000, seed=1)
    assert many.all_reached


def test_the_sum_does_not_depend_on_the_order_of_the_parts():
    """Blocks come back in any order; the first execution of a bug stays the first."""
    plan = Plan("random", 2, 5 * BLOCK)
    parts = []
    for block in range(plan.blocks):
        *_, part = run_block(PROGRAMS["chosen free"], plan, block)
        parts.append(part)
    sums = []
    for seed in range(20):
        total = SearchResult()
        for part in random.Random(f"order {seed}").sample(parts, len(parts)):
            total.add(part)
        sums.append(total)
    assert all(one == sums[0] and list(one.found) == list(sums[0].found) for one in sums)
    assert sums[0].found == alone(PROGRAMS["chosen free"], runs=5 * BLOCK, seed=2).found
    assert sums[0].found


@pytest.mark.slow
def test_processes_of_our_own_find_what_one_process_finds():
    """Started afresh, with nothing of this one in them but what they were sent; none of them is left."""
    program = find("dead-cache/rmdir-races-last-free").bind(settings={"cpus": 3})
    options = {"runs": 5 * BLOCK + 1, "seed": 9, "strategy": "portfolio"}
    assert ended(search_parallel(program, jobs=2, **options)) == alone(program, **options)
    nobody_is_left()


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_scenario_is_found_again_where_it_is_sent(tmp_path, monkeypatch):
    """By its file and name, with its own settings; a lifecycle of a file keeps the name it was given."""
    (tmp_path / "story.py").write_text(
        "from slabactors.scenario import Machine, scenario\n\n"
        '@scenario(title="one", cpus=3)\nasync def one(machine: Machine, *, objects: int = 1) -> None:\n    pass\n'
    )
    (tmp_path / "mine.py").write_text("from slabactors.lifecycle.v5 import V5\n\nclass Mine(V5):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    for target, lifecycle in (("story.py:one", "mine.py:Mine"), ("dead-cache/emptied", "repaired")):
        program = find(target).bind(lifecycle_name=lifecycle, settings=["objects=2"])
        data = pickle.dumps(program)
        monkeypatch.chdir("/")
        again = pickle.loads(data)
        monkeypatch.chdir(tmp_path)
        assert (again.scenario, again.config) == (program.scenario, program.config)
        assert (again.arguments, again.settings) == (program.arguments, program.settings)
        assert again.lifecycle.name == lifecycle


def test_a_program_that_cannot_be_sent_is_refused():
    """What is wrong with it, before anything runs."""

    async def story(world) -> None:
        pass

    with pytest.raises(UsageError, match=r"SmallProgram cannot be sent .* pickled(.|\n)*top level"):
        ended(search_parallel(SmallProgram(story), runs=5))


def test_a_scenario_inside_a_function_is_refused():
    """Another process would not find it in its file."""
    outer = find("dead-cache/emptied")

    async def hidden(machine) -> None:
        pass

    inner = Scenario("hidden", "t", hidden, outer.config, "v5", outer.time, 3).bind()
    with pytest.raises(UsageError, match=r"no scenario .*hidden' at its top level"):
        ended(search_parallel(inner, runs=5))


def test_an_unknown_strategy_is_refused_before_anything_runs():
    """As by one process."""
    with pytest.raises(UnknownName, match="unknown strategy 'guess'"):
        next(search_parallel(MICRO, strategy="guess"))


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_search_can_be_stopped():
    """What was found so far stays, and the search is not finished."""
    asked = count()
    with ThreadPoolExecutor(2) as executor:
        result = ended(search_parallel(MICRO, executor=executor, runs=10**9, stop=lambda: next(asked) == 4))
    assert 0 < result.executions < 10**6
    assert not result.finished


def test_time_for_one_execution_is_always_there():
    """The least that a limit on time leaves, and far less than was asked for."""
    with ThreadPoolExecutor(2) as executor:
        result = ended(search_parallel(MICRO, executor=executor, runs=10**9, seconds=1e-9))
    assert 1 <= result.executions < 100 * BLOCK
    assert result.finished


# -- workers that are lost ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dying(Micro):
    """The micro-problem; where it is run by another thread or process it may not survive.

    Attributes:
        home: the thread that does.
        how: what happens elsewhere.
        marker: it happens once, to whoever makes this file; empty for always.
        record: it happens to an execution with these choices only; empty for any.
    """

    home: int = 0
    how: str = "kill"
    marker: str = ""
    record: tuple[int, ...] = ()

    def execute(self, strategy, **options):
        execution = super().execute(strategy, **options)
        wanted = not self.record or tuple(execution.simulation.record) == self.record
        if threading.get_native_id() == self.home or not wanted:
            return execution
        if self.marker:
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return execution
        match self.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                raise MemoryError
            case "mistake":
                raise UnknownName("colour", "blue", ["red"])
            case "differ":
                execution.outcome.bug = KernelBug(Kind.BUG_ON, "only here", clause="only here")
            case _:
                raise KeyError("of our own")
        return execution


@pytest.mark.slow
def test_what_a_worker_had_that_was_killed_is_run_again(tmp_path):
    """It costs nothing but time."""
    marker = tmp_path / "died"
    program = Dying("v5", 2, 2, home=threading.get_native_id(), marker=str(marker))
    assert ended(search_parallel(program, runs=2000, seed=4)) == alone(program, runs=2000, seed=4)
    assert marker.exists()


def test_what_a_worker_had_no_memory_for_is_run_again(tmp_path):
    """The others go on meanwhile."""
    marker = tmp_path / "died"
    program = Dying("v5", 2, 2, home=threading.get_native_id(), how="memory", marker=str(marker))
    with ThreadPoolExecutor(2) as executor:
        many = ended(search_parallel(program, executor=executor, runs=2000, seed=4))
    assert many == alone(program, runs=2000, seed=4)
    assert marker.exists()


@pytest.mark.slow
def test_a_block_that_always_kills_its_worker_ends_the_search_and_loses_nothing_else():
    """After some tries it is named, by its executions; what the others had found is there."""
    record = tuple(run_records(MICRO, runs=5 * BLOCK, seed=4)[2 * BLOCK + 9])
    program = Dying("v5", 2, 2, home=threading.get_native_id(), record=record)
    results = search_parallel(program, runs=10 * BLOCK, seed=4)
    result = next(results)
    with pytest.raises(WorkersLost, match=r"executions \d+ to \d+ (.|\n)*--jobs 1 --runs \d+") as lost:
        for result in results:  # noqa: B007 -- the last one that came is what is left
            pass
    assert f"{RETRIES_MAX + 1} processes died" in str(lost.value)
    assert result.executions >= BLOCK
    assert result.found
    assert not result.finished
    nobody_is_left()


def run_records(program, *, runs: int, seed: int) -> list[list[int]]:
    """The choices of every execution of a search."""
    records = []

    class Noting(Micro):
        def execute(self, strategy, **options):
            execution = super().execute(strategy, **options)
            records.append(list(execution.simulation.record))
            return execution

    alone(Noting(program.variant, program.cpus, program.frees), runs=runs, seed=seed)
    return records[2:]  # the first two see to it that the program repeats itself


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("mistake", UsageError, "unknown colour 'blue'"),
        ("differ", NondeterminismError, "the first execution differs between"),
        ("other", RuntimeError, "KeyError: 'of our own'"),
        ("memory", WorkersLost, "MemoryError"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_here(how, error, text):
    """The user's mistakes as such, with their text; a program that differs there; anything else with its traceback."""
    with ThreadPoolExecutor(2) as executor, pytest.raises(error, match=text):
        ended(search_parallel(Dying("v5", 2, 2, home=threading.get_native_id(), how=how), executor=executor, runs=2000))


@pytest.mark.slow
def test_a_pool_that_somebody_gave_is_not_repaired():
    """A pool that has broken can run nothing more: that is said, and what to do."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        program = Dying("v5", 2, 2, home=threading.get_native_id())
        with pytest.raises(WorkersLost, match="the executor cannot be used any more"):
            ended(search_parallel(program, executor=executor, runs=2000))


@pytest.mark.slow
def test_an_execution_that_does_not_end_does_not_keep_the_search_from_ending():
    """Processes that do not hear that it is over are ended."""
    with Processes(1) as crew:
        future = crew.submit(time.sleep, 1000)
        while not future.running():
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 30
    nobody_is_left()


ORPHANS = """
import os
from slabactors.explore.parallel import search_parallel
from tests.explore.micro import Micro

if __name__ == "__main__":
    import multiprocessing
    for result in search_parallel(Micro("v5", 2, 2), runs=10**9):
        if result.executions:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_whoever_started_them(tmp_path):
    """Killed without a word, a search leaves no process behind."""
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    here = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(here)},
    ) as searching:
        assert searching.stdout is not None
        workers = [int(pid) for pid in searching.stdout.readline().split()]
        searching.kill()
    assert len(workers) == 2
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/cmdline").exists() and b"spawn" in cmdline(pid) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def cmdline(pid: int) -> bytes:
    """What a process was started with; nothing for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
