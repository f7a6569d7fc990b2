"""A distinct bug that an exhaustive search met."""

from __future__ import annotations

from dataclasses import dataclass

from slabactors.errors import Kind
from slabactors.explore.finding import signature
from slabactors.runtime.step import Decision, Outcome


@dataclass(slots=True)
class Proved:
    """One distinct bug.

    Attributes:
        signature: what it is called.
        decisions: the schedule that leads to it.
        execution: the number of that execution, from 0.
        count: executions that showed it.
    """

    signature: str
    decisions: list[Decision]
    execution: int
    count: int = 1

    @property
    def kind(self) -> Kind:
        """The class of bug; a signature begins with it."""
        return Kind(self.signature.partition(":")[0])


def collect(found: dict[str, Proved], outcome: Outcome, decisions: list[Decision], execution: int) -> None:
    """Count a bug, or keep it when it is a new one."""
    name = signature(outcome)
    known = found.get(name)
    if known is None:
        found[name] = Proved(name, decisions, execution)
    else:
        known.count += 1
