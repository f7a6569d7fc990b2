"""Who runs parts of a search: processes of our own, or somebody else's executor.

A process of our own can be lost at any moment (killed, out of memory).  Its pool breaks with it, so a new one is made;
what was lost is run again by whoever asked for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

STOP: Final = threading.Event()
"""Set in a process of our own when the search is over, or whoever started it is gone."""


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
