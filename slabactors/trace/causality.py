"""The causal story of a run: which step had to come after which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slabactors.runtime.history import MISSING, History
from slabactors.trace.race_table import column_of, describe


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a causal chain.

    Attributes:
        step: its index in the run.
        who: the column it is in.
        what: what it did.
        because: indices of the steps of other paths that it depends on directly.
    """

    step: int
    who: str
    what: str
    because: list[int]

    @property
    def text(self) -> str:
        """The step on one line."""
        after = f"  (after {', '.join(f'#{index}' for index in self.because)})" if self.because else ""
        return f"#{self.step} {self.who}: {self.what}{after}"

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"step": self.step, "who": self.who, "what": self.what, "because": self.because}


def tell(history: History, steps: list[int]) -> list[Link]:
    """The chain of some steps of a run: each with those of the others that it depends on, directly or through steps
    that are not among them.

    Args:
        history: of the run.
        steps: indices, in order.
    """
    events = history.events
    links = []
    for position, index in enumerate(steps):
        event = events[index]
        earlier = [one for one in steps[:position] if event.past >> one & 1 and events[one].path is not event.path]
        direct = [one for one in earlier if not any(events[other].past >> one & 1 for other in earlier)]
        reply = None if event.reply is MISSING else event.reply
        links.append(Link(index, column_of(event.path), describe(event.operation, event.actor, reply), direct))
    return links
