"""memcgs: children, charges, limits, references; and memory pressure."""

from __future__ import annotations

import pytest

from slabactors.actors import parallel, sleep
from slabactors.kernel.workqueue import flush_work
from slabactors.machine import Machine
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_update_kmem_limit
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.vmscan import drop_slab, scan_total, shrink_slab
from tests.support import play


def test_a_child_is_created_by_a_work_and_the_object_comes_from_the_root_meanwhile():
    """Where the caller may not sleep, the first object is the root's and the next the child's."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        first = await kmem_cache_alloc(cpu, dentry, web, may_sleep=False)
        assert first is not None
        assert first.slab.cache is dentry
        assert first.slab.memcg is None
        while len(machine.caches) < 2 or machine.system_wq.executing:
            await machine.page_alloc.balanced()
        second = await kmem_cache_alloc(cpu, dentry, web, may_sleep=False)
        assert second is not None
        assert second.slab.cache.name == "dentry(1:web)"
        assert web.usage == 4096 << second.slab.order

    assert play(story, seed=3).outcome.bug is None


def test_two_tasks_create_one_child():
    """Creators are serialised, and the second finds what the first made."""
    for seed in range(100):

        async def story(machine: Machine) -> None:
            cpu0, cpu1 = machine.cpus
            dentry = await kmem_cache_create(cpu0, "dentry", 1000)
            web = await mem_cgroup_create(cpu0, "web")
            one, other = await parallel(
                cpu0.task(kmem_cache_alloc(cpu0, dentry, web)), cpu1.task(kmem_cache_alloc(cpu1, dentry, web))
            )
            assert one.slab.cache is other.slab.cache
            assert len(machine.caches) == 2

        assert play(story, seed=seed, lifecycle_name="repaired").outcome.bug is None


def test_a_memcg_near_its_limit_gets_a_smaller_slab_and_then_nothing():
    """Four pages are wanted and one is left: a slab of order 0 with four objects, then failure; three charges fail."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        web = await mem_cgroup_create(cpu, "web", limit=4096)
        objects = []
        for _ in range(5):
            obj = await kmem_cache_alloc(cpu, cache, web)
            objects.append(obj)
        assert [obj is not None for obj in objects] == [True, True, True, True, False]
        assert next(iter(machine.slabs)).order == 0
        assert (web.usage, web.failcnt) == (4096, 3)

    assert play(story, cpus=4).outcome.bug is None


def test_a_memcg_lives_until_its_last_cache_and_its_last_page_are_gone():
    """References of children and of charged pages keep a removed group."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, dentry, web)
        assert obj is not None
        child = obj.slab.cache
        await mem_cgroup_rmdir(cpu, web)
        assert child.params is not None
        await flush_work(machine.system_wq, child.params.destroy)
        assert web.tombstone is None
        await kmem_cache_free(cpu, obj)

    played = play(story)
    assert played.outcome.bug is None
    assert played.machine.memcgs[0].tombstone is not None
    assert [name for name, _ in played.machine.destroyed] == ["dentry(1:web)"]


def test_kswapd_frees_unused_objects_of_dead_caches_below_the_low_watermark():
    """An allocation that takes the zone below its low watermark wakes it; it works until the high one."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 4096, reclaimable=True, min_partial=0)
        hog = await kmem_cache_create(cpu, "hog", 4096)
        dcache = machine.new_shrinker("dcache", batch=4)
        web = await mem_cgroup_create(cpu, "web")
        for _ in range(8):
            obj = await kmem_cache_alloc(cpu, dentry, web)
            assert obj is not None
            await dcache.add(obj)
        await mem_cgroup_rmdir(cpu, web)
        assert len(dcache.lru) == 8
        await kmem_cache_alloc(cpu, hog)
        while machine.page_alloc.kswapd_woken:
            await machine.slab_mutex.lock()
            await machine.slab_mutex.unlock()
        assert dcache.lru == []

    assert play(story, seed=1, pages=24, watermark_low=14).outcome.bug is None


def test_an_allocation_that_finds_no_memory_reclaims_by_itself():
    """Direct reclaim frees the shrinker's objects and the allocation succeeds."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "dentry", 20000, reclaimable=True, min_partial=0)
        dcache = machine.new_shrinker("dcache", batch=1)
        kept = []
        for _ in range(2):
            obj = await kmem_cache_alloc(cpu, cache)
            assert obj is not None
            kept.append(obj)
        await dcache.add(kept[0])
        third = await kmem_cache_alloc(cpu, cache)
        # The freed slab is frozen on the CPU's partial list, where the retried page allocation does not see it.
        assert third is None
        assert dcache.lru == []
        fourth = await kmem_cache_alloc(cpu, cache)
        assert fourth is not None
        assert await shrink_slab(cpu) == 0

    assert play(story, pages=16).outcome.bug is None


@pytest.mark.parametrize(
    ("freeable", "in_batch", "scanned", "lru_pages", "seeks", "total"),
    [
        (1000, 0, 32, 999, 2, 64),
        (1000, 64, 32, 999, 2, 128),
        (1000, 0, 0, 999, 2, 64),  # nothing scanned counts as 32 pages
        (1000, 900, 32, 999, 2, 500),  # a small share does not let leftovers add up to more than half
        (1000, 900, 200, 999, 2, 1300),  # a quarter of the objects or more does
        (1000, 0, 32, 999, 8, 16),  # what is dear to make again is asked for less
        (1000, 0, 32, 0, 2, 2000),  # never more than twice what there is
        (3, 0, 32, 0, 2, 6),
    ],
)
def test_a_shrinker_is_asked_for_a_share_like_that_of_the_pages_scanned(
    freeable, in_batch, scanned, lru_pages, seeks, total
):
    """Four times the share, over the seeks, plus what earlier calls left over."""
    assert scan_total(freeable, in_batch, scanned, lru_pages, seeks) == total


def test_a_share_smaller_than_a_batch_is_left_for_the_next_call():
    """Of a thousand objects 64 are due and nothing is scanned; at the next call a batch of 128 is."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 192, reclaimable=True)
        dcache = machine.new_shrinker("dcache")
        for _ in range(1000):
            obj = await kmem_cache_alloc(cpu, dentry)
            assert obj is not None
            await dcache.add(obj)
        assert await shrink_slab(cpu, 32, 999) == 0
        assert (dcache.nr_in_batch, len(dcache.lru)) == (64, 1000)
        assert await shrink_slab(cpu, 32, 999) == 128
        assert (dcache.nr_in_batch, len(dcache.lru)) == (0, 872)
        await drop_slab(cpu)
        assert dcache.lru == []

    assert play(story).outcome.bug is None


def test_a_shrinker_with_fewer_objects_than_half_a_batch_is_never_asked():
    """Twice as many as there are is the most that is asked for, however often and hard the machine is pressed."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 192, reclaimable=True)
        dcache = machine.new_shrinker("dcache")
        for _ in range(63):
            obj = await kmem_cache_alloc(cpu, dentry)
            assert obj is not None
            await dcache.add(obj)
        for _ in range(5):
            assert await shrink_slab(cpu) == 0
        await drop_slab(cpu)
        assert (len(dcache.lru), dcache.nr_in_batch) == (63, 126)

    assert play(story).outcome.bug is None


def test_a_group_without_a_limit_is_not_accounted_and_the_first_limit_switches_that_on():
    """Its objects are the root's; nothing pins the group. The smallest free index goes to whoever is limited next."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        groups = []
        for name in "abc":
            memcg = await mem_cgroup_create(cpu, name, accounted=False)
            groups.append(memcg)
        a, b, c = groups
        obj = await kmem_cache_alloc(cpu, dentry, a)
        assert obj is not None
        assert (obj.slab.cache, obj.slab.memcg, a.usage) == (dentry, None, 0)
        assert await memcg_update_kmem_limit(cpu, a, None)
        assert (a.active, a.id, a.references) == (False, -1, 1)
        assert await memcg_update_kmem_limit(cpu, a, 65536)
        assert await memcg_update_kmem_limit(cpu, b, 65536)
        assert [(one.active, one.id, one.references) for one in groups] == [
            (True, 0, 2),
            (True, 1, 2),
            (False, -1, 1),
        ]
        await mem_cgroup_rmdir(cpu, a)
        await sleep(1)
        assert a.tombstone is not None
        assert await memcg_update_kmem_limit(cpu, c, 65536)
        assert c.id == 0

    assert play(story, lifecycle_name="v3.8").outcome.bug is None


def test_a_limit_cannot_be_set_below_what_is_charged():
    """The second limit only changes the limit; -EBUSY in the kernel."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        web = await mem_cgroup_create(cpu, "web", 65536)
        await kmem_cache_alloc(cpu, cache, web)
        assert web.usage == 16384
        assert not await memcg_update_kmem_limit(cpu, web, 8192)
        assert await memcg_update_kmem_limit(cpu, web, 16384)
        assert web.limit == 16384

    assert play(story, cpus=4).outcome.bug is None


def test_whose_task_allocates_is_charged_and_nobody_for_a_task_that_is_exempt():
    """A child's new page is charged to the memcg of the task, not of the cache, and counted for the cache anyway."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 20000)
        owner = await mem_cgroup_create(cpu, "owner")
        other = await mem_cgroup_create(cpu, "other")
        first = await kmem_cache_alloc(cpu, cache, owner)
        assert first is not None
        child = first.slab.cache
        second = await machine.allocator.alloc(cpu, child, other)
        third = await machine.allocator.alloc(cpu, child, None)
        assert second is not None
        assert third is not None
        assert child.params is not None
        assert [slab.memcg for slab in machine.slabs] == [owner, other, None]
        assert (owner.usage, other.usage, child.params.pages) == (32768, 32768, 24)
        for obj in (first, second, third):
            await kmem_cache_free(cpu, obj)
        await machine.allocator.shrink(cpu, child)
        assert (owner.usage, other.usage, child.params.pages) == (0, 0, 0)

    assert play(story).outcome.bug is None
