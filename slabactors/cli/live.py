"""Live runs from the command line."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from slabactors.errors import UsageError
from slabactors.runtime.step import Observer
from slabactors.scenario import BoundScenario, LiveExecution


def check_backend(backend: str) -> None:
    """See whether an event loop is there.

    Raises:
        UsageError: trio is asked for and not installed.
    """
    if find_spec(backend) is None:
        raise UsageError(f"--runtime {backend} needs {backend}, which is not installed.\n  Type: pip install {backend}")


def run_live(
    program: BoundScenario, *, seed: int, backend: str, time_scale: float, jitter: float, observer: Observer | None
) -> LiveExecution:
    """Run a scenario on an event loop of its own.

    Raises:
        UsageError: trio is asked for and not installed.
    """
    import anyio

    check_backend(backend)
    go = partial(program.execute_live, seed=seed, jitter=jitter, time_scale=time_scale, observer=observer)
    return anyio.run(go, backend=backend)
