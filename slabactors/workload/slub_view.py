"""How a SLUB cache looks to a log."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from slabactors.actors import operation_of
from slabactors.mm.slub_cpu import KmemCacheCpu
from slabactors.mm.slub_slab import Slab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabObject
    from slabactors.mm.slub import Slub
    from slabactors.mm.slub_sizes import SlubGeometry
    from slabactors.workload.views import Numbered

_INUSE = attrgetter("inuse")
_FROZEN = attrgetter("frozen")
_ALLOC_MANY = operation_of(KmemCacheCpu.alloc_many).function
_FREE_MANY = operation_of(KmemCacheCpu.free_many).function
_FREE_OBJECTS = operation_of(Slab.free_objects).function

SETTINGS = ("objs_per_slab", "order", "min_partial", "cpu_partial")
"""Files of /sys/kernel/slab/NAME that a log has after every operation, and that change when one is written."""

COUNTERS = (
    "slabs",
    "objects",
    "total_objects",
    "partial",
    "objects_partial",
    "cpu_slabs",
    "slabs_cpu_partial",
)
"""The others."""


class SlubView:
    """See `slabactors.workload.views.View`."""

    def __init__(self) -> None:
        self._settings: dict[KmemCache, dict[str, Any]] = {}

    def geometry(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What ``create`` answers."""
        shape = cast("SlubGeometry", cache.geometry)
        return {
            "object_size": cache.spec.object_size,
            "size": shape.size,
            "align": shape.align,
            "order": shape.order,
            "objects": shape.objects,
            "min_order": shape.min_order,
            "min_objects": shape.min_objects,
            "min_partial": shape.min_partial,
            "cpu_partial": shape.cpu_partial,
            "cpu_partial_slabs": shape.cpu_partial_slabs,
            "free_offset": shape.offset,
        }

    def marks(self, cache: KmemCache, cpu: int) -> tuple[int, ...]:
        """Slabs, slabs in the nodes' partial lists, slabs in this CPU's partial list."""
        if len(cache.nodes) == 1:
            (only,) = cache.nodes
            return only.nr_slabs, len(only.partial), len(cache.cpu_slabs[cpu].partial)
        slabs = listed = 0
        for node in cache.nodes:
            slabs += node.nr_slabs
            listed += len(node.partial)
        return slabs, listed, len(cache.cpu_slabs[cpu].partial)

    def state(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> dict[str, Any]:
        """The whole state of a cache."""
        numbers = slabs.numbers
        held = slabs.held
        cpus = {}
        for cpu in machine.cpus:
            c = cache.cpu_slabs[cpu.id]
            if c.page is None and not c.partial:
                continue
            row: dict[str, Any] = {"slab": -1}
            if c.page is not None:
                row = {"slab": numbers[c.page], "flist": 1 if c.freelist else 0}
            if c.partial:
                row["count"] = len(c.partial)
                row["partial"] = [numbers[entry.slab] for entry in reversed(c.partial)]
            cpus[str(cpu.id)] = row
        nodes = {str(number): [numbers[one] for one in node.partial] for number, node in enumerate(cache.nodes)}
        # A line for every slab after every operation: most of what is written of a long script.
        every: Any = numbers
        if len(nodes) == 1:
            frozen = map(int, map(_FROZEN, every))
            rows = [*map(list, zip(numbers.values(), map(_INUSE, every), frozen, held.values(), strict=True))]
        else:
            rows = [[numbers[slab], slab.inuse, int(slab.frozen), held[slab], slab.node] for slab in every]
        return {"cpu": cpus, "node": nodes, "slab": rows}

    def counters(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What the files of its directory in sysfs say: numbers, but where there are several, as text."""
        several = len(cache.nodes) > 1
        attribute = cast("Slub", machine.allocator).attribute
        found = self._settings.get(cache)
        if found is None:
            found = self._settings[cache] = {name: int(attribute(machine, cache, name)) for name in SETTINGS}
        found = dict(found)
        for name in COUNTERS:
            text = attribute(machine, cache, name)
            number, _, nodes = text.partition(" ")
            found[name] = text if name == "slabs_cpu_partial" or (several and nodes) else int(number)
        return found

    def written(self, cache: KmemCache) -> None:
        """A file of the cache was written to."""
        self._settings.pop(cache, None)

    def taker(self, cache: KmemCache, cpu: int) -> Callable[[int], list[SlabObject]]:
        """The fast path of an allocation: the CPU's freelist has one, and nobody has interrupts off there."""
        c = cache.cpu_slabs[cpu]

        def take(count: int) -> list[SlabObject]:
            if c.irqs_off or not c.freelist:
                return []
            taken: list[SlabObject] = _ALLOC_MANY(c, count)
            return taken

        return take

    def giver(self, cache: KmemCache, cpu: int) -> Callable[[list[SlabObject], int], int]:
        """The fast path of a free, and the slow one into a slab that stays where it is; objects of one slab at once."""
        c = cache.cpu_slabs[cpu]

        def give(objects: list[SlabObject], start: int) -> int:
            page: Any = c.page  # no free changes that
            count = len(objects)
            while start < count:
                slab: Any = objects[start].slab
                end = start + 1
                while end < count and objects[end].slab is slab:
                    end += 1
                if slab is page:
                    if c.irqs_off:
                        return start
                    _FREE_MANY(c, slab, objects[start:end])
                elif slab.frozen:
                    _FREE_OBJECTS(slab, objects[start:end], False)
                elif slab.inuse > 1 and slab.freelist:
                    end = min(end, start + slab.inuse - 1)  # the last one takes more than one operation
                    _FREE_OBJECTS(slab, objects[start:end], False)
                else:
                    return start
                start = end
            return count

        return give

    def columns(self, machine: Machine, cache: KmemCache) -> dict[str, str]:
        """What a table has of a cache after each operation."""
        attribute = cast("Slub", machine.allocator).attribute
        if len(cache.nodes) > 1:
            return {name: attribute(machine, cache, name) for name in ("slabs", "objects", "partial", "cpu_slabs")}
        info = machine.allocator.slabinfo(cache)  # the same numbers, and quicker
        return {
            "slabs": str(info.num_slabs),
            "objects": str(info.active_objs),
            "partial": str(len(cache.nodes[0].partial)),
            "cpu_slabs": attribute(machine, cache, "cpu_slabs").partition(" ")[0],
        }

    def sections(self, cache: KmemCache) -> dict[int, int]:
        """One for a current slab that is not full, one for each stretch of slabs of one node in the partial list."""
        found = {}
        for number, c in enumerate(cache.cpu_slabs):
            page = c.page
            current = page is not None and len(page.freelist) + len(c.freelist) > 0
            nodes = [entry.slab.node for entry in c.partial]
            stretches = sum(node != before for node, before in zip(nodes, [None, *nodes], strict=False))
            if current or stretches:
                found[number] = current + stretches
        return found

    def fingerprint(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> object:
        """The lists, and the counts of every slab: which of its objects are free nobody can tell."""
        numbers = slabs.numbers
        cpus = [
            (
                None if c.page is None else numbers[c.page],
                len(c.freelist),
                [(numbers[slab], pobjects) for slab, _, pobjects in c.partial],
            )
            for c in cache.cpu_slabs
        ]
        nodes = [[numbers[slab] for slab in node.partial] for node in cache.nodes]
        counts = [(slab.inuse, slab.frozen) for slab in cast("Iterable[Slab]", numbers)]
        return repr((cpus, nodes, counts))
