"""The allocator models by name."""

from __future__ import annotations

from slabactors.mm.allocator import Allocator
from slabactors.mm.slub import Slub
from slabactors.mm.slub_policy import SLUB_POLICIES

MODELS: dict[str, Allocator] = {policy.name: Slub(policy) for policy in SLUB_POLICIES}
"""Every model; stateless, so that one of each is enough."""


def allocator(name: str) -> Allocator:
    """The allocator model of that name.

    Raises:
        KeyError: there is none.
    """
    return MODELS[name]
