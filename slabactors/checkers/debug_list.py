"""debug_list: what lists and arrays point to is there, and what is there is on them, once nothing moves any more.

In between they need not agree: 3.8 links a child before it fills its slot.  That is a bug when somebody looks, and then
he dereferences NULL; see `slabactors.lifecycle.v5.find_cache`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from slabactors.actors import Actor
from slabactors.checkers.base import Checker
from slabactors.errors import KernelBug, Kind

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class DebugList(Checker):
    """Slots and lists point to live children, each listed child is in its slot, and each has a live root and memcg."""

    name = "debug_list"
    sometimes = "a child cache was made"

    def reached(self, machine: Machine) -> bool:
        """There was somebody to point to."""
        return any(cache.params is not None for cache in machine.caches)

    def at_rest(self, machine: Machine) -> None:
        """Follow every pointer.

        Raises:
            KernelBug: ``property``, or ``duplicate-name`` for two children of one root and memcg.
        """
        children: dict[tuple[KmemCache, MemCgroup], KmemCache] = {}
        for cache in machine.caches:
            if cache.tombstone is not None:
                continue
            if cache.params is not None:
                self._child(cache, children)
            elif cache.slots:
                self._slots(cache)
        for memcg in machine.memcgs:
            if memcg.caches and memcg.tombstone is None:
                self._list(memcg)

    def _child(self, child: KmemCache, children: dict[tuple[KmemCache, MemCgroup], KmemCache]) -> None:
        assert child.params is not None
        root, memcg, owner = child.params.root, child.params.memcg, child.params.charged
        if root.tombstone is not None:
            _wrong(f"{child.name} is there, and its root was freed", "child outlives its root", child)
        if owner is not None and owner.tombstone is not None:
            _wrong(f"{child.name} is there, and its memcg was freed", "child outlives its memcg", child)
        if (root, memcg) in children:
            raise KernelBug(
                Kind.DUPLICATE_NAME,
                f"two children of {root.name} for {memcg.name} are there, and only one is in its slot",
                clause="two children of one root and memcg",
                about=child,
            )
        children[root, memcg] = child

    def _slots(self, root: KmemCache) -> None:
        for child in root.slots.values():
            if child.tombstone is not None:
                _wrong(f"a slot of {root.name} points to {child.name}, which was freed", "slot of a freed child", root)

    def _list(self, memcg: MemCgroup) -> None:
        for child in memcg.caches:
            if child.tombstone is not None:
                _wrong(f"{child.name} was freed and is on the list of {memcg.name}", "freed child on a list", memcg)
            assert child.params is not None
            root = child.params.root
            if root.tombstone is None and root.slots.get(memcg.id) is not child:
                _wrong(
                    f"{child.name} is on the list of {memcg.name}, and its slot does not point to it",
                    "listed child without its slot",
                    memcg,
                )


def _wrong(message: str, clause: str, about: Actor) -> NoReturn:
    raise KernelBug(Kind.PROPERTY, message, clause=clause, about=about)
