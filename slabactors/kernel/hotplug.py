"""CPUs and memory that come and go, and the locks against it (kernel/cpu.c, v3.8; mm/memory_hotplug.c, v3.16).

On a machine without hotplug (`MachineConfig.hotplug`) nobody plugs anything, and the locks are nothing, as in a kernel
that was configured so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, operation
from slabactors.kernel.locking import down_read, down_write

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu

__all__ = [
    "NodeStates",
    "cpu_down",
    "cpu_hotplug_begin",
    "cpu_hotplug_done",
    "cpu_up",
    "get_online_cpus",
    "get_online_mems",
    "hold_hotplug",
    "mem_hotplug_begin",
    "mem_hotplug_done",
    "online_pages",
    "put_online_cpus",
    "put_online_mems",
    "release_hotplug",
]


class NodeStates(Actor):
    """``node_states[N_NORMAL_MEMORY]``: which nodes have memory.

    Args:
        nodes: how many have at boot, from 0.
    """

    role = "node_states"

    def __init__(self, nodes: int) -> None:
        super().__init__("node_states")
        self.normal_memory = list(range(nodes))

    @operation(reads="normal_memory")
    def for_each(self) -> list[int]:
        """``for_each_node_state(node, N_NORMAL_MEMORY)``: the nodes that have memory."""
        return list(self.normal_memory)

    @operation(writes="normal_memory")
    def set_normal_memory(self, node: int) -> None:
        """``node_states_set_node(node)``: from here on the page allocator gives pages of the node."""
        self.normal_memory = sorted({*self.normal_memory, node})


async def get_online_cpus(cpu: Cpu) -> None:
    """No CPU comes or goes until `put_online_cpus`.  May be nested up to 4.12.  Sleeps.

    Models get_online_cpus() (kernel/cpu.c, v3.8).
    Deviation: the task that plugs a CPU, for which this does nothing up to 4.12, must not call it.
    """
    if cpu.machine.config.hotplug:
        await down_read(cpu.machine.cpu_hotplug)


async def put_online_cpus(cpu: Cpu) -> None:
    """Models put_online_cpus() (kernel/cpu.c, v3.8)."""
    if cpu.machine.config.hotplug:
        await cpu.machine.cpu_hotplug.up_read()


async def cpu_hotplug_begin(cpu: Cpu) -> None:
    """Wait until nobody counts on CPUs to stay, and keep everybody from it.  Sleeps.

    Models cpu_hotplug_begin() (kernel/cpu.c, v3.8).
    """
    await down_write(cpu.machine.cpu_hotplug)


async def cpu_hotplug_done(cpu: Cpu) -> None:
    """Models cpu_hotplug_done() (kernel/cpu.c, v3.8)."""
    await cpu.machine.cpu_hotplug.up_write()


async def cpu_down(cpu: Cpu, victim: Cpu) -> None:
    """Take a CPU offline: its queued work items go to this one, and its slabs back to their nodes.  Sleeps.

    Models _cpu_down() (kernel/cpu.c, v3.8) with the callbacks of the workqueues and of the slab allocator.
    Deviation: that no task runs on it from here on is for the scenario to keep.  Items and RCU callbacks that it has
    begun or is about to begin, and timers set on it, go on as if it were there; a kernel moves them to another CPU.

    Args:
        cpu: where the task runs.
        victim: another CPU.

    Raises:
        ValueError: the machine has no hotplug, or the CPU is this one.
    """
    machine = cpu.machine
    if not machine.config.hotplug or victim is cpu:
        raise ValueError(f"{victim.name} cannot go offline: not without hotplug, and not by a task that runs on it")
    await cpu_hotplug_begin(cpu)
    for workqueue in list(machine.workqueues):
        await workqueue.unbind(victim.id, cpu.id)
    await victim.set_online(False)
    # Window: offline, and the slabs that it had are still its own.
    await machine.allocator.cpu_dead(cpu, victim)
    await cpu_hotplug_done(cpu)


async def cpu_up(cpu: Cpu, newcomer: Cpu) -> None:
    """Bring a CPU back.  Sleeps.

    Models _cpu_up() (kernel/cpu.c, v3.8).
    Deviation: its structures in every cache have stayed; SLAB makes them anew.
    """
    await cpu_hotplug_begin(cpu)
    await newcomer.set_online(True)
    for workqueue in list(cpu.machine.workqueues):
        await workqueue.rebind(newcomer.id)
    await cpu_hotplug_done(cpu)


async def get_online_mems(cpu: Cpu) -> None:
    """No memory comes or goes until `put_online_mems`.  Sleeps.

    Models get_online_mems() (mm/memory_hotplug.c, v3.16).
    """
    if cpu.machine.config.hotplug:
        await down_read(cpu.machine.mem_hotplug)


async def put_online_mems(cpu: Cpu) -> None:
    """Models put_online_mems() (mm/memory_hotplug.c, v3.16)."""
    if cpu.machine.config.hotplug:
        await cpu.machine.mem_hotplug.up_read()


async def hold_hotplug(cpu: Cpu) -> None:
    """Keep CPUs, and from 3.16 on memory, from coming and going while a cache is made or unmade.  Sleeps."""
    await get_online_cpus(cpu)
    if cpu.machine.lifecycle.locks_memory_hotplug:
        await get_online_mems(cpu)


async def release_hotplug(cpu: Cpu) -> None:
    """The end of what `hold_hotplug` began."""
    if cpu.machine.lifecycle.locks_memory_hotplug:
        await put_online_mems(cpu)
    await put_online_cpus(cpu)


async def mem_hotplug_begin(cpu: Cpu) -> None:
    """Wait until nobody counts on memory to stay as it is.  Sleeps.

    Models mem_hotplug_begin() (mm/memory_hotplug.c, v3.16).
    """
    await down_write(cpu.machine.mem_hotplug)


async def mem_hotplug_done(cpu: Cpu) -> None:
    """Models mem_hotplug_done() (mm/memory_hotplug.c, v3.16)."""
    await cpu.machine.mem_hotplug.up_write()


async def online_pages(cpu: Cpu, node: int) -> None:
    """The first memory of a node comes online: every cache gets a node structure, then the node has memory.  Sleeps.

    Models online_pages() (mm/memory_hotplug.c, v3.16) with slab_mem_going_online_callback() (mm/slub.c, v3.16).

    Args:
        cpu: where the task runs.
        node: one of those that had no memory at boot (`MachineConfig.memoryless_nodes`).

    Raises:
        ValueError: the machine has no hotplug.
    """
    machine = cpu.machine
    if not machine.config.hotplug:
        raise ValueError("no memory can come online without hotplug; make the machine with hotplug=True")
    await mem_hotplug_begin(cpu)
    await machine.allocator.mem_going_online(cpu, node)
    # Window: caches created here are in time for neither, unless creating one waits for us.
    await machine.node_states.set_normal_memory(node)
    await mem_hotplug_done(cpu)
