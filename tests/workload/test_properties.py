"""Random workloads lose nothing on any model, and a broken allocator is noticed.  ``make fuzz`` plays thousands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slabactors.actors import operation_of
from slabactors.errors import KernelBug
from slabactors.mm.models import MODELS
from slabactors.mm.page_alloc import PageAllocator
from slabactors.mm.slab_array import ArrayCache
from slabactors.mm.slab_slab import SlabDescriptor
from slabactors.mm.slub_cpu import KmemCacheCpu
from slabactors.mm.slub_node import KmemCacheNode
from slabactors.mm.slub_slab import Slab
from tests.workload.properties import play_random

SEEDS = 12


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_lost_and_nothing_is_handed_out_twice(model):
    for seed in range(SEEDS):
        assert play_random(model, seed) >= 60


def keeps_what_it_gives(function):
    """A slab whose freelist is taken and still there."""

    def get_freelist(self: Slab):
        taken = function(self)
        self.freelist = list(taken)
        return taken

    return get_freelist


def loses_the_last(function):
    """One slab of those that a CPU gives up is listed nowhere."""

    def add(self: KmemCacheNode, slabs):
        return function(self, slabs[:-1])

    return add


def forgets(_function):
    """Nothing happens."""
    return lambda self, *args: None


def gives_one_away(function):
    """An array that is flushed gives one more than it forgets."""

    def flushed(self: ArrayCache, count, obj):
        return function(self, count - 1, obj)

    return flushed


def counts_wrong(function):
    """A slab that is given back an object counts it as in use still."""

    def put_objects(self: SlabDescriptor, places):
        function(self, places)
        self.inuse += 1
        return self.inuse

    return put_objects


MUTANTS: dict[str, tuple[str, Callable, Callable]] = {
    "a freelist is handed out twice": ("slub-3.8", Slab.get_freelist, keeps_what_it_gives),
    "a drained slab is lost": ("slub-6.1", KmemCacheNode.add_unfrozen_and_unlock, loses_the_last),
    "an object freed to a CPU's own slab is lost": ("slub-3.10", KmemCacheCpu.free, lambda _: lambda c, obj: True),
    "pages are not given back": ("slub-6.1", PageAllocator.free_pages, forgets),
    "slabs that go are still counted": ("slub-3.8", KmemCacheNode.dec_slabs, forgets),
    "an array keeps what it has flushed": ("slab-3.8", ArrayCache.flushed, gives_one_away),
    "a slab counts wrong": ("slab-3.8", SlabDescriptor.put_objects, counts_wrong),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_allocator_is_noticed(name, monkeypatch):
    """Each is broken in one operation; a dozen random workloads are enough."""
    model, method, mutate = MUTANTS[name]
    spec = operation_of(method)
    monkeypatch.setattr(spec, "function", mutate(spec.function))

    def play() -> None:
        for seed in range(SEEDS):
            play_random(model, seed, at_once=False)  # what is delivered by hand would go round the mutant

    with pytest.raises((AssertionError, KernelBug, LookupError)):
        play()
