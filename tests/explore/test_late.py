"""Limits on time hold within an execution: to look through a long one for races takes longer than to run it."""

from __future__ import annotations

import time

from slabactors.explore.by_traces import ByTraces
from slabactors.explore.verify import verify
from slabactors.scenario import BoundScenario, find


def long_story() -> BoundScenario:
    """Some 3,500 steps each time, whose races take longer than this test is meant to."""
    return find("containers/come-and-go").bind(settings=["containers=4", "minutes=10"])


def test_a_search_that_is_told_to_stop_within_an_execution_says_that_it_was_cut_short():
    way = ByTraces(long_story(), None, late=lambda: True)
    assert way.go_on()
    assert way.cut
    assert way.statistics.executions == 1
    planned = way.statistics.races
    patient = ByTraces(long_story(), None)
    patient.go_on()
    assert planned < patient.statistics.races


def test_a_search_that_has_time_is_not_cut_short():
    way = ByTraces(find("dead-cache/emptied").bind(lifecycle_name="repaired"), None)
    while way.go_on():
        assert not way.cut
    assert not way.cut


def test_a_limit_on_time_ends_a_search_whose_executions_are_long():
    program = long_story()
    started = time.process_time()
    *_, result = verify(program, seconds=0.1)
    assert result.finished
    assert not result.exhaustive
    assert result.verdict == "undetermined"
    assert result.statistics.executions <= 2
    # One execution and its determinism check take a good second; looking through hundreds would take minutes.
    assert time.process_time() - started < 20
