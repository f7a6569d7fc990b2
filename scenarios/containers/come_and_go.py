"""Containers that come and go for an hour, and the caches that they leave behind.

What "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (Glauber Costa, 2012-10-19) is there for, at the scale at
which it matters: one dead cache is a few pages, but a machine that starts containers all day has more every hour.

1. A container starts: a memcg is made.  Its tasks run on changing CPUs and allocate from some of the root caches, so
   that the memcg has as many child caches.  They free a part of it again, often on another CPU.
2. The container ends.  Its last task frees what is left but a few objects: dentries and inodes go on the list of a
   shrinker, open files and the like are held by somebody outside.
3. The directory is removed: the child caches are dead.  Some are empty by then, and only their slabs stay.
4. Whoever holds an object frees it from some CPU, mostly within a minute and a half, sometimes much later.  Every few
   minutes vmscan takes a quarter of what the shrinker has.
5. After the hour somebody writes 2 to ``drop_caches``.  No object of a dead cache is in use any more: a cache that is
   still there when the machine has settled has leaked, with its pages and its memcg.

What is done when, where and to which objects is drawn from the number of the workload alone, each container by itself:
it is the same under every lifecycle and allocator, and with every seed, which decides the order of steps.

Args:
    containers: how many come and go.
    roots: root caches on the machine; a container uses two of them or more.
    minutes: how long it goes on, virtual.
    objects: objects that a container allocates from each root cache that it uses.
    leftovers: objects of each kind that outlive their container, where any do, at most.
    workload: which workload; each number is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from slabactors.actors import parallel, sleep
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.vmscan import Shrinker, drop_slab, shrink_slab
from slabactors.scenario import Machine, scenario

KINDS = (
    ("dentry", 192, True),
    ("inode_cache", 560, True),
    ("filp", 256, False),
    ("signal_cache", 1088, False),
    ("vm_area_struct", 176, False),
    ("radix_tree_node", 560, True),
)
"""Name, bytes of an object, and whether a shrinker can free what nobody uses."""

BURSTS = 3
"""How often the tasks of a container run."""

SOON = 90
"""Seconds within which most of what outlives its container is freed."""

RECLAIM_EVERY = 4 * 60
"""Seconds from one visit of vmscan to the next, about."""


async def use(cpu: Cpu, root: KmemCache, memcg: MemCgroup, count: int, may_sleep: bool) -> list[SlabObject]:
    """A task of a container that allocates some objects; those it got."""
    held = []
    for _ in range(count):
        obj = await kmem_cache_alloc(cpu, root, memcg, may_sleep=may_sleep)
        if obj is not None:
            held.append(obj)
    return held


async def free_all(cpu: Cpu, objects: Sequence[SlabObject]) -> None:
    for obj in objects:
        await kmem_cache_free(cpu, obj)


async def free_later(cpu: Cpu, objects: Sequence[SlabObject], jiffies: int) -> None:
    await sleep(jiffies)
    await free_all(cpu, objects)


async def exit_last(cpu: Cpu, unused: Sequence[SlabObject], objects: Sequence[SlabObject], lru: Shrinker) -> None:
    """The last task of a container: what can be made again goes on the shrinker's list, the rest is freed."""
    for obj in unused:
        await lru.add(obj)
    await free_all(cpu, objects)


def split(day: Random, objects: list[SlabObject], count: int) -> tuple[list[SlabObject], list[SlabObject]]:
    """So many of the objects, any of them, and the others; both in the order of allocation."""
    picked = set(day.sample(range(len(objects)), min(count, len(objects))))
    return (
        [obj for index, obj in enumerate(objects) if index in picked],
        [obj for index, obj in enumerate(objects) if index not in picked],
    )


async def container(
    machine: Machine,
    day: Random,
    name: str,
    roots: Sequence[KmemCache],
    lru: Shrinker,
    span: int,
    objects: int,
    left: int,
) -> None:
    """One container from its start until the last of its objects is freed, or is on the shrinker's list."""

    def anywhere() -> Cpu:
        return day.choice(machine.cpus)

    began, lives = day.randrange(span * 8 // 10), day.randrange(span * 3 // 100, span * 15 // 100)
    used = sorted(day.sample(range(len(roots)), day.randint(min(2, len(roots)), len(roots))))
    await sleep(began)
    memcg = await mem_cgroup_create(anywhere(), name)
    held: dict[int, list[SlabObject]] = {number: [] for number in used}
    for burst in range(BURSTS):
        share = objects * (burst + 1) // BURSTS - objects * burst // BURSTS
        tasks = []
        for number in used:
            cpu = anywhere()
            tasks.append(cpu.task(use(cpu, roots[number], memcg, share, day.random() < 0.5), f"{name} alloc"))
        got = await parallel(*tasks)
        for number, new in zip(used, got, strict=True):
            held[number] += new
        await sleep(lives // (2 * BURSTS))
        freed = []
        for number in used:
            some, held[number] = split(day, held[number], day.randrange(share + 1))
            freed += some
        cpu = anywhere()
        await parallel(cpu.task(free_all(cpu, freed), f"{name} free"))
        await sleep(lives // (2 * BURSTS))
    unused: list[SlabObject] = []
    outliving: list[list[SlabObject]] = []
    for number in used:
        some, held[number] = split(day, held[number], day.randint(0, left) if day.random() < 0.6 else 0)
        if roots[number].spec.reclaimable:
            unused += some
        elif some:
            outliving.append(some)
    cpu = anywhere()
    rest = [obj for number in used for obj in held[number]]
    await parallel(cpu.task(exit_last(cpu, unused, rest, lru), f"{name} exit"))
    later = []
    for some in outliving:
        cpu = anywhere()
        remaining = max(1, span - machine.clock.now)
        soon = day.randint(1, SOON) * HZ
        much_later = day.randrange(remaining)
        delay = min(remaining, soon if day.random() < 0.8 else much_later)
        later.append(cpu.task(free_later(cpu, some, delay), f"free {name}'s"))
    cpu = anywhere()
    await parallel(cpu.task(mem_cgroup_rmdir(cpu, memcg), f"rmdir {name}"), *later)


async def reclaim_now_and_then(machine: Machine, day: Random, span: int) -> None:
    """vmscan looks at a few pages of the LRU lists, and in proportion at the objects of the shrinker."""
    while True:
        pause = day.randint(RECLAIM_EVERY // 2, RECLAIM_EVERY * 3 // 2) * HZ
        cpu = day.choice(machine.cpus)
        if machine.clock.now + pause >= span:
            return
        await sleep(pause)
        await parallel(cpu.task(shrink_slab(cpu, 32, 255), "vmscan"))


@scenario(
    title="containers come and go for an hour",
    time="quiescent",
    cpus=4,
    pages=1 << 16,
    steps_max=600_000,
)
async def come_and_go(
    machine: Machine,
    *,
    containers: int = 16,
    roots: int = 5,
    minutes: int = 60,
    objects: int = 24,
    leftovers: int = 3,
    workload: int = 0,
) -> None:
    cpu0 = machine.cpus[0]
    span = minutes * 60 * HZ
    caches = []
    for number in range(roots):
        kind, size, reclaimable = KINDS[number % len(KINDS)]
        again = f"-{number // len(KINDS)}" if number >= len(KINDS) else ""
        caches.append(await kmem_cache_create(cpu0, f"{kind}{again}", size, reclaimable=reclaimable))
    lru = machine.new_shrinker("dcache", batch=1)  # the kernel's 128 would never ask for so few
    await parallel(
        *(
            machine.cpus[number % len(machine.cpus)].task(
                container(machine, Random(f"{workload}/{number}"), f"c{number}", caches, lru, span, objects, leftovers),
                f"c{number}",
            )
            for number in range(containers)
        ),
        cpu0.task(reclaim_now_and_then(machine, Random(f"{workload}/reclaim"), span), "reclaim"),
    )
    await sleep(max(0, span - machine.clock.now))
    await drop_slab(cpu0)


if __name__ == "__main__":
    come_and_go.main()
