"""Properties in plain words: what must always hold raises; what must sometimes be seen is declared here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sometimes:
    """Something that at least one run of a search must reach, so that a search that explores nothing is noticed.

    Attributes:
        checker: whose property it is.
        text: what must be reached, as a sentence without a subject ("an object was freed").
        reached: looks at the world of a finished run.
    """

    checker: str
    text: str
    reached: Callable[[Any], bool]
