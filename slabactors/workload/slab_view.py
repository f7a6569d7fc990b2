"""How a SLAB cache looks to a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from slabactors.actors import operation_of
from slabactors.mm.slab_array import ArrayCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabObject, SlabPage
    from slabactors.mm.slab_sizes import SlabGeometry
    from slabactors.workload.views import Numbered

_ALLOC = operation_of(ArrayCache.alloc).function
_FREE = operation_of(ArrayCache.free).function


class SlabView:
    """See `slabactors.workload.views.View`."""

    def geometry(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What ``create`` answers."""
        shape = cast("SlabGeometry", cache.geometry)
        return {
            "object_size": cache.spec.object_size,
            "size": shape.size,
            "align": shape.align,
            "order": shape.order,
            "objects": shape.objects,
            "off_slab": int(shape.off_slab),
            "management": shape.management,
            "colour": shape.colour,
            "colour_off": shape.colour_off,
            "limit": shape.limit,
            "batchcount": shape.batchcount,
            "shared": shape.shared,
            "free_limit": cache.nodelists[0].free_limit,
        }

    def marks(self, cache: KmemCache, cpu: int) -> tuple[int, ...]:
        """Slabs, free objects in them, objects in the shared arrays."""
        slabs = free = shared = 0
        for l3 in cache.nodelists:
            slabs += len(l3.slabs_full) + len(l3.slabs_partial) + len(l3.slabs_free)
            free += l3.free_objects
            shared += len(l3.shared)
        return slabs, free, shared

    def state(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> dict[str, Any]:
        """The whole state of a cache: arrays, lists from the head, slabs."""
        numbers, held = slabs.numbers, slabs.held
        cpus = {
            str(number): {"avail": len(ac.entries), "touched": int(ac.touched)}
            for number, ac in enumerate(cache.arrays)
            if ac.entries or ac.touched
        }
        nodes = {}
        for number, l3 in enumerate(cache.nodelists):
            nodes[str(number)] = {
                "full": [numbers[slab] for slab in l3.slabs_full],
                "partial": [numbers[slab] for slab in l3.slabs_partial],
                "free": [numbers[slab] for slab in l3.slabs_free],
                "free_objects": l3.free_objects,
                "free_touched": int(l3.free_touched),
                "shared": len(l3.shared),
                "shared_touched": int(l3.shared_touched),
            }
        several = len(nodes) > 1
        rows = [
            [number, slab.inuse, held[slab], slab.node] if several else [number, slab.inuse, held[slab]]
            for slab, number in numbers.items()
        ]
        return {"cpu": cpus, "node": nodes, "slab": rows}

    def counters(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What its line in /proc/slabinfo says."""
        info = machine.allocator.slabinfo(cache)
        shape = cache.geometry
        return {
            "active_objs": info.active_objs,
            "num_objs": info.num_objs,
            "objsize": shape.size,
            "objperslab": shape.objects,
            "pagesperslab": 1 << shape.order,
            "limit": info.limit,
            "batchcount": info.batchcount,
            "sharedfactor": info.shared,
            "active_slabs": info.active_slabs,
            "num_slabs": info.num_slabs,
            "sharedavail": info.shared_avail,
        }

    def written(self, cache: KmemCache) -> None:
        """Nothing is remembered."""

    def taker(self, cache: KmemCache, cpu: int) -> Callable[[int], list[SlabObject]]:
        """The fast path of an allocation: the CPU's array has one, and nobody has interrupts off there."""
        ac = cache.arrays[cpu]

        def take(count: int) -> list[SlabObject]:
            if ac.irqs_off or not ac.entries:
                return []
            slab = ac.entries[-1][0]
            taken: list[SlabObject] = []
            while len(taken) < count and ac.entries and ac.entries[-1][0] is slab:
                taken.append(_ALLOC(ac))
            return taken

        return take

    def giver(self, cache: KmemCache, cpu: int) -> Callable[[list[SlabObject], int], int]:
        """The fast path of a free: there is room in the array."""
        ac = cache.arrays[cpu]

        def give(objects: list[SlabObject], start: int) -> int:
            if ac.irqs_off:
                return start
            end = min(len(objects), start + ac.limit - len(ac.entries))
            for index in range(start, end):
                _FREE(ac, objects[index])
            return max(start, end)

        return give

    def columns(self, machine: Machine, cache: KmemCache) -> dict[str, str]:
        """What a table has of a cache after each operation."""
        info = machine.allocator.slabinfo(cache)
        arrays = sum(len(ac.entries) for ac in cache.arrays)
        return {
            "slabs": str(info.num_slabs),
            "objects": str(info.active_objs),
            "free": str(sum(l3.free_objects for l3 in cache.nodelists)),
            "arrays": str(arrays),
            "shared": str(info.shared_avail),
        }

    def sections(self, cache: KmemCache) -> dict[int, int]:
        """One for an array that is not empty."""
        return {number: 1 for number, ac in enumerate(cache.arrays) if ac.entries}

    def fingerprint(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> object:
        """Arrays with their objects' slabs in order, and the lists with the objects in use."""
        numbers = slabs.numbers

        def listed(some: Iterable[SlabPage]) -> list[tuple[int, int]]:
            return [(numbers[slab], slab.inuse) for slab in some]

        return repr(
            (
                [([numbers[slab] for slab, _ in ac.entries], ac.touched) for ac in cache.arrays],
                [
                    (
                        [listed(one) for one in (l3.slabs_full, l3.slabs_partial, l3.slabs_free)],
                        l3.free_touched,
                        [numbers[slab] for slab, _ in l3.shared],
                        l3.shared_touched,
                    )
                    for l3 in cache.nodelists
                ],
            )
        )
