"""As 3.9, with the memcg put last."""

from __future__ import annotations

from slabactors.lifecycle.v3_9 import V39


class V310(V39):
    """A child lets go of its memcg when it is done with it, and a task of its own when it has a reference.

    Models "memcg: avoid accessing memcg after releasing reference" and "memcg: take reference before releasing
    rcu_read_lock" (mm/memcontrol.c, v3.10).
    """

    name = "v3.10"
    release = "3.10, 2013-06-30"
    puts_memcg_last = True
    looks_up_under_rcu = True
    inits_work_of_grown_roots = False
