"""What became of the dead caches of a run: when each child cache died, when it was destroyed, and what they pinned.

Two runs can be compared by it, of other seeds or under other lifecycles: it is all in virtual time, and of the same run
it is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from slabactors.explore.finding import signature
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
from slabactors.mm.slab_common import KmemCache
from slabactors.mm.slab_page import SlabPage
from slabactors.report.words import counted
from slabactors.runtime.step import Outcome, Step, TimePolicy
from slabactors.scenario import BoundScenario

__all__ = ["ChildFate", "DeadCaches", "DeadCachesWatch", "dead_caches", "facts_of", "summary"]


@dataclass(frozen=True, slots=True)
class ChildFate:
    """What became of one child cache.

    Attributes:
        name: as in reports: ``root(id:memcg)``.
        root: name of its root cache.
        memcg: name of its memcg.
        offline: when it died, in jiffies: it was marked dead, or its memcg went offline, whichever came first; a cache
            that is made for a memcg that is offline is dead from the start.  None if it never did, as the shared
            children of 5.9 never do.
        destroyed: when it was freed, in jiffies; None if it never was.
        pages: pages it has at the end of the run; 0 when it was destroyed.
    """

    name: str
    root: str
    memcg: str
    offline: int | None
    destroyed: int | None
    pages: int

    @property
    def leaked(self) -> bool:
        """It died, and was still there at the end of the run."""
        return self.offline is not None and self.destroyed is None

    @property
    def dying_jiffies(self) -> int | None:
        """From its death until it was destroyed; None when it did not die first, or was not destroyed."""
        if self.offline is None or self.destroyed is None:
            return None
        return self.destroyed - self.offline


@dataclass(frozen=True, slots=True)
class DeadCaches:
    """The dead caches of one run.

    Attributes:
        children: every child cache that a step of the run was about, in the order of the first such step.
        pinned: a step function: pairs of a time in jiffies and the pages of all dead caches from then on.  It begins
            with ``(0, 0)``, has each time once and never the same number of pages twice in a row.
        ended: the time of the last step, in jiffies; `pinned` goes no further.
        broke: signature of the bug that ended the run before its machine came to rest; None when it came to its end.
    """

    children: tuple[ChildFate, ...]
    pinned: tuple[tuple[int, int], ...]
    ended: int
    broke: str | None = None

    @property
    def dead(self) -> list[ChildFate]:
        """The children that died."""
        return [child for child in self.children if child.offline is not None]

    @property
    def leaked(self) -> list[ChildFate]:
        """The children that died and were still there at the end."""
        return [child for child in self.children if child.leaked]

    @property
    def pages_leaked(self) -> int:
        """Pages of dead caches at the end."""
        return self.pinned[-1][1]

    @property
    def pages_most(self) -> int:
        """The most pages that dead caches had at any time."""
        return max(pages for _, pages in self.pinned)

    @property
    def page_seconds(self) -> float:
        """Pages of dead caches, each times the virtual seconds for which it was one: the area under `pinned`."""
        ends = [*(begin for begin, _ in self.pinned[1:]), self.ended]
        return sum(pages * (end - begin) for (begin, pages), end in zip(self.pinned, ends, strict=True)) / HZ

    @property
    def dying_seconds(self) -> list[float]:
        """How long each destroyed child had been dead, in virtual seconds, the shortest first."""
        return sorted(one / HZ for child in self.children if (one := child.dying_jiffies) is not None)

    def pages_at(self, jiffies: int) -> int:
        """Pages of dead caches at a time."""
        return next((pages for begin, pages in reversed(self.pinned) if begin <= jiffies), 0)


class DeadCachesWatch:
    """An observer of a run, of either driver, that keeps what `DeadCaches` tells.

    It looks at the actors of a step and never asks them for anything.
    """

    def __init__(self) -> None:
        self._children: dict[KmemCache, None] = {}
        self._offline: dict[KmemCache, int] = {}
        self._destroyed: dict[KmemCache, int] = {}
        self._pages: dict[KmemCache, int] = {}
        """Of the children that are there; those of dead ones are in the sum."""
        self._slabs: set[SlabPage] = set()
        self._sum = 0
        self._pinned = [(0, 0)]
        self._now = 0

    def __call__(self, step: Step) -> None:
        """A step."""
        self._now = max(self._now, step.now)  # of two live paths the one that took its step first may be seen last
        actor = step.actor
        for one in (actor, *step.args):
            if isinstance(one, SlabPage):
                self._slab(one)
            elif isinstance(one, KmemCache) and one.root is not None:
                self._meet(one)
        if isinstance(actor, MemcgCacheParams):
            self._params(actor)
        elif isinstance(actor, MemCgroup):
            self._memcg(actor, step)
        elif isinstance(actor, KmemCache) and actor.root is not None and step.operation.name == "free":
            self._free(actor)

    def _params(self, params: MemcgCacheParams) -> None:
        cache = params.cache
        if cache in self._destroyed:
            return
        self._meet(cache)
        if params.tombstone is None and params.dead:
            self._die(cache)

    def _memcg(self, memcg: MemCgroup, step: Step) -> None:
        if step.operation.name == "css_offline":
            for cache in memcg.caches:
                self._meet(cache)
            for cache in [one for one in self._children if _group(one) is memcg]:
                self._die(cache)

    def _slab(self, slab: SlabPage) -> None:
        """A slab is pages of its cache from the first step about it on, until it goes back."""
        cache = slab.cache
        if cache.root is None or cache in self._destroyed:
            return
        self._meet(cache)
        if slab.tombstone is not None:
            if slab in self._slabs:
                self._slabs.remove(slab)
                self._count(cache, self._pages[cache] - (1 << slab.order))
        elif slab not in self._slabs:
            self._slabs.add(slab)
            self._count(cache, self._pages[cache] + (1 << slab.order))

    def _meet(self, cache: KmemCache) -> None:
        if cache not in self._children and cache not in self._destroyed:
            self._children[cache] = None
            self._pages[cache] = 0
            group = _group(cache)
            if group is not None and not group.online:
                self._die(cache)

    def _count(self, cache: KmemCache, pages: int) -> None:
        before = self._pages.get(cache, 0)
        self._pages[cache] = pages
        if cache in self._offline and pages != before:
            self._pin(pages - before)

    def _die(self, cache: KmemCache) -> None:
        if cache not in self._offline:
            self._offline[cache] = self._now
            self._pin(self._pages[cache])

    def _free(self, cache: KmemCache) -> None:
        self._count(cache, 0)
        self._destroyed[cache] = self._now

    def _pin(self, more: int) -> None:
        self._sum += more
        while self._pinned and self._pinned[-1][0] == self._now:
            self._pinned.pop()
        if not self._pinned or self._pinned[-1][1] != self._sum:
            self._pinned.append((self._now, self._sum))

    def seen(self, outcome: Outcome) -> DeadCaches:
        """What there was to see, once the run is over.

        Args:
            outcome: how it ended.
        """
        children = tuple(
            ChildFate(
                cache.name,
                cache.root.name if cache.root is not None else "",
                cache.params.memcg.label if cache.params is not None else "",
                self._offline.get(cache),
                self._destroyed.get(cache),
                self._pages[cache],
            )
            for cache in self._children
        )
        broke = signature(outcome) if outcome.bug is not None and outcome.culprit is not None else None
        return DeadCaches(children, tuple(self._pinned), self._now, broke)


def _group(cache: KmemCache) -> MemCgroup | None:
    """Whose child it was made for, whoever is charged for its pages by now."""
    return None if cache.params is None else cache.params.memcg


def dead_caches(program: BoundScenario, seed: int = 0) -> DeadCaches:
    """What becomes of the dead caches in one simulated run; always the same for the same arguments.

    Args:
        program: the scenario, its lifecycle and its settings; its time is quiescent here.
        seed: of the order of steps; the run is that of ``slabactors run --seed``.
    """
    watch = DeadCachesWatch()
    execution = program.execute(RandomWalk(f"{seed}/0"), observer=watch, time=TimePolicy.QUIESCENT)
    seen = watch.seen(execution.outcome)
    program.dispose(execution)
    return seen


def summary(seen: DeadCaches) -> str:
    """The dead caches of a run in a line or two."""
    took = seen.dying_seconds
    fates = (
        f"{counted(len(seen.dead), 'dead cache')}: {len(took)} destroyed"
        + (f" (after {took[0]:.2f} to {took[-1]:.2f} virtual seconds, half within {median(took):.2f})" if took else "")
        + f", {len(seen.leaked)} still there"
        + (" when it broke" if seen.broke else "")
    )
    pages = (
        f"pages of dead caches: {seen.pages_leaked} at the end, {seen.pages_most} at most, "
        f"{seen.page_seconds:,.0f} page seconds in all"
    )
    return f"{fates}\n{pages}"


def facts_of(seen: DeadCaches) -> dict[str, Any]:
    """The sums over the dead caches of a run, for JSON: virtual seconds and pages."""
    took = seen.dying_seconds
    return {
        "dead": len(seen.dead),
        "destroyed": len(took),
        "leaked": len(seen.leaked),
        "pages_leaked": seen.pages_leaked,
        "pages_most": seen.pages_most,
        "page_seconds": round(seen.page_seconds, 3),
        "seconds_to_destruction": {"least": took[0], "median": median(took), "most": took[-1]} if took else None,
        "pinned": [[jiffies / HZ, pages] for jiffies, pages in seen.pinned],
    }
