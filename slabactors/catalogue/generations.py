"""The generations of the protocol, by the numbers of the history, each with the shipped lifecycles that belong to it.

Entries say of generations whether they have a bug, also of those for which no lifecycle is shipped yet.  A lifecycle
that is added here is held against every entry from then on.
"""

from __future__ import annotations

from typing import Final

from slabactors.errors import UnknownName
from slabactors.lifecycle import LIFECYCLES, mutants

__all__ = ["GENERATIONS", "generations", "shipped_generations"]

GENERATIONS: Final[dict[str, tuple[str, ...]]] = {
    "G0": ("verify-dead",),  # every free on a dead cache looks whether it can go; as the third posting was reviewed
    "G0x": ("v3",),  # third posting, 2012-09-18: one work for all, which shrinks, too
    "G1": ("v4",),  # fourth posting, 2012-10-12: delayed work, queued without a test whether it is pending
    "G1x": ("pre-patch",),  # fifth posting up to patch 13, 2012-10-19: plain work, and nobody shrinks
    "G2": ("v5",),  # fifth posting with patch 14: the founding patch
    "G3": ("v6",),  # sixth posting, 2012-11-01: destroying a root cancels the works of its children
    "G4": ("v3.8",),  # 3.8: plain work, without a retry
    "G5a": ("v3.9",),  # 3.9: the work is initialised when the child is made
    "G5": ("v3.10", "v3.11"),  # 3.10 to 3.13: the memcg is put last, and its reference taken under RCU
    "G6": ("v3.14",),  # 3.14: children are published and withdrawn as a whole
    "G7": ("v3.15",),  # 3.15: aliases first, and a cache is unregistered before it is shut down
    "G8": ("v3.16",),  # 3.16 to 3.18: no work, and everything under one mutex
    "G8x": ("refcount",),  # in -mm, 2014-06, withdrawn: a reference for each slab
    "G9": ("v3.19",),  # 3.19: the css is the reference
    "G10": ("v4.0-early-id", "v4.0", "v4.4"),  # 4.0 to 4.10: deactivated at offline, destroyed when the css is freed
    # 4.11 to 5.2: deactivated by a work after a grace period
    "G11": ("v4.11", "v4.12", "v4.18-flush-only", "v4.18-grace-period", "v4.18"),
    # 5.3 to 5.8: a percpu reference, and children that move to the parent
    "G12": ("v5.3", "v5.4", "v5.5", "v5.8", "v5.8-stable"),
    "G13": ("v5.9", "v5.19", "v6.0-rc4", "v6.0", "v6.6"),  # from 5.9 on: no caches of memcgs, and roots to destroy
    "repaired": ("repaired",),  # no kernel's
}
"""Oldest first."""


def generations(first: str, last: str | None = None) -> tuple[str, ...]:
    """The shipped lifecycles of a generation, or of all from one to another.

    Args:
        first: as in `GENERATIONS`.
        last: the last one that is meant, too; only the first when it is left out.

    Raises:
        UnknownName: there is no such generation.
    """
    names = list(GENERATIONS)
    for name in (first, last or first):
        if name not in GENERATIONS:
            raise UnknownName("generation", name, names)
    meant = names[names.index(first) : names.index(last or first) + 1]
    return tuple(lifecycle for name in meant for lifecycle in GENERATIONS[name])


def shipped_generations() -> list[str]:
    """The shipped lifecycles that are a generation, and no mutant of one, oldest first."""
    return [name for name, cls in LIFECYCLES.items() if cls.__module__ != mutants.__name__]
