"""What the exhaustive search rests on, and what it says about the shipped stories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slabactors.actors import Actor, CountsDown, operation, operation_of, parallel
from slabactors.explore.campaign import search
from slabactors.explore.finding import signature
from slabactors.explore.footprints import FootprintCheck, FootprintError
from slabactors.explore.shrink import shrink_schedule
from slabactors.explore.states import States
from slabactors.explore.strategy import Pct, Pos, RandomWalk
from slabactors.explore.verify import Verification, verify
from slabactors.lifecycle import LIFECYCLES
from slabactors.mm.memcontrol import MemCgroup
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import BoundScenario, Scenario, find, shipped
from tests.support import SMALLER

RACE = "dead-cache/rmdir-races-last-free"


def verified(scenario: str, lifecycle: str, policy: TimePolicy, *settings: str, **limits: int) -> Verification:
    """The last word of an exhaustive search."""
    program = find(scenario).bind(lifecycle_name=lifecycle, settings=list(settings))
    *_, result = verify(program, time=policy, **limits)
    return result


def checked_run(program: BoundScenario, check: FootprintCheck) -> None:
    """Run once; a simulation takes what a strategy raises for a bug of the program."""
    execution = program.execute(check)
    error = execution.outcome.error
    program.dispose(execution)
    if isinstance(error, FootprintError):
        raise error


def bounded(scenario: str) -> Scenario:
    """A shipped story of at most 1,000 steps: a mutant that retries at once never ends, and each step is checked."""
    return replace(find(scenario), steps_max=1_000)


@pytest.mark.parametrize("scenario", sorted(shipped()))
def test_the_footprints_of_the_machine_are_true(scenario: str) -> None:
    """Whatever is declared independent commutes, in every state that 40 random runs under each lifecycle come to."""
    checked = 0
    for name in LIFECYCLES:
        program = bounded(scenario).bind(lifecycle_name=name, settings=SMALLER.get(scenario, {}))
        check = FootprintCheck(RandomWalk(name))
        for _ in range(40):
            checked_run(program, check)
        checked += sum(check.pairs.values())
    assert checked


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    scenario=st.sampled_from(sorted(shipped())),
    lifecycle=st.sampled_from(sorted(LIFECYCLES)),
    strategy=st.sampled_from([RandomWalk, Pct, Pos]),
    seed=st.integers(0, 1 << 30),
    values=st.fixed_dictionaries(
        {"cpus": st.integers(1, 4), "kworkers": st.integers(1, 2), "pre_destroy_runs": st.integers(1, 3)},
        optional={"objects": st.integers(1, 4), "dentries": st.integers(1, 4), "min_partial": st.integers(0, 6)},
    ),
)
def test_the_footprints_of_the_machine_are_true_in_states_that_are_drawn(
    scenario: str, lifecycle: str, strategy: type, seed: int, values: dict[str, int]
) -> None:
    """The same on machines of other sizes, with other numbers of objects, and by strategies that starve somebody."""
    story = bounded(scenario)
    known = {**story.machine_parameters, **story.parameters}
    program = story.bind(
        lifecycle_name=lifecycle,
        settings=SMALLER.get(scenario, {}) | {name: value for name, value in values.items() if name in known},
    )
    checked_run(program, FootprintCheck(strategy(seed)))


class CheckedStates(States):
    """Searches all states, and checks the footprints in each."""

    def __init__(self) -> None:
        super().__init__()
        self.check = FootprintCheck(RandomWalk(0))

    def next(self, enabled):
        path = super().next(enabled)
        if path is not None and self._steps + 1 == self._depth == len(self.stack):
            self.check.look(self._simulation)
        return path


def footprints_in_all_states(story: str, lifecycle: str) -> int:
    """How many pairs were checked in all states of a story under quiescent time."""
    program = find(story).bind(lifecycle_name=lifecycle)
    guide = CheckedStates()
    more = True
    while more:
        execution = program.execute(guide, time=TimePolicy.QUIESCENT, driver=GuidedSimulation)
        error = execution.outcome.error
        program.dispose(execution)
        if isinstance(error, FootprintError):
            raise error
        more = guide.advance()
    return sum(guide.check.pairs.values())


@pytest.mark.slow
@pytest.mark.parametrize("lifecycle", ["v5", "repaired"])
def test_the_footprints_of_the_founding_race_are_true_in_every_state(lifecycle: str) -> None:
    """Not a sample: in each state that any interleaving comes to, whatever is declared independent commutes."""
    assert footprints_in_all_states(RACE, lifecycle) > 200


def test_a_footprint_that_lies_in_few_states_is_caught_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference count that is said to commute also when the last one goes."""
    put = operation_of(MemCgroup.put)
    monkeypatch.setattr(put, "narrow", (CountsDown("references", lambda memcg, *_: 99, lambda memcg, *_: 1),))
    with pytest.raises(FootprintError, match="put"):
        footprints_in_all_states(RACE, "repaired")


class Liar(Actor):
    """Its operations declare cells that they do not keep to."""

    def __init__(self) -> None:
        super().__init__("liar")
        self.value = 0

    @operation(writes="a")
    def double(self) -> None:
        """``double``."""
        self.value *= 2

    @operation(writes="b")
    def add(self) -> None:
        """``add``."""
        self.value += 1

    def _even(self) -> bool:
        return self.value % 2 == 0

    @operation(guard=_even, reads="b c")
    def wait(self) -> None:
        """``wait``."""

    @operation(writes="d")
    def spoil(self) -> None:
        """``spoil``."""
        self.value += 1


@pytest.mark.parametrize(("one", "other"), [("double", "add"), ("wait", "spoil")])
def test_a_footprint_that_lies_is_caught(one: str, other: str) -> None:
    """Two operations that meet in a cell neither declares; and a guard that reads one."""

    async def main() -> None:
        liar = Liar()

        async def path(name: str) -> None:
            await getattr(liar, name)()

        await parallel(path(one), path(other))

    check = FootprintCheck(RandomWalk(0))
    simulation = Simulation(check)
    check.follow(simulation)
    outcome = simulation.run(main())
    assert isinstance(outcome.error, FootprintError)


@pytest.mark.parametrize(
    ("scenario", "policy"),
    [
        (RACE, TimePolicy.QUIESCENT),
        ("dead-cache/emptied", TimePolicy.ADVERSARIAL),
        ("dead-cache/freed-later", TimePolicy.QUIESCENT),
        ("dead-cache/creation-races-rmdir", TimePolicy.ADVERSARIAL),
        ("dead-cache/root-destroyed", TimePolicy.ADVERSARIAL),
        ("dead-cache/unloaded-after-a-while", TimePolicy.ADVERSARIAL),
        ("dead-cache/unloaded-after-a-while", TimePolicy.UNTIMED),
        ("dead-cache/reaper", TimePolicy.QUIESCENT),
    ],
)
def test_the_repaired_protocol_is_verified(scenario: str, policy: TimePolicy) -> None:
    """No interleaving of these stories breaks it: proved, not sampled."""
    result = verified(scenario, "repaired", policy)
    assert (result.verdict, result.exhaustive, result.bounded) == ("verified", True, 0)
    assert result.statistics.blocked == 0
    assert all(result.sometimes.values()) or scenario == "dead-cache/creation-races-rmdir"


def test_every_finding_class_of_the_founding_patch_is_listed_and_shrinks_to_a_short_table() -> None:
    """All interleavings of the race under quiescent time; each bug replays, and its table has at most a dozen rows."""
    from slabactors.trace.race_table import ROWS_MAX, race_table

    program = find(RACE).bind()
    result = verified(RACE, "v5", TimePolicy.QUIESCENT)
    assert result.exhaustive
    assert {name.split(":")[0] for name in result.found} == {
        "freed-active-work",
        "uninitialised-work",
        "use-after-free",
    }
    assert len(result.found) == 5
    for name, found in result.found.items():
        shrunken = shrink_schedule(program, found.decisions, name)
        assert signature(shrunken.outcome) == name
        assert 1 <= len(race_table(shrunken.history).rows) <= ROWS_MAX


def test_without_the_pending_check_the_founding_patch_has_the_same_bugs() -> None:
    """Queueing checks PENDING by itself: the patch's own test adds one step, and one place to touch freed memory."""
    with_check = set(verified(RACE, "v5", TimePolicy.QUIESCENT).found)
    without = set(verified(RACE, "v5-no-pending-check", TimePolicy.QUIESCENT).found)
    assert with_check - without == {"use-after-free: work.is_pending after free by free"}
    assert without <= with_check


@pytest.mark.parametrize(
    "lifecycle", ["v5", "pre-patch", "v5-init-at-creation", "v5-dead-after-queueing", "v5-no-retry"]
)
@pytest.mark.parametrize("scenario", [RACE, "dead-cache/emptied", "dead-cache/freed-later"])
def test_what_random_search_finds_the_exhaustive_search_lists(scenario: str, lifecycle: str) -> None:
    """Under one clock policy, the signatures of 1500 random runs are among those of all interleavings."""
    program = find(scenario).bind(lifecycle_name=lifecycle)
    everything = verified(scenario, lifecycle, TimePolicy.QUIESCENT)
    assert everything.exhaustive
    sampled = set()
    strategy = RandomWalk(7)
    for _ in range(1500):
        execution = program.execute(strategy, time=TimePolicy.QUIESCENT)
        if execution.outcome.bug is not None:
            sampled.add(signature(execution.outcome))
        program.dispose(execution)
    assert sampled <= set(everything.found)


def test_a_search_that_is_cut_short_verifies_nothing() -> None:
    """The verdict is undetermined, whatever was explored."""
    result = verified(RACE, "repaired", TimePolicy.ADVERSARIAL, runs=50)
    assert (result.verdict, result.exhaustive) == ("undetermined", False)
    assert 0 < result.progress < 1


def test_the_portfolio_finds_what_a_random_walk_misses() -> None:
    """Starving one path through twenty steps takes priorities: 2000 random walks do not, 2000 of the portfolio do."""
    program = find("dead-cache/emptied").bind(lifecycle_name="v5-dead-after-queueing")
    *_, walk = search(program, strategy="random", seed=3, runs=2000)
    *_, portfolio = search(program, strategy="portfolio", seed=3, runs=2000)
    assert walk.found == {}
    assert {name.split(":")[0] for name in portfolio.found} == {"lost-wakeup"}
