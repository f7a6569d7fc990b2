"""Everything slabactors raises on purpose.

Two families.  A `KernelBug` is a finding: the emulated machine did something a kernel must not do.  A `UsageError` is
the user's mistake (a wrong name, a broken file, a schedule that does not fit); its text is the whole message that the
command line prints: what was expected, what was found, what to type next.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "CorpusError",
    "EndlessLoop",
    "FindingFileError",
    "ForeignAwait",
    "ForeignCall",
    "KernelBug",
    "Kind",
    "LifecycleMistake",
    "LogFileError",
    "NondeterminismError",
    "OutputError",
    "ReplayDiverged",
    "ScenarioError",
    "SlabactorsError",
    "SurfaceError",
    "TraceFileError",
    "UnknownName",
    "UsageError",
    "WorkersLost",
    "WorkloadError",
    "WrongReturn",
]


class Kind(StrEnum):
    """What class of bug a finding is; the closed set that reports and JSON use."""

    USE_AFTER_FREE = "use-after-free"
    DOUBLE_FREE = "double-free"
    DOUBLE_DESTROY = "double-destroy"
    UNINITIALISED_WORK = "uninitialised-work"
    REINITIALISED_ACTIVE_WORK = "reinitialised-active-work"
    FREED_ACTIVE_WORK = "freed-active-work"
    ACTIVE_RCU_HEAD = "active-rcu-head"
    OBJECTS_REMAINING = "objects-remaining"
    ZOMBIE = "zombie"
    LOST_WAKEUP = "lost-wakeup"
    ACCOUNTING = "accounting"
    DEADLOCK = "deadlock"
    LOCK_ORDER = "lock-order"
    SLEEP_IN_ATOMIC = "sleep-in-atomic"
    BUG_ON = "bug-on"
    DUPLICATE_NAME = "duplicate-name"
    PROPERTY = "property"
    EXCEPTION = "exception"


class SlabactorsError(Exception):
    """Base of everything raised on purpose."""


class KernelBug(SlabactorsError):
    """The emulated machine broke a rule; the run stops and becomes a finding.

    Args:
        kind: the class of bug.
        message: one sentence for a person; may name objects of this run.
        clause: what was violated, free of names and numbers of this run; part of the finding's signature.
        about: the actor it is about, when no single step broke the rule.
    """

    def __init__(self, kind: Kind, message: str, *, clause: str, about: object = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.clause = clause
        self.about = about


class UsageError(SlabactorsError):
    """The user asked for something that cannot be; exit code 2."""


class UnknownName(UsageError):
    """A scenario, lifecycle, strategy, parameter ... that does not exist."""

    def __init__(self, what: str, name: str, known: list[str], *, hint: str = "") -> None:
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1, cutoff=0.5)
        text = f"unknown {what} {name!r}"
        text += f"; did you mean {close[0]!r}?" if close else "."
        if known:
            text += f"\n  Known: {', '.join(known)}."
        if hint:
            text += f"\n  {hint}"
        super().__init__(text)


class ScenarioError(UsageError):
    """A scenario file cannot be read, imported, or holds no scenario; or its parameters do not fit."""


class LifecycleMistake(ScenarioError):
    """A lifecycle of a file is missing, or its class cannot be one."""


class WrongReturn(UsageError):
    """A function of the user's returned what it must not: whoever drives it, that is no finding."""


class EndlessLoop(UsageError):
    """A path, an operation or a file does not come to its next step: it loops, or waits, without awaiting anything."""


class ForeignAwait(UsageError):
    """A path awaited something that only an event loop can serve, in a run that has none."""


class ForeignCall(UsageError):
    """A path or an operation called what no schedule can repeat: a clock, a random number, a thread, a socket."""

    reported = False
    """It has ended its run; a path may swallow it instead."""


class MachineOff(UsageError):
    """A live machine was asked for something after its block was left, or when it had made all the steps it may."""


class ReplayDiverged(UsageError):
    """A schedule does not fit this run; says at which step, what was expected and what was possible.

    Args:
        step: position in the schedule, from 0.
        expected: what the schedule has there.
        found: what there was instead.
        enabled: everything that could have come next, if ``found`` does not say so.
    """

    def __init__(self, step: int, expected: str, found: str, enabled: str = "") -> None:
        text = f"ReplayDiverged: step {step} expected {expected}, but {found}."
        super().__init__(f"{text}\n  Enabled there: {enabled}." if enabled else text)
        self.step = step


class FindingFileError(UsageError):
    """A finding file is truncated, foreign, or of another version."""


class TraceFileError(UsageError):
    """A trace cannot be read at all (a malformed line is counted, not raised)."""


class WorkloadError(UsageError):
    """A workload script, or a recording of one, cannot be read or played.

    Args:
        line: of the file, from 1; 0 for the file as a whole.
        what: what was expected and what was found.
        type_next: what to type instead.
    """

    def __init__(self, line: int, what: str, type_next: str) -> None:
        super().__init__(f"line {line}: {what}\n  {type_next}" if line else f"{what}\n  {type_next}")
        self.line = line


class LogFileError(UsageError):
    """A run's log cannot be read: foreign, damaged, of another schema, or there is no such step."""


class OutputError(UsageError):
    """A log or finding cannot be written."""


class SurfaceError(UsageError):
    """A text that the machine of this run does not have: a kernel would not have the file, or fail to read it."""


class CorpusError(UsageError):
    """The corpus of a campaign is damaged, foreign, or of another version."""


class WorkersLost(UsageError):
    """Processes that worked for a search died again and again, or cannot be reached."""


class NondeterminismError(SlabactorsError):
    """The same schedule ran twice and differed: there is a second source of randomness."""
