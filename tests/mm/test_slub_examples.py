"""SLUB against what booted kernels of three releases did: worked examples, counter by counter, one node, four CPUs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from slabactors.mm.allocator import CacheSpec
from slabactors.mm.slub_policy import SLUB_3_8, SLUB_6_1, SLUB_POLICIES
from slabactors.mm.slub_sizes import geometry
from tests.mm.slub_script import Script, script

RELEASES = ["slub-3.8", "slub-3.10", "slub-6.1"]
LINUX_3 = RELEASES[:2]
DATA = Path(__file__).parent.parent / "data" / "slub61"
COUNTERS = ("slabs", "objects", "partial", "cpu_slabs")

each_release = pytest.mark.parametrize("allocator", RELEASES)
linux_3 = pytest.mark.parametrize("allocator", LINUX_3)


SIZES = [
    # object size, then order/objects for 1, 2, 4, 8 and 16 CPUs, order/objects to fall back to, min_partial,
    # cpu_partial of 3.x, cpu_partial and cpu_partial_slabs of 6.1 with 4 CPUs
    (8, "0/512 0/512 0/512 0/512 0/512", "0/512", 5, 30, (120, 1)),
    (64, "0/64 0/64 0/64 0/64 0/64", "0/64", 5, 30, (120, 4)),
    (100, "0/39 0/39 0/39 0/39 0/39", "0/39", 5, 30, (120, 7)),
    (192, "0/21 0/21 0/21 0/21 1/42", "0/21", 5, 30, (120, 12)),
    (256, "0/16 0/16 0/16 1/32 1/32", "0/16", 5, 13, (52, 7)),
    (320, "0/12 0/12 1/25 1/25 1/25", "0/12", 5, 13, (52, 5)),
    (512, "0/8 1/16 1/16 2/32 2/32", "0/8", 5, 13, (52, 7)),
    (700, "1/11 2/23 2/23 2/23 3/46", "0/5", 5, 13, (52, 5)),
    (1000, "1/8 2/16 2/16 3/32 3/32", "0/4", 5, 13, (52, 7)),
    (1024, "1/8 2/16 2/16 3/32 3/32", "0/4", 5, 6, (24, 3)),
    (2048, "2/8 3/16 3/16 3/16 3/16", "0/2", 5, 6, (24, 3)),
    (3000, "3/10 3/10 3/10 3/10 3/10", "0/1", 5, 6, (24, 5)),
    (4096, "3/8 3/8 3/8 3/8 3/8", "0/1", 6, 2, (6, 2)),
    (5000, "3/6 3/6 3/6 3/6 3/6", "1/1", 6, 2, (6, 2)),
    (20000, "3/1 3/1 3/1 3/1 3/1", "3/1", 7, 2, (6, 12)),
    (40000, "4/1 4/1 4/1 4/1 4/1", "4/1", 7, 2, (6, 12)),
]


@pytest.mark.parametrize(("object_size", "orders", "fallback", "min_partial", "cpu_partial", "of_6_1"), SIZES)
def test_sizes_are_those_of_the_booted_kernels(object_size, orders, fallback, min_partial, cpu_partial, of_6_1):
    """Object size and number of CPUs give the order, the fallback and the limits; only the CPU's limits differ."""
    spec = CacheSpec(object_size)
    for policy in SLUB_POLICIES:
        shapes = [geometry(spec, cpus, policy) for cpus in (1, 2, 4, 8, 16)]
        assert " ".join(f"{shape.order}/{shape.objects}" for shape in shapes) == orders
        assert f"{shapes[2].min_order}/{shapes[2].min_objects}" == fallback
        assert shapes[2].min_partial == min_partial
    assert geometry(spec, 4, SLUB_3_8).cpu_partial == cpu_partial
    shape = geometry(spec, 4, SLUB_6_1)
    assert (shape.cpu_partial, shape.cpu_partial_slabs) == of_6_1


@pytest.mark.parametrize(
    ("spec", "size", "align", "offset", "inuse", "order", "objects", "min_objects"),
    [
        (CacheSpec(100, ctor=True), 112, 8, 104, 104, 0, 36, 36),
        (CacheSpec(256, ctor=True), 264, 8, 256, 256, 1, 31, 15),
        (CacheSpec(512, ctor=True), 520, 8, 512, 512, 2, 31, 7),
        (CacheSpec(600, ctor=True), 608, 8, 600, 600, 2, 26, 6),
        (CacheSpec(700, ctor=True), 712, 8, 704, 704, 2, 23, 5),
        (CacheSpec(128, align=128), 128, 128, 0, 128, 0, 32, 32),
        (CacheSpec(320, hwcache_align=True), 320, 64, 0, 320, 1, 25, 12),
    ],
)
def test_constructors_and_alignment_make_objects_larger_in_3_8(
    spec, size, align, offset, inuse, order, objects, min_objects
):
    """What a constructor made stays: the free pointer goes behind it."""
    shape = geometry(spec, 4, SLUB_3_8)
    assert (shape.size, shape.align, shape.offset, shape.inuse) == (size, align, offset, inuse)
    assert (shape.order, shape.objects, shape.min_objects) == (order, objects, min_objects)


@pytest.mark.parametrize(
    ("spec", "size", "align", "offset", "objects"),
    [
        (CacheSpec(1), 8, 8, 0, 512),
        (CacheSpec(56), 56, 8, 24, 73),
        (CacheSpec(512), 512, 8, 256, 16),
        (CacheSpec(6016), 6016, 8, 3008, 5),
        (CacheSpec(1, hwcache_align=True), 8, 8, 0, 512),
        (CacheSpec(24, hwcache_align=True), 32, 32, 8, 128),
        (CacheSpec(40, hwcache_align=True), 64, 64, 16, 64),
        (CacheSpec(512, rcu=True), 520, 8, 512, 31),
    ],
)
def test_a_free_pointer_lies_in_the_middle_of_an_object_in_6_1(spec, size, align, offset, objects):
    """Small objects that ask for cache lines get a part of one; readers under RCU keep theirs whole."""
    shape = geometry(spec, 4, SLUB_6_1)
    assert (shape.size, shape.align, shape.offset, shape.objects) == (size, align, offset, objects)


def test_sizes_are_those_of_848_caches_of_a_booted_6_1():
    """Sizes up to 128 kB, alignments, cache lines and RCU, with one CPU and with four."""
    with gzip.open(DATA / "geometry.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 848
    for row in rows:
        flags = row["flags"]
        spec = CacheSpec(row["size"], row["align"], hwcache_align=flags == "hwalign", rcu=flags == "rcu")
        shape = geometry(spec, row["smp"], SLUB_6_1)
        named = {"slab_size": "size", "slab_align": "align", "objs_per_slab": "objects", "free_offset": "offset"}
        wanted = {name: value for name, value in row.items() if name not in ("smp", "size", "align", "flags")}
        assert len(wanted) == 10
        assert wanted == {name: getattr(shape, named.get(name, name)) for name in wanted}, row


@pytest.mark.parametrize("spec", [CacheSpec(0), CacheSpec(8, align=12), CacheSpec(8, align=-8), CacheSpec(1 << 30)])
def test_sizes_that_make_no_sense_are_refused(spec):
    """No bytes, an alignment that is no power of two, or more than any slab holds."""
    with pytest.raises(ValueError, match=r"must be|no slab holds"):
        geometry(spec, 4, SLUB_6_1)


@each_release
def test_fill_and_drain_on_one_cpu(allocator):
    """Emptied slabs stay with the CPU; only a shrink gives them back."""
    one, two = ("8(1) C0=8(1)", "16(2) C0=16(2)") if allocator == "slub-6.1" else ("1(1) C0=1(1)", "2(2) C0=2(2)")

    async def body(s: Script) -> None:
        assert s.counters(*COUNTERS) == [0, 0, 0, 0]
        await s.a(40, 0)
        assert s.counters(*COUNTERS) == [3, 48, 0, 1]
        assert s.current(0) == (2, 8)
        await s.f(0, 0, 0)
        assert s.counters(*COUNTERS) == [3, 48, 0, 2]
        assert (s.partial(0), s.read("slabs_cpu_partial")) == ([(0, 15)], one)
        await s.f(1, 15, 0)
        assert s.counters(*COUNTERS) == [3, 48, 0, 2]
        assert (s.partial(0), s.read("slabs_cpu_partial")) == ([(0, 0)], one)
        await s.f(16, 31, 0)
        assert s.counters(*COUNTERS) == [3, 48, 0, 3]
        assert (s.partial(0), s.read("slabs_cpu_partial")) == ([(1, 0), (0, 0)], two)
        await s.f(39, 39, 0)
        assert s.current(0) == (2, 9)
        await s.f(32, 38, 0)
        assert s.counters(*COUNTERS) == [3, 48, 0, 3]
        assert s.current(0) == (2, 16)
        assert await s.shrink() == 0
        assert s.counters(*COUNTERS) == [0, 0, 0, 0]
        assert (s.current(0), s.read("slabs_cpu_partial")) == (None, "0(0)")

    script(body, allocator=allocator)


@linux_3
def test_a_cpus_partial_list_drains_when_it_holds_too_many_objects(allocator):
    """The fifteenth slab that CPU 1 freezes sends the fourteen before it to the node."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        assert s.current(0) == (19, 0)
        await s.first_of_each(14, 1)
        assert (len(s.partial(1)), s.listed) == (14, [])
        await s.f(14 * 16, 14 * 16, 1)
        assert s.listed == [(number, 15) for number in range(13, -1, -1)]
        assert s.partial(1) == [(14, 15)]
        assert s.read("slabs_cpu_partial") == "1(1) C1=1(1)"
        assert s.counters("slabs", "objects", "partial", "objects_partial") == [20, 306, 14, 210]

    script(body, allocator=allocator)


def test_a_cpus_partial_list_drains_when_it_holds_too_many_slabs_in_6_1():
    """Seven slabs of sixteen objects: the eighth drains, and the fifteenth again."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        await s.first_of_each(8, 1)
        assert s.listed == [(number, 15) for number in range(6, -1, -1)]
        assert s.partial(1) == [(7, 15)]
        assert s.counters("objects", "partial") == [313, 7]
        for slab in range(8, 15):
            await s.f(slab * 16, slab * 16, 1)
        assert [number for number, _ in s.listed] == [*range(6, -1, -1), *range(13, 6, -1)]
        assert s.partial(1) == [(14, 15)]

    script(body, allocator="slub-6.1")


@each_release
def test_what_was_noted_on_a_partial_list_is_not_updated_after_a_pop(allocator):
    """An allocation takes the newest slab of the list; what the next one noted counts, not a sum that is kept."""

    async def body(s: Script) -> None:
        await s.a(80, 0)
        await s.first_of_each(3, 1)
        await s.f(33, 36, 1)
        assert noted(s) == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
        await s.a(1, 1)
        assert s.current(1) == (2, 4)
        assert noted(s) == [(0, 1, 1), (1, 2, 2)]
        await s.f(48, 48, 1)
        assert noted(s) == [(0, 1, 1), (1, 2, 2), (3, 3, 3)]

    def noted(s: Script) -> list[tuple[int, int, int]]:
        partial = s.cache.cpu_slabs[1].partial
        return [(entry.slab.number, entry.slabs, entry.pobjects) for entry in partial]

    script(body, allocator=allocator)


@linux_3
def test_draining_empty_slabs_keeps_min_partial_and_one_more(allocator):
    """Of fourteen empty slabs six are listed and eight given back."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        await s.f(0, 14 * 16 - 1, 1)
        assert (s.slabs, len(s.partial(1))) == (20, 14)
        await s.f(14 * 16, 14 * 16 + 15, 1)
        assert s.counters("slabs", "total_objects", "partial", "objects") == [12, 192, 6, 96]
        assert s.listed == [(number, 0) for number in range(13, 7, -1)]
        assert s.partial(1) == [(14, 0)]

    script(body, allocator=allocator)


def test_draining_empty_slabs_keeps_min_partial_in_6_1():
    """Of seven empty slabs five are listed and two given back; later all seven go."""

    async def body(s: Script) -> None:
        await s.a(320, 0)
        await s.f(0, 7 * 16, 1)
        assert s.counters("slabs", "partial") == [18, 5]
        assert [number for number, _ in s.listed] == [6, 5, 4, 3, 2]
        await s.f(7 * 16 + 1, 14 * 16, 1)
        assert s.counters("slabs", "partial") == [11, 5]

    script(body, allocator="slub-6.1")


@linux_3
def test_a_listed_slab_goes_back_only_above_min_partial(allocator):
    """Four of nine emptied slabs are released; the last five stay."""

    async def body(s: Script) -> None:
        await s.a(160, 0)
        await s.first_of_each(9, 1)
        await s.shrink()
        assert s.listed == [(number, 15) for number in range(9)]
        assert s.counters("slabs", "partial", "objects") == [10, 9, 151]
        seen = []
        for slab in range(9):
            await s.f(slab * 16 + 1, slab * 16 + 15, 1)
            seen.append(tuple(s.counters("slabs", "partial")))
        assert seen == [(9, 8), (8, 7), (7, 6), (6, 5)] + [(6, 5)] * 5
        assert s.counters("objects_partial", "objects") == [0, 16]

    script(body, allocator=allocator)


def test_a_listed_slab_goes_back_at_min_partial_in_6_1():
    """Five of nine emptied slabs are released, and four stay."""

    async def body(s: Script) -> None:
        await s.a(160, 0)
        await s.first_of_each(9, 1)
        await s.shrink()
        assert [number for number, _ in s.listed] == [7, 8, 0, 1, 2, 3, 4, 5, 6]
        for slab in range(9):
            await s.f(slab * 16 + 1, slab * 16 + 15, 1)
        assert s.counters("slabs", "partial", "objects") == [5, 4, 16]

    script(body, allocator="slub-6.1")


@pytest.mark.parametrize(
    ("allocator", "listed", "pulled", "left", "counters", "again", "left_again"),
    [
        ("slub-3.8", range(12), [7, 6, 5, 4, 3, 2, 1], [8, 9, 10, 11], [8, 188], (8, [11, 10, 9]), []),
        ("slub-3.10", range(12), [6, 5, 4, 3, 2, 1], [7, 8, 9, 10, 11], [7, 187], (11, [10, 9, 8]), []),
        ("slub-6.1", [*range(7, 12), *range(7)], [11, 10, 9, 8], [0, 1, 2, 3, 4, 5, 6], [5, 185], None, None),
    ],
)
def test_how_many_slabs_an_allocation_pulls_differs_between_releases(
    allocator, listed, pulled, left, counters, again, left_again
):
    """3.8 counts the first slab's objects after it has taken them away, 3.10 before, and 6.1 counts slabs."""

    async def body(s: Script) -> None:
        await s.a(192, 0)
        await s.first_of_each(12, 1)
        await s.shrink()
        assert s.listed == [(number, 15) for number in listed]
        await s.a(1, 2)
        assert s.current(2) == (listed[0], 0)
        assert [number for number, _ in s.partial(2)] == pulled
        assert [number for number, _ in s.listed] == left
        assert s.counters("cpu_slabs", "objects") == counters
        if again is not None:
            await s.a(8, 2)
            assert s.current(2) == (again[0], 0)
            assert [number for number, _ in s.partial(2)] == again[1]
            assert s.listed == left_again

    script(body, allocator=allocator)


@each_release
def test_shrink_sorts_the_list_fullest_first_and_equals_reversed(allocator):
    """The order that allocations take slabs in afterwards; only 6.1 says that slabs are left."""

    async def body(s: Script) -> None:
        await s.a(112, 0)
        for first, last in ((0, 2), (16, 20), (32, 34), (48, 48), (64, 79), (80, 84)):
            await s.f(first, last, 0)
        assert s.partial(0) == [(5, 11), (4, 0), (3, 15), (2, 13), (1, 11), (0, 13)]
        assert await s.shrink() == (1 if allocator == "slub-6.1" else 0)
        assert s.listed == [(3, 15), (0, 13), (2, 13), (1, 11), (5, 11)]
        assert s.counters("slabs", "partial", "objects", "objects_partial") == [6, 5, 79, 63]

    script(body, allocator=allocator)


def test_shrink_leaves_slabs_with_more_than_32_free_objects_where_they_are_in_6_1():
    """Those with up to 32 are brought to the front, fewest first; 3.x sorts them all."""

    async def body(s: Script) -> None:
        await s.a(64 * 5, 0)
        for slab, freed in enumerate((40, 32, 50, 33, 1)):
            await s.f(slab * 64, slab * 64 + freed - 1, 1)
        await s.shrink()
        by_free = [(number, 64 - inuse) for number, inuse in s.listed]
        if s.slub.name == "slub-6.1":
            assert by_free == [(4, 1), (1, 32), (3, 33), (2, 50), (0, 40)]
        else:
            assert by_free == [(4, 1), (1, 32), (3, 33), (0, 40), (2, 50)]

    script(body, size=64, allocator="slub-6.1")
    script(body, size=64, allocator="slub-3.8")


@each_release
def test_one_object_a_slab(allocator):
    """Freeing the only object freezes an empty slab onto the CPU's list; a fourth drains it in 3.x."""
    text = "1(3) C0=1(3)" if allocator == "slub-6.1" else "3(3) C0=3(3)"

    async def body(s: Script) -> None:
        await s.a(5, 0)
        await s.f(0, 2, 0)
        assert s.partial(0) == [(2, 0), (1, 0), (0, 0)]
        assert (s.slabs, s.read("slabs_cpu_partial")) == (5, text)
        await s.f(4, 4, 0)
        assert s.current(0) == (4, 1)
        await s.f(3, 3, 0)
        assert len(s.partial(0)) == (4 if allocator == "slub-6.1" else 1)
        await s.shrink()
        assert s.slabs == 0

    script(body, size=20000, allocator=allocator)


@pytest.mark.parametrize(
    ("allocator", "cpu_slabs", "text"),
    [
        ("slub-3.8", 4, "3(1) C1=3(1)"),
        ("slub-3.10", 2, "3(1) C1=3(1)"),
        ("slub-6.1", 2, "8(1) C1=8(1)"),
    ],
)
def test_cpu_slabs_counts_objects_for_slabs_in_3_8(allocator, cpu_slabs, text):
    """One current slab and one on the partial list are four by the count of 3.8."""

    async def body(s: Script) -> None:
        await s.a(48, 0)
        await s.f(0, 2, 0)
        await s.f(16, 18, 0)
        await s.shrink()
        assert s.listed == [(0, 13), (1, 13)]
        await s.a(1, 1)
        assert (s.current(1), s.partial(1)) == ((0, 2), [(1, 13)])
        assert s.read("slabs_cpu_partial") == text
        assert s.read("cpu_slabs") == f"{cpu_slabs} N0={cpu_slabs}"
        assert s.counters("objects", "partial") == [48, 0]
        assert s.read("partial") == "0"

    script(body, allocator=allocator)


@each_release
def test_a_flushed_slab_that_others_freed_into_goes_to_the_tail(allocator):
    """Object 17 was freed into CPU 0's slab by CPU 1, so that slab is listed behind CPU 1's."""

    async def body(s: Script) -> None:
        await s.a(20, 0)
        await s.a(3, 1)
        await s.f(17, 17, 1)
        await s.shrink()
        assert s.listed == [(1, 3), (2, 3)]
        assert s.counters("slabs", "partial") == [3, 2]

    script(body, allocator=allocator)


@each_release
def test_a_flushed_slab_that_nobody_freed_into_goes_to_the_head(allocator):
    """Object 17 was freed by its CPU: the order is that of the flushes, reversed twice."""
    orders = set()

    async def body(s: Script) -> None:
        await s.a(20, 0)
        await s.a(3, 1)
        await s.f(17, 17, 0)
        await s.shrink()
        orders.add(tuple(number for number, _ in s.listed))

    for seed in range(40):
        script(body, allocator=allocator, seed=seed)
    assert orders == {(1, 2), (2, 1)}
