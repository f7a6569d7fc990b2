"""Exhaustive search subtree by subtree: as many executions as there are traces, however late anybody hears of it."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from slabactors.explore import subtrees
from slabactors.explore.dpor import Branch, Frame
from slabactors.explore.happens_before import Dep, trace_key
from slabactors.explore.packing import Packer, Unpacker
from slabactors.explore.subtrees import Coordinator, Rules, Subtree, SubtreeGuide, Visit
from slabactors.explore.verify import Verification, verify
from slabactors.explore.verify_parallel import verify_parallel
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.explore import counted
from tests.explore.counted import Explored, random_program, values
from tests.explore.micro import Micro
from tests.explore.test_dpor import ORACLES


class ExploredApart:
    """What a search saw whose visits are all made here, and as early as can be: each knows as little as it may.

    Args:
        program: what is searched.
        time: overrides the program's own policy.
        window: how many visits are handed out at once.
        executions: how many each makes.
    """

    def __init__(self, program, *, time=None, window: int = 16, executions: int = 1, most: int = 20_000) -> None:
        self.traces: list[frozenset] = []
        self.outcomes: set = set()
        self.blocked = 0
        coordinator = Coordinator(window)
        made: deque = deque()
        while not coordinator.done:
            for part, subtree in coordinator.hand_out():
                subtree.executions = executions
                made.append((part, self.visit(program, Subtree.unpack(subtree.pack()), time)))
            coordinator.take_back(*made.popleft())
            assert len(self.traces) < most
        assert not made

    def visit(self, program, subtree: Subtree, time) -> Visit:
        guide = SubtreeGuide(subtree)
        more = True
        for _ in range(subtree.executions):
            execution = program.execute(guide, time=time, driver=GuidedSimulation)
            if guide.complete:
                self.traces.append(trace_key(guide.events))
                self.outcomes.add(values(execution))
            more = guide.advance()
            if not more:
                break
        self.blocked += guide.statistics.blocked
        return Visit.unpack(guide.visit(Verification(guide.statistics), more=more).pack())


SHAPES = [(1, 1), (3, 2), (16, 1), (64, 5)]
"""Windows, and executions of a visit."""


@pytest.mark.parametrize(("window", "executions"), SHAPES)
def test_one_execution_a_trace(window, executions):
    """Every oracle, with visits of any length: none is lost, and none is run twice."""
    for name, program, traces in ORACLES:
        if traces > 100:
            continue
        apart = ExploredApart(program, window=window, executions=executions)
        assert len(apart.traces) == len(set(apart.traces)) == traces, name


@pytest.mark.slow
@pytest.mark.parametrize("time", [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL])
def test_random_programs_lose_and_repeat_no_trace(time):
    """Programs with locks, waits, timers, tells, spawns, choices and frees; among them those that were lost once."""
    seen = 0
    for seed in [*range(60), 7, 12, 54, 71, 84, 1179]:
        program = random_program(seed)
        try:
            whole = Explored(program, time=time, most=500)
        except OverflowError:
            continue
        for window, executions in SHAPES[1:]:
            apart = ExploredApart(program, time=time, window=window, executions=executions)
            case = f"random_program({seed}), {time}, {window}, {executions}"
            assert set(apart.traces) == set(whole.traces), case
            assert len(apart.traces) == len(set(apart.traces)), case
            assert apart.outcomes == whole.outcomes, case
        seen += len(whole.traces)
    assert seen > 200


@pytest.mark.parametrize("what", ["strictness", "choices", "reversals", "sleep"])
def test_the_rules_are_needed(monkeypatch, what):
    """Without any of them some trace is lost or run twice."""
    if what == "strictness":
        monkeypatch.setattr(Rules, "_is_initial", Rules.__mro__[1]._is_initial)
    elif what == "choices":
        monkeypatch.setattr(SubtreeGuide, "choose_for", Rules.choose_for)
    elif what == "reversals":
        monkeypatch.setattr(Coordinator, "_plan", lambda *_: None)
    else:
        original = subtrees.Part.subtree

        def sleepless(self) -> Subtree:
            subtree = original(self)
            for frame in subtree.above:
                frame.sleep = {}
            return subtree

        monkeypatch.setattr(subtrees.Part, "subtree", sleepless)
    programs = [counted.last_zero(3), counted.counter(3), *map(random_program, (7, 12, 54, 71))]
    differs = []
    for program in programs:
        whole = set(Explored(program).traces)
        try:
            apart = ExploredApart(program, window=16, executions=1, most=2000).traces
        except (AssertionError, AttributeError, IndexError, ValueError):
            apart = []
        differs.append(len(apart) != len(set(apart)) or set(apart) != whole)
    assert any(differs)


def both(program, **options) -> tuple[Verification, Verification]:
    """What one process says, and what several say."""
    *_, one = verify(program, **options)
    with ThreadPoolExecutor(3) as executor:
        *_, many = verify_parallel(program, executor=executor, jobs=3, **options)
    return one, many


@pytest.mark.parametrize("variant", ["fixed", "v5", "naive"])
def test_several_say_what_one_says(variant):
    """The same number of executions, the same bugs as often, and the same verdict."""
    one, many = both(Micro(variant, 2, 2))
    assert many.statistics.executions == one.statistics.executions
    assert {name: found.count for name, found in many.found.items()} == {
        name: found.count for name, found in one.found.items()
    }
    assert (many.verdict, many.exhaustive, many.finished) == (one.verdict, one.exhaustive, True)
    assert many.progress == 1.0
    assert all(0 <= found.execution < many.statistics.executions for found in many.found.values())


def test_a_shipped_scenario_says_the_same():
    """With choices of timers, what checkers have reached, and what was held back."""
    program = find("dead-cache/creation-races-rmdir").bind()
    one, many = both(program)
    assert many.statistics.executions == one.statistics.executions == 214
    assert sorted(many.found) == sorted(one.found)
    assert (many.sometimes, many.held_back) == (one.sometimes, one.held_back)


def test_the_answer_does_not_depend_on_how_many_there_are():
    """In which execution a bug is found first, and by which schedule, neither."""
    answers = []
    for jobs in (1, 2, 5):
        with ThreadPoolExecutor(jobs) as executor:
            *_, result = verify_parallel(Micro("v5", 2, 2), executor=executor, jobs=jobs)
        answers.append(
            [(one.signature, one.execution, one.count, one.decisions) for one in result.found.values()]
            + [result.statistics]
        )
    assert answers[0] == answers[1] == answers[2]


def test_a_search_that_is_cut_short_proves_nothing():
    """Fewer executions than there are, or no time."""
    for options in ({"runs": 10}, {"seconds": 1e-9}, {"stop": lambda: True}):
        _, many = both(Micro("fixed", 3, 2), **options)
        assert many.verdict == "undetermined"
        assert not many.exhaustive
        assert 0 <= many.progress < 1


class Fragile(Micro):
    """Kills the first process that runs it elsewhere."""

    def execute(self, strategy, **options):
        if threading.get_native_id() != int(os.environ["SEARCH_HOME"]):
            try:
                os.close(os.open(os.environ["SEARCH_MARKER"], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(strategy, **options)


@pytest.mark.slow
def test_a_visit_whose_worker_was_killed_is_made_again(monkeypatch, tmp_path):
    """By processes of our own."""
    monkeypatch.setenv("SEARCH_HOME", str(threading.get_native_id()))
    monkeypatch.setenv("SEARCH_MARKER", str(tmp_path / "died"))
    *_, one = verify(Micro("v5", 2, 2))
    *_, many = verify_parallel(Fragile("v5", 2, 2), jobs=2)
    assert (tmp_path / "died").exists()
    assert many.statistics.executions == one.statistics.executions


def test_states_are_sent_whole():
    """Also deep ones, and what is planned in each of them, with what it has absorbed."""

    def dep(number: int) -> Dep:
        return Dep((f"path.{number}", None if number % 3 else number), f"actor {number}")

    leaf = Branch(dep(7), uncertain=True, absorbed=[[(dep(1), 0), (dep(2), 0)]])
    planned = Branch(dep(5), [leaf, Branch(dep(8), explored=True)])
    frames: list[Frame] = []
    for number in range(3000):
        tree = frames[-1].tree[0].tree if frames else []
        tree.append(Branch(dep(number), explored=number % 2 == 0))
        if number % 10 == 0:
            tree.append(planned)
        frames.append(Frame({dep(number + 1).elem: dep(number + 1)}, tree, tree[0], number))
    packer = Packer()
    packer.frames(frames)
    packer.number(77)
    unpacker = Unpacker(packer.data())
    again = unpacker.frames()
    assert unpacker.number() == 77
    for sent, come in zip(frames, again, strict=True):
        assert (come.sleep, come.finished) == (sent.sleep, sent.finished)
        assert come.current is come.tree[0]
        assert [branch.dep for branch in come.tree] == [branch.dep for branch in sent.tree]
        assert come.tree[1:] == sent.tree[1:]
        assert (come.tree[0].explored, come.tree[0].uncertain) == (sent.tree[0].explored, sent.tree[0].uncertain)
    assert again[0].tree[0].tree is again[1].tree
