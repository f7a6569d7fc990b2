"""The generations from 3.16 on: what each does differently from the one before, in the smallest story that shows it."""

from __future__ import annotations

import pytest

from slabactors.actors import parallel, prepare
from slabactors.errors import Kind
from slabactors.explore.verify import verify
from slabactors.lifecycle import LIFECYCLES
from slabactors.machine import Machine
from slabactors.mm.files import show_slab_objects
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    try_destroy,
)
from slabactors.mm.slab_page import SlabObject
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.support import Played, kinds, play, verified

LATER = [name for name in LIFECYCLES if list(LIFECYCLES).index(name) >= list(LIFECYCLES).index("v3.16")]
LATER = LATER[: LATER.index("repaired")]
PER_MEMCG = [name for name in LATER if not name.startswith(("v5.9", "v5.19", "v6"))]
"""Those in which groups have caches of their own."""


def with_a_child(machine: Machine, **spec: bool) -> tuple[KmemCache, MemCgroup, SlabObject]:
    """A root cache, a group, and an object of the child that the two have."""
    cpu = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu, "dentry", 1000, **spec))
    web = prepare(mem_cgroup_create(cpu, "web"))
    prepare(memcg_create_kmem_cache(cpu, dentry, web))
    obj = prepare(kmem_cache_alloc(cpu, dentry, web))
    assert obj is not None
    return dentry, web, obj


async def freed_then_removed(machine: Machine) -> None:
    """The object is freed, and then the directory removed."""
    _, web, obj = with_a_child(machine)
    await kmem_cache_free(machine.cpus[0], obj)
    await mem_cgroup_rmdir(machine.cpus[0], web)


async def removed_then_freed(machine: Machine) -> None:
    """The other way round."""
    _, web, obj = with_a_child(machine)
    await mem_cgroup_rmdir(machine.cpus[0], web)
    await kmem_cache_free(machine.cpus[0], obj)


async def rcu_removed_then_freed(machine: Machine) -> None:
    """As before, of a cache whose slabs go back by RCU callbacks."""
    _, web, obj = with_a_child(machine, rcu=True)
    await mem_cgroup_rmdir(machine.cpus[0], web)
    await kmem_cache_free(machine.cpus[0], obj)


def kind_of(played: Played) -> Kind | None:
    """Of the bug that a run ended with."""
    return played.outcome.bug.kind if played.outcome.bug is not None else None


# -- who destroys a dead child, and when -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PER_MEMCG)
def test_an_empty_dead_child_goes_away_but_in_3_19(name):
    """3.19 does nothing at offline: the slab that SLUB keeps holds the group, and the group its caches."""
    played = play(freed_then_removed, lifecycle_name=name, cpus=1)
    if name == "v3.19":
        assert kind_of(played) is Kind.ZOMBIE
    else:
        assert kind_of(played) is None
        assert [cache for cache, _ in played.machine.destroyed] == ["dentry(0:web)"]


@pytest.mark.parametrize("name", PER_MEMCG)
def test_a_dead_child_that_is_emptied_later_goes_away_from_4_0_on(name):
    """ "slub: make dead caches discard free slabs immediately" (d6e0b7fa1186): before, nobody looks again."""
    assert kind_of(play(removed_then_freed, lifecycle_name=name, cpus=1)) is (
        Kind.ZOMBIE if name in ("v3.16", "v3.19") else None
    )


@pytest.mark.parametrize("name", [name for name in PER_MEMCG if name not in ("v3.16", "v3.19")])
def test_no_interleaving_keeps_a_dead_child_that_is_emptied_later(name):
    """All of them, also of a cache whose slabs go back by RCU callbacks."""
    assert not verified(removed_then_freed, lifecycle_name=name, searches=("dpor",), cpus=1)
    assert not verified(rcu_removed_then_freed, lifecycle_name=name, searches=("dpor",), cpus=1)


@pytest.mark.parametrize("name", PER_MEMCG)
def test_a_child_of_slab_outlives_its_group_until_the_reaper_has_been_there(name):
    """SLAB keeps objects in arrays; only a child whose offline drains them goes at once."""
    played = play(removed_then_freed, lifecycle_name=name, cpus=1, allocator="slab-3.8")
    gone = [cache for cache, _ in played.machine.destroyed]
    if name == "v3.16":
        assert kind_of(played) is Kind.ZOMBIE  # the reaper empties it, and nobody destroys it
    else:
        assert kind_of(played) is None
        assert gone == ["dentry(0:web)"]


# -- who holds what ----------------------------------------------------------------------------------------------------


def references(name: str, *, slabs: int = 1) -> tuple[int, int]:
    """Of a group whose child has that many slabs; and after the directory was removed."""
    seen: list[int] = []

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = prepare(kmem_cache_create(cpu, "dentry", 4096))
        web = prepare(mem_cgroup_create(cpu, "web"))
        prepare(memcg_create_kmem_cache(cpu, dentry, web))
        for _ in range(slabs * dentry.geometry.objects):
            assert prepare(kmem_cache_alloc(cpu, dentry, web)) is not None
        seen.append(web.references)
        await mem_cgroup_rmdir(cpu, web)
        seen.append(web.references)

    play(story, lifecycle_name=name, cpus=1)
    return seen[0], seen[1]


def test_in_3_16_a_child_holds_its_group_and_one_reference_stands_for_all_pages():
    assert references("v3.16") == (3, 2)  # the directory, the child, and the pages


def test_in_3_19_each_page_holds_the_group_and_no_child_does():
    """A slab of such objects has eight pages."""
    assert references("v3.19") == references("v4.0") == (9, 8)
    assert references("v3.19", slabs=2) == references("v4.0", slabs=2) == (17, 16)
    assert references("v3.16", slabs=2) == references("v3.16")


def test_from_4_11_on_the_deactivation_that_is_under_way_holds_the_group():
    assert references("v4.11") == (9, 9)


def test_in_5_3_the_pages_hold_the_child_and_the_child_holds_its_group_until_that_is_removed():
    """Then it is the parent's, and the group is freed while objects of it are in use."""
    assert references("v5.3") == (2, 0)


def test_in_5_9_nothing_of_a_cache_holds_a_group():
    assert references("v5.9") == (1, 0)


@pytest.mark.parametrize(("name", "holds"), [("v3.16", False), ("v3.19", True), ("v4.4", True), ("v5.5", True)])
def test_an_allocation_holds_what_it_allocates_from_since_3_19(name, holds):
    """ "memcg: fix possible use-after-free in memcg_kmem_get_cache()" (8135be5a8012)."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
        web = prepare(mem_cgroup_create(cpu0, "web"))
        prepare(memcg_create_kmem_cache(cpu0, dentry, web))
        await parallel(
            cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"), cpu1.task(kmem_cache_alloc(cpu1, dentry, web), "alloc")
        )

    found = verified(story, lifecycle_name=name, searches=("dpor",))
    # Nothing holds the group of a task that is not in it: that the group is gone is the story's own mistake.
    assert any("kmem_cache" in signature for signature in found) is not holds


# -- late creations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PER_MEMCG)
def test_a_child_that_is_asked_for_before_its_group_is_removed_stays_up_to_3_16(name):
    """3.19 destroys it when the request has let go of the group; 4.0 does not make it.  2014's counts are like 3.16."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = prepare(kmem_cache_create(cpu, "dentry", 1000))
        web = prepare(mem_cgroup_create(cpu, "web"))
        await parallel(cpu.task(kmem_cache_alloc(cpu, dentry, web, may_sleep=False), "task"))
        await mem_cgroup_rmdir(cpu, web)

    found = kinds(verified(story, lifecycle_name=name, searches=("dpor",), cpus=1))
    assert found == ({Kind.ZOMBIE} if name in ("v3.16", "refcount") else set())


# -- roots -------------------------------------------------------------------------------------------------------------


CLEAN_ROOTS = ["v3.16", "v3.19", "v4.0", "v4.4", "v4.18", "v5.5", "v5.8", "v5.8-stable", "v5.9", "v5.19", "v6.6"]


@pytest.mark.parametrize("name", CLEAN_ROOTS)
def test_no_interleaving_of_a_removed_group_and_a_destroyed_root_breaks(name):
    """ "memcg: fix root vs memcg cache destruction race" (bd67314586a3), and what it took to keep it so."""
    program = find("dead-cache/root-destroyed").bind(lifecycle_name=name)
    *_, result = verify(program, time=TimePolicy.QUIESCENT)
    assert result.exhaustive
    assert not result.found


@pytest.mark.parametrize("name", ["v4.11", "v4.12", "v4.18-flush-only", "v4.18-grace-period", "v5.3", "v5.4"])
def test_a_root_that_does_not_wait_for_every_callback_of_its_children_is_too_early(name):
    """Neither a flush nor a grace period is a barrier, and killing a reference count takes a grace period more."""
    program = find("dead-cache/root-destroyed").bind(lifecycle_name=name)
    *_, result = verify(program, time=TimePolicy.QUIESCENT)
    assert {found.kind for found in result.found.values()} == {Kind.USE_AFTER_FREE}


def destroyed_with_a_busy_child(name: str) -> tuple[str | None, list[str], list[str]]:
    """What destroying the root complains of, which caches are gone, and which children are in slots."""
    seen: list[str | None] = []

    async def story(machine: Machine) -> None:
        dentry, _, obj = with_a_child(machine)
        seen.append(await try_destroy(machine.cpus[0], dentry))
        await kmem_cache_free(machine.cpus[0], obj)

    played = play(story, lifecycle_name=name, cpus=1)
    roots = [cache for cache in played.machine.caches if cache.root is None]
    slots = [child.name for root in roots for child in root.memcg_caches.values()]
    return seen[0], [cache for cache, _ in played.machine.destroyed], slots


@pytest.mark.parametrize("name", ["v3.16", "v3.19"])
def test_3_16_destroys_a_root_whose_child_is_busy_and_nobody_finds_the_child_again(name):
    """It looks into the slots, whether a child has stayed; they are empty whatever came of the children."""
    complaint, gone, slots = destroyed_with_a_busy_child(name)
    assert complaint is not None
    assert (gone, slots) == (["dentry"], [])


@pytest.mark.parametrize("name", ["v4.0", "v4.4", "v4.11", "v4.18", "v5.5", "v5.8"])
def test_from_4_0_on_a_busy_child_keeps_its_root_and_its_slot(name):
    complaint, gone, slots = destroyed_with_a_busy_child(name)
    assert complaint is not None
    assert (gone, slots) == ([], ["dentry(0:web)"])


@pytest.mark.parametrize(("name", "cleared"), [("v4.0", False), ("v4.4", True)])
def test_4_4_empties_the_slots_of_children_that_go_when_their_root_has_to_stay(name, cleared):
    """ "mm/slab_common.c: clear pointers to per memcg caches on destroy"."""

    async def story(machine: Machine) -> None:
        dentry, web, obj = with_a_child(machine)
        prepare(kmem_cache_free(machine.cpus[0], obj))
        assert prepare(kmem_cache_alloc(machine.cpus[0], dentry)) is not None  # the root's own
        await try_destroy(machine.cpus[0], dentry)
        assert (await dentry.read_slot(web.id) is None) is cleared

    assert kind_of(play(story, lifecycle_name=name, cpus=1)) is (None if cleared else Kind.PROPERTY)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dying"), [("v4.12", False), ("v4.18", True), ("v5.5", True), ("v5.8", False)])
def test_a_cache_that_loses_one_of_two_names_is_dying_between_4_18_and_5_8(name, dying):
    """ "mm: memcg/slab: fix memory leak at non-root kmem_cache destroy" (d38a2b7a9c93)."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        assert await kmem_cache_create(cpu, "inode", 1000) is dentry
        await kmem_cache_destroy(cpu, dentry)
        assert await dentry.is_dying() is dying

    assert kind_of(play(story, lifecycle_name=name, cpus=1, merging=True)) is None


@pytest.mark.parametrize(("name", "made"), [("v4.18", False), ("v5.3", True)])
def test_a_dying_root_gets_no_more_children_before_5_3(name, made):
    """From 5.3 on whoever destroys a root waits for requests, and nobody asks whether it is dying."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        await dentry.set_dying()
        web = await mem_cgroup_create(cpu, "web")
        assert (await memcg_create_kmem_cache(cpu, dentry, web) is not dentry) is made

    play(story, lifecycle_name=name, cpus=1)


# -- sysfs -------------------------------------------------------------------------------------------------------------


def held_while_removing(name: str) -> set[str]:
    """The mutexes and hotplug locks that somebody has when the directory of a root is removed."""
    seen: set[str] = set()

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        module = await kmem_cache_create(cpu, "module", 1000)
        dirent = module.dirent
        assert dirent is not None
        wait = type(dirent).wait_unused

        def watched(self):
            seen.update(
                one
                for one, held in (("slab_mutex", machine.slab_mutex.locked), ("cpus", machine.cpu_hotplug.readers))
                if held
            )
            return wait(self)

        type(dirent).wait_unused = watched  # type: ignore[method-assign]
        try:
            await kmem_cache_destroy(cpu, module)
            await machine.system_wq.wait_drained()
        finally:
            type(dirent).wait_unused = wait  # type: ignore[method-assign]

    assert kind_of(play(story, lifecycle_name=name, cpus=1, sysfs=True, hotplug=True)) is None
    return seen


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("v3.16", {"cpus"}),
        ("v4.0", set()),
        ("v4.11", {"cpus", "slab_mutex"}),
        ("v4.12", set()),
        ("v4.18", {"cpus", "slab_mutex"}),
        ("v5.8", {"cpus", "slab_mutex"}),
        ("v5.19", {"cpus", "slab_mutex"}),
        ("v6.0", set()),
    ],
)
def test_what_is_held_while_a_directory_is_removed_has_changed_back_and_forth(name, held):
    """No mutex in 4.0, all of them in 4.11, a work in 4.12, all of them in 4.18, none again in 6.0."""
    assert held_while_removing(name) == held


def test_a_directory_goes_by_size_where_caches_are_merged_and_by_name_elsewhere():
    names: list[list[str]] = []

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        await kmem_cache_create(cpu, "dentry", 1000, reclaimable=True)
        await kmem_cache_create(cpu, "inode", 1000, ctor=True)
        names.append(list(machine.slab_kset.taken))

    for merging in (True, False):
        assert kind_of(play(story, lifecycle_name="v5.8", cpus=1, merging=merging, sysfs=True)) is None
    assert names == [[":a0001000", "inode"], ["dentry", "inode"]]


def test_slab_has_no_directories():
    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "dentry", 1000)
        assert cache.dirent is None
        assert machine.slab_kset.taken == []

    play(story, lifecycle_name="v5.8", cpus=1, sysfs=True, allocator="slab-3.8")


def test_a_reader_of_a_counter_sees_the_slabs_of_the_nodes_and_nothing_of_what_is_going_away():
    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        dentry = await kmem_cache_create(cpu0, "dentry", 1000)
        objects = [await kmem_cache_alloc(cpu0, dentry) for _ in range(2 * dentry.geometry.objects)]
        for obj in objects[:2]:
            assert obj is not None
            await kmem_cache_free(cpu1, obj)
        assert dentry.dirent is not None
        listed = sum([len(node.partial) for node in dentry.nodes])
        assert await show_slab_objects(cpu1, dentry) == listed
        await dentry.dirent.deactivate()
        assert await show_slab_objects(cpu1, dentry) == 0

    assert kind_of(play(story, lifecycle_name="v5.8", sysfs=True)) is None


@pytest.mark.parametrize("rcu", [False, True])
@pytest.mark.parametrize("name", ["v4.11", "v4.12", "v4.18", "v5.5", "v5.8", "v5.9", "v5.19", "v6.6"])
def test_no_interleaving_of_a_destroyed_cache_breaks_whoever_removes_its_directory(name, rcu):
    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        module = prepare(kmem_cache_create(cpu, "module", 1000, rcu=rcu))
        obj = prepare(kmem_cache_alloc(cpu, module))
        assert obj is not None
        await kmem_cache_free(cpu, obj)
        await kmem_cache_destroy(cpu, module)

    assert not verified(story, lifecycle_name=name, searches=("dpor",), cpus=1, sysfs=True)
