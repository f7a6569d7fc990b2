"""What each step of a run comes directly after, against the definition of "happens before"."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabactors.explore.strategy import RandomWalk
from slabactors.runtime.causes import Causes
from slabactors.runtime.step import Lineage, Step
from tests.explore.programs import SmallProgram, World
from tests.explore.test_history import Reference, derandomized, forking, free


class Watched:
    """An observer that keeps the causes of every step, by its place among the steps."""

    def __init__(self) -> None:
        self.causes = Causes()
        self.found: list[list[int]] = []
        self._places: dict[int, int] = {}

    def __call__(self, step: Step) -> None:
        self._places[step.index] = len(self.found)
        self.found.append([self._places[cause] for cause in self.causes.of(step)])

    def pasts(self) -> list[set[int]]:
        """All that each step comes after, directly or not."""
        closed: list[set[int]] = []
        for causes in self.found:
            closed.append(set(causes).union(*(closed[cause] for cause in causes)))
        return closed


def run(instructions: list[Any], seed: int) -> tuple[Watched, Reference]:
    """Run a program once, watched by both."""
    watched, reference = Watched(), Reference()

    def story(world: World) -> Any:
        return reference.play(world, instructions, set())

    assert SmallProgram(story).execute(RandomWalk(seed), observer=watched).outcome.bug is None
    return watched, reference


@pytest.mark.parametrize("programs", [forking(2), free(2)], ids=["forking", "free"])
def test_what_a_step_comes_after_is_what_the_definition_says(programs):
    """No step too many and none too few, though most of what was touched is forgotten on the way."""

    @derandomized
    @given(programs, st.integers(0, 3))
    def holds(instructions, seed):
        watched, reference = run(instructions, seed)
        assert watched.pasts() == [set(before) for _, _, before in reference.events]

    holds()


def test_what_is_kept_goes_with_the_paths_and_not_with_the_steps():
    """Hundreds of steps of two paths at two objects leave a few touches."""
    names = ("read_a", "write_a", "read_b", "copy")
    instructions = [("parallel", [[("op", number, name) for _ in range(100) for name in names] for number in range(2)])]
    watched, _ = run(instructions, 1)
    assert len(watched.found) == 500  # where such a program is cut
    assert sum(len(touches) for touches in watched.causes._touches.values()) < 20


def test_each_path_that_was_waited_for_is_looked_at_once():
    """A child that is started later has all that its spawner had waited for: the ways to the first one double."""
    main = Lineage("main", "", None, 0)
    children: list[Lineage] = []
    for number in range(12):
        child = Lineage("child", "", main, number)
        child.joins, child.done = tuple(children), True
        children.append(child)
    main.joins = tuple(children)
    assert main.joined() == children
