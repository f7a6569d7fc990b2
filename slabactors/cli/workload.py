"""``slabactors workload``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from slabactors import __version__
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.output import Progress, say, say_json
from slabactors.errors import KernelBug, UnknownName, UsageError, WorkloadError
from slabactors.mm.models import MODELS
from slabactors.report.words import counted
from slabactors.workload.check import check_recording, first_difference_text
from slabactors.workload.generate import Generator
from slabactors.workload.language import Op, parse_script
from slabactors.workload.player import Document, Player, script_sense
from slabactors.workload.recording import read_recording

LINE_MAX = 1 << 26
"""Bytes."""
OP_WIDTH = 34
"""Letters of an operation in the table."""


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """What was typed; see the command's help."""

    file: str | None
    model: str | None
    cpus: int | None
    nodes: int | None
    json: bool
    check: Path | None
    random: int | None
    operations: int
    objects: int


DEFAULT_MODEL = "slub-3.8"
DEFAULT_CPUS = 4


def workload_command(options: WorkloadOptions) -> int:
    """Play a script, write one, or check a recording."""
    _validate(options)
    if options.check is not None:
        return _check(options, options.check)
    if options.random is not None:
        script = [line.encode() + b"\n" for line in _script(options, options.random)]
        if options.model is None:
            for line in script:
                say(line.decode().rstrip("\n"))
            return FINE
        return _played(options, f"random-{options.random}", lambda: iter(script))
    assert options.file is not None
    name = "stdin" if options.file == "-" else Path(options.file).name
    with _lines_of(options.file) as again:
        try:
            return _played(options, name, again)
        except WorkloadError as error:
            raise UsageError(f"{name}: {error}") from None


def _validate(options: WorkloadOptions) -> None:
    if options.file is not None and options.file.startswith("-") and options.file != "-":
        raise UsageError(f"unknown option {options.file!r}.\n  See: slabactors workload --help")
    given = [one for one in (options.file, options.check, options.random) if one is not None]
    if len(given) != 1:
        found = "nothing" if not given else "more than one of them"
        raise UsageError(
            f"expected a FILE, --check RECORDING or --random SEED, found {found}.\n"
            "  Type for example: slabactors workload SCRIPT --model slub-6.1"
        )
    if options.model is not None and options.model not in MODELS:
        raise UnknownName("model", options.model, list(MODELS))
    nodes_max = MODELS[options.model or DEFAULT_MODEL].nodes_max
    for name, value, most in (("cpus", options.cpus, 256), ("nodes", options.nodes, nodes_max)):
        if value is not None and not 1 <= value <= most:
            span = f"from 1 to {most}" if most > 1 else f"1 for {options.model}"
            raise UsageError(f"--{name} must be {span}, not {value}.\n  Type for example: --{name} {min(most, 4)}")
    for name, value, most in (
        ("operations", options.operations, 10_000_000),
        ("objects", options.objects, 10_000_000),
    ):
        if not 1 <= value <= most:
            raise UsageError(f"--{name} must be from 1 to {most}, not {value}.\n  Type for example: --{name} 100")
    if options.random is not None and options.model is None and options.json:
        raise UsageError(
            "--json says what a model did, and no model is given.\n"
            "  Type for example: --random 1 --model slub-6.1 --json"
        )


def _script(options: WorkloadOptions, seed: int) -> Iterator[str]:
    cpus, nodes = options.cpus or DEFAULT_CPUS, options.nodes or 1
    generator = Generator(seed, cpus=cpus, nodes=nodes, objects_max=options.objects)
    words = f"slabactors {__version__}: --random {seed} --operations {options.operations} --objects {options.objects}"
    yield f"# {words} --cpus {cpus} --nodes {nodes}"
    yield from generator.script(options.operations)


@contextmanager
def _lines_of(file: str) -> Iterator[Any]:
    """A file's lines, from the beginning as often as they are asked for; what cannot be rewound is copied first."""
    try:
        with tempfile.TemporaryFile() as copy, _opened(file) as source:
            rewindable: IO[bytes] = source
            if file == "-" or not source.seekable():
                while block := source.read(1 << 20):
                    copy.write(block)
                rewindable = copy

            def again() -> Iterator[bytes]:
                rewindable.seek(0)
                return iter(lambda: rewindable.readline(LINE_MAX), b"")

            yield again
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}.\n  Give a file, or - for standard input.") from error


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
    else:
        with Path(file).open("rb") as source:
            yield source


# -- playing -----------------------------------------------------------------------------------------------------------


def _played(options: WorkloadOptions, name: str, again: Any) -> int:
    """Look at the whole script first: what cannot be played is not begun."""
    model = options.model or DEFAULT_MODEL
    cpus, nodes = options.cpus or DEFAULT_CPUS, options.nodes or 1
    sense = script_sense(model, cpus, nodes)
    for op in parse_script(again()):
        sense.check(op)
    player = Player(model, cpus, nodes, states=options.json)
    if not options.json:
        say(f"{name} under {model}: {counted(cpus, 'CPU')}, {counted(nodes, 'node')}")
    printer = _Lines(Path(name).stem) if options.json else _Table(player)
    operations = 0
    finding: Document | None = None
    for op in parse_script(again()):
        # What the memory did not hold comes to light only here; all else was looked at before.
        try:
            document = player.play(op)
        except KernelBug as bug:
            finding = {"kind": bug.kind.value, "line": op.line, "message": bug.message}
            player.findings.append(finding)
            document = {"finding": finding}
        printer.row(op, operations, document)
        operations += 1
        if finding is not None:
            break
    if finding is None:
        player.finish()
    if not options.json:
        _say_end(player, operations, stopped=finding is not None)
    return BUG if player.findings else FINE


class _Lines:
    """JSON lines, one for each operation.

    Args:
        workload: the script's name.
    """

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.encode = msgspec.json.Encoder().encode

    def row(self, op: Op, position: int, document: Document) -> None:
        """One operation."""
        say(self.encode({"w": self.workload, "i": position, "op": op.text, **document}).decode())


class _Table:
    """What a person wants to see of each operation: what it did, how the cache is, and which slabs went.

    Args:
        player: who plays.
    """

    def __init__(self, player: Player) -> None:
        self.player = player
        self._head: tuple[str, ...] = ()

    def row(self, op: Op, position: int, document: Document) -> None:
        """One operation."""
        d = document.get("d", {})
        name = getattr(op, "name", None)
        played = self.player.caches.get(name) if name is not None else None
        columns: dict[str, str] = {}
        if played is not None:
            columns = {"held": str(played.held), **self.player.view.columns(self.player.machine, played.cache)}
        if columns and tuple(columns) != self._head:
            self._head = tuple(columns)
            say(f"  {'line':>5}  {'operation':<{OP_WIDTH}}" + "".join(f" {head:>9}" for head in self._head))
        text = op.text if len(op.text) <= OP_WIDTH else op.text[: OP_WIDTH - 3] + "..."
        cells = "".join(f" {columns.get(head, ''):>9}" for head in self._head)
        say(f"  {op.line:>5}  {text:<{OP_WIDTH}}{cells}{_told(d)}".rstrip())
        if "finding" in document:
            say(f"         {document['finding']['kind']}: {document['finding']['message']}")


def _told(d: Document) -> str:
    """What else an operation did, in words."""
    told = []
    if "text" in d:
        told.append(f"says {d['text']!r}")
    if "rc" in d:
        told.append(f"returned {d['rc']}")
    if d.get("held_objects"):
        told.append(f"{counted(d['held_objects'], 'object')} still held")
    if "size" in d and "order" in d:
        told.append(f"{d['size']} bytes an object, {d['objects']} in a slab of order {d['order']}")
    gone = d.get("gone", [])
    if gone:
        names = ", ".join(map(str, gone[:8])) + (" ..." if len(gone) > 8 else "")
        told.append(f"{counted(len(gone), 'slab')} went: {names}")
    return "  " + "; ".join(told) if told else ""


def _say_end(player: Player, operations: int, *, stopped: bool) -> None:
    found = counted(len(player.findings), "finding") if player.findings else "no finding"
    how = "stopped after" if stopped else "played"
    say(f"{how} {counted(operations, 'operation')}: {found}")


# -- checking ----------------------------------------------------------------------------------------------------------


def _check(options: WorkloadOptions, file: Path) -> int:
    model = options.model
    if model is None:
        raise UsageError(f"--check needs a model.\n  Type for example: --model slub-6.1  (known: {', '.join(MODELS)})")
    with _lines_of(str(file)) as again:
        try:
            recording = read_recording(again())
            with Progress("sequences", len(recording.sequences)) as progress:
                verdict = check_recording(
                    recording,
                    model,
                    cpus=options.cpus,
                    nodes=options.nodes,
                    progress=lambda done: progress.update(done, 0),
                )
        except WorkloadError as error:
            raise UsageError(f"{file.name}: {error}") from None
    if options.json:
        say_json(
            {
                "sequences": verdict.sequences,
                "operations": verdict.operations,
                "equal": verdict.equal,
                "different": verdict.different,
                "undetermined": verdict.undetermined,
                "first_difference": verdict.first,
            }
        )
    else:
        say(
            f"{file.name} against {model}: {counted(verdict.sequences, 'sequence')}, "
            f"{counted(verdict.operations, 'operation')}: {verdict.equal} equal, {verdict.different} different, "
            f"{verdict.undetermined} undetermined"
        )
        if verdict.chosen:
            say(f"  {counted(len(verdict.chosen), 'sequence')} in another order of CPUs than the default")
        if verdict.first is not None:
            say(f"  first difference: {first_difference_text(verdict.first)}")
    if verdict.different:
        return BUG
    return UNDETERMINED if verdict.undetermined else FINE
