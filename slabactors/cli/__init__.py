"""The command line.

Exit codes: 0 fine, 1 a bug was found, 2 the user's mistake, 3 a bug of slabactors itself, 4 undetermined.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

FINE, BUG, MISTAKE, INTERNAL, UNDETERMINED = range(5)

INTERRUPTED = "slabactors: interrupted."

HELP = frozenset({"--help", "-h"})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # whoever started us has closed it
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 -- for as long as we live
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before a command had begun, or while it told its mistake
        sys.stderr.write(INTERRUPTED + "\n")
        code = UNDETERMINED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    from cyclopts import CycloptsError

    from slabactors.cli.app import app
    from slabactors.cli.output import flush, note
    from slabactors.errors import NondeterminismError, UsageError

    try:
        check_text(arguments)
        if HELP.intersection(arguments):
            from slabactors.cli.knobs import help_with_knobs

            return help_with_knobs(arguments)
        code = app([*arguments], exit_on_error=False, print_error=False, result_action="return_value")
        flush()
        return code if isinstance(code, int) else FINE
    except (UsageError, NondeterminismError) as mistake:
        note("\n".join([f"slabactors: {mistake}", *getattr(mistake, "__notes__", ())]))
        return MISTAKE
    except CycloptsError as mistake:
        note(f"slabactors: {mistake}\n  See: slabactors --help, or slabactors COMMAND --help")
        return MISTAKE
    except KeyboardInterrupt:
        note(INTERRUPTED)
        return UNDETERMINED
    except Exception as error:
        if os.environ.get("SLABACTORS_TRACEBACK"):
            raise
        note(
            f"slabactors: slabactors itself failed: {type(error).__name__}: {error}\n"
            "  See the traceback, to report it: SLABACTORS_TRACEBACK=1 slabactors ..."
        )
        return INTERNAL


def check_text(arguments: Sequence[str]) -> None:
    """Refuse what could be neither printed nor written to a finding or a log.

    Raises:
        UsageError: an argument is not UTF-8.
    """
    from slabactors.errors import UsageError

    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"expected UTF-8, found the argument {argument!r}.\n  Rename the file.") from error
