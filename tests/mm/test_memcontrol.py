"""memcgs: children, charges, limits, references; and memory pressure."""

from __future__ import annotations

from slabactors.actors import parallel
from slabactors.kernel.workqueue import flush_work
from slabactors.machine import Machine
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.vmscan import shrink_slab
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
