"""accounting: counters equal what they count, and references are balanced when nothing moves any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from slabactors.actors import Actor
from slabactors.checkers.base import Checker
from slabactors.errors import KernelBug, Kind
from slabactors.mm.page_alloc import PAGE_SIZE

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup


class Accounting(Checker):
    """``nr_pages`` equals the pages of the slabs, usage the pages charged, references those who hold one.

    Counters that fall below zero are raised where they do.
    """

    name = "accounting"
    sometimes = "pages of a child cache were counted"

    def reached(self, machine: Machine) -> bool:
        """Some slab belonged to a child, or was charged to its group where nobody counts the child's."""
        return any(cache.params is not None and cache.params.bound for cache in machine.caches) or any(
            memcg.max_usage for memcg in machine.memcgs
        )

    def at_rest(self, machine: Machine) -> None:
        """Count everything again.

        Raises:
            KernelBug: ``accounting``, or ``objects-remaining`` for pages that were bound to a cache that went away.
        """
        lifecycle = machine.lifecycle
        slabs = [slab for slab in machine.slabs if slab.tombstone is None]
        for slab in slabs:
            if slab.cache.tombstone is not None:
                raise KernelBug(
                    Kind.OBJECTS_REMAINING,
                    f"{slab.name} is there, and its cache {slab.cache.name} was freed",
                    clause="pages of a freed cache",
                    about=slab.cache,
                )
        held = sum(1 << slab.order for slab in slabs)
        taken = machine.page_alloc.pages - machine.page_alloc.free
        if held != taken:
            _wrong(
                f"{taken} pages are taken from the page allocator, slabs hold {held}", "pages taken", machine.page_alloc
            )
        for cache in machine.children():
            assert cache.params is not None
            pages = sum(1 << slab.order for slab in slabs if slab.cache is cache)
            if lifecycle.counts_pages and cache.params.pages != pages:
                _wrong(
                    f"nr_pages of {cache.name} is {cache.params.pages}, its slabs have {pages} pages",
                    "nr_pages",
                    cache.params,
                )
        for memcg in machine.memcgs:
            if memcg.tombstone is None:
                charged = PAGE_SIZE * sum(1 << slab.order for slab in slabs if slab.memcg is memcg)
                elsewhere = not lifecycle.charges_pages or (lifecycle.reparents and not memcg.online)
                if memcg.usage != charged and not elsewhere:
                    _wrong(f"usage of {memcg.name} is {memcg.usage} bytes, {charged} are charged", "memcg usage", memcg)
                self._references(machine, memcg)

    def _references(self, machine: Machine, memcg: MemCgroup) -> None:
        if memcg.css is not None:
            refcnt = memcg.css.refcnt
            held = machine.lifecycle.css_holders(machine, memcg) + (0 if refcnt.dead else 1)
            if refcnt.count != held:
                _wrong(f"{refcnt.name} has {refcnt.count} references, {held} are held", "css references", refcnt)
            return
        expected = machine.lifecycle.expected_references(machine, memcg)
        if memcg.references != expected:
            children = sum(1 for c in machine.children() if c.params is not None and c.params.memcg is memcg)
            _wrong(
                f"{memcg.name} has {memcg.references} references; its {children} caches, its pages and its directory "
                f"hold {expected}",
                "memcg references",
                memcg,
            )


def _wrong(message: str, clause: str, about: Actor) -> NoReturn:
    raise KernelBug(Kind.ACCOUNTING, message, clause=clause, about=about)
