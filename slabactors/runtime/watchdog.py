"""A watchdog: says where a path, an operation or a file being imported goes on for ever without taking a step.

Nobody else can move while a path computes, so a loop in it that awaits nothing, or a wait that is none of the machine's
(a lock that nobody gives back, a terminal), never ends; and no bound on steps is ever hit.  Within `watched` a thread
looks at the stack now and then.  When the program has been on top of the same driver, at the same step, for as long as
patience lasts, it is interrupted, and `watched` raises `EndlessLoop`, which names the line.

A run that is in order pays nothing: it is looked at from outside, and nothing is written down for that.  Nothing of it
depends on the watchdog either, which interferes once, and then the run is over.

Only looks that find the thread stuck are counted, so that a machine that is slow, asleep or stopped wears out no
patience; and nobody who debugs the program is interrupted.
What cannot be helped: C code that never gives the interpreter back, and waits of threads other than the main one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path as FilePath
from types import FrameType
from typing import Any, Final

from slabactors.errors import EndlessLoop
from slabactors.runtime.step import LIBRARIES

__all__ = ["PATIENCE", "Stuck", "watched"]

PATIENCE: Final = "SLABACTORS_PATIENCE"
"""Environment variable: after how many seconds without a step a program is taken to be stuck."""

PATIENCE_SECONDS: Final = 10.0
LOOKS: Final = 20
"""How many looks patience lasts."""
IMPORT_FACTOR: Final = 3
"""By how much longer a file may take to be imported: it may import what takes long to load."""

_HERE: Final = os.path.dirname((lambda: None).__code__.co_filename) + os.sep  # noqa: PTH120 -- as in the code objects
_PACKAGE: Final = os.path.dirname(_HERE[:-1]) + os.sep  # noqa: PTH120
_DRIVERS: Final = frozenset(_HERE + name for name in ("simulated.py", "guided.py", "live.py", "sequential.py"))
_ELSEWHERE: Final = tuple(_PACKAGE + part + os.sep for part in ("explore", "trace", "cli", "report"))
"""Whose time is their own: strategies and observers."""
_DEBUGGERS: Final = ("bdb", "pdb", "pydevd", "debugpy")
_SIGNAL: Final = getattr(signal, "SIGURG", None)
"""What wakes the main thread up, also out of a wait; by default the system ignores it, so it may come too late."""


class Stuck(BaseException):
    """Thrown into a thread that is stuck; no handler of ordinary exceptions is to keep it."""


@dataclass(slots=True)
class _Watch:
    """A thread that is watched.

    Attributes:
        depth: how many `watched` blocks it is in.
        files: those that it imports now.
        at: where it was seen last.
        looks: how often in a row it was seen there.
        common: the frames that were on the stack in all of these looks but the first, outermost first.
        error: why it is interrupted.
        before: what handled the signal before; None where none is used.
    """

    depth: int = 0
    files: list[str] = field(default_factory=list)
    at: Any = None
    looks: int = 0
    common: list[FrameType] = field(default_factory=list)
    error: EndlessLoop | None = None
    before: Any = None


_watches: dict[int, _Watch] = {}
_lock = threading.Lock()
_over = threading.Event()


def patience() -> float:
    """After how many seconds without a step a program is taken to be stuck."""
    try:
        seconds = float(os.environ.get(PATIENCE, PATIENCE_SECONDS))
    except ValueError:
        return PATIENCE_SECONDS
    return seconds if 0 < seconds < threading.TIMEOUT_MAX else PATIENCE_SECONDS


@contextmanager
def watched(file: str | None = None) -> Iterator[None]:
    """Watch this thread while a block lasts; cheap enough for every run, not for every step.

    Args:
        file: what is imported in it; else only what the drivers run is looked at.

    Raises:
        EndlessLoop: the program does not come to its next step, or the import to its end.
    """
    ident = threading.get_ident()
    watch = _begin(ident, file)
    try:
        yield
    except Stuck:
        if watch.error is None:
            raise  # of a block around this one
        error, watch.error = watch.error, None
        raise error from None
    finally:
        _end(ident, watch, file)


def _begin(ident: int, file: str | None) -> _Watch:
    global _over
    with _lock:
        if not _watches:
            _over = threading.Event()
            threading.Thread(target=_look_out, args=(_over,), daemon=True, name="slabactors watchdog").start()
        watch = _watches.setdefault(ident, _Watch())
        watch.depth += 1
        if file is not None:
            watch.files.append(os.path.realpath(file))
    in_main = threading.current_thread() is threading.main_thread()
    if watch.depth == 1 and in_main and _SIGNAL is not None and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
        with suppress(ValueError):  # not the main interpreter's
            watch.before = signal.signal(_SIGNAL, _interrupted)
    return watch


def _end(ident: int, watch: _Watch, file: str | None) -> None:
    with _lock:
        watch.depth -= 1
        watch.at = None
        if file is not None:
            watch.files.pop()
        if watch.depth:
            return
        del _watches[ident]
        if not _watches:
            _over.set()
    if watch.before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(_SIGNAL, watch.before)  # type: ignore[arg-type]
    elif watch.error is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None)  # it came to its next step after all


def _interrupted(number: int, frame: FrameType | None) -> None:
    """The handler of the signal, in the main thread."""
    watch = _watches.get(threading.get_ident())
    if watch is not None and watch.error is not None:
        raise Stuck


# -- looking out -------------------------------------------------------------------------------------------------------


def _look_out(over: threading.Event) -> None:
    """The thread that looks."""
    while not over.wait(patience() / LOOKS):
        frames = sys._current_frames()
        for ident, watch in list(_watches.items()):
            frame = frames.get(ident)
            if frame is not None:
                _look(ident, watch, frame)
        del frames


def _look(ident: int, watch: _Watch, frame: FrameType) -> None:
    """Look at one thread, and interrupt it when patience is at its end."""
    at, stack = _where(frame, [*watch.files])  # which goes on meanwhile
    if at is None or at != watch.at:
        watch.at, watch.looks, watch.common = at, 0, []
        return
    watch.looks += 1
    if watch.looks == 1:
        watch.common = stack  # kept only now: who runs on as usual is not to have his frames kept alive
    pairs = zip(watch.common, stack, strict=False)
    watch.common = [known for known, _ in takewhile(lambda pair: pair[0] is pair[1], pairs)]
    importing = isinstance(at, str)
    if watch.looks < LOOKS * (IMPORT_FACTOR if importing else 1):
        return
    watch.looks = 0  # where it is not to be interrupted by this, it is tried again
    watch.error = _error(watch.common or stack, importing=importing)
    watch.common = []
    if watch.before is not None:
        signal.pthread_kill(ident, _SIGNAL)  # type: ignore[arg-type]
    else:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Stuck))


def _where(frame: FrameType | None, files: list[str]) -> tuple[Any, list[FrameType]]:
    """At which step of which run a thread is, and the program's frames, outermost first; None for no such thing."""
    frames: list[FrameType] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _DRIVERS:
            return _step(frame, frames)
        if frame.f_globals.get("__name__", "").startswith(_DEBUGGERS):
            return None, []
        if code.co_filename.startswith(_ELSEWHERE):
            break
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    for index, one in enumerate(frames):
        if files and os.path.realpath(one.f_code.co_filename) == files[-1]:
            return files[-1], frames[index:]
    return None, []


def _step(frame: FrameType | None, frames: list[FrameType]) -> tuple[Any, list[FrameType]]:
    """The same, for a thread in which a driver has called the program; not when it is busy itself."""
    while frames and frames[-1].f_code.co_filename.startswith(_HERE):
        frames.pop()  # the driver's own helpers
    while frames and frame is not None:
        driver = frame.f_locals.get("self")
        made = getattr(driver, "record", None) or getattr(driver, "steps", None)
        if driver is not None and (made is not None or frame.f_code.co_filename in _DRIVERS):
            return (id(driver), len(made) if isinstance(made, list) else made), frames[::-1]
        frame = frame.f_back
    return None, []


def _error(stack: list[FrameType], *, importing: bool) -> EndlessLoop:
    """What is said of a thread that is stuck in the innermost of these frames."""
    own = [one for one in stack if not one.f_code.co_filename.startswith((*LIBRARIES, _PACKAGE))]
    frame = (own or stack)[-1]
    where = f"{FilePath(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}()"
    seconds = patience() * (IMPORT_FACTOR if importing else 1)
    if importing:
        where = where.removesuffix(" in <module>()")
        return EndlessLoop(
            f"{where} was still running after {seconds:g} s, while the file was imported or its class made.\n"
            f"  Leave that to a path.  If it just takes long: {PATIENCE}={10 * patience():g} slabactors ..."
        )
    return EndlessLoop(
        f"{where} went on for {seconds:g} s without awaiting anything; nobody else can move meanwhile, so it may "
        "never end.\n"
        "  Wait by awaiting: sleep(), or an operation with a guard; and bound the loop.  "
        f"If it just takes long: {PATIENCE}={10 * patience():g} slabactors ..."
    )
