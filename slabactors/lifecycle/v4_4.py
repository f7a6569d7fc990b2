"""As 4.0, with slots that do not outlive their children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v4_0 import V40

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V44(V40):
    """Destroying a root clears the slot of every child that is shut down, should the root have to stay.

    Models "mm/slab_common.c: clear pointers to per memcg caches on destroy" (mm/slab_common.c, v4.4).
    """

    name = "v4.4"
    release = "4.4, 2016-01-10"

    async def unlink(self, cpu: Cpu, child: KmemCache, root: KmemCache) -> None:
        """Also out of its slot, unless that is empty or another group's by now."""
        await super().unlink(cpu, child, root)
        assert child.params is not None
        number = child.params.memcg.id
        if await root.read_slot(number) is child:
            await root.clear_slot(number)
