"""What is played one path at a time is one of the runs that an exhaustive search sees."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from slabactors.actors import parallel
from slabactors.errors import KernelBug
from slabactors.explore.count import count
from slabactors.runtime.sequential import Sequential, SequentialPath
from slabactors.runtime.step import TimePolicy
from tests.explore.counted import KINDS, ActorProgram, World, random_program, values, values_of

TELLING = {**KINDS, "tell": 3}


class AnyTurn:
    """Lets anybody go on."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)

    def next(self, ready: Sequence[SequentialPath]) -> SequentialPath:
        return self._source.choice(ready)


def played(program: ActorProgram, turns: AnyTurn | None) -> tuple[object, str | None, bool]:
    """What a program leaves behind, what it broke, and whether anybody still waits."""
    driver = Sequential(turns)
    world = World(driver.clock)

    async def main() -> None:
        await parallel(*[path(world) for path in program.paths])

    broken = None
    try:
        driver.run(main())
    except KernelBug as bug:
        broken = bug.clause
    waits = bool(driver._guarded)
    driver.close()
    return values_of(world), broken, waits


@pytest.mark.parametrize("block", range(3))
def test_what_is_played_is_what_a_search_sees(block: int) -> None:
    """Random programs with locks, waits, timers, tells, spawns, choices and frees, played in several orders."""
    compared = 0
    for seed in range(138 + 40 * block, 138 + 40 * block + 40):
        program = random_program(seed, TELLING)
        try:
            exact = count(program, time=TimePolicy.QUIESCENT, observe=values, steps_max=1500)
        except OverflowError:
            continue
        left = {variables for variables, _ in exact.outcomes}
        clean = {variables for variables, broken in exact.outcomes if not broken}
        clauses = {clause for _, broken in exact.outcomes for clause in broken}
        for turns in (None, *map(AnyTurn, range(4))):
            variables, broken, waits = played(program, turns)
            what = f"random_program({seed}, TELLING)"
            if broken is not None:
                assert broken in clauses, what
            else:
                assert variables in (left if waits else clean), what
            compared += 1
    assert compared > 100
