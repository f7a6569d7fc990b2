"""As 3.9, with the memcg put last."""

from __future__ import annotations

from slabactors.lifecycle.v3_9 import V39


class V310(V39):
    """A child lets go of its memcg when it is done with it.

    Models "memcg: avoid accessing memcg after releasing reference" (mm/memcontrol.c, v3.10).
    """

    name = "v3.10"
    release = "3.10, 2013-06-30"
    puts_memcg_last = True
    inits_work_of_grown_roots = False
