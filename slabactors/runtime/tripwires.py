"""Tripwires: what no schedule can repeat, no path and no operation may call.

A simulated run is repeated from its schedule, so nothing else may decide anything in it: no clock, no random numbers,
no threads, processes or sockets.  Within `tripwires` such a call made by a path or an operation raises `ForeignCall`,
which names the line and says what to use instead.  Everybody else (the engine between and around the steps, other
threads, the host program) is let through: who calls is looked up on the stack of the call, so that a run that calls
nothing of the kind pays nothing.

What cannot be seen from here: C code that reads clocks by itself, and what a module outside the standard library's and
the user's own bound before the search began.  (Names that the user's own modules have bound are bound to stand-ins
meanwhile, so ``type(x) is datetime`` does not hold in them; ``isinstance`` does.)  The comparison of two runs of one
schedule (`slabactors.explore.determinism`) is the second line of defence.
"""

from __future__ import annotations

import _thread
import datetime
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from slabactors.errors import ForeignCall
from slabactors.runtime.caller import line_of_program
from slabactors.runtime.step import LIBRARIES
from slabactors.runtime.watchdog import watched

P = ParamSpec("P")
T = TypeVar("T")

CLOCK = "Virtual time is the only clock: sleep() waits, and an operation marked clock=True may read clock.now."
CHANCE = "Let the schedule decide: choose(n) gives a number below n that is recorded and replayed."
THREAD = "Start a path instead: spawn() or parallel()."
OUTSIDE = "Do it before the run, and give the scenario what came of it as a parameter."

_HERE: Final = (lambda: None).__code__.co_filename


class _State(threading.local):
    """What a path has been caught at in this thread, in case it swallows the exception."""

    offence: ForeignCall | None = None


_state = _State()


def _trip(what: str, place: str, advice: str) -> NoReturn:
    offence = ForeignCall(
        f"{place} called {what}, which no schedule can repeat; a simulated run is made of its schedule alone.\n"
        f"  {advice}"
    )
    if _state.offence is None or _state.offence.reported:
        _state.offence = offence
    raise offence


def _wire(what: str, original: Callable[..., Any], advice: str, arguments_max: int | None = None) -> Callable[..., Any]:
    """A stand-in for a function that trips.

    Args:
        what: how the message calls it.
        original: the function.
        advice: what to use instead.
        arguments_max: it is harmless with more arguments than these (``localtime(0)`` reads no clock).
    """

    @wraps(original)
    def wired(*args: Any, **kwargs: Any) -> Any:
        if _depth and (arguments_max is None or len(args) <= arguments_max):
            place = line_of_program(_HERE)
            if place is not None:
                _trip(what, place, advice)
        return original(*args, **kwargs)

    return wired


# -- what trips --------------------------------------------------------------------------------------------------------

_TIME: Final = {
    **dict.fromkeys(("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"), None),
    **dict.fromkeys(("process_time", "process_time_ns", "thread_time", "thread_time_ns"), None),
    **dict.fromkeys(("clock_gettime", "clock_gettime_ns", "sleep"), None),
    **dict.fromkeys(("localtime", "gmtime", "ctime"), 0),
    "strftime": 1,
}
"""Functions of ``time``; with how many arguments they read the clock."""

_AUDITED: Final = {
    "time.sleep": ("time.sleep()", CLOCK),
    "builtins.input": ("input()", OUTSIDE),
    "subprocess.Popen": ("subprocess.Popen()", OUTSIDE),
    "os.system": ("os.system()", OUTSIDE),
    "os.fork": ("os.fork()", OUTSIDE),
    "os.forkpty": ("os.forkpty()", OUTSIDE),
    "os.exec": ("os.exec*()", OUTSIDE),
    "os.posix_spawn": ("os.posix_spawn()", OUTSIDE),
    "os.spawn": ("os.spawn*()", OUTSIDE),
    "socket.__new__": ("socket.socket()", OUTSIDE),
    "socket.getaddrinfo": ("socket.getaddrinfo()", OUTSIDE),
    "socket.gethostbyname": ("socket.gethostbyname()", OUTSIDE),
}
"""Events of the interpreter's audit, with what they are called."""


def _audit(event: str, _: tuple[Any, ...]) -> None:
    """The audit hook: there for good, and idle outside of `tripwires`."""
    if _depth and event in _AUDITED:
        place = line_of_program(_HERE)
        if place is not None:
            _trip(_AUDITED[event][0], place, _AUDITED[event][1])


class _TrippingRandom(random.Random):
    """What the hidden generator behind ``random.random()`` and its like is while tripwires are up."""

    def random(self) -> float:
        _chance("the functions of random")
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        _chance("the functions of random")
        return super().getrandbits(k)


def _chance(what: str) -> None:
    if _depth and (place := line_of_program(_HERE)) is not None:
        _trip(what, place, CHANCE)


_seed = random.Random.seed


@wraps(_seed)
def _seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
    if a is None and not isinstance(self, random.SystemRandom):
        _chance("random.Random() without a seed")
    _seed(self, a, version)


class _Instances(type):
    """Makes a stand-in for a class pass for the class itself."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


class _Date(datetime.date, metaclass=_Instances):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return datetime.date(*args, **kwargs)

    today = staticmethod(_wire("date.today()", datetime.date.today, CLOCK))


class _Datetime(datetime.datetime, metaclass=_Instances):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return datetime.datetime(*args, **kwargs)

    now = staticmethod(_wire("datetime.now()", datetime.datetime.now, CLOCK))
    today = staticmethod(_wire("datetime.today()", datetime.datetime.today, CLOCK))
    utcnow = staticmethod(_wire("datetime.utcnow()", datetime.datetime.utcnow, CLOCK))


def _datetime_module() -> ModuleType:
    """``datetime``, with classes that trip; the real ones cannot be changed, and others may compare types with them."""
    module = ModuleType("datetime", datetime.__doc__)
    module.__dict__.update(vars(datetime), date=_Date, datetime=_Datetime)
    return module


def _attributes() -> list[tuple[Any, str, Any, Any]]:
    """What is replaced while tripwires are up: of what, by which name, the original, the stand-in."""
    found: list[tuple[Any, str, Any, Any]] = []

    def replace(owner: Any, name: str, what: str, advice: str, arguments_max: int | None = None) -> None:
        original = owner.__dict__[name]
        found.append((owner, name, original, _wire(what, original, advice, arguments_max)))

    for name, arguments_max in _TIME.items():
        if hasattr(time, name):
            replace(time, name, f"time.{name}()", CLOCK, arguments_max)
    # The others of these go through the hidden generator, wherever they have been imported to.
    for name in ("random", "getrandbits", "seed"):
        replace(random, name, f"random.{name}()", CHANCE)
    for name in ("random", "getrandbits", "randbytes"):
        replace(random.SystemRandom, name, f"random.SystemRandom().{name}() (or secrets)", CHANCE)
    replace(os, "urandom", "os.urandom()", CHANCE)
    replace(threading.Thread, "start", "threading.Thread().start()", THREAD)
    replace(_thread, "start_new_thread", "_thread.start_new_thread()", THREAD)
    found.append((random.Random, "seed", _seed, _seeded))
    return found


_ATTRIBUTES: Final = _attributes()
_NAMES: Final = {
    id(original): stand_in
    for owner, name, original, stand_in in [
        *(one for one in _ATTRIBUTES if isinstance(one[0], ModuleType)),
        (datetime, "date", datetime.date, _Date),
        (datetime, "datetime", datetime.datetime, _Datetime),
        (None, "", datetime, _datetime_module()),
    ]
}
"""Stand-ins by the identity of what they stand for: for names that a user's module imported."""


# -- putting them up ---------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_depth = 0
"""How many searches and runs are under tripwires."""
_hooked = False
_restore: list[tuple[Any, str, Any, Any]] = []


def _own_modules() -> Iterator[ModuleType]:
    """The modules that users wrote: neither a library's nor the engine's."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name == "slabactors" or name.startswith("slabactors."):
            continue
        if not file.startswith(LIBRARIES):
            yield module


def _put_up() -> None:
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    for owner, name, original, stand_in in _ATTRIBUTES:
        if owner.__dict__[name] is original:  # else somebody else has put a clock of his own there
            setattr(owner, name, stand_in)
            _restore.append((owner, name, original, stand_in))
    random._inst.__class__ = _TrippingRandom
    for module in _own_modules():
        names = vars(module)
        for name, value in list(names.items()):
            stand_in = _NAMES.get(id(value))
            if stand_in is not None:
                names[name] = stand_in
                _restore.append((module, name, value, stand_in))


def _take_down() -> None:
    random._inst.__class__ = random.Random
    for owner, name, original, stand_in in reversed(_restore):
        if vars(owner).get(name) is stand_in:
            setattr(owner, name, original)
    _restore.clear()


@contextmanager
def tripwires() -> Iterator[None]:
    """Put up the tripwires around a search or a run; once around the whole of it, for it takes a millisecond.

    Raises:
        ForeignCall: at the end, when a path was caught and its own code has swallowed that.
        EndlessLoop: a path or an operation does not come to its next step, see `slabactors.runtime.watchdog`.
    """
    global _depth
    with _lock:
        if not _depth:
            _put_up()
        _depth += 1
    before, _state.offence = _state.offence, None
    try:
        with watched():
            yield
        raise_swallowed()
    finally:
        _state.offence = before
        with _lock:
            _depth -= 1
            if not _depth:
                _take_down()


def raise_swallowed() -> None:
    """Raise what a path was caught at, if its own code has swallowed that.

    Raises:
        ForeignCall: it has.
    """
    if _state.offence is not None and not _state.offence.reported:
        raise _state.offence


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """Put up tripwires while a function runs."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with tripwires():
            return function(*args, **kwargs)

    return run


def guarded_search(function: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Put up tripwires until a generator is through, or closed."""

    @wraps(function)
    def search(*args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        with tripwires():
            yield from function(*args, **kwargs)

    return search
