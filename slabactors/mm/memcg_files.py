"""The files of a memcg that tell of kernel memory (mm/memcontrol.c, v3.8), and cgroup.stat of later hierarchies.

Plain functions, for who looks at a machine from outside; as in `slabactors.mm.slabinfo`, no story may depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.mm.slabinfo import kmem_slabinfo
from slabactors.mm.surfaces import surface_policy

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup

__all__ = ["cgroup_stat", "memcg_files"]


def memcg_files(machine: Machine, memcg: MemCgroup) -> dict[str, str]:
    """Name and text of each memory.kmem file of a group: bytes, but for failcnt and slabinfo.

    Models mem_cgroup_read() (mm/memcontrol.c, v3.8).  Deviation: usage is that of slabs alone, nothing else is charged.

    Raises:
        SurfaceError: nothing is known of the release's texts.
    """
    unlimited = surface_policy(machine).unlimited
    return {
        "memory.kmem.failcnt": f"{memcg.failcnt}\n",
        "memory.kmem.limit_in_bytes": f"{unlimited if memcg.limit is None else memcg.limit}\n",
        "memory.kmem.max_usage_in_bytes": f"{memcg.max_usage}\n",
        "memory.kmem.slabinfo": kmem_slabinfo(machine, memcg),
        "memory.kmem.usage_in_bytes": f"{memcg.usage}\n",
    }


def existing_memcgs(machine: Machine) -> list[MemCgroup]:
    """The groups that have a directory, oldest first."""
    return [memcg for memcg in machine.memcgs if memcg.online]


def dying_memcgs(machine: Machine) -> list[MemCgroup]:
    """The groups that were removed and are still held by a child cache, by pages or by a queued work, oldest first."""
    return [memcg for memcg in machine.memcgs if not memcg.online and memcg.tombstone is None]


def cgroup_stat(machine: Machine) -> str:
    """The text of the root group's cgroup.stat.

    Models cgroup_stat_show() (kernel/cgroup/cgroup.c, v6.1).  Deviation: no group is inside another one.
    """
    return f"nr_descendants {len(existing_memcgs(machine))}\nnr_dying_descendants {len(dying_memcgs(machine))}\n"
