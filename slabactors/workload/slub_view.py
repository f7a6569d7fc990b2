"""How a SLUB cache looks to a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slub_sizes import SlubGeometry
    from slabactors.mm.slub_slab import Slab
    from slabactors.workload.views import Numbered

COUNTERS = (
    "objs_per_slab",
    "order",
    "min_partial",
    "cpu_partial",
    "slabs",
    "objects",
    "total_objects",
    "partial",
    "objects_partial",
    "cpu_slabs",
    "slabs_cpu_partial",
)
"""Files of /sys/kernel/slab/NAME that a log has after every operation."""


class SlubView:
    """See `slabactors.workload.views.View`."""

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
        }

    def marks(self, cache: KmemCache, cpu: int) -> tuple[int, ...]:
        """Slabs, slabs in the nodes' partial lists, slabs in this CPU's partial list."""
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
                row["partial"] = [numbers[one] for one in reversed(c.partial)]
            cpus[str(cpu.id)] = row
        nodes = {str(number): [numbers[one] for one in node.partial] for number, node in enumerate(cache.nodes)}
        if len(nodes) == 1:
            rows = [
                [number, slab.inuse, 1 if cast("Slab", slab).frozen else 0, held[slab]]
                for slab, number in numbers.items()
            ]
        else:
            rows = [
                [number, slab.inuse, 1 if cast("Slab", slab).frozen else 0, held[slab], slab.node]
                for slab, number in numbers.items()
            ]
        return {"cpu": cpus, "node": nodes, "slab": rows}

    def counters(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What the files of its directory in sysfs say."""
        return {}
