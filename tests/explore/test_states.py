"""Exhaustive search by states, by running and by tables, against known counts, brute force and the search by traces."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from slabactors.actors import Actor, Timed, choose, operation, parallel, spawn
from slabactors.errors import KernelBug, Kind, UnknownName, UsageError
from slabactors.explore.count import count
from slabactors.explore.fingerprint import Fingerprint
from slabactors.explore.packed import PackedSearch
from slabactors.explore.program import Execution, prepared
from slabactors.explore.replay import replay
from slabactors.explore.states import States
from slabactors.explore.tables import NoTables, Tables
from slabactors.explore.verify import Verification, verify
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.explore.counted import KINDS, ActorProgram, Var, World, random_program, values
from tests.explore.micro import Micro
from tests.explore.programs import SmallProgram
from tests.explore.programs import World as SmallWorld

COUNTS = [
    ("fixed", 2, 1, 43, 96),
    ("fixed", 3, 1, 83, 228),
    ("fixed", 4, 1, 163, 532),
    ("fixed", 3, 3, 643, 2276),
    ("fixed", 3, 8, 7293, 28921),
    ("fixed", 4, 10, 146413, 722737),
]
"""Variant, CPUs, frees; states and transitions as other model checkers count them."""


def by_running(program: Any, time: TimePolicy | None = None) -> tuple[States, set[Any]]:
    """Search by running; what was observed in the runs that came to their end."""
    guide = States()
    outcomes = set()
    while True:
        execution = program.execute(guide, time=time, driver=GuidedSimulation)
        assert guide.error is None
        if guide.complete or execution.simulation.broken:
            outcomes.add(values(execution))
        if not guide.advance():
            return guide, outcomes


def run_only(variant: str, cpus: int, frees: int) -> Micro:
    """The micro-problem as a program that says what some run must reach: one cannot tell that by tables."""
    return Micro(variant, cpus, frees, sometimes=("it ran",))


def last(program: Any, **options: Any) -> Verification:
    """The last word of an exhaustive search."""
    *_, result = verify(program, **options)
    return result


@pytest.mark.parametrize(("variant", "cpus", "frees", "states", "transitions"), COUNTS[:4])
def test_running_comes_to_as_many_states_as_other_tools_count(variant, cpus, frees, states, transitions) -> None:
    """Every state of the model once, by fingerprints of coroutines."""
    result = last(run_only(variant, cpus, frees), search="states")
    assert (result.search, result.verdict, result.exhaustive) == ("states", "verified", True)
    assert (result.states, result.transitions) == (states, transitions)
    if (cpus, frees) == (4, 1):
        assert result.statistics.executions == 371


@pytest.mark.parametrize(("variant", "cpus", "frees", "states", "transitions"), COUNTS)
def test_tables_come_to_as_many_states_as_other_tools_count(variant, cpus, frees, states, transitions) -> None:
    """Every state of the model once, by looking up what every step does."""
    result = last(Micro(variant, cpus, frees), search="states", symmetry=False)
    assert (result.search, result.verdict, result.exhaustive) == ("tables", "verified", True)
    assert (result.states, result.transitions) == (states, transitions)


@pytest.mark.parametrize(("cpus", "frees", "states"), [(2, 1, 33), (3, 8, 1653), (4, 10, 10013)])
def test_interchangeable_cpus_are_taken_for_one_another(cpus: int, frees: int, states: int) -> None:
    """As many states as rumur counts when the CPUs are a scalarset."""
    assert last(Micro("fixed", cpus, frees), search="states").states == states


@pytest.mark.parametrize("variant", ["v5", "naive"])
@pytest.mark.parametrize("symmetry", [True, False])
def test_every_way_finds_the_same_bugs_and_schedules_that_show_them(variant: str, symmetry: bool) -> None:
    """By traces, by running and by tables; each schedule replays to the bug it is for."""
    program = Micro(variant, 3, 2)
    by_traces = last(program)
    for result in (
        last(program, search="states", symmetry=symmetry),
        last(run_only(variant, 3, 2), search="states"),
        last(program, search="auto"),
    ):
        assert set(result.found) == set(by_traces.found)
        for found in result.found.values():
            outcome = replay(program, found.decisions).outcome
            assert outcome.bug is not None
            assert found.signature.startswith(f"{outcome.bug.kind.value}: {outcome.bug.clause}")


def test_what_tables_find_is_found_by_the_fewest_steps() -> None:
    """Breadth first: no search by preemptions or traces has a shorter schedule."""
    found = last(Micro("v5", 3, 3), search="states").found
    (steps,) = [len(one.decisions) for one in found.values()]
    assert steps == min(steps, *[len(one.decisions) for one in last(Micro("v5", 3, 3)).found.values()])


@pytest.mark.parametrize("time", [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL])
@pytest.mark.parametrize("block", range(3))
def test_states_of_random_programs_lose_no_outcome(block: int, time: TimePolicy) -> None:
    """Forty random programs a block: all that brute force sees at the end of a run is seen, and nothing else."""
    kinds = {kind: often for kind, often in KINDS.items() if kind != "free"} | {"take": 2, "fill": 1, "claim": 1}
    checked = 0
    for seed in range(40 * block, 40 * block + 40):
        program = random_program(seed, kinds)
        try:
            exact = count(program, observe=values, time=time, steps_max=1500)
        except OverflowError:
            continue
        _, outcomes = by_running(program, time)
        assert outcomes == exact.outcomes, f"random_program({seed}), {time}"
        checked += 1
    assert checked > 25


@pytest.mark.parametrize("forgotten", ["stack", "arguments", "actors"])
def test_a_fingerprint_that_forgets_something_loses_outcomes(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """Mutants of the fingerprint: each loses something in some random program."""
    original = {"suspended": Fingerprint._suspended, "path": Fingerprint._path, "contents": Fingerprint._contents}

    def suspended(self: Fingerprint, coroutine: Any) -> Any:
        found = original["suspended"](self, coroutine)
        return found[:2] if isinstance(found, tuple) and len(found) == 4 else found

    def path(self: Fingerprint, path: Any) -> Any:
        return path.key, original["path"](self, path)[2]

    def contents(self: Fingerprint, actor: Any) -> Any:
        original["contents"](self, actor)
        return actor.name

    name = {"stack": "_suspended", "arguments": "_path", "actors": "_contents"}[forgotten]
    programs = [random_program(seed) for seed in range(40)]
    wanted = [by_running(program)[1] for program in programs]
    monkeypatch.setattr(Fingerprint, name, {"_suspended": suspended, "_path": path, "_contents": contents}[name])
    assert any(by_running(program)[1] != outcomes for program, outcomes in zip(programs, wanted, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("lifecycle", ["repaired", "v5"])
def test_both_ways_agree_on_the_founding_race(lifecycle: str) -> None:
    """The same verdict and the same signatures by traces and by states, repaired and broken."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name=lifecycle)
    by_traces = last(program, time=TimePolicy.QUIESCENT)
    by_states = last(program, time=TimePolicy.QUIESCENT, search="states")
    assert by_states.search == "states"
    assert by_traces.exhaustive
    assert by_states.exhaustive
    assert by_states.verdict == by_traces.verdict
    assert set(by_states.found) == set(by_traces.found)
    assert by_states.sometimes == by_traces.sometimes


class Crate(Actor):
    """Holds a list, which is no plain value."""

    def __init__(self) -> None:
        super().__init__("crate")
        self.things: list[int] = []

    @operation
    def add(self) -> int:
        """``add``."""
        self.things.append(1)
        return len(self.things)

    @operation(frees=True)
    def free(self) -> None:
        """``free``."""


async def _adds(world: World) -> None:
    await world.actors.setdefault("crate", Crate()).add()


async def _frees(world: World) -> None:
    await world.actors.setdefault("crate", Crate()).free()


async def _chooses(world: World) -> None:
    await world.var("x").add(1)
    await choose(2)


async def _spawns(world: World) -> None:
    await world.var("x").add(1)
    await spawn(_chooses(world))


async def _rings(world: World) -> None:
    await world.alarm("alarm").set(5)


@pytest.mark.parametrize("path", [_adds, _frees, _chooses, _spawns, _rings])
def test_what_tables_cannot_hold_is_run_instead(path) -> None:
    """Lists, frees, choices, spawns, timers that start paths: refused, and searched by running."""
    program = ActorProgram(path, path)
    with pytest.raises(NoTables):
        for _ in PackedSearch(Tables(program, None)).run():
            pass
    assert last(program, search="states").search == "states"


class Dial(Timed):
    """Tells the time, which tables do not have."""

    @operation(clock=True)
    def read(self) -> int:
        """``jiffies``."""
        return self.clock.now


async def _looks_at_the_clock(world: World) -> None:
    await world.actors.setdefault("dial", Dial("dial", world.clock)).read()


async def _gives_an_actor(world: World) -> None:
    await world.var("x").put(world.var("y"))


@pytest.mark.parametrize("path", [_looks_at_the_clock, _gives_an_actor])
def test_what_would_be_wrong_in_a_table_is_run_instead(path) -> None:
    """The time of day, and actors that go from hand to hand."""
    with pytest.raises(NoTables):
        for _ in PackedSearch(Tables(ActorProgram(path, path), None)).run():
            pass


def test_a_path_that_raises_when_its_children_are_over_is_found_by_tables() -> None:
    """It is no step of its own that breaks, but the last one of whom it waited for."""

    async def main(world: World) -> None:
        results = await parallel(_taken(world), _taken(world))
        assert sorted(results) == [1, 2], results

    async def _taken(world: World) -> int:
        value = await world.var("x").get()
        await world.var("x").put(value + 1)
        return value + 1

    program = ActorProgram(main)
    by_traces = last(program)
    by_tables = last(program, search="states")
    assert by_tables.search == "tables"
    assert set(by_tables.found) == set(by_traces.found) != set()


def test_tables_that_are_wrong_are_noticed() -> None:
    """A path that keeps a count of its own outside of the actors, against the law: found out, and run instead."""

    def make() -> ActorProgram:
        async def path(world: World) -> None:
            seen = world.actors.setdefault("seen", [])
            for _ in range(3):
                seen.append(1)
                await world.var("x").put(len(seen))

        return ActorProgram(path, path)

    assert last(make(), search="states").search == "states"


def test_who_is_waited_for_alone_is_not_interchangeable() -> None:
    """Two paths that do the same, of which one is joined: states that differ in which are two states."""

    async def main(world: World) -> None:
        first = await spawn(_adder(world), name="adder")
        await spawn(_adder(world), name="adder")
        from slabactors.actors import join

        await join(first)
        await world.var("y").put(1)

    async def _adder(world: World) -> None:
        await world.var("x").add(1)

    result = last(ActorProgram(main), search="states")
    without = last(ActorProgram(main), search="states", symmetry=False)
    assert result.search == "tables"
    assert result.states == without.states


def test_a_deadlock_is_found_by_every_way() -> None:
    """Two locks in two orders."""

    def path(first: str, second: str):
        async def both(world: World) -> None:
            await world.lock(first).lock()
            await world.lock(second).lock()

        return both

    program = ActorProgram(path("a", "b"), path("b", "a"))
    found = {search: set(last(program, search=search).found) for search in ("dpor", "states", "auto")}
    assert found["dpor"] == found["states"] == found["auto"]
    assert [name.split(":")[0] for name in found["dpor"]] == ["deadlock"]


def test_auto_goes_on_with_whichever_is_through_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With short turns the search by traces does not get to the end in its first one, and the tables do."""
    from slabactors.explore import verify as module

    monkeypatch.setattr(module, "FIRST_TURN", 100)
    result = last(Micro("fixed", 4, 1), search="auto")
    assert (result.search, result.exhaustive, result.verdict) == ("tables", True, "verified")
    assert result.tried["dpor"]["executions"] > 0


async def _counts(world: World) -> None:
    numbers = itertools.count()
    for _ in range(2):
        await world.var("x").put(next(numbers))


def test_states_that_cannot_be_told_apart_are_searched_by_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterator that nobody can look into: by states it is refused with what to type next, ``auto`` goes on."""
    from slabactors.explore import verify as module

    program = ActorProgram(_counts, _counts)
    with pytest.raises(UsageError, match="verify --search dpor"):
        last(program, search="states")
    monkeypatch.setattr(module, "FIRST_TURN", 5)
    result = last(program, search="auto")
    assert (result.search, result.verdict) == ("dpor", "verified")


def test_a_search_by_tables_looks_at_the_clock() -> None:
    """It is given up soon after its time is over, and nothing is said to be verified."""
    result = last(Micro("fixed", 5, 14), search="states", symmetry=False, seconds=0.05)
    assert (result.finished, result.exhaustive, result.verdict) == (True, False, "undetermined")
    assert result.seconds < 2


def test_what_both_ways_have_seen_counts_when_they_are_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are those of the search by traces, the bugs and the sentences those of both."""
    from slabactors.explore import verify as module

    monkeypatch.setattr(module, "FIRST_TURN", 200)
    result = last(Micro("naive", 4, 4, sometimes=("it ran",)), search="auto", runs=80)
    assert not result.exhaustive
    assert result.search == "dpor"
    assert result.statistics.executions == result.tried["dpor"]["executions"]
    assert sum(one["executions"] for one in result.tried.values()) >= 80


def test_an_unknown_search_is_refused() -> None:
    """With what there is."""
    with pytest.raises(UnknownName, match="dpor"):
        last(Micro("fixed", 2, 1), search="dport")


async def _never(world: World) -> None:
    await parallel()


def test_a_program_without_steps_is_verified_by_every_way() -> None:
    """It has one state, and one empty trace."""
    for search in ("dpor", "states"):
        assert last(ActorProgram(_never), search=search).verdict == "verified"


def test_an_invariant_is_looked_at_in_every_state() -> None:
    """It is broken in one state only, which two orders come to; the search by traces refuses it, and tables too."""
    result = last(Watched(), search="states")
    assert result.search == "states"
    assert [name.split(":")[0] for name in result.found] == ["property"]
    assert replay(Watched(), next(iter(result.found.values())).decisions).outcome.bug is not None
    with pytest.raises(UsageError, match="states"):
        last(Watched(), search="dpor")


class Watched:
    """Two variables that must not be one and nothing."""

    sometimes = ()

    def execute(self, strategy, *, observer=None, time=None, driver=Simulation) -> Execution:
        one, other = Var("one", 0), Var("other", 0)

        def holds() -> None:
            if one.value and not other.value:
                raise KernelBug(Kind.PROPERTY, "one without the other", clause="one without the other")

        simulation = prepared(driver, strategy, observer, time=time or TimePolicy.QUIESCENT, invariant=holds)
        return Execution(simulation, simulation.run(parallel(one.put(1), other.put(1))), one)

    def reached(self, execution: Execution) -> list[bool]:
        return []

    def dispose(self, execution: Execution) -> None:
        pass


class Late(Timed):
    """A deferrable timer that lets somebody go on."""

    deferrable = True
    timeless = True

    def __init__(self, clock: Any) -> None:
        super().__init__("late", clock)
        self.value = False

    def _set(self) -> bool:
        return self.value

    @operation(clock=True)
    def arm(self) -> None:
        """``mod_timer()``."""
        self.deadline = self.clock.now + 10

    @operation(clock=True)
    def expire(self) -> None:
        """``the timer lets who waits go on``."""
        self.deadline = None
        self.value = True

    @operation(guard=_set, reads="value")
    def wait(self) -> None:
        """``wait_event()``."""


@pytest.mark.parametrize("search", ["dpor", "states", "auto"])
def test_who_waits_for_a_deferrable_timer_alone_is_stuck_whatever_the_search(search: str) -> None:
    """Nothing waits for such a timer, so nobody goes on; no search lets it fire for that.

    Others move meanwhile, so that there are more states than tables are compared with runs in.
    """

    async def waits(world: World) -> None:
        late = world.actors.setdefault("late", Late(world.clock))
        await late.arm()
        await late.wait()

    def counts(name: str) -> Any:
        async def path(world: World) -> None:
            for number in range(25):
                await world.var(name).put(number)

        return path

    program = ActorProgram(waits, counts("x"), counts("y"))
    result = last(program, time=TimePolicy.QUIESCENT, search=search)
    assert result.verdict == "broken"
    assert [finding.kind for finding in result.found.values()] == [Kind.DEADLOCK]


def test_a_program_that_goes_round_for_ever_is_not_verified() -> None:
    """It has few states, and from none of them a way to an end; with a way out it is verified."""

    def story(*, out: bool) -> SmallProgram:
        async def rounds(world: SmallWorld) -> None:
            while True:
                await world.x.read_a()
                if out and await choose(2):
                    return

        return SmallProgram(rounds)

    *_, endless = verify(story(out=False), search="states")
    assert (endless.verdict, endless.exhaustive, endless.endless > 0) == ("undetermined", False, True)
    *_, ending = verify(story(out=True), search="states")
    assert (ending.verdict, ending.endless) == ("verified", 0)
