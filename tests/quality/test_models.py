"""Models of the micro-problem for model checkers: the benchmark compares with them, so they must be the same."""

from __future__ import annotations

import pytest

from tests.benchmarks.micro_states import COUNTS
from tests.benchmarks.peers import models

SMALL = [(2, 1), (3, 1), (3, 3)]


@pytest.mark.slow
@pytest.mark.skipif(bool(models.missing("spin", "gcc")), reason="SPIN or gcc is not installed")
@pytest.mark.parametrize(("cpus", "frees"), SMALL)
def test_spin_counts_the_states_of_the_program(cpus: int, frees: int) -> None:
    """As many states and transitions as a plain search over the program's variables has."""
    found = models.spin(cpus, frees)
    assert (found.states, found.transitions) == COUNTS[cpus, frees]


@pytest.mark.slow
@pytest.mark.skipif(bool(models.missing("rumur", "gcc")), reason="rumur or gcc is not installed")
@pytest.mark.parametrize(("cpus", "frees"), SMALL)
def test_rumur_counts_the_states_of_the_program(cpus: int, frees: int) -> None:
    """As many states and firings; fewer states when it does not matter which CPU is which."""
    found = models.rumur(cpus, frees)
    assert (found.states, found.transitions) == COUNTS[cpus, frees]
    assert models.rumur(cpus, frees, symmetric=True).states < found.states
