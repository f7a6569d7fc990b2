"""Finding entries: the shipped ones, and those of a user's files."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from slabactors.catalogue.entry import Entry, KnownBug
from slabactors.catalogue.generations import GENERATIONS
from slabactors.errors import ScenarioError, UnknownName
from slabactors.lifecycle import LIFECYCLES
from slabactors.scenario import catalogued, load_file

__all__ = ["all_entries", "chosen_entries", "load_entry"]

EXAMPLE: Final = 'Write for example: BUG = KnownBug(id="B01", title=..., ...), beside one @scenario'


def load_entry(file: Path, *, name: str | None = None) -> Entry:
    """The entry that a file holds: one scenario, and beside it ``BUG``.

    Args:
        file: a Python file.
        name: what its scenario is to be called; as the file by default.

    Raises:
        ScenarioError: it is missing, does not import, holds no or several scenarios, or what it says of the bug is
            not whole.
    """
    stories = load_file(file)
    module = next((one for one in list(sys.modules.values()) if _holds_bug(one, file)), None)
    bug = getattr(module, "BUG", None)
    if not isinstance(bug, KnownBug):
        raise ScenarioError(f"{file} is no entry of the catalogue: it has no BUG.\n  {EXAMPLE}")
    if len(stories) > 1:
        called = ", ".join(story.name for story in stories)
        raise ScenarioError(f"{file} is an entry of the catalogue and holds several scenarios: {called}.\n  {EXAMPLE}")
    _check(bug, file)
    story = inspect.getdoc(module) or stories[0].story
    return Entry(bug, replace(stories[0], name=name or str(file)), file, story)


def _holds_bug(module: object, file: Path) -> bool:
    known = getattr(module, "__file__", None)
    return known is not None and hasattr(module, "BUG") and Path(known).resolve() == file.resolve()


def _check(bug: KnownBug, file: Path) -> None:
    said = [*bug.found_in, *bug.absent_from, *bug.not_applicable]
    for lifecycle in said:
        if lifecycle not in LIFECYCLES:
            raise UnknownName("lifecycle", lifecycle, list(LIFECYCLES), hint=f"It is named in {file}.")
        if said.count(lifecycle) > 1:
            raise ScenarioError(
                f"{file} says two things of {lifecycle}.\n"
                "  A lifecycle is in one of found_in, absent_from and not_applicable; "
                f"generations are {', '.join(GENERATIONS)}."
            )
    if not bug.signatures:
        raise ScenarioError(f"{file} has no signatures: nothing that a search finds would be this bug.\n  {EXAMPLE}")


def all_entries() -> list[Entry]:
    """Every shipped entry, by its number.

    Raises:
        ScenarioError: one of them is broken, or two have one number.
    """
    found: dict[str, Entry] = {}
    for name, file in catalogued().items():
        entry = load_entry(file, name=name)
        if entry.bug.id in found:
            raise ScenarioError(
                f"two entries of the catalogue are {entry.bug.id}: {found[entry.bug.id].file} and {file}.\n"
                "  Give one of them another number."
            )
        found[entry.bug.id] = entry
    return [found[number] for number in sorted(found)]


def chosen_entries(wanted: list[str]) -> list[Entry]:
    """The entries with these numbers, of all forms where a bug has several; or in these files.  All when none is given.

    Raises:
        UnknownName: there is none of that number.
        ScenarioError: a file is broken.
    """
    if not wanted:
        return all_entries()
    chosen: dict[str, Entry] = {}
    for one in wanted:
        if one.endswith(".py"):
            chosen[one] = load_entry(Path(one))
            continue
        entries = all_entries()
        number = one.lower()
        meant = [entry for entry in entries if entry.bug.id.lower() in (number, *(number + form for form in "abcd"))]
        if not meant:
            known = [entry.bug.id for entry in entries]
            raise UnknownName("entry of the catalogue", one, known, hint="See: slabactors catalogue")
        chosen |= {entry.bug.id: entry for entry in meant}
    return list(chosen.values())
