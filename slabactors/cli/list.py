"""``slabactors list``."""

from __future__ import annotations

from slabactors.cli import FINE
from slabactors.cli.output import say, say_json
from slabactors.explore.strategy import STRATEGIES
from slabactors.lifecycle import LIFECYCLES
from slabactors.machine import CHECKER_INSTANCES
from slabactors.mm.models import MODELS
from slabactors.scenario import find, shipped


def first_line(text: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return paragraph.split(": ")[0] if len(paragraph) > 140 else paragraph


def list_everything(*, json: bool) -> int:
    """Print every name that the other commands take."""
    scenarios = {name: find(name) for name in shipped()}
    groups: dict[str, dict[str, str]] = {
        "scenarios": {name: one.title for name, one in scenarios.items()},
        "lifecycles": {name: f"{first_line(one.__doc__)} ({one.release})" for name, one in LIFECYCLES.items()},
        "checkers": {one.name: first_line(type(one).__doc__) for one in CHECKER_INSTANCES},
        "strategies": {name: first_line(one.__doc__) for name, one in STRATEGIES.items()},
        "models": {name: f"{model.layout.upper()} as in {name.partition('-')[2]}" for name, model in MODELS.items()},
    }
    if json:
        say_json(groups)
        return FINE
    for title, names in groups.items():
        say(f"{title}:")
        for name, text in names.items():
            say(f"  {name}")
            say(f"      {text}")
            if title == "scenarios":
                knobs = ", ".join(f"{knob.name}={knob.default}" for knob in scenarios[name].parameters.values())
                if knobs:
                    say(f"      --set {knobs}")
    return FINE
