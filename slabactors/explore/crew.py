"""Who runs parts of a search: processes of our own, or somebody else's executor.

A process of our own can be lost at any moment (killed, out of memory).  Its pool breaks with it, so a new one is made;
what was lost is run again by whoever asked for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, TypeVar

from slabactors.errors import WorkersLost

K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")
R = TypeVar("R")

STOP: Final = threading.Event()
"""Set in a process of our own when the search is over, or whoever started it is gone."""


RETRIES_MAX: Final = 3
"""How often a part is run again whose worker died."""

GRACE_SECONDS: Final = 5.0
"""How long parts that are under way are waited for when the search is to end."""

CLOSE_SECONDS: Final = 1.0
"""How long a process may take to end its part when all is over."""


class Crew:
    """Somebody else's executor: it is used, and neither repaired nor closed.

    Args:
        executor: what runs the parts.
        width: how many parts to hand out at once.

    Attributes:
        lost: exceptions that say that a part was lost, and not that it failed.
    """

    lost: tuple[type[BaseException], ...] = (BrokenExecutor, MemoryError)

    def __init__(self, executor: Executor | None, width: int) -> None:
        self.executor = executor
        self.width = width

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand out a part."""
        assert self.executor is not None
        return self.executor.submit(function, *args, **kwargs)

    def repair(self) -> bool:
        """It has broken: make it work again; false when that cannot be done."""
        return False

    def stop(self) -> None:
        """Tell all parts that are under way to end early."""


class Processes(Crew):
    """Processes of our own, started afresh (``spawn``): nothing of this process is in them but what is sent.

    Args:
        jobs: how many.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__(None, 2 * jobs)
        self._jobs = jobs
        self._started: set[BaseProcess] = set()
        self._line: connection.Connection | None = None

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand out a part; a process is started for it if all are busy and there may be more."""
        before = {*multiprocessing.active_children()}
        resource_tracker.ensure_running()  # it would unmask the signal as it is started
        # Ctrl-C goes to all processes of a terminal.  Those of ours inherit that they are not to hear of it.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            if self.executor is None:
                self._open()
            return super().submit(function, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            self._started |= {*multiprocessing.active_children()} - before

    def _open(self) -> None:
        context = multiprocessing.get_context("spawn")
        listener, self._line = context.Pipe(duplex=False)
        self.executor = ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_listen, initargs=(listener,))

    def repair(self) -> bool:
        """Make a new pool; the old one is broken, and has ended its processes."""
        self._close()
        return True

    def stop(self) -> None:
        """The processes hear of it when the line is closed."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _close(self) -> None:
        self.stop()
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = None
        for process in self._started:
            if not connection.wait([process.sentinel], timeout=CLOSE_SECONDS):
                process.kill()  # it is in an execution that takes long, or does not end
            process.join()
        self._started.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


class Flight(Generic[K, R]):
    """The parts that a crew has, by name; one that is lost is run again.

    Args:
        crew: who runs them.
        describe: what to say of a part that kills its workers, and how to see it do so.
    """

    def __init__(self, crew: Crew, describe: Callable[[K], tuple[str, str]]) -> None:
        self._crew = crew
        self._describe = describe
        self._under_way: dict[Future[R], K] = {}
        self._calls: dict[K, tuple[Callable[..., R], tuple[Any, ...]]] = {}
        self._again: list[K] = []
        self._lost: Counter[K] = Counter()

    @property
    def busy(self) -> bool:
        """Some part is to come back."""
        return bool(self._under_way or self._again)

    @property
    def has_room(self) -> bool:
        """Whether another part can be handed out.  One whose worker died is run alone, to see which is to blame."""
        suspected = self._again or any(self._lost[name] for name in self._under_way.values())
        return not suspected and len(self._under_way) < self._crew.width

    def start(self, name: K, function: Callable[..., R], *args: Any) -> None:
        """Hand out a part.

        Raises:
            WorkersLost: there is nobody to run it.
        """
        self._calls[name] = function, args
        self._again.append(name)
        self._submit()

    def _submit(self) -> None:
        name = self._again[0]
        function, args = self._calls[name]
        try:
            future = self._crew.submit(function, *args)
        except self._crew.lost as error:
            self._lose_all(error)
            return
        self._again.pop(0)
        self._under_way[future] = name

    def landed(self, seconds: float) -> Iterator[tuple[K, R]]:
        """Wait a little for some part to come back, and give those that have.

        Raises:
            WorkersLost: a part has killed its workers again and again, or there is nobody to run it.
        """
        if self._again and not self._under_way:
            self._submit()
        done, _ = wait(self._under_way, seconds, FIRST_COMPLETED)
        for future in done:
            name = self._under_way.pop(future, None)
            if name is None:
                continue  # it was lost together with another one
            error = CancelledError() if future.cancelled() else future.exception()
            if error is None:
                del self._calls[name]
                yield name, future.result()
            elif not isinstance(error, self._crew.lost):
                raise error
            else:
                self._note_lost(name, error)
                if isinstance(error, BrokenExecutor):
                    # A pool that breaks loses all that it has, and says so of each; but for those that were done.
                    wait(self._under_way, GRACE_SECONDS)
                    yield from self._whole()
                    self._lose_all(error)

    def land(self) -> Iterator[tuple[K, R | None]]:
        """All is to end: give what comes back soon, and None for the others."""
        for future in [one for one in self._under_way if one.cancel()]:
            yield self._under_way.pop(future), None
        self._crew.stop()
        wait(self._under_way, GRACE_SECONDS)
        yield from self._whole()
        yield from ((name, None) for name in (*self._under_way.values(), *self._again))

    def _whole(self) -> Iterator[tuple[K, R]]:
        """Those that came back whole."""
        for future in [one for one in self._under_way if one.done()]:
            if not future.cancelled() and future.exception() is None:
                yield self._under_way.pop(future), future.result()

    def _note_lost(self, name: K, error: BaseException) -> None:
        """A part is to be run again, unless it was often enough.

        Raises:
            WorkersLost: it was.
        """
        self._lost[name] += 1
        if self._lost[name] > RETRIES_MAX:
            what, how = self._describe(name)
            raise WorkersLost(
                f"{self._lost[name]} processes died that ran {what} ({type(error).__name__}: {error}); "
                f"memory may have run out, or the program ends its process.\n  See what happens, in one process: {how}"
            )
        self._again.append(name)

    def _lose_all(self, error: BaseException) -> None:
        """The crew has broken, and is to be repaired.

        Raises:
            WorkersLost: it cannot be.
        """
        for name in self._under_way.values():
            self._note_lost(name, error)
        self._under_way.clear()
        if not self._crew.repair():
            raise WorkersLost(
                f"the executor cannot be used any more ({type(error).__name__}: {error}).\n"
                "  Give a new one, or leave it out and say how many processes to start: jobs=2"
            ) from error


def _listen(line: connection.Connection) -> None:
    """In a process of ours: hear of it when the line is closed, because the search is over or its process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        with suppress(EOFError, OSError):
            line.recv_bytes()
        STOP.set()
        connection.wait([parent.sentinel])
        os._exit(1)  # a pool's process would wait for ever for work that nobody sends any more

    threading.Thread(target=wait, daemon=True, name="line to the search").start()
