"""Who makes a call: the program under simulation, or anybody else.

Looked up on the stack of the call itself, so that nothing has to be kept up to date while a run is played.
"""

from __future__ import annotations

import os
import sys
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE
from pathlib import Path as FilePath
from types import CodeType, FrameType
from typing import Any, Final

from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import LIBRARIES

_DRIVERS: Final = frozenset({Simulation.run.__code__.co_filename, GuidedSimulation._play.__code__.co_filename})
_PACKAGE: Final = str(FilePath((lambda: None).__code__.co_filename).parent.parent) + os.sep
_ELSEWHERE: Final = (*(_PACKAGE + part + os.sep for part in ("explore", "trace", "cli")), "<frozen importlib")
"""Whose calls are nobody else's business: the engine's strategies and observers, and whoever imports a module."""
_LOGGING: Final = os.sep + "logging" + os.sep + "__init__.py"
"""Where the time of a log record is looked up, which decides nothing."""
_SUSPENDABLE: Final = CO_COROUTINE | CO_GENERATOR | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR


def _code_of(function: Any) -> CodeType | None:
    return getattr(getattr(function, "__func__", function), "__code__", None)


def _is_played(driver: FrameType, called: FrameType) -> bool:
    """Whether what a driver called is the program under simulation: not a strategy, nor an observer."""
    code = called.f_code
    if code.co_flags & _SUSPENDABLE or code.co_name == "on_expiry":
        return True
    local = driver.f_locals
    operation = local.get("operation")
    functions = (
        getattr(operation, "function", None),
        getattr(operation, "guard", None),
        local.get("guard"),  # of a message with arguments
        local.get("at_rest"),
    )
    return any(_code_of(function) is code for function in functions if function is not None)


def line_of_program(between: str) -> str | None:
    """The line of the path or operation that makes this call; None when somebody else does.

    Args:
        between: a file whose frames are left out of account: that of whoever asks.
    """
    frame: FrameType | None = sys._getframe(1)
    frames: list[FrameType] = []
    while frame is not None:
        file = frame.f_code.co_filename
        if file in _DRIVERS:
            return _place(frames) if frames and _is_played(frame, frames[-1]) else None
        if file.startswith(_ELSEWHERE) or file.endswith(_LOGGING):
            return None
        if file != between:
            frames.append(frame)
        frame = frame.f_back
    return None


def _place(frames: list[FrameType]) -> str:
    """The innermost line that is not a library's."""
    own = (frame for frame in frames if not frame.f_code.co_filename.startswith(LIBRARIES))
    frame = next(own, frames[0])
    return f"{FilePath(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}()"
