"""The allocator models by name."""

from __future__ import annotations

from slabactors.mm.allocator import Allocator
from slabactors.mm.slab import SlabAllocator
from slabactors.mm.slub import Slub
from slabactors.mm.slub_policy import SLUB_POLICIES

MODELS: dict[str, Allocator] = {model.name: model for model in (*map(Slub, SLUB_POLICIES), SlabAllocator("slab-3.8"))}
"""Every model; stateless, so that one of each is enough."""


def allocator(name: str) -> Allocator:
    """The allocator model of that name.

    Raises:
        KeyError: there is none.
    """
    return MODELS[name]
