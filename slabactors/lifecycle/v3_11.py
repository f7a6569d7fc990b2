"""As 3.10, with the reference of a queued creation handed on to the child."""

from __future__ import annotations

from slabactors.lifecycle.v3_10 import V310


class V311(V310):
    """A child holds its group by the reference that was taken when its creation was queued.

    Models "memcg: don't use mem_cgroup_get() when creating a kmemcg cache" and its neighbours (mm/memcontrol.c, v3.11
    to v3.13), which give up the references of memcgs for those of their css.
    """

    name = "v3.11"
    release = "3.11, 2013-09-02, to 3.13"
    hands_reference_on = True
    inits_work_of_new_roots = False
    checks_root_params = True
