"""Simpler settings: the same bug, nothing smaller left to try, and no change that does not make its story shorter."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from slabactors.errors import ScenarioError
from slabactors.explore.campaign import search
from slabactors.explore.fewest import Budget, Fewest
from slabactors.explore.finding import signature
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken, shrink
from slabactors.explore.simplify import Knob, Simplified, Simplifier
from slabactors.scenario import find
from tests.explore.micro import Micro

BUG = "double-destroy: work ran on a destroyed cache by worker"


def micro(settings: Mapping[str, int]) -> Micro:
    """The micro-problem with some settings; it needs a CPU."""
    if settings.get("cpus", 3) < 1:
        raise ScenarioError("no CPU.\n  Type for example: --set cpus=1")
    return Micro("v5", settings.get("cpus", 3), settings.get("frees", 3))


def found_in(program, seed: int = 0) -> Shrunken:
    """The bug as 200 random runs find it; 1 in 6 of them shows it."""
    *_, result = search(program, runs=200, seed=seed)
    return shrink(program, result.found[BUG].record, BUG)


def simplified(knobs: list[Knob], budget: Budget | None = None) -> Simplified:
    """The micro-problem's bug with simpler settings."""
    program = micro({})
    return Simplifier(micro, knobs, Fewest(program)).simplified(program, found_in(program), BUG, budget or Budget())


CPUS, FREES = Knob("cpus", 3, 3), Knob("frees", 3, 3)


def test_settings_without_which_the_story_is_shorter_are_made_smaller():
    """Of three CPUs that free three objects each, one that frees one is left; and it is the same bug, replayed."""
    small = simplified([CPUS, FREES])
    assert small.settings == {"cpus": 1, "frees": 1} or small.settings == {"cpus": 1, "frees": 0}
    assert small.program == micro(small.settings)
    assert signature(replay(small.program, small.shrunken.decisions).outcome) == BUG
    assert small.shrunken.size < found_in(micro({})).size
    assert (small.shrunken.preemptions, small.shrunken.minimum) == (1, True)


def test_simplifying_again_changes_nothing():
    """What was made as small as it gets stays as it is."""
    small = simplified([CPUS, FREES])
    knobs = [Knob(name, value, value) for name, value in small.settings.items()]
    again = Simplifier(lambda changed: micro({**small.settings, **changed}), knobs, Fewest(small.program)).simplified(
        small.program, small.shrunken, BUG, Budget()
    )
    assert again.settings == {}
    assert again.shrunken.decisions == small.shrunken.decisions


def test_a_setting_goes_back_to_what_is_usual():
    """Even where the story is no shorter for it: nobody needs to wonder whether it matters."""
    small = simplified([Knob("unused", 9, 4, 4)])
    assert small.settings == {"unused": 4}


def test_a_setting_that_the_bug_needs_is_as_near_to_the_usual_as_can_be():
    """Where the usual one does not show the bug, halving finds the smallest that does."""

    def fussy(settings: Mapping[str, int]) -> Micro:
        return Micro("v5" if settings.get("level", 20) >= 7 else "fixed", 3, 3)

    program = fussy({})
    small = Simplifier(fussy, [Knob("level", 20, 1)], Fewest(program)).simplified(
        program, found_in(program), BUG, Budget(replays=2000)
    )
    assert small.settings == {"level": 7}


def test_a_setting_that_has_no_part_in_it_is_left_alone():
    """Below what is usual nothing is changed that does not make the story shorter."""
    assert simplified([Knob("unused", 1000, 1000)]).settings == {}


def test_settings_that_do_not_fit_are_passed_over():
    """A refusal is no reason to stop: with one CPU it goes on."""
    assert simplified([Knob("cpus", 3, 3, -5)]).settings == {"cpus": 1}


@pytest.mark.parametrize("budget", [Budget(replays=0), Budget(stop=lambda: True), Budget(seconds=0)])
def test_without_a_budget_nothing_changes(budget):
    """The schedule at hand is given back."""
    program = micro({})
    shrunken = found_in(program)
    small = Simplifier(micro, [CPUS, FREES], Fewest(program)).simplified(program, shrunken, BUG, budget)
    assert (small.settings, small.shrunken) == ({}, shrunken)


def test_what_may_be_turned_down_in_a_scenario():
    """Its own numbers; of the machine what was set, and only down to what its author asked for."""
    story = find("dead-cache/memory-pressure")
    usual = story.bind(settings={})
    assert usual.knobs == [Knob("dentries", 2, 2)]
    assert story.bind(settings=["cpus=4", "pages=8", "dentries=5", "min_partial=5", "debugobjects=no"]).knobs == [
        Knob("dentries", 5, 2),
        Knob("min_partial", 5, 0),
        Knob("cpus", 4, 2, 2),
    ]
    program = usual.variant({"dentries": 1, "cpus": 2})
    assert program.settings == {"dentries": 1}
    assert program.lifecycle.name == usual.lifecycle.name
    assert program.variant({"dentries": 2}).settings == {}


@pytest.mark.slow
def test_a_scenarios_settings_go_back():
    """Of many CPUs, workers and dentries none is needed but the usual CPUs and one dentry."""
    program = find("dead-cache/memory-pressure").bind(settings=["cpus=4", "kworkers=3", "dentries=3"])
    *_, result = search(program, runs=100, seed=0)  # more than 1 in 4 runs shows a bug
    bug = next(iter(result.found.values()))
    budget = Budget()
    shrunken = shrink(program, bug.record, bug.signature, budget=budget)
    small = Simplifier(program.variant, program.knobs, Fewest(program)).simplified(
        program, shrunken, bug.signature, budget
    )
    assert program.variant(small.settings).settings == {"dentries": 1}
    assert small.shrunken.size < shrunken.size
