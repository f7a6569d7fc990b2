"""A loop without an end in words."""

from __future__ import annotations

from typing import Any

from slabactors.explore.lasso import Lasso
from slabactors.kernel.jiffies import HZ
from slabactors.report.racing import step_json, what
from slabactors.report.words import counted
from slabactors.trace.race_table import column_of


def loop_json(lasso: Lasso) -> dict[str, Any]:
    """A loop for ``--json``."""
    return {
        "prefix": lasso.prefix,
        "seconds": lasso.jiffies / HZ,
        "steps": [step_json(event, event.index) for event in lasso.loop],
    }


def in_words(lasso: Lasso) -> str:
    """A loop for a person."""
    steps = "; ".join(f"{column_of(event.path)}: {what(event)}" for event in lasso.loop)
    return (
        f"goes on for ever from step {lasso.prefix}: {counted(len(lasso.loop), 'step')} come again every "
        f"{lasso.jiffies / HZ:.2f} virtual seconds and change nothing: {steps}"
    )
