"""As 5.4, with a root that also waits for the reference counts of its children to have been killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.rcu import rcu_barrier
from slabactors.lifecycle.v5_4 import V54

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V55(V54):
    """Destroying a root waits for callbacks once more when children are left, whose counts may have just been killed.

    Models "mm: memcg/slab: wait for !root kmem_cache refcnt killing on root kmem_cache destruction" (a264df74df38,
    mm/slab_common.c, v5.5).
    """

    name = "v5.5"
    release = "5.5, 2020-01-26"

    async def wait_for_children(self, cpu: Cpu, root: KmemCache) -> None:
        """The second barrier is for ``percpu_ref_kill()``, which the works that were waited for have called."""
        await super().wait_for_children(cpu, root)
        if await root.linked_children():
            await rcu_barrier(cpu)
