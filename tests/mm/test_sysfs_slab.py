"""/sys/kernel/slab: directories and files as kernels have them, and what they say, against a booted 6.1."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabactors.errors import SurfaceError
from slabactors.machine import Machine
from slabactors.mm.allocator import Allocator
from slabactors.mm.memcontrol import mem_cgroup_create
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.slabinfo import HEADER, slabinfo
from slabactors.mm.sysfs_slab import slab_attribute, slab_directories, slab_files
from tests.support import play

SNAPSHOTS = Path(__file__).parent.parent / "data" / "slub61" / "snapshots"

COUNTERS = {
    "cpu_slabs", "objects", "objects_partial", "partial", "slabs", "slabs_cpu_partial", "total_objects",
}  # fmt: skip
EMPTY = {"ctor", "shrink", "validate"}


def recorded(snapshot: str) -> dict[str, dict[str, str]]:
    """Directory, file and text, without its newline, of a snapshot."""
    found: dict[str, dict[str, str]] = {}
    for line in (SNAPSHOTS / snapshot).read_text().splitlines():
        if "/" in line:
            path, _, text = line.partition(": ")
            directory, _, file = path.partition("/")
            found.setdefault(directory, {})[file] = text
    return found


def with_cache(body, *, size: int = 512, cpus: int = 4, allocator: str = "slub-6.1", **options) -> None:
    """Run ``body(machine, cache)`` on a fresh cache."""

    async def story(machine: Machine) -> None:
        await body(machine, await kmem_cache_create(machine.cpus[0], "pz", size, **options))

    played = play(story, cpus=cpus, allocator=allocator)
    assert played.outcome.bug is None, played.outcome.bug


def test_a_cache_in_the_state_of_the_recorded_one_has_the_same_files_with_the_same_text():
    """40 objects of CPU 0, the first 16 freed by CPU 1: an empty slab on its list, which cpu_slabs does not see."""

    async def body(machine: Machine, cache: KmemCache) -> None:
        held = [await kmem_cache_alloc(machine.cpus[0], cache) for _ in range(40)]
        for obj in held[:16]:
            assert obj is not None
            await kmem_cache_free(machine.cpus[1], obj)
        texts = slab_files(machine, cache)
        kernel = recorded("sysfs-slab-nomerge.txt")["pz"]
        assert {name: text.removesuffix("\n") for name, text in texts.items()} == kernel
        assert {name for name, text in texts.items() if not text} == EMPTY
        assert all(text.count("\n") == 1 for name, text in texts.items() if name not in EMPTY)
        lines = (SNAPSHOTS / "slabinfo-nomerge.txt").read_text().splitlines(keepends=True)
        assert slabinfo(machine) == HEADER + lines[2]
        for obj in held[16:]:
            assert obj is not None
            await kmem_cache_free(machine.cpus[0], obj)

    with_cache(body)


@pytest.mark.parametrize("snapshot", ["sysfs-slab-nomerge.txt", "sysfs-slab-merged.txt"])
def test_a_new_cache_differs_from_any_recorded_one_only_in_its_numbers(snapshot):
    """The same files; those of a cache without objects begin with the number that a kernel prints for none."""
    for name, kernel in recorded(snapshot).items():
        size = int(kernel["object_size"])

        async def body(machine: Machine, cache: KmemCache, kernel=kernel, name=name) -> None:
            texts = {file: text.removesuffix("\n") for file, text in slab_files(machine, cache).items()}
            assert list(texts) == sorted(kernel), name
            assert {texts[file] for file in COUNTERS - {"slabs_cpu_partial"}} == {"0"}
            assert texts["slabs_cpu_partial"] == "0(0)"
            same = set(kernel) - COUNTERS - {"aliases", "usersize", "ctor"}
            assert {file: texts[file] for file in same} == {file: kernel[file] for file in same}, name

        with_cache(
            body,
            size=size,
            align=int(kernel["align"]),
            hwcache_align=kernel["hwcache_align"] == "1",
            reclaimable=kernel["reclaim_account"] == "1",
            rcu=kernel["destroy_by_rcu"] == "1",
            ctor=bool(kernel["ctor"]),
        )


@pytest.mark.parametrize("allocator", ["slub-3.8", "slub-3.10"])
def test_3_8_has_files_of_its_own(allocator):
    """Where free pointers leave room, and who allocated and freed, which nobody can read of a cache like these."""

    async def body(machine: Machine, cache: KmemCache) -> None:
        names = set(slab_files(machine, cache))
        assert names == (set(recorded("sysfs-slab-nomerge.txt")["pz"]) - {"usersize"}) | {"reserved"}
        assert slab_attribute(machine, cache, "reserved") == "0\n"
        for name in ("alloc_calls", "free_calls"):
            with pytest.raises(SurfaceError, match="ENOSYS"):
                slab_attribute(machine, cache, name)

    with_cache(body, allocator=allocator)


def test_a_file_that_there_is_not():
    """Statistics are not compiled in, and alloc_calls has moved elsewhere in 6.1: ENOENT."""

    async def body(machine: Machine, cache: KmemCache) -> None:
        for name in ("alloc_fastpath", "alloc_calls", "reserved", "../pz/order", ""):
            with pytest.raises(SurfaceError, match="ENOENT"):
                slab_attribute(machine, cache, name)

    with_cache(body)


def test_what_a_cache_was_made_with():
    """Each is told in a file of its own."""

    async def body(machine: Machine, cache: KmemCache) -> None:
        texts = slab_files(machine, cache)
        told = ("ctor", "destroy_by_rcu", "hwcache_align", "reclaim_account")
        assert [bool(texts[name].strip("0\n")) for name in told] == [True] * 4
        assert texts["ctor"].endswith("\n")
        assert (texts["object_size"], texts["align"], texts["slab_size"]) == ("100\n", "64\n", "128\n")

    with_cache(body, size=100, hwcache_align=True, reclaimable=True, rcu=True, ctor=True, allocator="slub-3.8")


def test_sums_are_followed_by_what_each_node_has():
    """A slab on each of two nodes."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", 256)
        held = [await kmem_cache_alloc(machine.cpus[0], cache, node=node) for node in (0, 1, 1)]
        assert slab_attribute(machine, cache, "slabs") == "2 N0=1 N1=1\n"
        assert slab_attribute(machine, cache, "total_objects") == "32 N0=16 N1=16\n"
        for obj in held:
            assert obj is not None
            await kmem_cache_free(machine.cpus[0], obj)

    played = play(story, cpus=4, nodes=2)
    assert played.outcome.bug is None, played.outcome.bug


def test_every_cache_has_a_directory_and_a_child_has_its_own():
    """Under their names, in sysfs's spelling, until they are freed; the older one of a name."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        root = await kmem_cache_create(cpu, "spec0", 256)
        odd = await kmem_cache_create(cpu, "a/b", 256)
        await kmem_cache_create(cpu, "a!b", 512)
        obj = await kmem_cache_alloc(cpu, root, await mem_cgroup_create(cpu, "a"))
        assert obj is not None
        directories = slab_directories(machine)
        assert list(directories) == ["a!b", "spec0", "spec0(1:a)"]
        assert directories["a!b"] is odd
        assert directories["spec0(1:a)"] is obj.slab.cache
        await kmem_cache_free(cpu, obj)

    assert play(story).outcome.bug is None


def test_only_slub_has_such_directories(monkeypatch):
    """Another allocator is refused with what to read and to choose instead."""

    async def body(machine: Machine, cache: KmemCache) -> None:
        class Other:
            name = "slab-3.8"

        slub: Allocator = machine.allocator
        monkeypatch.setattr(machine, "allocator", Other())
        for look in (slab_directories, lambda machine: slab_files(machine, cache)):
            with pytest.raises(SurfaceError, match=r"slab-3\.8 has no /sys/kernel/slab"):
                look(machine)
        monkeypatch.setattr(machine, "allocator", slub)

    with_cache(body)
