"""The files of a cache's directory in /sys/kernel/slab (mm/slub.c, v3.8, v3.10 and v6.1).

Counters are read from a machine as it is; what is written takes effect step by step, as everything else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.sysfs import SysfsDirent, sysfs_remove
from slabactors.mm.allocator import mergeable
from slabactors.mm.memcg_caches import children_of
from slabactors.mm.slub_policy import CpuSlabs, SlubPolicy, cpu_partial_slabs
from slabactors.mm.slub_sizes import SlubGeometry, objects_of_order

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slub import Slub

NUMBER_MAX = (1 << 31) - 1
"""The largest number that may be written to a file."""

UNSIGNED = 1 << 64
"""A counter that fell below zero is printed as an unsigned long."""


# -- counters ------------------------------------------------------------------------------------------------------


def _by_node(counts: Iterable[tuple[int, int]]) -> str:
    """A sum, and what each node adds to it, from pairs of node and number; as unsigned words, whatever a bug made of
    them."""
    nodes: dict[int, int] = {}
    for node, count in counts:
        nodes[node] = nodes.get(node, 0) + count
    parts = [f" N{node}={nodes[node] % UNSIGNED}" for node in sorted(nodes) if nodes[node]]
    return str(sum(nodes.values()) % UNSIGNED) + "".join(parts)


def _slabs(policy: SlubPolicy, cache: KmemCache) -> str:
    return _by_node((number, node.nr_slabs) for number, node in enumerate(cache.nodes))


def _total_objects(policy: SlubPolicy, cache: KmemCache) -> str:
    return _by_node((number, node.total_objects) for number, node in enumerate(cache.nodes))


def _objects(policy: SlubPolicy, cache: KmemCache) -> str:
    return _by_node(
        (number, node.total_objects - sum(slab.objects - slab.inuse for slab in node.partial))
        for number, node in enumerate(cache.nodes)
    )


def _partial(policy: SlubPolicy, cache: KmemCache) -> str:
    return _by_node((number, len(node.partial)) for number, node in enumerate(cache.nodes))


def _objects_partial(policy: SlubPolicy, cache: KmemCache) -> str:
    return _by_node((number, sum(slab.inuse for slab in node.partial)) for number, node in enumerate(cache.nodes))


def _cpu_slabs(policy: SlubPolicy, cache: KmemCache) -> str:
    counts = []
    for c in cache.cpu_slabs:
        if c.page is None:
            continue  # its partial list is not looked at
        counts.append((c.page.node, 1))
        if c.partial:
            head = c.partial[-1]
            if policy.cpu_slabs is CpuSlabs.OBJECTS:
                counts.append((c.page.node, head.pobjects))
            else:
                counts.append((head.slab.node, head.slabs))
    return _by_node(counts)


def _slabs_cpu_partial(policy: SlubPolicy, cache: KmemCache) -> str:
    slabs = [c.partial[-1].slabs if c.partial else 0 for c in cache.cpu_slabs]
    if policy.estimates_cpu_partial:
        per_slab = cache.cpu_slabs[0].objects
        objects = [count * per_slab // 2 for count in slabs]
        total = sum(slabs) * per_slab // 2
    else:
        objects = [c.partial[-1].pobjects if c.partial else 0 for c in cache.cpu_slabs]
        total = sum(objects)
    cpus = "".join(f" C{cpu}={objects[cpu]}({count})" for cpu, count in enumerate(slabs) if count)
    return f"{total}({sum(slabs)}){cpus}"


# -- settings ------------------------------------------------------------------------------------------------------


def _shape(cache: KmemCache) -> SlubGeometry:
    return cast("SlubGeometry", cache.geometry)


def _settings(policy: SlubPolicy, cache: KmemCache) -> dict[str, str | int]:
    """What does not change by use."""
    shape, spec, c = _shape(cache), cache.spec, cache.cpu_slabs[0]
    settings: dict[str, str | int] = {
        "aliases": cache.refcount - 1,
        "align": shape.align,
        "cache_dma": 0,
        "cpu_partial": c.cpu_partial,
        "ctor": f"{cache.name}_ctor+0x0/0x10" if spec.ctor else "",
        "destroy_by_rcu": int(spec.rcu),
        "hwcache_align": int(spec.hwcache_align),
        "min_partial": cache.nodes[0].min_partial,
        "object_size": spec.object_size,
        "objs_per_slab": c.objects,
        "order": c.order,
        "poison": 0,
        "reclaim_account": int(spec.reclaimable),
        "red_zone": 0,
        "remote_node_defrag_ratio": 100,
        "sanity_checks": 0,
        "shrink": "",
        "slab_size": shape.size,
        "store_user": 0,
        "trace": 0,
        "validate": "",
    }
    settings.update(dict.fromkeys(policy.own_files, 0))
    return settings


_COUNTERS: dict[str, Callable[[SlubPolicy, KmemCache], str]] = {
    "cpu_slabs": _cpu_slabs,
    "objects": _objects,
    "objects_partial": _objects_partial,
    "partial": _partial,
    "slabs": _slabs,
    "slabs_cpu_partial": _slabs_cpu_partial,
    "total_objects": _total_objects,
}


def attributes(policy: SlubPolicy, cache: KmemCache) -> tuple[str, ...]:
    """The files of a cache's directory, in alphabetical order.

    Those of CONFIG_SLUB_STATS and CONFIG_FAILSLAB are not among them, nor those that only say something with
    SLAB_STORE_USER.
    """
    return tuple(sorted((*_COUNTERS, *_settings(policy, cache))))


def show(policy: SlubPolicy, cache: KmemCache, name: str) -> str:
    """What a file says, without the newline at its end.  Models show_slab_objects() (mm/slub.c, v3.8 and v6.1).

    The kernel is one with CONFIG_NUMA: behind a sum comes what each node adds to it, also when there is one node.
    Deviation: a constructor has no symbol; its file makes one of the cache's name.

    Args:
        policy: the release.
        cache: whose directory.
        name: of the file.

    Raises:
        ValueError: the release has no such file.
    """
    if name in _COUNTERS:
        return _COUNTERS[name](policy, cache)
    settings = _settings(policy, cache)
    if name not in settings:
        raise ValueError(f"/sys/kernel/slab/{cache.name} of {policy.name} has no file {name!r}")
    return str(settings[name])


# -- what can be written -------------------------------------------------------------------------------------------


async def store(allocator: Slub, cpu: Cpu, cache: KmemCache, name: str, value: str | int) -> None:
    """Write to ``min_partial``, ``cpu_partial``, ``order`` (3.x) or ``shrink``.  Sleeps.

    Models slab_attr_store() (mm/slub.c, v3.8): what a root cache accepts, its children are told, too.

    Args:
        allocator: the allocator of the machine.
        cpu: where the task runs.
        cache: whose directory.
        name: of the file.
        value: what is written.

    Raises:
        ValueError: the kernel refuses it.
    """
    # Who writes keeps the directory by its name, not the cache.
    lifecycle, dirent = cpu.machine.lifecycle, cache.dirent
    if dirent is not None and not await dirent.get_active():
        return
    await _store_one(allocator, cpu, cache, name, value)
    if allocator.policy.stores_for_children and lifecycle.stores_for_children and cache.root is None:
        await cpu.machine.slab_mutex.lock()
        children = await children_of(cpu, cache)
        for child in children:
            await _store_one(allocator, cpu, child, name, value)
        await cpu.machine.slab_mutex.unlock()
    if dirent is not None:
        await dirent.put_active()


async def _store_one(allocator: Slub, cpu: Cpu, cache: KmemCache, name: str, value: str | int) -> None:
    if name == "shrink":
        if not str(value).startswith("1"):
            raise ValueError(f"shrink takes 1, not {value!r}")
        if cpu.machine.lifecycle.locks_memory_hotplug:
            await hold_hotplug(cpu)
        await allocator.shrink(cpu, cache)
        if cpu.machine.lifecycle.locks_memory_hotplug:
            await release_hotplug(cpu)
    elif name == "min_partial":
        await _store_min_partial(allocator.policy, cache, _parsed(name, value))
    elif name == "cpu_partial":
        await _store_cpu_partial(allocator, cpu, cache, _parsed(name, value))
    elif name == "order" and allocator.policy.order_writable:
        await _store_order(cache, _parsed(name, value))
    else:
        show(allocator.policy, cache, name)  # says so when there is no such file
        raise ValueError(f"{name} of {allocator.policy.name} cannot be written")


async def _store_min_partial(policy: SlubPolicy, cache: KmemCache, min_partial: int) -> None:
    """Models min_partial_store(), set_min_partial() (mm/slub.c, v3.8)."""
    if policy.min_partial_range is not None:
        least, most = policy.min_partial_range
        min_partial = min(most, max(least, min_partial))
    await cache.tune({"min_partial": min_partial})
    for node in cache.nodes:
        await node.set_min_partial(min_partial)


async def _store_cpu_partial(allocator: Slub, cpu: Cpu, cache: KmemCache, cpu_partial: int) -> None:
    """Flushes every CPU.  Models cpu_partial_store() (mm/slub.c, v3.8)."""
    slabs = cpu_partial_slabs(cpu_partial, _shape(cache).objects)
    await cache.tune({"cpu_partial": cpu_partial, "cpu_partial_slabs": slabs})
    for c in cache.cpu_slabs:
        await c.set_cpu_partial(cpu_partial)
    await allocator.flush_all(cpu, cache)


async def _store_order(cache: KmemCache, order: int) -> None:
    """Slabs that are there keep theirs.  Models order_store() (mm/slub.c, v3.8).

    Deviation: the kernel takes an order whose slabs hold no object at all, and cannot allocate any more.
    """
    objects = objects_of_order(_shape(cache), order)
    await cache.tune({"order": order, "objects": objects})
    for c in cache.cpu_slabs:
        await c.set_order(order, objects)


def _parsed(name: str, value: str | int) -> int:
    try:
        number = int(str(value), 0)
    except ValueError:
        raise ValueError(f"{name} takes a number, not {value!r}") from None
    if not 0 <= number <= NUMBER_MAX:
        raise ValueError(f"{name} takes a number from 0 to {NUMBER_MAX}, not {number}")
    return number


# -- directories that come and go -----------------------------------------------------------------------------------


async def sysfs_slab_add(cpu: Cpu, cache: KmemCache) -> None:
    """Give a new cache its directory, on a machine that has sysfs.  Under ``slab_mutex``, which 3.14 and before drop.

    Models __kmem_cache_create() with sysfs_slab_add() (mm/slub.c, v3.8 and v3.15).
    Deviation: without sysfs the mutex is not dropped, as nothing would be done meanwhile.
    """
    machine = cpu.machine
    if not machine.config.sysfs or machine.allocator.layout != "slub":
        return
    if machine.lifecycle.adds_to_sysfs_unlocked:
        await machine.slab_mutex.unlock()
        # Window: the cache is neither listed nor published, and whoever looks for it may make another one.
        await machine.slab_mutex.lock()
    name = sysfs_name(machine, cache)
    await machine.slab_kset.add(name)
    cache.dirent = SysfsDirent(f"/sys/{machine.slab_kset.name}/{name}")


async def sysfs_slab_remove(cpu: Cpu, cache: KmemCache) -> None:
    """Remove the directory of a cache: wait for who reads or writes its files, then let others have its name.  Sleeps.

    Models sysfs_slab_remove() (mm/slub.c, v3.8).
    """
    if cache.dirent is not None:
        await sysfs_remove(cache.dirent)
        # Window: nobody uses it any more, and the name is still taken.
        await cpu.machine.slab_kset.remove(sysfs_name(cpu.machine, cache))


def sysfs_name(machine: Machine, cache: KmemCache) -> str:
    """What the directory of a cache is called: by its size, when caches just like it are merged with it.

    Models create_unique_id() and sysfs_slab_add() (mm/slub.c, v3.8).
    Deviation: there are no links to it from its other names.  Those that are stale are replaced, so that none is ever
    in the way; and the directories of children are beside that of their root, not in it.
    """
    if not machine.config.merging or cache.root is not None or not mergeable(cache.spec):
        return cache.name
    return f":{'a' if cache.spec.reclaimable else ''}{'A-' if cache.spec.account else ''}{_shape(cache).size:07}"
