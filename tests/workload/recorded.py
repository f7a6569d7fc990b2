"""The recordings of real kernels beside the tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def lines(name: str) -> list[bytes]:
    """The lines of a recording, by its path below the data directory without ``.gz``."""
    with gzip.open(DATA / f"{name}.gz") as file:
        return file.readlines()


def documents(name: str) -> list[dict]:
    """The same, read."""
    return [json.loads(line) for line in lines(name)]
