"""Workers on a Dask cluster: ``dask://HOST:PORT`` is the address of its scheduler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from slabactors.errors import UsageError, WorkersLost
from slabactors.explore.crew import Crew

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_SECONDS: Final = 3.0
"""How long an address may take to answer, and a cluster to have a worker."""


class Cluster(Crew):
    """The workers of a Dask cluster; it runs by itself what was lost with a worker.

    Args:
        client: connected to its scheduler (a ``distributed.Client``, which is not typed).
        where: host and port of the scheduler.
    """

    def __init__(self, client: Any, where: str) -> None:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        threads = sum(client.nthreads().values())
        super().__init__(client.get_executor(pure=False), 2 * threads + 2)
        self.lost = (KilledWorker, FutureCancelledError, CommClosedError, CancelledError, MemoryError)
        self.client = client
        self._where = where

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand out a part."""
        if self.client.status != "running":
            raise WorkersLost(
                f"the Dask scheduler at {self._where} cannot be reached any more.\n"
                "  Start it again, or search with processes of this machine: --jobs 2"
            )
        return super().submit(function, *args, **kwargs)


@contextmanager
def connected(address: str) -> Iterator[Crew]:
    """The cluster at an address.

    Args:
        address: ``dask://HOST:PORT``.

    Raises:
        UsageError: it is not an address, or the libraries are missing.
        WorkersLost: nobody answers there, or it has no worker.
    """
    match = re.fullmatch(r"dask://([^/\s]+:\d+)/?", address)
    if match is None:
        raise UsageError(
            f"expected the address of a Dask scheduler, found {address!r}.\n"
            "  Type for example: --executor dask://127.0.0.1:8786"
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            f"a Dask cluster needs the library distributed, which is not installed ({error}).\n"
            "  Install it: pip install 'slabactors[cluster]'"
        ) from error
    where = match[1]
    quiet = logging.getLogger("distributed")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # what goes wrong is said once, and by us
    try:
        client = _client(Client, where)
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            client.close()
            raise WorkersLost(
                f"the Dask scheduler at {where} has no worker.\n  Start one: dask worker tcp://{where}"
            ) from error
        try:
            yield Cluster(client, where)
        finally:
            client.close(timeout=CONNECT_SECONDS)
    finally:
        quiet.setLevel(level)


def _client(factory: Callable[..., Any], where: str) -> Any:
    try:
        return factory(f"tcp://{where}", timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkersLost(
            f"no Dask scheduler answers at {where}: {error}.\n"
            f"  Start one there: dask scheduler --port {where.rpartition(':')[2]}, and workers: dask worker tcp://{where}"
        ) from error
