"""The generations of the teardown protocol, by name."""

from __future__ import annotations

from slabactors.errors import UnknownName
from slabactors.lifecycle import mutants
from slabactors.lifecycle.base import Lifecycle, WithoutDestroyWork
from slabactors.lifecycle.mutants import (
    DeadAfterQueueing,
    DeadNeverSet,
    DestroyAfterShrink,
    InitAtCreation,
    NoPendingCheck,
    NoRetry,
    NoShrink,
    RetryAtOnce,
)
from slabactors.lifecycle.pre_patch import PrePatch
from slabactors.lifecycle.refcount import Refcount
from slabactors.lifecycle.repaired import Repaired
from slabactors.lifecycle.v3 import V3
from slabactors.lifecycle.v3_8 import V38
from slabactors.lifecycle.v3_9 import V39
from slabactors.lifecycle.v3_10 import V310
from slabactors.lifecycle.v3_11 import V311
from slabactors.lifecycle.v3_14 import V314
from slabactors.lifecycle.v3_15 import V315
from slabactors.lifecycle.v3_16 import V316
from slabactors.lifecycle.v3_19 import V319
from slabactors.lifecycle.v4 import V4
from slabactors.lifecycle.v4_0 import V40, V40EarlyId
from slabactors.lifecycle.v4_4 import V44
from slabactors.lifecycle.v4_11 import V411, V412
from slabactors.lifecycle.v4_18 import V418, V418FlushOnly, V418GracePeriod
from slabactors.lifecycle.v5 import V5
from slabactors.lifecycle.v5_3 import V53
from slabactors.lifecycle.v5_4 import V54
from slabactors.lifecycle.v5_5 import V55
from slabactors.lifecycle.v5_8 import V58, V58Stable
from slabactors.lifecycle.v5_9 import V59
from slabactors.lifecycle.v5_19 import V519
from slabactors.lifecycle.v6 import V6
from slabactors.lifecycle.v6_0 import V60, V66, V60Rc4
from slabactors.lifecycle.verify_dead import VerifyDead

LIFECYCLES: dict[str, type[Lifecycle]] = {
    cls.name: cls
    for cls in (
        PrePatch,
        VerifyDead,
        V3,
        V4,
        V5,
        V6,
        V38,
        V39,
        V310,
        V311,
        V314,
        V315,
        V316,
        Refcount,
        V319,
        V40EarlyId,
        V40,
        V44,
        V411,
        V412,
        V418FlushOnly,
        V418GracePeriod,
        V418,
        V53,
        V54,
        V55,
        V58,
        V58Stable,
        V59,
        V519,
        V60Rc4,
        V60,
        V66,
        Repaired,
        NoPendingCheck,
        DestroyAfterShrink,
        RetryAtOnce,
        NoRetry,
        NoShrink,
        DeadNeverSet,
        DeadAfterQueueing,
        InitAtCreation,
    )
}
"""Every shipped lifecycle, oldest first, then the repair and the mutants."""

SHIPPED_GENERATIONS: tuple[str, ...] = tuple(
    name for name, cls in LIFECYCLES.items() if cls.__module__ != mutants.__name__
)
"""The names of those that are a generation, or meant to be one, and no mutant of another, oldest first."""


def lifecycle(name: str) -> Lifecycle:
    """The lifecycle of that name.

    Raises:
        UnknownName: there is none.
    """
    try:
        return LIFECYCLES[name]()
    except KeyError:
        raise UnknownName("lifecycle", name, list(LIFECYCLES)) from None


__all__ = ["LIFECYCLES", "SHIPPED_GENERATIONS", "Lifecycle", "WithoutDestroyWork", "lifecycle"]
