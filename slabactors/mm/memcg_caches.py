"""Where a root cache keeps its children: the array ``memcg_caches[]``, which may move (mm/memcontrol.c, v3.8 to v3.15).

A group that gets its first limit may need a number beyond the end of the arrays; then every root gets a larger one.  So
finding a child takes two steps, the pointer and the slot, and the array can be gone in between.

On a machine whose arrays are large enough from the start (`MachineConfig.memcg_caches_min` is 0) the slots are cells of
the root itself, and finding a child is one step.  That leaves no order out: nobody writes the pointer, so that loading
it commutes with every step but the one that frees the root, and the array is freed with its root.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from slabactors.actors import Actor, Narrow, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.rcu import call_rcu

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache

__all__ = [
    "MemcgCaches",
    "Relocation",
    "WildPointer",
    "all_children",
    "alloc_root_params",
    "cache_from_memcg",
    "children_of",
    "clear_slot",
    "free_root_params",
    "memcg_caches_array_size",
    "memcg_update_all_caches",
    "next_child",
    "set_slot",
]

MEMCG_CACHES_MAX_SIZE: Final = 65535
"""Slots of an array, at most."""

WORK_SLOTS: Final = {5: "data", 6: "entry.next", 7: "entry.prev", 8: "func"}
"""Which slots of a root's array share their memory with which fields of the destroy work of a child, of 64-bit kernels:
``struct memcg_cache_params`` is a union of both."""


class Relocation(Enum):
    """How the array of a root becomes larger."""

    NEVER = "it is large enough, or no array"
    EMPTY_FIRST = "the new one is put in place, then filled, and the old one freed at once"
    FILLED_FIRST = "the new one is filled, then put in place, and the old one freed after a grace period"


class WildPointer:
    """Something in a slot that is no cache: whoever follows it faults.

    Args:
        what: whose bytes these are.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise KernelBug(
            Kind.BUG_ON,
            f"general protection fault: {self.what} is taken for a struct kmem_cache",
            clause="wild pointer in memcg_caches[]",
        )

    def __repr__(self) -> str:
        return f"<{self.what}>"


class MemcgCaches(Actor):
    """``struct memcg_cache_params`` of a root cache: the array of its children (include/linux/slab.h, v3.8).

    Args:
        root: whose children.
        size: how many slots.
    """

    role = "memcg_caches"

    def __init__(self, root: KmemCache, size: int) -> None:
        super().__init__(f"{root.name}.memcg_caches[{size}]")
        self.size = size
        self.slots: dict[int, Any] = {}
        """Children, and what is no child, by their slots; an empty slot is left out."""

    def _check(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise KernelBug(
                Kind.BUG_ON,
                f"slab-out-of-bounds: slot {index} of {self.name}",
                clause="memcg_caches[] out of bounds",
            )

    def _absent(self, index: int) -> bool:
        return index not in self.slots

    @operation(reads="slots")
    def read_slot(self, index: int) -> KmemCache | None:
        """``params->memcg_caches[id]``.

        Raises:
            KernelBug: ``bug-on`` when the array ends before.
        """
        self._check(index)
        return self.slots.get(index)

    @operation(writes="slots")
    def publish(self, index: int, child: KmemCache) -> None:
        """``params->memcg_caches[id] = child``.

        Raises:
            KernelBug: ``bug-on`` when the array ends before.
        """
        self._check(index)
        self.slots[index] = child

    @operation(writes="slots", narrow=[Narrow(_absent, reads="slots")])
    def clear_slot(self, index: int) -> None:
        """``params->memcg_caches[id] = NULL``."""
        self.slots.pop(index, None)

    @operation(reads="slots")
    def children(self) -> list[KmemCache]:
        """``for_each_memcg_cache_index(i)``: what is in the slots now."""
        return [self.slots[index] for index in sorted(self.slots)]

    @operation(reads="slots")
    def next_child(self, index: int) -> tuple[int, KmemCache] | None:
        """``for (i++; i < memcg_limited_groups_array_size; i++)``: the next slot that is filled, and with what."""
        following = min((number for number in self.slots if index < number < self.size), default=None)
        return None if following is None else (following, self.slots[following])

    @operation(writes="slots")
    def init_work(self) -> None:
        """``INIT_WORK(&params->destroy)`` in a block that has an array there instead of a work."""
        for slot, field in WORK_SLOTS.items():
            self.slots[slot] = WildPointer(f"params->destroy.{field} of {self.name}")

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(params)``."""


# -- finding and changing ----------------------------------------------------------------------------------------------


async def cache_from_memcg(cpu: Cpu, root: KmemCache, index: int) -> KmemCache | None:
    """The child in a slot of a root, if there is one.  Any context.

    Models cache_from_memcg() (mm/slab.h, v3.8) and cache_from_memcg_idx() (mm/slab.h, v3.14).

    Raises:
        KernelBug: ``bug-on`` when the root has no array, in a release that does not look.
    """
    if not root.array_moves:
        return await root.read_slot(index)
    rcu, lifecycle = cpu.machine.rcu, cpu.machine.lifecycle
    if lifecycle.relocation is Relocation.EMPTY_FIRST:
        array = await root.load_array()
        # Window: the array may be replaced, and freed, before its slot is read.
        return None if _none(cpu, root, array) else await _there(array).read_slot(index)
    section = await rcu.read_lock()
    array = await root.load_array()
    child = None if _none(cpu, root, array) else await _there(array).read_slot(index)
    await rcu.read_unlock(section)
    return child


async def set_slot(cpu: Cpu, root: KmemCache, index: int, child: KmemCache) -> None:
    """Put a child into its slot: ``root->memcg_params->memcg_caches[id] = child``."""
    if not root.array_moves:
        await root.publish(index, child)
        return
    array = await root.load_array()
    # Window: up to 3.13 no mutex keeps the array in its place.
    await _there(array, root).publish(index, child)


async def clear_slot(cpu: Cpu, root: KmemCache, index: int) -> None:
    """Empty the slot of a child: ``root->memcg_params->memcg_caches[id] = NULL``."""
    if not root.array_moves:
        await root.clear_slot(index)
        return
    array = await root.load_array()
    # Window: as in set_slot().
    await _there(array, root).clear_slot(index)


async def next_child(cpu: Cpu, root: KmemCache, index: int) -> tuple[int, KmemCache] | None:
    """The next slot of a root that is filled, and its child.  For who destroys a root, under ``set_limit_mutex``."""
    if not root.array_moves:
        return await root.next_child(index)
    array = await root.load_array()
    return None if array is None else await array.next_child(index)


async def all_children(cpu: Cpu, root: KmemCache) -> list[KmemCache]:
    """What is in the slots of a root.  For who destroys it, under ``set_limit_mutex``."""
    if not root.array_moves:
        return await root.children()
    array = await root.load_array()
    return [] if array is None else await array.children()


async def children_of(cpu: Cpu, root: KmemCache) -> list[KmemCache]:
    """Every child of a root.  Under ``slab_mutex``.

    Models for_each_memcg_cache_index() with cache_from_memcg() (mm/slab.h, v3.8).

    Raises:
        KernelBug: ``bug-on`` when the root has no array, in a release that does not look.
    """
    if not root.array_moves:
        return await root.children()
    if not await cpu.machine.cgroups.array_size():
        return []
    array = await root.load_array()
    return [] if _none(cpu, root, array) else await _there(array).children()


def _none(cpu: Cpu, root: KmemCache, array: MemcgCaches | None) -> bool:
    """Whether there is no array, where the release asks that."""
    if array is None and not cpu.machine.lifecycle.checks_root_params:
        _null(root)
    return array is None


def _there(array: MemcgCaches | None, root: KmemCache | None = None) -> MemcgCaches:
    if array is None:
        assert root is not None
        _null(root)
    return array


def _null(root: KmemCache) -> NoReturn:
    raise KernelBug(
        Kind.BUG_ON,
        f"{root.name} has no memcg_params: NULL pointer dereference",
        clause="NULL dereference of memcg_params",
    )


# -- arrays that come and grow -----------------------------------------------------------------------------------------


def memcg_caches_array_size(groups: int, least: int) -> int:
    """How many slots an array gets.  Models memcg_caches_array_size() (mm/memcontrol.c, v3.8).

    Args:
        groups: it needs as many.
        least: ``MEMCG_CACHES_MIN_SIZE``.
    """
    return min(max(2 * groups, least), MEMCG_CACHES_MAX_SIZE)


async def alloc_root_params(cpu: Cpu, root: KmemCache) -> None:
    """Give a new root its array, if kernel memory of any group is accounted now.  Under ``slab_mutex``.

    Models memcg_register_cache() of a root (mm/memcontrol.c, v3.8), memcg_alloc_cache_params() (v3.14).
    """
    machine = cpu.machine
    if not root.array_moves or not await machine.cgroups.kmem_enabled():
        return
    size = await machine.cgroups.array_size()
    array = MemcgCaches(root, size)
    if machine.lifecycle.inits_work_of_new_roots:
        await array.init_work()
    await root.assign_array(array)


async def free_root_params(root: KmemCache) -> None:
    """Free the array of a root that was shut down.  Models memcg_release_cache() of a root (mm/memcontrol.c, v3.8)."""
    if root.array_moves:
        array = await root.load_array()
        if array is not None:
            await array.free()


async def memcg_update_all_caches(cpu: Cpu, groups: int) -> None:
    """Give every root room for so many groups.  Under ``set_limit_mutex``.  Sleeps.

    Models memcg_update_all_caches() (mm/slab_common.c, v3.8).
    """
    machine = cpu.machine
    await machine.slab_mutex.lock()
    size = await machine.cgroups.array_size()
    if groups > size:
        size = memcg_caches_array_size(groups, machine.config.memcg_caches_min)
        for root in [cache for cache in machine.slab_caches if cache.root is None]:
            await _memcg_update_cache_size(cpu, root, size)
        await machine.cgroups.update_array_size(size)
    await machine.slab_mutex.unlock()


async def _memcg_update_cache_size(cpu: Cpu, root: KmemCache, size: int) -> None:
    """Give a root a larger array.  Models memcg_update_cache_size() (mm/memcontrol.c, v3.8, v3.9 or v3.14)."""
    lifecycle = cpu.machine.lifecycle
    old = await root.load_array()
    new = MemcgCaches(root, size)
    if lifecycle.relocation is Relocation.EMPTY_FIRST:
        await root.assign_array(new)
        # Window: everybody finds the new array, and nothing in it.
        if lifecycle.inits_work_of_grown_roots:
            await new.init_work()
        await _copy(old, new)
        if old is not None:
            await old.free()
    else:
        await _copy(old, new)
        await root.assign_array(new)
        if old is not None:
            await call_rcu(cpu, partial(_free_array, old))


async def _free_array(array: MemcgCaches) -> None:
    await array.free()


async def _copy(old: MemcgCaches | None, new: MemcgCaches) -> None:
    """Slot by slot, what is filled."""
    index = -1
    while old is not None and (slot := await old.next_child(index)) is not None:
        index, child = slot
        # Window: up to 3.13 the slot may be emptied here, in the old array or in the new one.
        await new.publish(index, child)
