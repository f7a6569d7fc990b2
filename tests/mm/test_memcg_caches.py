"""Arrays of children that move: how large they become, when, and what is in them."""

from __future__ import annotations

import pytest

from slabactors.actors import parallel, sleep
from slabactors.errors import Kind
from slabactors.explore.verify import verify
from slabactors.machine import Machine
from slabactors.mm.files import slab_attr_store
from slabactors.mm.memcg_caches import WildPointer, memcg_caches_array_size
from slabactors.mm.memcontrol import (
    mem_cgroup_create,
    mem_cgroup_rmdir,
    memcg_create_kmem_cache,
    memcg_update_kmem_limit,
)
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import scenario
from tests.support import play

RELEASES = ["v6", "v3.8", "v3.9", "v3.10", "v3.11", "v3.14", "v3.15"]


def clean(story, lifecycle_name: str, **config) -> None:
    played = play(story, lifecycle_name=lifecycle_name, memcg_caches_min=4, **config)
    assert played.outcome.bug is None, played.outcome.bug


def broken(story, lifecycle_name: str, **config) -> tuple[Kind, str] | None:
    bug = play(story, lifecycle_name=lifecycle_name, memcg_caches_min=4, **config).outcome.bug
    return None if bug is None else (bug.kind, bug.clause)


@pytest.mark.parametrize(("groups", "slots"), [(1, 4), (2, 4), (3, 6), (5, 10), (40_000, 65535)])
def test_an_array_has_twice_as_many_slots_as_there_are_groups(groups, slots):
    """But four at least, and no more than there can be numbers."""
    assert memcg_caches_array_size(groups, 4) == slots


@pytest.mark.parametrize("lifecycle_name", RELEASES)
def test_the_fifth_group_makes_every_array_move_and_children_move_with_it(lifecycle_name):
    """Numbers are from 0 to 3 in the first array; the old one is freed, and found by nobody any more."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        assert dentry.array is None
        web = await mem_cgroup_create(cpu, "web")
        first = dentry.array
        assert first is not None
        assert first.size == machine.cgroups.slots == 4
        child = await memcg_create_kmem_cache(cpu, dentry, web)
        for name in "bcd":
            await mem_cgroup_create(cpu, name)
        assert dentry.array is first
        fifth = await mem_cgroup_create(cpu, "fifth", accounted=False)
        assert await memcg_update_kmem_limit(cpu, fifth, 1 << 30)
        assert dentry.array is not None
        assert dentry.array.size == machine.cgroups.slots == 10
        assert dentry.slots == {0: child}
        obj = await kmem_cache_alloc(cpu, dentry, web)
        assert obj is not None
        assert obj.slab.cache is child
        await sleep(1)  # a grace period passes, from 3.14 on
        assert first.tombstone is not None

    clean(story, lifecycle_name)


@pytest.mark.parametrize("lifecycle_name", RELEASES)
def test_an_array_is_freed_with_its_root(lifecycle_name):
    """And a root that was created while no kernel memory was accounted has none to be freed."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        bare = await kmem_cache_create(cpu, "bare", 1000)
        await kmem_cache_destroy(cpu, bare)
        assert bare.array is None
        await mem_cgroup_create(cpu, "web")
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        array = dentry.array
        assert array is not None
        await kmem_cache_destroy(cpu, dentry)
        assert array.tombstone is not None

    clean(story, lifecycle_name)


def test_arrays_stay_where_they_are_unless_the_machine_says_otherwise():
    """The slots are cells of the root then; so they are under a lifecycle that never moves them."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        child = await memcg_create_kmem_cache(cpu, dentry, web)
        assert dentry.array is None
        assert list(dentry.slots.values()) == [child]

    assert play(story, lifecycle_name="v3.8").outcome.bug is None
    clean(story, "repaired")


def test_the_group_that_is_freed_last_leaves_new_roots_without_an_array():
    """The size that arrays have is remembered: 3.10 walks over the children of such a root, 3.11 looks first."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        web = await mem_cgroup_create(cpu, "web")
        await mem_cgroup_rmdir(cpu, web)
        await sleep(1)  # a kworker frees the group
        assert (machine.cgroups.accounted, machine.cgroups.slots) == (0, 4)
        module = await kmem_cache_create(cpu, "module", 1000)
        assert module.array is None
        await slab_attr_store(cpu, module, "min_partial", 7)
        assert module.nodes[0].min_partial == 7

    assert broken(story, "v3.10") == (Kind.BUG_ON, "NULL dereference of memcg_params")
    assert broken(story, "v3.11") is None


@pytest.mark.parametrize(
    ("lifecycle_name", "grown", "new"), [("v3.8", 0, 0), ("v3.9", 4, 4), ("v3.10", 0, 4), ("v3.11", 0, 0)]
)
def test_a_work_lies_over_four_slots_of_a_root_in_3_9_and_of_a_new_one_in_3_10(lifecycle_name, grown, new):
    """Slots 5 to 8, where 64-bit kernels have the work of a child."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        old = await kmem_cache_create(cpu, "old", 1000)
        for name in "abcdef":
            await mem_cgroup_create(cpu, name)
        young = await kmem_cache_create(cpu, "young", 2000)
        for root, count in ((old, grown), (young, new)):
            assert root.array is not None
            wild = [index for index, what in root.array.slots.items() if isinstance(what, WildPointer)]
            assert wild == [5, 6, 7, 8][:count]
            assert root.slots == {}

    clean(story, lifecycle_name)


def test_a_child_overwrites_the_work_that_lies_in_its_slot():
    """So only a group that has no child yet is led astray."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        for name in "abcde":
            group = await mem_cgroup_create(cpu, name)
        last = await mem_cgroup_create(cpu, "f")
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        obj = await kmem_cache_alloc(cpu, dentry, group, may_sleep=False)
        assert obj is not None
        assert obj.slab.cache is dentry
        await kmem_cache_alloc(cpu, dentry, last)

    assert broken(story, "v3.10") == (Kind.BUG_ON, "wild pointer in memcg_caches[]")
    assert broken(story, "v3.11") is None


@scenario(title="an array moves while a slot of it is read", cpus=2, memcg_caches_min=1)
async def moved_under_a_reader(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    web = await mem_cgroup_create(cpu0, "web")
    await mem_cgroup_create(cpu0, "second")
    dentry = await kmem_cache_create(cpu0, "dentry", 1000)
    await memcg_create_kmem_cache(cpu0, dentry, web)
    third = await mem_cgroup_create(cpu0, "third", accounted=False)
    _, obj = await parallel(
        cpu0.task(memcg_update_kmem_limit(cpu0, third, 1 << 30), "limit"),
        cpu1.task(kmem_cache_alloc(cpu1, dentry, web), "alloc"),
    )
    assert obj is not None
    assert obj.slab.cache.root is dentry


def test_a_reader_keeps_the_array_from_3_14_on_and_not_before():
    """Everything is explored; before 3.14 the reader may also find the new array empty, and use the root meanwhile."""
    *_, released = verify(moved_under_a_reader.bind(lifecycle_name="v3.14"))
    assert released.exhaustive
    assert not released.found
    *_, before = verify(moved_under_a_reader.bind(lifecycle_name="v3.11"))
    assert "use-after-free: memcg_caches.read_slot after free by alloc" in before.found
