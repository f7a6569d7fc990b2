"""Root caches and their names, whatever the allocator."""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.errors import KernelBug, Kind
from slabactors.machine import Machine
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, try_destroy
from tests.support import play


def test_a_cache_just_like_another_is_another_name_for_it_where_the_machine_merges():
    seen = {}

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        one = prepare(kmem_cache_create(cpu, "one", 100))
        seen["same"] = prepare(kmem_cache_create(cpu, "two", 100)) is one
        seen["larger"] = prepare(kmem_cache_create(cpu, "three", 104)) is one
        seen["constructed"] = prepare(kmem_cache_create(cpu, "four", 100, ctor=True)) is one
        seen["names"] = one.refcount

    assert play(story, merging=True).outcome.bug is None
    assert seen == {"same": True, "larger": False, "constructed": False, "names": 2}
    assert play(story).outcome.bug is None
    assert seen == {"same": False, "larger": False, "constructed": False, "names": 1}


def test_a_merged_cache_goes_with_its_last_name():
    gone = []

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        one = prepare(kmem_cache_create(cpu, "one", 100))
        two = prepare(kmem_cache_create(cpu, "two", 100))
        await kmem_cache_destroy(cpu, two)
        gone.append(one.tombstone is not None)
        await kmem_cache_destroy(cpu, one)
        gone.append(one.tombstone is not None)

    assert play(story, merging=True).outcome.bug is None
    assert gone == [False, True]


def test_a_cache_that_lost_its_last_name_and_has_objects_can_get_a_name_again():
    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        one = prepare(kmem_cache_create(cpu, "one", 100))
        prepare(kmem_cache_alloc(cpu, one))
        assert await try_destroy(cpu, one) is not None
        assert await kmem_cache_create(cpu, "two", 100) is one
        assert one.refcount == 1
        await kmem_cache_destroy(cpu, one)

    bug = play(story, merging=True).outcome.bug
    assert isinstance(bug, KernelBug)
    assert bug.kind is Kind.OBJECTS_REMAINING
