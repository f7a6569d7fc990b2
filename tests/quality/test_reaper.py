"""What the reaper is for: with SLAB, a dead cache that nobody shrinks again goes away in time."""

from __future__ import annotations

import pytest

from slabactors.explore.strategy import RandomWalk
from slabactors.explore.verify import verify
from slabactors.runtime.step import Ending, TimePolicy
from slabactors.scenario import find

STORY = "dead-cache/reaper"


def lived(*settings: str, lifecycle: str = "v3.8", seed: int = 0) -> list[float]:
    """How many seconds after the removal of their group dead caches were destroyed in one run."""
    program = find(STORY).bind(lifecycle_name=lifecycle, settings=list(settings))
    execution = program.execute(RandomWalk(seed))
    assert execution.outcome.ending in (Ending.DONE, Ending.BUG)
    assert execution.outcome.bug is None or execution.outcome.bug.kind.value == "zombie"
    return [jiffies / 1000 for _, jiffies in execution.world.destroyed]


def test_the_reaper_empties_a_dead_cache_in_time():
    """Whatever the order of steps, two slabs are gone after some visits, and the cache with them."""
    for seed in range(20):
        (seconds,) = lived(seed=seed)
        assert 10 < seconds < 20


def test_late_timers_make_it_the_twenty_seconds_that_were_measured():
    """A visit every three seconds and not every two."""
    (seconds,) = lived("deferrable_slip=270")
    assert 18 < seconds < 24


@pytest.mark.parametrize("setting", ["reaper=false", "allocator=slub-3.8"])
def test_without_the_reaper_the_cache_stays(setting):
    assert lived(setting) == []


def test_more_objects_take_longer():
    """A fifth of the array at a time, and a few slabs each time the lists have their turn."""
    (few,), (many,) = lived("objects=16"), lived("objects=100")
    assert few < many < 60


@pytest.mark.parametrize("lifecycle", ["v3.8", "v3.10", "v3.14", "v5", "v5-no-retry"])
def test_no_interleaving_breaks_the_story(lifecycle):
    *_, result = verify(find(STORY).bind(lifecycle_name=lifecycle), time=TimePolicy.QUIESCENT)
    assert (result.verdict, result.exhaustive) == ("verified", True)
