"""/proc/slabinfo and the groups' files: byte for byte what kernels print, and what common readers make of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabactors.errors import SurfaceError
from slabactors.machine import Machine
from slabactors.mm.memcg_files import cgroup_stat, memcg_files
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.models import MODELS
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
)
from slabactors.mm.slabinfo import HEADER, SlabinfoRow, format_slabinfo, kmem_slabinfo, parse_slabinfo, slabinfo
from slabactors.mm.surfaces import SURFACES, surface_policy
from tests.support import play

SNAPSHOTS = Path(__file__).parent.parent / "data" / "slub61" / "snapshots"

SLUB_ROW = "spec1                 48     48   1000   16    4 : tunables    0    0    0 : slabdata      3      3      0"
EMPTY_ROW = "newer                  0      0      8  512    1 : tunables    0    0    0 : slabdata      0      0      0"
ROOT_ROW = "spec0                 93     93    264   31    2 : tunables    0    0    0 : slabdata      3      3      0"
CHILD_ROW = "spec0                 62     62    264   31    2 : tunables    0    0    0 : slabdata      2      2      0"
SLAB_ROW = "size-32               16    112     32  112    1 : tunables  120   60    8 : slabdata      1      1      0"


def of_a_child(body, **config) -> None:
    """Run ``body(machine, root, memcg)`` with a child cache of two slabs, each of 31 objects, beside a root of one.

    As seen on a booted 3.8.3: an object before the task joins the group, one while the child is being made, 40 after.
    """

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        root = await kmem_cache_create(cpu, "spec0", 256, ctor=True)
        memcg = await mem_cgroup_create(cpu, "a")
        held = [await kmem_cache_alloc(cpu, root)]
        held.append(await kmem_cache_alloc(cpu, root, memcg, may_sleep=False))
        while not root.memcg_caches or machine.system_wq.executing:
            await machine.page_alloc.balanced()
        held += [await kmem_cache_alloc(cpu, root, memcg) for _ in range(40)]
        await body(machine, root, memcg)
        for obj in held:
            assert obj is not None
            await kmem_cache_free(cpu, obj)

    played = play(story, cpus=4, seed=1, **config)
    assert played.outcome.bug is None, played.outcome.bug


# -- the text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", ["slabinfo-nomerge.txt", "slabinfo-merged.txt"])
def test_what_a_kernel_printed_is_read_and_written_again_byte_for_byte(snapshot):
    """Every row of a booted 6.1, long names and wide numbers among them."""
    text = (SNAPSHOTS / snapshot).read_text()
    rows = parse_slabinfo(text)
    assert len(rows) == text.count("\n") - 2 > 100
    assert format_slabinfo(rows) == text
    assert all(row.active_objs <= row.num_objs == row.objperslab * row.num_slabs for row in rows)


@pytest.mark.parametrize("line", [SLUB_ROW, SLAB_ROW])
def test_rows_of_both_allocators_of_3_8(line):
    """SLUB has no tunables; SLAB has, and counts slabs without objects."""
    (row,) = parse_slabinfo(f"{HEADER}{line}\n")
    assert str(row) == line
    slab = SlabinfoRow("size-32", 16, 112, 32, 112, 1, 120, 60, 8, 1, 1, 0)
    assert row == (slab if line == SLAB_ROW else SlabinfoRow("spec1", 48, 48, 1000, 16, 4, 0, 0, 0, 3, 3, 0))


numbers = st.integers(0, 1 << 63)


@given(st.lists(st.builds(SlabinfoRow, st.from_regex(r"[!-~]([ -~]*[!-~])?", fullmatch=True), *[numbers] * 11)))
def test_any_rows_are_read_as_they_were_written(rows):
    """Also names with blanks and colons in them, and numbers that outgrow their columns."""
    assert parse_slabinfo(format_slabinfo(rows)) == rows


@pytest.mark.parametrize(
    "text",
    [
        "slabinfo - version: 2.0\n",
        HEADER.replace("2.1", "2.1 (statistics)"),
        HEADER.splitlines()[0],
        f"{HEADER}\n",
        f"{HEADER}{SLUB_ROW}\n\n",
        f"{HEADER}{SLUB_ROW} : globalstat 1 2 3\n",
        f"{HEADER}{SLUB_ROW[:-1]}-\n",
        f"{HEADER}{SLUB_ROW.replace('slabdata', 'slabs')}\n",
        f"{HEADER}{SLUB_ROW.partition(' : slabdata')[0]}\n",
    ],
)
def test_a_text_that_is_no_slabinfo_is_refused(text):
    """Another version, statistics, half a line: a ValueError that says where."""
    with pytest.raises(ValueError, match=r"expected .*, found "):
        parse_slabinfo(text)


def slabtop(text: str) -> list[tuple[str, ...]]:
    """What slabtop and ``vmstat -m`` of procps read: the version line, a comment, then scanf() of each line."""
    lines = text.splitlines()
    assert lines[0].split(maxsplit=3)[:3] == ["slabinfo", "-", "version:"]
    assert lines[0].split()[3] == "2.1"
    pattern = re.compile(r"(\S{1,128})\s+" + r"\s+".join([r"(\d+)"] * 5) + r"\s+: tunables\s+(\d+)\s+(\d+)\s+(\d+)"
                         r"\s+: slabdata\s+(\d+)\s+(\d+)\s+(\d+)$")  # fmt: skip
    found = []
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        scanned = pattern.match(line)
        assert scanned, line
        found.append(scanned.groups())
    return found


# -- of a machine ------------------------------------------------------------------------------------------------------


def test_the_text_of_a_machine():
    """Three slabs of a SLUB cache with 40 objects held: what no node lists is in use.  Newest cache first."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec1", 1000)
        await kmem_cache_create(cpu, "newer", 8)
        held = [await kmem_cache_alloc(cpu, cache) for _ in range(40)]
        text = slabinfo(machine)
        assert text == f"{HEADER}{EMPTY_ROW}\n{SLUB_ROW}\n"
        assert [row[0] for row in slabtop(text)] == ["newer", "spec1"]
        assert slabtop(text)[1][1:6] == ("48", "48", "1000", "16", "4")
        for obj in held:
            assert obj is not None
            await kmem_cache_free(cpu, obj)

    assert play(story, cpus=4).outcome.bug is None


def test_a_roots_row_has_its_children_and_a_groups_file_has_them_by_the_roots_name():
    """One slab of the root and two of the child, of 31 objects each, as a booted 3.8.3 printed it."""

    async def body(machine: Machine, root: KmemCache, memcg: MemCgroup) -> None:
        assert slabinfo(machine) == f"{HEADER}{ROOT_ROW}\n"
        assert kmem_slabinfo(machine, memcg) == f"{HEADER}{CHILD_ROW}\n"

    of_a_child(body)


def test_a_groups_newest_child_comes_first():
    """And other groups' children are not there."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        roots = [await kmem_cache_create(cpu, name, 256) for name in ("first", "second", "third")]
        a, b = await mem_cgroup_create(cpu, "a"), await mem_cgroup_create(cpu, "b")
        for root, memcg in ((roots[1], a), (roots[0], a), (roots[2], b)):
            obj = await kmem_cache_alloc(cpu, root, memcg)
            assert obj is not None
            await kmem_cache_free(cpu, obj)
        assert [row.name for row in parse_slabinfo(kmem_slabinfo(machine, a))] == ["first", "second"]
        assert [row.name for row in parse_slabinfo(kmem_slabinfo(machine, b))] == ["third"]

    assert play(story).outcome.bug is None


def test_a_destroyed_cache_has_no_row_and_3_8_has_a_header_without_any():
    """The last cache goes, the header stays."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        assert "spec0 " in slabinfo(machine)
        await kmem_cache_destroy(machine.cpus[0], cache)
        assert slabinfo(machine) == HEADER
        assert parse_slabinfo(slabinfo(machine)) == []

    assert play(story).outcome.bug is None


def test_a_dead_child_counts_until_it_is_destroyed():
    """What a removed group leaves is in its root's row; when all is freed and destroyed, the row is empty again."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        dentry = await kmem_cache_create(cpu, "dentry", 1000)
        web = await mem_cgroup_create(cpu, "web")
        obj = await kmem_cache_alloc(cpu, dentry, web)
        await mem_cgroup_rmdir(cpu, web)
        (row,) = parse_slabinfo(slabinfo(machine))
        assert (row.active_objs, row.num_objs, row.num_slabs) == (8, 8, 1)
        assert obj is not None
        await kmem_cache_free(cpu, obj)

    played = play(story, cpus=1)
    assert played.outcome.bug is None
    (row,) = parse_slabinfo(slabinfo(played.machine))
    assert (row.active_objs, row.num_objs, row.num_slabs) == (0, 0, 0)


def test_every_model_has_words_of_its_release():
    """And one of another release is refused with a message, not a traceback."""

    async def story(machine: Machine) -> None:
        pass

    machine = play(story).machine
    for machine.allocator in MODELS.values():
        assert surface_policy(machine) in SURFACES.values()
    machine.allocator.name, name = "slub-2.6", machine.allocator.name
    try:
        with pytest.raises(SurfaceError, match=r"found slub-2\.6"):
            slabinfo(machine)
    finally:
        machine.allocator.name = name


def test_6_1_has_neither_header_without_rows_nor_children():
    """Its header comes with the first row, and a group's slabinfo is an empty file."""

    async def body(machine: Machine, root: KmemCache, memcg: MemCgroup) -> None:
        assert slabinfo(machine).startswith(HEADER)
        assert kmem_slabinfo(machine, memcg) == kmem_slabinfo(machine, None) == ""
        assert cgroup_stat(machine) == "nr_descendants 1\nnr_dying_descendants 0\n"
        # The largest number of whole pages.
        assert memcg_files(machine, memcg)["memory.kmem.limit_in_bytes"] == "9223372036854771712\n"

    async def nothing(machine: Machine) -> None:
        assert slabinfo(machine) == ""
        assert parse_slabinfo("") == []

    of_a_child(body, allocator="slub-6.1")
    assert play(nothing, allocator="slub-6.1").outcome.bug is None


# -- memory.kmem -------------------------------------------------------------------------------------------------------


def test_what_a_group_says_of_its_kernel_memory():
    """Bytes of pages, one number a line; without a limit, the largest number that there is."""

    async def body(machine: Machine, root: KmemCache, memcg: MemCgroup) -> None:
        assert memcg_files(machine, memcg) == {
            "memory.kmem.failcnt": "0\n",
            "memory.kmem.limit_in_bytes": "9223372036854775807\n",
            "memory.kmem.max_usage_in_bytes": "16384\n",
            "memory.kmem.slabinfo": kmem_slabinfo(machine, memcg),
            "memory.kmem.usage_in_bytes": "16384\n",
        }

    of_a_child(body)


def test_usage_goes_down_and_its_maximum_stays():
    """At the limit charges fail and are counted; what was most is still told when all has gone back."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        a = await mem_cgroup_create(cpu, "a", limit=8192)
        held = [await kmem_cache_alloc(cpu, cache, a) for _ in range(9)]
        files = memcg_files(machine, a)
        assert files["memory.kmem.usage_in_bytes"] == files["memory.kmem.max_usage_in_bytes"] == "8192\n"
        assert files["memory.kmem.limit_in_bytes"] == "8192\n"
        # Of order 2 and then of order 0: the first slab is charged with the second try, and so is the next; then none.
        assert files["memory.kmem.failcnt"] == "4\n"
        for obj in held:
            if obj is not None:
                await kmem_cache_free(cpu, obj)
        await kmem_cache_destroy(cpu, cache)
        files = memcg_files(machine, a)
        assert files["memory.kmem.usage_in_bytes"] == "0\n"
        assert files["memory.kmem.max_usage_in_bytes"] == "8192\n"

    played = play(story, cpus=4)
    assert played.outcome.bug is None, played.outcome.bug


def test_the_root_groups_slabinfo_cannot_be_read():
    """Its kernel memory is not accounted: EIO."""

    async def body(machine: Machine, root: KmemCache, memcg: MemCgroup) -> None:
        with pytest.raises(SurfaceError, match="EIO"):
            kmem_slabinfo(machine, None)

    of_a_child(body)


def test_a_removed_group_that_is_still_held_is_dying():
    """As the recorded 6.1 had it: two groups, removed and held by their objects, then gone."""
    recorded = (SNAPSHOTS / "cgroup-stat.txt").read_text()
    told = re.findall(r"# cgroup.stat\n(nr_descendants \d+\nnr_dying_descendants \d+\n)", recorded)

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        cache = await kmem_cache_create(cpu, "spec0", 1000)
        await mem_cgroup_create(cpu, "oracle")
        assert cgroup_stat(machine) == told[0]
        groups = [await mem_cgroup_create(cpu, name) for name in "ab"]
        held = [await kmem_cache_alloc(cpu, cache, memcg) for memcg in groups]
        assert cgroup_stat(machine) == told[1]
        for memcg in groups:
            await mem_cgroup_rmdir(cpu, memcg)
        assert cgroup_stat(machine) == told[2]
        for obj in held:
            assert obj is not None
            await kmem_cache_free(cpu, obj)

    played = play(story)
    assert played.outcome.bug is None
    assert cgroup_stat(played.machine) == told[3]


def test_rows_are_plain_values():
    """Two of the same text are equal, and one can be made from another."""
    (row,) = parse_slabinfo(f"{HEADER}{SLUB_ROW}\n")
    assert replace(row, name="other") != row == replace(row)
