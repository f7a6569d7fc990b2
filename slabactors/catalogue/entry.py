"""An entry of the catalogue: a real bug, who has it, and the smallest story that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from slabactors.scenario import Scenario

__all__ = ["Entry", "Expected", "KnownBug"]


class Expected(StrEnum):
    """What history says of a bug and a generation."""

    FOUND = "found"
    CLEAN = "clean"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, kw_only=True)
class KnownBug:
    """What is known of a real bug; it stands beside the scenario that shows it, in the same file.

    Attributes:
        id: number in the catalogue, with a letter where a bug has several forms.
        title: of the commit that fixes or names it, or a short name.
        fixed: commit and release.
        reported: who said so, and when.
        where: the generations that history names.
        signatures: of findings that are this bug and no other; patterns as in a shell, of which one has to fit.
        preemptions: the smallest number that history estimates, from a least to a most.
        found_in: lifecycles that have it.
        absent_from: lifecycles that do not.
        not_applicable: lifecycles about which the story can say nothing, with the reason.
        twelve: one of the twelve that were to be found first.
        fast: its cells cost a second or two all together.
    """

    id: str
    title: str
    fixed: str
    reported: str
    where: str
    signatures: tuple[str, ...]
    preemptions: tuple[int, int]
    found_in: tuple[str, ...]
    absent_from: tuple[str, ...] = ()
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    twelve: bool = False
    fast: bool = False

    def is_this(self, signature: str) -> bool:
        """Whether a finding is this bug."""
        return any(fnmatchcase(signature, pattern) for pattern in self.signatures)

    def expected(self, lifecycle: str) -> Expected | None:
        """What history says of a lifecycle; None when it says nothing."""
        if lifecycle in self.found_in:
            return Expected.FOUND
        if lifecycle in self.absent_from:
            return Expected.CLEAN
        return Expected.NOT_APPLICABLE if lifecycle in self.not_applicable else None

    @property
    def estimate(self) -> str:
        """The preemptions that history estimates, as it writes them."""
        least, most = self.preemptions
        return str(least) if least == most else f"{least}-{most}"


@dataclass(frozen=True)
class Entry:
    """A bug with its story.

    Attributes:
        bug: what is known of it.
        scenario: the smallest story that shows it.
        file: where both stand.
        story: what happens, and who said so: the docstring of the file.
    """

    bug: KnownBug
    scenario: Scenario
    file: Path
    story: str
