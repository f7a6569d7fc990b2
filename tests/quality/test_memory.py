"""A long search does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabactors.explore.campaign import search
from slabactors.scenario import find

STATM = Path("/proc/self/statm")
PAGE = 4096
MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="this system does not say how much memory a process has")
@pytest.mark.parametrize(("lifecycle", "verdict"), [("v5", "clean"), ("pre-patch", "broken")])
def test_twenty_thousand_runs_take_no_more_memory_than_five_thousand(lifecycle, verdict):
    """Whether the runs end well or with a bug, what one leaves behind goes before the next: less than 2 MiB in 15,000.

    A machine of this story takes some 10 KiB: keeping each of them would take 150 MiB, keeping one in fifty 3 MiB.
    """
    program = find("dead-cache/emptied").bind(lifecycle_name=lifecycle, settings={"objects": 1})
    runs = 20_000 if verdict == "clean" else 10_000
    early = 0
    for result in search(program, runs=runs, seed=0):
        if result.executions >= runs // 4 and not early:
            early = resident()
    late = resident()
    assert result.executions == runs
    assert result.verdict == verdict
    assert early > 0
    assert late - early < 2 * MIB


def resident() -> int:
    """Bytes of memory that this process has right now; its peak would hide what a search gives back."""
    return int(STATM.read_text().split()[1]) * PAGE
