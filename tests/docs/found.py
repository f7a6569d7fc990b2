"""The rows of "Which story finds what" in docs/reference/lifecycles.md: ``python -m tests.docs.found [LIFECYCLE...]``.

Some seconds for each cell; a change of a generation asks for its rows only.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from slabactors.explore.campaign import search
from slabactors.lifecycle import LIFECYCLES
from slabactors.scenario import find
from tests.docs.pages import bare, tables

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lifecycles.md"
RUNS = 3000
RARE = 0.01
"""Kinds in fewer executions than this share stand in parentheses."""


def cell(story: str, lifecycle: str) -> str:
    """The kinds of bugs that a search finds, commonest first."""
    program = find(story).bind(lifecycle_name=lifecycle)
    *_, result = search(program, strategy="portfolio", seed=0, runs=RUNS)
    kinds: Counter[str] = Counter()
    for found in result.found.values():
        kinds[found.kind.value] += found.count
    told = [kind if count >= RARE * RUNS else f"({kind})" for kind, count in kinds.most_common()]
    return ", ".join(told) or "nothing"


def main(names: list[str]) -> None:
    """A row for each lifecycle."""
    [table] = [one for one in tables(PAGE) if one.heading == "Which story finds what"]
    stories = [f"dead-cache/{bare(name)}" for name in table.header[1:]]
    for name in names or list(LIFECYCLES):
        print("|", " | ".join([f"`{name}`", *[cell(story, name) for story in stories]]), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
