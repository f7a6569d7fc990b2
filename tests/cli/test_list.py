"""``list``: every name that the other commands take."""

from __future__ import annotations

from slabactors import cli
from slabactors.explore.strategy import STRATEGIES
from slabactors.lifecycle import LIFECYCLES
from slabactors.mm.models import MODELS
from slabactors.scenario import shipped


def test_everything_that_can_be_named_is_listed(command):
    """Scenarios, lifecycles, checkers, strategies and models, each with a line about it."""
    said = command("list", "--json")
    assert said.code == cli.FINE
    assert said.err == ""
    document = said.document
    assert list(document["scenarios"]) == list(shipped())
    assert list(document["lifecycles"]) == list(LIFECYCLES)
    assert list(document["strategies"]) == list(STRATEGIES)
    assert list(document["models"]) == list(MODELS)
    assert set(document["checkers"]) >= {"kasan", "debugobjects", "accounting", "hung_task"}
    assert all(text for group in document.values() for text in group.values())


def test_the_text_lists_the_same_with_the_knobs(command):
    """Every name and line of the JSON is in the text, and what can be set of a scenario."""
    document = command("list", "--json").document
    said = command("list")
    assert said.code == cli.FINE
    for group, names in document.items():
        assert f"{group}:\n" in said.out
        for name, text in names.items():
            assert f"  {name}\n      {text}\n" in said.out
    assert "--set objects=3, object_size=1000" in said.out


def test_what_is_listed_can_be_run(command):
    """Every scenario runs under every lifecycle: fine, broken, or undetermined, but never refused."""
    document = command("list", "--json").document
    codes = {
        (target, lifecycle): command("run", target, "--lifecycle", lifecycle).code
        for target in document["scenarios"]
        for lifecycle in document["lifecycles"]
    }
    assert set(codes.values()) <= {cli.FINE, cli.BUG, cli.UNDETERMINED}, codes
