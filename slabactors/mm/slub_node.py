"""SLUB's state of one memory node: the partial list under its list_lock, and counters that need no lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, CountsDown, Narrow, operation
from slabactors.errors import KernelBug, Kind

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slub_policy import SlubPolicy
    from slabactors.mm.slub_sizes import SlubGeometry
    from slabactors.mm.slub_slab import Slab

SHRINK_PROMOTE_MAX = 32
"""A shrink of 6.1 brings slabs with up to so many free objects to the front."""


class CacheStructures(Actor):
    """``s->cpu_slab`` and ``s->node[]``: memory that goes before the cache does.

    Args:
        cache: whose structures.
    """

    role = "cache_structures"

    def __init__(self, cache: KmemCache) -> None:
        super().__init__(f"{cache.name}.structures")

    @operation(frees=True)
    def free(self) -> None:
        """``free_percpu(s->cpu_slab)``, ``free_kmem_cache_nodes(s)``."""


class KmemCacheNode(Actor):
    """``struct kmem_cache_node``: the node's partial list under its list_lock, and counters that need no lock."""

    role = "kmem_cache_node"
    atomic = "list_lock held"
    lock_class = "kmem_cache_node.list_lock"

    def __init__(self, node: int, cache: KmemCache, shape: SlubGeometry, policy: SlubPolicy) -> None:
        super().__init__(f"node{node}/{cache.name}", cache.structures or cache)
        self.policy = policy
        self.min_partial = shape.min_partial
        self.keeps_none = False
        """No empty slab stays, however few are listed."""
        self.partial: list[Slab] = []
        self.nr_slabs = 0
        self.total_objects = 0
        self.locked = False
        self.present = True
        """It was allocated; not when its node had no memory and the cache was made before that came online."""

    def _unlocked(self) -> bool:
        return not self.locked

    def _list_del(self, slab: Slab) -> None:
        if slab not in self.partial:
            raise KernelBug(
                Kind.BUG_ON,
                f"list_del corruption: {slab.name} is not on the partial list of {self.name} any more",
                clause="list_del corruption of a partial list",
            )
        self.partial.remove(slab)

    def _too_many(self) -> bool:
        return self.keeps_none or self.policy.too_many(len(self.partial), self.min_partial)

    # -- the lock --------------------------------------------------------------------------------------------------

    @operation(writes="partial locked nr_slabs present")
    def init(self) -> None:
        """``s->node[nid] = n``: allocated by who brings the node's memory online."""
        self.present = True

    @operation(guard=_unlocked, acquires=True, reads="partial present", writes="locked")
    def lock(self) -> list[Slab]:
        """``spin_lock(&n->list_lock)``: the partial list as it is, head first.

        Raises:
            KernelBug: ``bug-on`` when the node's structure was never allocated.
        """
        if not self.present:
            raise KernelBug(
                Kind.BUG_ON,
                f"{self.name} was never allocated: NULL pointer dereference",
                clause="cache without a node structure",
            )
        self.locked = True
        return list(self.partial)

    @operation(releases=True, writes="locked")
    def unlock(self) -> None:
        """``spin_unlock(&n->list_lock)``."""
        self.locked = False

    # -- read without it ---------------------------------------------------------------------------------------------

    @operation(reads="partial")
    def nr_partial(self) -> int:
        """``n->nr_partial``: read without the lock."""
        return len(self.partial)

    @operation(reads="partial min_partial")
    def has_surplus(self) -> bool:
        """``n->nr_partial > s->min_partial``: read without the lock, by an allocation of another node."""
        return len(self.partial) > self.min_partial

    @operation(reads="partial min_partial")
    def too_many(self) -> bool:
        """``n->nr_partial > s->min_partial``, ``>=`` in 6.1: whether one more empty slab is to go; without the lock."""
        return self._too_many()

    # -- counters ----------------------------------------------------------------------------------------------------

    @operation(writes="nr_slabs")
    def inc_slabs(self, objects: int) -> None:
        """``inc_slabs_node()``."""
        self.nr_slabs += 1
        self.total_objects += objects

    def _nr_slabs(self) -> int:
        return self.nr_slabs

    def _one(self, objects: int) -> int:
        return 1

    @operation(writes="nr_slabs", narrow=[CountsDown("nr_slabs", _nr_slabs, _one)])
    def dec_slabs(self, objects: int) -> None:
        """``dec_slabs_node()``."""
        self.nr_slabs -= 1
        self.total_objects -= objects

    # -- under the lock, which each gives back -----------------------------------------------------------------------

    @operation(releases=True, writes="partial locked")
    def remove_and_unlock(self, slabs: list[Slab]) -> None:
        """``remove_partial(n, page); spin_unlock()``."""
        for slab in slabs:
            self._list_del(slab)
        self.locked = False

    def _stays(self, slab: Slab) -> bool:
        return not (self._too_many() and slab in self.partial)

    @operation(
        releases=True,
        reads="min_partial",
        writes="partial locked",
        narrow=[Narrow(_stays, reads="partial min_partial", writes="locked")],
    )
    def remove_if_too_many_and_unlock(self, slab: Slab) -> bool:
        """``if (n->nr_partial > s->min_partial) remove_partial()``: whether an emptied slab is to go; ``>=`` in 6.1."""
        discard = not self._stays(slab)
        if discard:
            self.partial.remove(slab)
        self.locked = False
        return discard

    @operation(releases=True, writes="partial locked")
    def add_and_unlock(self, slab: Slab, tail: bool) -> None:
        """``add_partial(n, page, tail); spin_unlock()``."""
        if tail:
            self.partial.append(slab)
        else:
            self.partial.insert(0, slab)
        self.locked = False

    @operation(releases=True, reads="min_partial", writes="partial locked")
    def add_unfrozen_and_unlock(self, slabs: list[tuple[Slab, int]]) -> list[Slab]:
        """``unfreeze_partials()`` under the lock: lists slabs at the tail; empty ones above the limit come back.

        Args:
            slabs: slabs with their objects in use, in the order in which they were unfrozen.

        Returns:
            What has to be discarded, in that order reversed.
        """
        discard = []
        for slab, inuse in slabs:
            if inuse == 0 and self._too_many():
                discard.append(slab)
            else:
                self.partial.append(slab)
        self.locked = False
        return discard[::-1]

    @staticmethod
    def _sorted(seen: list[tuple[Slab, int]]) -> list[Slab]:
        kept = [pair for pair in reversed(seen) if pair[1]]
        kept.sort(key=lambda pair: -pair[1])
        return [slab for slab, _ in kept]

    def _is_sorted(self, seen: list[tuple[Slab, int]]) -> bool:
        return self._sorted(seen) == self.partial

    @operation(releases=True, writes="partial locked", narrow=[Narrow(_is_sorted, reads="partial", writes="locked")])
    def sort_and_unlock(self, seen: list[tuple[Slab, int]]) -> list[Slab]:
        """``list_splice()`` of the buckets: fullest first, equals in reversed order; the empty ones come back.

        Args:
            seen: the listed slabs, head first, with the objects in use that the walk saw.
        """
        self.partial = self._sorted(seen)
        self.locked = False
        return [slab for slab, inuse in reversed(seen) if inuse == 0]

    @operation(releases=True, writes="partial nr_slabs locked")
    def promote_and_unlock(self, seen: list[tuple[Slab, int]]) -> list[Slab]:
        """``list_splice(promote + i, &n->partial)``: slabs with few free objects first; the empty ones come back.

        Equals are reversed, slabs with many free objects keep their order behind, and the empty ones are uncounted.

        Args:
            seen: the listed slabs, head first, with the objects in use that the walk saw.
        """
        promoted: list[tuple[Slab, int]] = []
        others: list[Slab] = []
        empty: list[Slab] = []
        for slab, inuse in seen:
            free = slab.objects - inuse
            if inuse == 0:
                empty.append(slab)
                self.nr_slabs -= 1
                self.total_objects -= slab.objects
            elif 1 <= free <= SHRINK_PROMOTE_MAX:
                promoted.append((slab, free))
            else:
                others.append(slab)
        promoted.reverse()
        promoted.sort(key=lambda pair: pair[1])
        self.partial = [slab for slab, _ in promoted] + others
        self.locked = False
        return empty[::-1]

    # -- closing -----------------------------------------------------------------------------------------------------

    @operation(reads="partial")
    def listed(self) -> list[Slab]:
        """``list_for_each_entry_safe(page, &n->partial)`` without the lock, when the cache is closed."""
        return list(self.partial)

    @operation(writes="partial")
    def take_empty(self, slabs: list[Slab]) -> None:
        """``remove_partial()`` without the lock: the cache is being closed, nobody else should be here."""
        for slab in slabs:
            self._list_del(slab)

    @operation(reads="partial nr_slabs")
    def slabs_left(self) -> int:
        """``n->nr_partial || slabs_node(s, node)``: how many slabs the node still has."""
        return max(self.nr_slabs, len(self.partial))

    @operation(writes="min_partial")
    def stop_caching(self) -> None:
        """``s->min_partial = 0``: one field of the cache in the kernel; every node has a copy here."""
        self.min_partial = 0
        self.keeps_none = True

    # -- what sysfs sets ---------------------------------------------------------------------------------------------

    @operation(writes="min_partial")
    def set_min_partial(self, min_partial: int) -> None:
        """``s->min_partial = min``: one field of the cache in the kernel; every node has a copy here."""
        self.min_partial = min_partial
