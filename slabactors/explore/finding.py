"""A finding: a bug with everything needed to see it again, and the file it is kept in."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from slabactors import __version__
from slabactors.errors import FindingFileError, Kind, OutputError
from slabactors.runtime.step import Decision, Outcome, TimePolicy
from slabactors.runtime.turns import Turn

__all__ = ["Choice", "Finding", "load", "save"]

FORMAT = "slabactors-finding"
FORMAT_VERSION = 1
BYTES_MAX: Final = 1 << 26
"""Of a file that is read for a finding: whatever is longer is something else, and need not fit in memory."""

REPEAT_HINT = "  A scenario must not keep state between runs, nor read clocks, random numbers or addresses."
"""What to do about a program that does not repeat itself."""


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision of a schedule, as it is stored; see `slabactors.runtime.step.Decision`."""

    path: str
    operation: str
    actor: str
    value: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def decision(self) -> Decision:
        """As the replay uses it."""
        return Decision(self.path, self.operation, self.actor, self.value)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A bug with everything needed to see it again.

    Attributes:
        format: always ``slabactors-finding``.
        format_version: of this file.
        program_version: of slabactors.
        scenario: the target, as it is given to the commands.
        scenario_digest: of the scenario's source, to say so when it has changed.
        lifecycle: the generation it was found in.
        parameters: of the scenario and the machine.
        time: when timers could fire in the search.
        starvation: for how many virtual seconds at most a timer that fired early left somebody waiting; None for any.
        strategy: what found it.
        seed: of the search.
        execution: in which execution of the search it was found first.
        signature: the same for the same bug in other runs.
        kind: the class of bug.
        message: one sentence.
        preemptions: of the whole run that the schedule stands for: switches away from a path that could have gone on.
        preemptions_minimum: no schedule with fewer shows it; they were all explored.
        schedule: the choices that lead to it.
        calls: what a live machine's program called; then there is no scenario, and its name says who called.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    program_version: str = __version__
    scenario: str
    scenario_digest: str
    lifecycle: str
    parameters: dict[str, Any]
    time: TimePolicy = TimePolicy.ADVERSARIAL
    starvation: float | None = None
    strategy: str
    seed: int
    execution: int
    signature: str
    kind: Kind
    message: str
    preemptions: int
    preemptions_minimum: bool = False
    schedule: list[Choice]
    calls: list[Turn] | msgspec.UnsetType = msgspec.UNSET


def signature(outcome: Outcome) -> str:
    """What a bug is called wherever and whenever it shows: kind, clause, and the role of the path that hit it."""
    bug = outcome.bug
    assert bug is not None
    text = f"{bug.kind.value}: {bug.clause}"
    if outcome.culprit is not None:
        role = re.sub(r"[/: ]?\d+(:\d+)?", "", re.sub(r"^timer .*", "timer", outcome.culprit.name))
        text += f" by {role}"
    return text


def file_name(finding: Finding) -> str:
    """A name for the finding's file, made of its lifecycle and signature; another one for every other bug.

    Bugs differ when scenario, parameters, lifecycle or signature do: that is what the digits at the end stand for.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"{finding.lifecycle} {finding.signature}".lower()).strip("-")
    identity = [finding.scenario, finding.parameters, finding.lifecycle, finding.signature]
    digest = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:8]
    return f"{slug[:80].rstrip('-')}-{digest}.json"


def check_directory(directory: Path) -> None:
    """Make the directory that findings are to be written to, and see whether they can be.

    Raises:
        OutputError: they cannot.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _unwritable(directory, error) from error


def save(finding: Finding, path: Path) -> None:
    """Write a finding's file, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    data = msgspec.json.format(msgspec.json.encode(finding), indent=1) + b"\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write findings to {path}: {error.strerror}.\n  Give a directory that can be written to: --save DIR"
    )


def load(path: Path) -> Finding:
    """Read a finding's file.

    Raises:
        FindingFileError: it is missing, truncated, something else, or of another format version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX)
    except OSError as error:
        raise FindingFileError(
            f"cannot read the finding {path}: {error.strerror}.\n"
            "  Findings are written by: slabactors explore (or verify) SCENARIO --save DIR"
        ) from error
    if data.startswith(b'{"event":"run",'):
        raise FindingFileError(
            f"{path} is the log of a run, not a finding.\n"
            f"  Look into it: slabactors log why {path} STEP, or slabactors report {path}"
        )
    try:
        head = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FindingFileError(
            f"{path} is not a finding: expected one JSON document, found {len(data)} bytes that are not ({error}).\n"
            "  It may have been cut short; find it again: slabactors explore SCENARIO --save DIR"
        ) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise FindingFileError(
            f'{path} is JSON but not a finding: expected "format": "{FORMAT}".\n'
            "  Findings are written by: slabactors explore (or verify) SCENARIO --save DIR"
        )
    if head.get("format_version") != FORMAT_VERSION:
        raise FindingFileError(
            f"{path} has format version {head.get('format_version')}, made by slabactors "
            f"{head.get('program_version', '?')}; this is slabactors {__version__}, "
            f"which reads version {FORMAT_VERSION}.\n"
            "  Find it again with this version: slabactors explore SCENARIO --save DIR"
        )
    try:
        return msgspec.json.decode(data, type=Finding)
    except msgspec.ValidationError as error:
        raise FindingFileError(
            f"{path} is a damaged finding: {str(error).lower()}.\n"
            "  Find it again: slabactors explore SCENARIO --save DIR"
        ) from error
