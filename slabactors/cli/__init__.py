"""The command line.

Exit codes: 0 fine, 1 a bug was found, 2 the user's mistake, 3 a bug of slabactors itself, 4 undetermined.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

FINE, BUG, MISTAKE, INTERNAL, UNDETERMINED = range(5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    from cyclopts import CycloptsError

    from slabactors.cli.app import app
    from slabactors.errors import UsageError

    try:
        code = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code if isinstance(code, int) else FINE
    except (UsageError, CycloptsError) as mistake:
        hint = "" if isinstance(mistake, UsageError) else "\n  See: slabactors --help, or slabactors COMMAND --help"
        _complain(f"{mistake}{hint}")
        return MISTAKE
    except BrokenPipeError:
        # Whoever read our output has gone; writing more, even at exit, would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except KeyboardInterrupt:
        _complain("interrupted.")
        return UNDETERMINED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FINE
    except Exception as error:
        if os.environ.get("SLABACTORS_TRACEBACK"):
            raise
        _complain(
            f"slabactors itself failed: {type(error).__name__}: {error}\n"
            "  See the traceback, to report it: SLABACTORS_TRACEBACK=1 slabactors ..."
        )
        return INTERNAL


def _complain(text: str) -> None:
    print(f"slabactors: {text}", file=sys.stderr)  # noqa: T201
