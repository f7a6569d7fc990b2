"""What is known to be wrong with the releases that shipped the protocol, and is found: 3.8, 3.10 and 3.14.

Each bug is told by the title of the commit that names or fixes it; a fix takes its bug away and no other.
"""

from __future__ import annotations

from functools import cache

import pytest

from slabactors.errors import Kind
from slabactors.explore.campaign import search
from slabactors.explore.verify import verify
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find

RELEASES = ["v3.8", "v3.10", "v3.14"]


@cache
def everything(story: str, lifecycle_name: str) -> frozenset[str]:
    """The signatures of every bug that some interleaving of a story has, when timers fire only when nothing moves."""
    *_, result = verify(find(f"dead-cache/{story}").bind(lifecycle_name=lifecycle_name), time=TimePolicy.QUIESCENT)
    assert result.exhaustive
    return frozenset(result.found)


def sampled(story: str, lifecycle_name: str, *settings: str, runs: int = 1000) -> set[str]:
    """The signatures of what some runs of the usual strategies find."""
    program = find(f"dead-cache/{story}").bind(lifecycle_name=lifecycle_name, settings=list(settings))
    *_, result = search(program, strategy="portfolio", seed=0, runs=runs)
    return set(result.found)


@pytest.mark.parametrize("release", RELEASES)
def test_an_emptied_dead_cache_goes_away_and_one_that_is_emptied_later_never_does(release):
    """ "slub: make dead caches discard free slabs immediately" (d6e0b7fa1186, 4.0): every order leaves a zombie."""
    assert everything("emptied", release) == frozenset()
    assert everything("freed-later", release) == {"zombie: empty dead cache never destroyed"}


@pytest.mark.parametrize("release", RELEASES)
def test_the_last_page_races_the_queued_work(release):
    """Posted 2014-02-26; 3.16 gave up the asynchronous path for it (1e32e77f95d6)."""
    assert everything("rmdir-races-last-free", release) >= {
        "freed-active-work: free of an active work item by kworker",
        "use-after-free: memcg_cache_params.is_dead after free by free",
        "use-after-free: work.is_pending after free by free",
        "use-after-free: work.test_and_set_pending after free by free",
    }


MEMCG_PUT_FIRST = {
    "use-after-free: Mutex.lock after free by kworker",
    "use-after-free: Mutex.unlock after free by kworker",
    "use-after-free: mem_cgroup.unlink after free by kworker",
}


def test_the_memcg_is_used_after_it_was_put_until_3_10():
    """ "memcg: avoid accessing memcg after releasing reference" (3.10).

    Somebody else frees the last page, puts the last reference, and frees the group.
    """
    for story in ("rmdir-races-last-free", "creation-races-rmdir"):
        assert everything(story, "v3.8") >= MEMCG_PUT_FIRST
        for release in ("v3.10", "v3.14"):
            assert not any("Mutex" in one or "mem_cgroup" in one for one in everything(story, release))


def test_a_work_is_queued_before_it_is_initialised_until_3_9():
    """ "memcg: initialize kmem-cache destroying work earlier" (15cf17d26e08, 3.9), and nothing else is different."""
    uninitialised = {"uninitialised-work: queueing of an uninitialised work item by free"}
    released = everything("rmdir-races-last-free", "v3.8")
    assert released >= uninitialised
    assert everything("rmdir-races-last-free", "v3.10") == released - uninitialised - MEMCG_PUT_FIRST
    assert everything("rmdir-races-last-free", "v3.14") == everything("rmdir-races-last-free", "v3.10")


def test_destroying_the_root_of_a_living_groups_cache_cancels_a_work_that_was_never_initialised():
    """Sequential, as its reporter showed with a module of his own: more than every second run of 3.8."""
    cancelled = "uninitialised-work: cancelling of an uninitialised work item by rmmod"
    assert cancelled in sampled("root-destroyed", "v3.8", runs=100)
    for release in ("v3.10", "v3.14"):
        assert not any(Kind.UNINITIALISED_WORK in one for one in sampled("root-destroyed", release))


def test_a_child_is_listed_without_a_slot_until_3_14():
    """ "memcg: fix possible NULL deref while traversing memcg_slab_caches list" (96403da24444, 3.14)."""
    empty = "bug-on: NULL dereference through memcg_caches[] by main"
    assert empty in everything("creation-races-rmdir", "v3.8")
    assert empty in everything("creation-races-rmdir", "v3.10")
    assert empty not in everything("creation-races-rmdir", "v3.14")


@pytest.mark.parametrize("release", RELEASES)
def test_a_child_that_is_created_after_its_group_has_gone_stays(release):
    """ "memcg: flush cache creation works before memcg cache destruction" (2a4db7eb9391, 4.0): nobody marks it dead."""
    assert "zombie: empty dead cache never destroyed" in everything("creation-races-rmdir", release)


@pytest.mark.parametrize("release", RELEASES)
def test_a_child_that_is_gone_is_cancelled(release):
    """ "memcg: fix root vs memcg cache destruction race" (bd67314586a3, 3.16), its first form.

    Its own work destroys a child between two of the three steps that the destruction of the root takes with it; or
    while it is waited for.  1 in 15 runs is the second case, 1 in 100 one of the first.
    """
    cancelling = {"memcg_cache_params.set_dead", "work.try_to_grab", "work.clear_canceling"}
    wanted = {f"use-after-free: {what} after free by main" for what in cancelling}
    assert len(sampled("unloaded-after-a-while", release) & wanted) >= 2


@pytest.mark.parametrize("release", RELEASES)
def test_offline_queues_a_work_again_behind_its_cancelling(release):
    """The second form: the two have no lock in common, and the work runs over what is left."""
    assert sampled("root-destroyed", release, "debugobjects=no", runs=500) & {
        "bug-on: NULL dereference through memcg_caches[] by kworker",
        "use-after-free: kmem_cache.read_slot after free by kworker",
        "use-after-free: memcg_cache_params.no_pages after free by kworker",
        "use-after-free: work.clear_pending after free by kworker",
    }
