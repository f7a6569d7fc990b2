"""``--help`` of a command that is given a scenario: its options, and the scenario's own knobs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from cyclopts import CycloptsError
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from rich.console import Console

from slabactors.cli import FINE, HELP
from slabactors.cli.app import app
from slabactors.cli.output import flush


def help_with_knobs(arguments: Sequence[str]) -> int:
    """Print the help that was asked for, and the knobs of the scenario when one is named.

    Raises:
        UsageError: there is no such scenario.
    """
    app([*arguments], exit_on_error=False, print_error=False, result_action="return_value")
    flush()
    target = _target([one for one in arguments if one not in HELP])
    if target is not None:
        _print_knobs(target)
        flush()
    return FINE


def _target(arguments: list[str]) -> str | None:
    """The scenario that the rest of a command line names."""
    try:
        command, bound, *_ = app.parse_known_args(arguments)
    except CycloptsError:
        return None
    return bound.arguments.get("target") if "target" in inspect.signature(command).parameters else None


def _print_knobs(target: str) -> None:
    """A panel like the others."""
    from slabactors.scenario import find

    scenario = find(target)
    console = Console()
    machine = ", ".join(f"{one.name}={one.default}" for one in scenario.machine_parameters.values())
    entries = [
        HelpEntry(
            positive_names=(f"--set {one.name}={one.type.__name__.upper()}",),
            description=one.about,
            default=str(one.default),
        )
        for one in scenario.described()
    ]
    entries.append(HelpEntry(positive_names=("--set NAME=VALUE",), description=f"Of its machine: {machine}."))
    panel = HelpPanel(format="parameter", title=f"Parameters of {target}", entries=entries)
    DefaultFormatter()(console, console.options, panel)
