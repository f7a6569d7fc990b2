"""The files of /sys/kernel/slab: what they say, and what writing to them does."""

from __future__ import annotations

import pytest

from slabactors.machine import Machine
from slabactors.mm.memcontrol import mem_cgroup_create
from slabactors.mm.models import MODELS
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from tests.mm.slub_script import Script, script
from tests.support import play

SLUB = sorted(name for name, model in MODELS.items() if model.layout == "slub")

each_release = pytest.mark.parametrize("allocator", SLUB)
linux_3 = pytest.mark.parametrize("allocator", ["slub-3.8", "slub-3.10"])

OF_A_BOOTED_6_1 = """\
aliases: 0
align: 8
cache_dma: 0
cpu_partial: 52
cpu_slabs: 1 N0=1
ctor:
destroy_by_rcu: 0
hwcache_align: 0
min_partial: 5
object_size: 512
objects: 48 N0=48
objects_partial: 0
objs_per_slab: 16
order: 1
partial: 0
poison: 0
reclaim_account: 0
red_zone: 0
remote_node_defrag_ratio: 100
sanity_checks: 0
shrink:
slab_size: 512
slabs: 3 N0=3
slabs_cpu_partial: 8(1) C1=8(1)
store_user: 0
total_objects: 48 N0=48
trace: 0
usersize: 0
validate:
"""


def test_the_directory_of_a_cache_is_that_of_a_booted_6_1():
    """Three slabs of 512-byte objects; half of them were freed again by CPU 1."""

    async def body(s: Script) -> None:
        await s.a(48, 0)
        await s.f(0, 7, 1)
        text = "".join(f"{name}: {s.read(name)}".rstrip() + "\n" for name in s.slub.attributes(s.cache))
        assert text == OF_A_BOOTED_6_1

    script(body, size=512, allocator="slub-6.1")


def test_flags_of_a_cache_are_told():
    """What it was created with."""

    async def body(s: Script) -> None:
        flags = [s.read(name) for name in ("destroy_by_rcu", "hwcache_align", "reclaim_account", "align", "slab_size")]
        assert flags == ["1", "1", "1", "64", "128"]
        assert s.read("ctor").startswith("spec0_ctor+")
        assert s.read("reserved") == "0"

    script(body, size=100, rcu=True, hwcache_align=True, reclaimable=True, ctor=True)


@each_release
def test_a_file_that_is_not_there_is_refused(allocator):
    """To be read and to be written."""

    async def body(s: Script) -> None:
        with pytest.raises(ValueError, match="no file 'colour'"):
            s.read("colour")
        with pytest.raises(ValueError, match="no file 'colour'"):
            await s.store("colour", 1)
        with pytest.raises(ValueError, match=r"slabs of .* cannot be written"):
            await s.store("slabs", 1)

    script(body, allocator=allocator)


@each_release
@pytest.mark.parametrize(
    ("written", "in_3", "in_6"), [(1, "5", "1"), (7, "7", "7"), (30, "10", "30"), ("0x8", "8", "8")]
)
def test_min_partial_is_brought_into_a_range_in_3_x(allocator, written, in_3, in_6):
    """Between 5 and 10; 6.1 takes what is written."""

    async def body(s: Script) -> None:
        await s.store("min_partial", written)
        assert s.read("min_partial") == (in_6 if allocator == "slub-6.1" else in_3)

    script(body, allocator=allocator)


@pytest.mark.parametrize("value", ["many", "", -1, 1 << 40])
def test_what_is_no_number_is_refused(value):
    """With what was expected."""

    async def body(s: Script) -> None:
        with pytest.raises(ValueError, match="min_partial takes a number"):
            await s.store("min_partial", value)
        assert s.read("min_partial") == "5"

    script(body)


def test_a_lower_min_partial_gives_nothing_back_by_itself():
    """The next slab that becomes empty on the list goes, the empty ones that lie there stay."""

    async def body(s: Script) -> None:
        await s.a(80, 0)
        await s.first_of_each(4, 1)
        await s.store("cpu_partial", 52)
        await s.f(1, 15, 1)
        assert s.counters("slabs", "partial") == [5, 4]
        await s.store("min_partial", 0)
        assert s.counters("slabs", "partial") == [5, 4]
        await s.f(17, 31, 1)
        assert s.counters("slabs", "partial") == [4, 3]

    script(body, allocator="slub-6.1")


@each_release
def test_writing_cpu_partial_flushes_every_cpu(allocator):
    """Current slabs and partial lists of all CPUs go to the node, and the new limit holds."""

    async def body(s: Script) -> None:
        await s.a(33, 0)
        await s.f(0, 0, 1)
        await s.f(16, 16, 2)
        await s.store("cpu_partial", 1)
        assert s.read("cpu_partial") == "1"
        assert [s.current(cpu) for cpu in range(4)] == [None] * 4
        assert [s.partial(cpu) for cpu in range(4)] == [[]] * 4
        assert sorted(s.listed) == [(0, 15), (1, 15), (2, 1)]

    script(body, allocator=allocator)


def test_the_limit_in_slabs_is_rounded_up_and_0_still_keeps_one():
    """17 objects are three slabs of 16, half full each; with 0 the second slab sends the first to the node."""

    async def body(s: Script) -> None:
        await s.store("cpu_partial", 17)
        await s.a(80, 0)
        await s.first_of_each(3, 1)
        assert len(s.partial(1)) == 3
        await s.f(48, 48, 1)
        assert (len(s.partial(1)), len(s.listed)) == (1, 3)
        await s.store("cpu_partial", 0)
        await s.a(64, 2)
        assert len(s.listed) == 0
        full = next(position for position, obj in enumerate(s.objects[80:]) if obj.slab.inuse == 16) + 80
        await s.f(full, full, 3)
        assert len(s.partial(3)) == 1

    script(body, allocator="slub-6.1")


@linux_3
def test_the_order_of_new_slabs_can_be_written_in_3_x(allocator):
    """Slabs that are there keep theirs."""

    async def body(s: Script) -> None:
        await s.a(16, 0)
        await s.store("order", 2)
        assert (s.read("order"), s.read("objs_per_slab")) == ("2", "64")
        await s.a(1, 0)
        assert [slab.order for slab in s.machine.slabs] == [0, 2]
        assert s.read("total_objects") == "80 N0=80"
        for refused in (4, -1):
            with pytest.raises(ValueError, match="order"):
                await s.store("order", refused)

    script(body, allocator=allocator)


def test_the_order_cannot_be_written_in_6_1():
    """The file can only be read there."""

    async def body(s: Script) -> None:
        with pytest.raises(ValueError, match=r"order of slub-6\.1 cannot be written"):
            await s.store("order", 2)

    script(body, allocator="slub-6.1")


@each_release
def test_writing_1_to_shrink_shrinks(allocator):
    """And nothing else can be written there."""

    async def body(s: Script) -> None:
        await s.a(16, 0)
        await s.f(0, 15, 0)
        with pytest.raises(ValueError, match="shrink takes 1"):
            await s.store("shrink", 0)
        assert (s.slabs, s.read("shrink")) == (1, "")
        await s.store("shrink", 1)
        assert s.slabs == 0

    script(body, allocator=allocator)


def test_what_a_root_cache_is_told_its_children_are_told():
    """A child that is there, and one that is made later."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 256)
        children = []
        for name in ("web", "db"):
            memcg = await mem_cgroup_create(cpu, name)
            obj = await kmem_cache_alloc(cpu, dentry, memcg)
            assert obj is not None
            children.append(obj.slab.cache)
            await machine.allocator.store(cpu, dentry, "min_partial", 8)
            await machine.allocator.store(cpu, dentry, "cpu_partial", 3)
        assert children[0] is not children[1]
        for cache in (dentry, *children):
            shown = [machine.allocator.attribute(machine, cache, name) for name in ("min_partial", "cpu_partial")]
            assert shown == ["8", "3"]

    assert play(story).outcome.bug is None
