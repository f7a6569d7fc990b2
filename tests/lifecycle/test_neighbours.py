"""What each generation up to 3.15 changes in the one before it."""

from __future__ import annotations

import pytest

from slabactors.actors import parallel, prepare, sleep
from slabactors.errors import KernelBug, Kind
from slabactors.explore.campaign import search
from slabactors.explore.verify import verify
from slabactors.lifecycle.v3 import DestroyedCaches
from slabactors.machine import Machine
from slabactors.mm.files import mem_cgroup_slabinfo_read, slab_attr_store
from slabactors.mm.memcontrol import (
    mem_cgroup_create,
    mem_cgroup_rmdir,
    memcg_create_kmem_cache,
)
from slabactors.mm.slab_common import (
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    try_destroy,
)
from slabactors.scenario import find, scenario
from tests.support import play


def found(story: str, lifecycle_name: str, runs: int = 1000) -> set[str]:
    program = find(f"dead-cache/{story}").bind(lifecycle_name=lifecycle_name)
    *_, result = search(program, strategy="portfolio", seed=0, runs=runs)
    return set(result.found)


def clean(story, lifecycle_name: str, **config) -> Machine:
    played = play(story, lifecycle_name=lifecycle_name, **config)
    assert played.outcome.bug is None, played.outcome.bug
    return played.machine


# -- the postings ------------------------------------------------------------------------------------------------------


def test_the_third_posting_shrinks_in_its_work_and_destroys_in_the_same_run():
    """Its reviewers asked for a shrink that it has: a cache that was empty when it died goes."""
    program = find("dead-cache/emptied").bind(lifecycle_name="v3")
    *_, result = verify(program)
    assert result.exhaustive
    assert not result.found


def test_the_third_posting_lists_a_cache_twice():
    """Offline lists it whatever pages it has; who releases its last page does, too, before the work has come."""
    assert "bug-on: list_add of a linked entry by free" in found("rmdir-races-last-free", "v3")


def test_the_third_posting_shrinks_by_a_work_after_every_free_into_a_dead_cache():
    """The free itself only queues it."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        child = await memcg_create_kmem_cache(cpu, dentry, web)
        objects = [await kmem_cache_alloc(cpu, dentry, web), await kmem_cache_alloc(cpu, dentry, web)]
        await mem_cgroup_rmdir(cpu, web)
        await sleep(1)
        assert isinstance(machine.statics, DestroyedCaches)
        assert machine.statics.linked == []
        started = child.params.cache_shrinker.started
        await kmem_cache_free(cpu, objects[0])
        assert child.params.cache_shrinker.pending
        await sleep(1)
        assert child.params.cache_shrinker.started == started + 1
        assert child.tombstone is None

    clean(story, "v3", settle=0)


def test_the_fourth_posting_finds_its_cache_without_the_array():
    """v5 looks it up through the array of the root, and dereferences NULL when the root was destroyed."""
    empty = "bug-on: NULL dereference through memcg_caches[] by kworker"
    assert empty in found("root-destroyed", "v5")
    assert empty not in found("root-destroyed", "v4")


def test_the_sixth_posting_cancels_and_still_comes_back_every_minute():
    """So that objects that are freed later are no zombies yet, as they are in 3.8."""
    assert found("freed-later", "v6") == set()
    cancelled = "uninitialised-work: cancelling of an uninitialised work item by rmmod"
    assert cancelled in found("root-destroyed", "v6", runs=300)


# -- the releases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["v3.8", "v3.9"])
def test_3_10_puts_the_group_last(before):
    """What 3.9 has fixed already is the work that is initialised too late."""
    story = "rmdir-races-last-free"
    late = "uninitialised-work: queueing of an uninitialised work item by free"
    assert (late in found(story, before)) == (before == "v3.8")
    *_, released = verify(find("catalogue/memcg-put-before-unlink").bind(lifecycle_name="v3.10"))
    *_, earlier = verify(find("catalogue/memcg-put-before-unlink").bind(lifecycle_name=before))
    assert released.exhaustive
    assert any("mem_cgroup" in name or "Mutex" in name for name in earlier.found)
    assert not any("mem_cgroup" in name or "Mutex" in name for name in released.found)


@pytest.mark.parametrize(
    ("lifecycle_name", "made", "unmade"), [("v3.10", 3, 2), ("v3.11", 3, 2), ("v3.14", 3, 2), ("v3.15", 3, 2)]
)
def test_a_child_holds_its_group_whoever_took_the_reference(lifecycle_name, made, unmade):
    """One of the directory, one while kernel memory is accounted, one of the child; 3.11 hands that of the work on."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, dentry, web, may_sleep=False)
        assert obj is not None
        await sleep(1)  # a kworker creates the child
        assert web.references == made
        await memcg_create_kmem_cache(cpu, dentry, web)  # it is there
        assert web.references == made
        await kmem_cache_destroy(cpu, dentry.slots[web.id])
        assert web.references == unmade
        await kmem_cache_free(cpu, obj)

    clean(story, lifecycle_name)


@pytest.mark.parametrize("lifecycle_name", ["v5", "v3.8", "v3.10", "v3.15"])
def test_a_task_allocates_from_the_group_that_it_is_in_now(lifecycle_name):
    """And from the root when it has been moved to the root group."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        caches = []
        for name in ("web", "db"):
            group = await mem_cgroup_create(cpu, name)
            child = await memcg_create_kmem_cache(cpu, dentry, group)
            caches.append((group, child))
        task = machine.new_task("task", None)
        for group, child in [(None, dentry), *caches]:
            await task.attach(group)
            obj = await kmem_cache_alloc(cpu, dentry, task)
            assert obj is not None
            assert obj.slab.cache is child
            assert obj.slab.memcg is group
            await kmem_cache_free(cpu, obj)
        assert (machine.rcu.open, machine.rcu.closed) == (0, {})

    clean(story, lifecycle_name)


@scenario(title="two tasks create one child", cpus=2)
async def two_creators(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    one, other = await parallel(
        cpu0.task(memcg_create_kmem_cache(cpu0, dentry, web)), cpu1.task(memcg_create_kmem_cache(cpu1, dentry, web))
    )
    assert one is other
    assert len(machine.slab_caches) == 2


@pytest.mark.parametrize("lifecycle_name", ["v6", "v3.8", "v3.11", "v3.14", "v3.15"])
def test_creators_are_kept_apart_by_a_mutex_of_their_own_or_by_slab_mutex(lifecycle_name):
    """3.14 has slab_mutex alone, which is enough as long as nobody drops it for sysfs."""
    *_, result = verify(two_creators.bind(lifecycle_name=lifecycle_name))
    assert result.exhaustive
    assert not result.found


def test_3_15_keeps_a_root_whose_child_cannot_go_and_lists_the_child_again():
    """3.14 destroys the root all the same, and the child points to where it was."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        module = await kmem_cache_create(cpu, "module", 1000)
        web = await mem_cgroup_create(cpu, "web")
        child = await memcg_create_kmem_cache(cpu, module, web)
        obj = await kmem_cache_alloc(cpu, module, web)
        assert obj is not None
        complaint = await try_destroy(cpu, module)
        assert complaint is not None
        kept = machine.lifecycle.name == "v3.15"
        assert (module.tombstone is None) == kept
        assert child.tombstone is None
        if kept:
            assert module.slots == {web.id: child}
            assert web.caches == [child]
            assert machine.slab_caches == [child, module]
            assert web.references == 3
        assert not machine.slab_mutex.locked
        await kmem_cache_free(cpu, obj)

    left = play(story, lifecycle_name="v3.14", settle=0).outcome.bug
    assert left is not None
    assert left.clause == "child outlives its root"
    clean(story, "v3.15", settle=0)


def test_3_15_leaves_the_children_of_a_root_with_another_name():
    """And destroys them with the last one."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        one = await kmem_cache_create(cpu, "one", 1000)
        other = await kmem_cache_create(cpu, "other", 1000)
        assert one is other
        web = await mem_cgroup_create(cpu, "web")
        child = await memcg_create_kmem_cache(cpu, one, web)
        await kmem_cache_destroy(cpu, other)
        assert child.tombstone is None
        await kmem_cache_destroy(cpu, one)
        assert child.tombstone is not None
        assert one.tombstone is not None

    clean(story, "v3.15", merging=True)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_cannot_be_written_when_the_cache_is_gone():
    """Who writes keeps the directory by its name; nothing happens when it was removed."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        module = await kmem_cache_create(cpu, "module", 1000)
        assert module.dirent is not None
        await slab_attr_store(cpu, module, "min_partial", 7)
        assert module.geometry.min_partial == 7
        await kmem_cache_destroy(cpu, module)
        assert module.dirent.removed
        await slab_attr_store(cpu, module, "min_partial", 8)

    for lifecycle_name in ("v3.8", "v3.15"):
        clean(story, lifecycle_name, sysfs=True)
    # Before 3.8 was released the directory went under the mutex that writers take.
    order = play(story, lifecycle_name="v6", sysfs=True).outcome.bug
    assert order is not None
    assert order.clause == "s_active -> slab_mutex -> s_active"


def test_slab_has_no_directories():
    """Only SLUB has /sys/kernel/slab."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "dentry", 1000)
        with pytest.raises(ValueError, match=r"slab-3\.8 has no directories"):
            await slab_attr_store(cpu, cache, "shrink", 1)

    clean(story, "v3.8", allocator="slab-3.8")


def test_a_group_says_which_caches_it_has_and_how_many_slabs():
    """Newest first, as the list is."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        web = await mem_cgroup_create(cpu, "web")
        for name in ("dentry", "inode"):
            root = await kmem_cache_create(cpu, name, 1000)
            await memcg_create_kmem_cache(cpu, root, web)
        obj = await kmem_cache_alloc(cpu, root, web)
        assert obj is not None
        assert await mem_cgroup_slabinfo_read(cpu, web) == [("inode(0:web)", 1), ("dentry(0:web)", 0)]
        assert not web.slab_caches_mutex.locked
        await kmem_cache_free(cpu, obj)

    clean(story, "v3.8")


def test_a_listed_child_without_its_slot_is_a_null_dereference_for_who_reads():
    """As for who removes the directory."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        web = await mem_cgroup_create(cpu, "web")
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        await memcg_create_kmem_cache(cpu, dentry, web)
        await dentry.clear_slot(web.id)
        with pytest.raises(KernelBug, match="NULL pointer dereference in cache_show") as caught:
            await mem_cgroup_slabinfo_read(cpu, web)
        assert caught.value.kind is Kind.BUG_ON

    play(story, lifecycle_name="v3.8")


def test_structures_go_with_their_cache_or_before_it():
    """As the machine is told; in a kernel they go when the cache is shut down."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "dentry", 1000)
        first = machine.config.shutdown_frees_nodes
        assert (cache.structures is not None) == first
        await machine.allocator.close(cpu, cache)
        assert (cache.nodes[0].tombstone is not None) == first
        assert (cache.cpu_slabs[0].tombstone is not None) == first
        assert cache.tombstone is None

    for first in (False, True):
        clean(story, "v3.8", shutdown_frees_nodes=first)
