"""A recorded workload as a scenario: every CPU of the machine does what that CPU did in the recording.

Each CPU is a path that sleeps until the next action's time and does it; what two CPUs did within the same jiffy may
interleave.  An object is freed only once it was allocated, a group removed only once its tasks' allocations are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from slabactors.actors import Actor, operation, parallel, sleep
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.jiffies import HZ
from slabactors.machine import Machine, MachineConfig
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.slab_page import SlabObject
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import Scenario
from slabactors.trace.workload import Action, Alloc, Free, Mkdir, Rmdir, Workload

PAGES = 1 << 20
SAMPLES_MAX = 64


class Desk(Actor):
    """Where the recorded objects and groups are handed from the CPU that made them to the one that wants them."""

    role = "desk"

    def __init__(self) -> None:
        super().__init__("desk")
        self.objects: dict[int, SlabObject | None] = {}
        self.groups: dict[str, MemCgroup] = {}
        self.made_in: dict[str, int] = {}

    @operation(writes="objects")
    def put(self, number: int, obj: SlabObject | None, group: str | None) -> None:
        """``object allocated``."""
        self.objects[number] = obj
        if group is not None:
            self.made_in[group] = self.made_in.get(group, 0) + 1

    def _there(self, number: int) -> bool:
        return number in self.objects

    @operation(guard=_there, writes="objects")
    def take(self, number: int) -> SlabObject | None:
        """``object about to be freed``."""
        return self.objects.pop(number)

    @operation(writes="groups")
    def add_group(self, path: str, memcg: MemCgroup) -> None:
        """``group made``."""
        self.groups[path] = memcg

    def _made(self, path: str) -> bool:
        return path in self.groups

    @operation(guard=_made, reads="groups")
    def group(self, path: str) -> MemCgroup:
        """``group looked up``."""
        return self.groups[path]

    def _unused(self, path: str, allocations: int) -> bool:
        return path in self.groups and self.made_in.get(path, 0) >= allocations

    @operation(guard=_unused, reads="groups objects")
    def group_without_tasks(self, path: str, allocations: int) -> MemCgroup:
        """``group whose tasks have gone``: all they allocate has been allocated."""
        return self.groups[path]


@dataclass(slots=True)
class Played:
    """What playing a workload did.

    Attributes:
        allocated: objects allocated.
        failed: allocations that found no memory.
        freed: objects freed.
        samples: ``(jiffies, objects held, pages of slabs, pages of dead caches)`` over time.
    """

    allocated: int = 0
    failed: int = 0
    freed: int = 0
    samples: list[tuple[int, int, int, int]] = field(default_factory=list)


def recorded_scenario(workload: Workload, played: Played, *, name: str, limit: int | None = None) -> Scenario:
    """The scenario that plays a workload.

    Args:
        workload: what was recorded.
        played: filled in while it is played; of the last run.
        name: how reports call it.
        limit: play only so many allocations and frees.
    """
    actions = list(workload.actions)
    if limit is not None:
        actions = _first(actions, limit)
    begin = actions[0].microseconds if actions else 0
    needed: dict[str, int] = {}
    for action in actions:
        if isinstance(action, Alloc) and action.cgroup is not None:
            needed[action.cgroup] = needed.get(action.cgroup, 0) + 1
    early = [path for path in workload.cgroups if not any(isinstance(a, Mkdir) and a.path == path for a in actions)]
    every = max(1, len(actions) // (SAMPLES_MAX - 2))

    async def story(machine: Machine) -> None:
        desk = Desk()
        played.allocated = played.failed = played.freed = 0
        played.samples.clear()
        caches: list[KmemCache] = []
        for seen in workload.caches:
            cache = await kmem_cache_create(machine.cpus[0], seen.name, seen.object_size)
            caches.append(cache)
        for path in early:
            memcg = await mem_cgroup_create(machine.cpus[0], path.strip("/"))
            await desk.add_group(path, memcg)

        async def play(cpu: Cpu, mine: list[Action]) -> None:
            now = 0
            for action in mine:
                jiffy = (action.microseconds - begin) * HZ // 1_000_000
                if jiffy > now:
                    await sleep(jiffy - now)
                    now = jiffy
                await act(cpu, action)
                done = played.allocated + played.freed
                if done and done % every == 0:
                    played.samples.append(sample(machine, played))

        async def act(cpu: Cpu, action: Action) -> None:
            match action:
                case Alloc(cache=index, cgroup=path, obj=number):
                    group = await desk.group(path) if path is not None else None
                    obj = await kmem_cache_alloc(cpu, caches[index], group)
                    await desk.put(number, obj, path)
                    if obj is None:
                        played.failed += 1
                    else:
                        played.allocated += 1
                case Free(obj=number):
                    obj = await desk.take(number)
                    if obj is not None:
                        await kmem_cache_free(cpu, obj)
                        played.freed += 1
                case Mkdir(path=path):
                    memcg = await mem_cgroup_create(cpu, path.strip("/"))
                    await desk.add_group(path, memcg)
                case Rmdir(path=path):
                    memcg = await desk.group_without_tasks(path, needed.get(path, 0))
                    await mem_cgroup_rmdir(cpu, memcg)
                case _:
                    # Attach and Release: which task is where was worked out when the trace was read, and when a group
                    # is released is for this machine to find out.
                    pass

        by_cpu = [[action for action in actions if action.cpu == cpu.id] for cpu in machine.cpus]
        await parallel(
            *[cpu.task(play(cpu, mine), f"workload {cpu.id}") for cpu, mine in zip(machine.cpus, by_cpu, strict=True)]
        )
        played.samples.append(sample(machine, played))

    return Scenario(
        name=name,
        title=f"recorded workload {name}",
        function=story,
        config=MachineConfig(cpus=workload.cpus, pages=PAGES),
        lifecycle="v5",
        time=TimePolicy.QUIESCENT,
        early_firings_max=0,
        steps_max=10_000_000,
    )


def _first(actions: list[Action], limit: int) -> list[Action]:
    """The actions up to the limit, in time order; group events do not count."""
    kept: list[Action] = []
    count = 0
    for action in actions:
        if isinstance(action, Alloc | Free):
            count += 1
            if count > limit:
                continue
        kept.append(action)
    return kept


def sample(machine: Machine, played: Played) -> tuple[int, int, int, int]:
    """Where a machine stands: jiffies, objects held, pages of slabs, pages of dead caches."""
    dead = sum(c.params.pages for c in machine.children() if c.params is not None and c.params.orphaned)
    pages = machine.page_alloc.pages - machine.page_alloc.free
    return machine.clock.now, played.allocated - played.freed, pages, dead
