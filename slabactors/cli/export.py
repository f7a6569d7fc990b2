"""``slabactors log export``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from slabactors.cli import FINE
from slabactors.cli.log import opened
from slabactors.cli.output import pass_on, say, write_whole
from slabactors.errors import UsageError
from slabactors.trace.export import FORMATS
from slabactors.trace.formats.ftrace_write import Release, ftrace_text
from slabactors.trace.query import Filter


def export_log(path: Path, name: str, which: Filter, *, output: Path | None, release: str | None) -> int:
    """Write a log in another format, to stdout or to a file.

    Raises:
        UsageError: the format has no room for so many steps, the options do not fit each other, or the file is the log.
    """
    if release is not None and name != "ftrace":
        raise UsageError(f"--release is for --format ftrace, not {name}.\n  Leave it out, or type: --format ftrace")
    if which.first is not None and which.last is not None and which.first > which.last:
        raise UsageError(
            f"there is no step from {which.first} on and up to {which.last}.\n"
            f"  Type: --from {which.last} --to {which.first}"
        )
    if output is not None and output.exists() and path.exists() and output.samefile(path):
        raise UsageError(f"{output} is the log itself.\n  Give another file: -o FILE")
    form = FORMATS[name]
    write = form.write if release is None else partial(ftrace_text, release=Release(release))
    with opened(path) as [log]:
        pieces = write(log, which)
        if output is None:
            for piece in pieces:
                pass_on(piece)
        else:
            write_whole(output, pieces, "-o")
            say(f"{output}: {form.see.format(path=output)}")
    return FINE
