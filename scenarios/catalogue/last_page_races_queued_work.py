"""Whoever released the last page looks at the cache again, which the work has destroyed meanwhile.

Vladimir Davydov wrote it down in a posting of 2014-02-26; 3.16 gave up the asynchronous path for it (1e32e77f95d6).
The story is that of dead-cache/rmdir-races-last-free, which is as small as it can be: one object, one page.

1. The directory of memcg ``web`` is removed: its cache is dead, and the work that destroys it is queued.
2. Another CPU frees the last object.  The slab goes back, and ``nr_pages`` drops to zero.
3. That CPU is preempted before it looks whether the cache is dead.  The work sees zero and destroys the cache.
4. The CPU goes on: it reads ``dead`` in freed memory, and may test or queue a work item there.
"""

from __future__ import annotations

from slabactors.catalogue import KnownBug, generations
from slabactors.scenario import find

BUG = KnownBug(
    id="B01",
    title="last page released against the queued work",
    fixed="1e32e77f95d6, 3.16",
    reported="Vladimir Davydov, 2014-02-26",
    where="G2-G7",
    signatures=(
        "use-after-free: memcg_cache_params.is_dead after free by free",
        "use-after-free: work.* after free by free",
    ),
    preemptions=(1, 1),
    found_in=generations("G0", "G7"),
    absent_from=generations("G8", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)

last_page_races_queued_work = find("dead-cache/rmdir-races-last-free")

if __name__ == "__main__":
    last_page_races_queued_work.main()
