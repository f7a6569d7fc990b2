"""The notation of the worked examples: allocate, free by number, and look at who owns which slab."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from slabactors.machine import Machine
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_free,
    kmem_cache_shrink,
)
from slabactors.mm.slab_page import SlabObject, SlabPage
from slabactors.mm.slub import Slub
from tests.support import Played, play


class Script:
    """``await script.a(40, 0)`` allocates 40 objects on CPU 0, ``await script.f(0, 15, 1)`` frees a range on CPU 1."""

    def __init__(self, machine: Machine, cache: KmemCache) -> None:
        self.machine = machine
        self.cache = cache
        self.slub = cast("Slub", machine.allocator)
        self.objects: list[SlabObject] = []

    async def a(self, count: int, cpu: int, node: int | None = None) -> None:
        for _ in range(count):
            obj = await kmem_cache_alloc(self.machine.cpus[cpu], self.cache, node=node)
            assert obj is not None
            self.objects.append(obj)

    async def f(self, first: int, last: int, cpu: int) -> None:
        for obj in self.objects[first : last + 1]:
            await kmem_cache_free(self.machine.cpus[cpu], obj)

    async def first_of_each(self, slabs: int, cpu: int, objects: int = 16) -> None:
        """Frees the first object of so many slabs."""
        for slab in range(slabs):
            await self.f(slab * objects, slab * objects, cpu)

    async def shrink(self) -> int:
        return await kmem_cache_shrink(self.machine.cpus[0], self.cache)

    async def store(self, name: str, value: str | int) -> None:
        await self.slub.store(self.machine.cpus[0], self.cache, name, value)

    def read(self, name: str) -> str:
        """The text of a file of the cache's directory."""
        return self.slub.attribute(self.machine, self.cache, name)

    def counters(self, *names: str) -> list[int]:
        """The sums in such files."""
        return [int(self.read(name).split()[0]) for name in names]

    @property
    def slabs(self) -> int:
        return self.counters("slabs")[0]

    @property
    def listed(self) -> list[tuple[int, int]]:
        """``(slab number, objects in use)`` of the first node's list, head first."""
        return self.listed_on(0)

    def listed_on(self, node: int) -> list[tuple[int, int]]:
        return [(self.number(slab), slab.inuse) for slab in self.cache.nodes[node].partial]

    def number(self, slab: SlabPage) -> int:
        return slab.number

    def partial(self, cpu: int) -> list[tuple[int, int]]:
        """The CPU's partial list, head first."""
        entries = reversed(self.cache.cpu_slabs[cpu].partial)
        return [(self.number(entry.slab), entry.slab.inuse) for entry in entries]

    def current(self, cpu: int) -> tuple[int, int] | None:
        """The CPU's slab and how many objects its private freelist has."""
        c = self.cache.cpu_slabs[cpu]
        return None if c.page is None else (self.number(c.page), len(c.freelist))


def script(
    body: Callable[[Script], Coroutine[Any, Any, None]],
    *,
    size: int = 256,
    allocator: str = "slub-3.8",
    cpus: int = 4,
    nodes: int = 1,
    seed: int | None = None,
    **spec: Any,
) -> Played:
    """Run ``body(script)`` on a fresh cache."""

    async def story(machine: Machine) -> None:
        cache = await kmem_cache_create(machine.cpus[0], "spec0", size, **spec)
        await body(Script(machine, cache))

    played = play(story, cpus=cpus, nodes=nodes, allocator=allocator, seed=seed)
    assert played.outcome.bug is None, played.outcome.bug
    return played
