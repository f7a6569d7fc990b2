"""SLUB on machines with memory nodes: whose slab an allocation gets, and to whose list a slab goes."""

from __future__ import annotations

import pytest

from slabactors.mm.models import MODELS
from slabactors.mm.slab_common import kmem_cache_destroy
from tests.mm.slub_script import Script, script

SLUB = sorted(name for name, model in MODELS.items() if model.layout == "slub")

each_release = pytest.mark.parametrize("allocator", SLUB)


@each_release
def test_a_new_slab_lies_on_the_cpus_own_node(allocator):
    """CPUs 0 and 1 are of node 0, CPUs 2 and 3 of node 1; sums say what each node adds."""

    async def body(s: Script) -> None:
        await s.a(1, 0)
        await s.a(17, 2)
        assert s.read("slabs") == "3 N0=1 N1=2"
        assert s.read("total_objects") == "48 N0=16 N1=32"
        assert s.read("cpu_slabs") == "2 N0=1 N1=1"

    script(body, nodes=2, allocator=allocator)


@each_release
def test_an_object_of_another_node_costs_the_current_slab(allocator):
    """The CPU's slab goes to the list of its own node, and a new one lies where it was asked for."""

    async def body(s: Script) -> None:
        await s.a(1, 0)
        await s.a(1, 0, node=1)
        assert s.objects[1].slab.node == 1
        assert s.current(0) == (1, 15)
        assert (s.listed_on(0), s.listed_on(1)) == ([(0, 1)], [])
        await s.a(1, 0)
        assert s.current(0) == (1, 14)

    script(body, nodes=2, allocator=allocator)


def test_a_node_that_is_not_there_is_refused():
    """They are counted from 0."""

    async def body(s: Script) -> None:
        with pytest.raises(ValueError, match="no memory node 2; the machine has 2"):
            await s.a(1, 0, node=2)

    script(body, nodes=2)


@each_release
def test_slabs_of_another_node_on_the_cpus_partial_list_are_given_up_one_by_one(allocator):
    """None of the two fits; both are listed where they belong before a new slab is made."""

    async def body(s: Script) -> None:
        await s.a(48, 0)
        await s.first_of_each(2, 2)
        assert s.partial(2) == [(1, 15), (0, 15)]
        await s.a(1, 2, node=1)
        assert (s.partial(2), s.current(2)) == ([], (3, 15))
        assert sorted(s.listed_on(0)) == [(0, 15), (1, 15)]

    script(body, nodes=2, allocator=allocator)


@each_release
@pytest.mark.parametrize(("slabs", "node"), [(5, 1), (6, 0)])
def test_another_nodes_list_is_used_when_it_has_more_than_min_partial(allocator, slabs, node):
    """With five slabs there CPU 2 gets one of its own, with six it helps itself."""

    async def body(s: Script) -> None:
        await s.a(16 * slabs, 0)
        await s.first_of_each(slabs, 0)
        await s.shrink()
        assert len(s.listed_on(0)) == slabs
        await s.a(1, 2)
        assert s.objects[-1].slab.node == node
        assert s.slabs == slabs + (1 if node else 0)

    script(body, nodes=2, allocator=allocator)


@each_release
def test_another_nodes_list_is_not_used_when_a_node_was_asked_for(allocator):
    """A new slab, although node 0 has plenty."""

    async def body(s: Script) -> None:
        await s.a(96, 0)
        await s.first_of_each(6, 0)
        await s.shrink()
        await s.a(1, 2, node=1)
        assert s.objects[-1].slab.node == 1

    script(body, nodes=2, allocator=allocator)


@each_release
def test_a_slab_goes_back_to_the_list_of_its_own_node_whoever_frees(allocator):
    """CPU 3 empties its partial list with slabs of both nodes in it."""

    async def body(s: Script) -> None:
        await s.a(48, 0)
        await s.a(48, 2)
        for first in (0, 48, 16, 64):
            await s.f(first, first, 3)
        assert len(s.partial(3)) == 4
        await s.store("cpu_partial", 1)
        assert s.partial(3) == []
        assert s.listed_on(0) == [(1, 15), (0, 15)]
        assert s.listed_on(1) == [(4, 15), (3, 15)]
        assert s.read("partial") == "4 N0=2 N1=2"
        assert s.read("objects_partial") == "60 N0=30 N1=30"

    script(body, nodes=2, allocator=allocator)


@each_release
def test_shrink_and_destroy_go_over_all_nodes(allocator):
    """Empty slabs of both go back."""

    async def body(s: Script) -> None:
        await s.a(17, 0)
        await s.a(17, 2)
        await s.f(0, 15, 1)
        await s.f(17, 32, 1)
        await s.shrink()
        assert s.read("slabs") == "2 N0=1 N1=1"
        assert (s.listed_on(0), s.listed_on(1)) == ([(1, 1)], [(3, 1)])
        await s.f(16, 16, 0)
        await s.f(33, 33, 0)
        await kmem_cache_destroy(s.machine.cpus[0], s.cache)
        assert s.machine.page_alloc.free == s.machine.page_alloc.pages

    script(body, nodes=2, allocator=allocator)


def test_cpu_slabs_says_the_wrong_node_in_3_8():
    """The partial list of a CPU counts for the node of its current slab there, later for that of its newest slab."""

    async def body(s: Script) -> None:
        await s.a(17, 0)
        await s.a(1, 2)
        await s.f(0, 0, 2)
        wrong = s.slub.name == "slub-3.8"
        assert s.read("cpu_slabs") == ("3 N0=1 N1=2" if wrong else "3 N0=2 N1=1")

    for allocator in SLUB:
        script(body, nodes=2, allocator=allocator)
