"""The micro-problem that search tools are compared by: one dead cache whose destroy work may be queued twice.

``cpus`` CPUs free ``frees`` objects each, a shrinker frees one empty page, *offline* marks the cache dead and queues
the destroy work; a worker pops it, reads the counter, and destroys, or shrinks, looks again and arms a timer.

* ``fixed``: the last free and the queueing are one step; so are popping, reading and destroying.  Correct.
* ``v5``: the worker pops, then reads the counter, then destroys.  A last free in between queues the work again.
* ``naive``: as v5, and who frees last looks whether the work is pending before it queues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from slabactors.actors import Clock, CountsDown, Narrow, Timed, operation, parallel
from slabactors.errors import KernelBug, Kind
from slabactors.explore.program import Driver, Execution, prepared
from slabactors.runtime.simulated import Simulation, Strategy
from slabactors.runtime.step import Observer, TimePolicy

RETRY_JIFFIES = 60_000


class DeadCache(Timed):
    """A cache with its page counter, its destroy work and the work's queue.

    Attributes:
        nr: objects left.
        dead: its memcg is gone.
        pending: the work is queued or its timer armed.
        queued: how often it is in the queue.
        empty_pages: pages that the shrinker can free.
        destroyed: how often it was.
    """

    role = "cache"
    timeless = True

    def __init__(self, clock: Clock, objects: int, variant: str) -> None:
        super().__init__("cache", clock)
        self.variant = variant
        self.nr = objects
        self.dead = False
        self.pending = False
        self.queued = 0
        self.empty_pages = 1
        self.destroyed = 0

    def _nr(self) -> int:
        return self.nr

    def _one(self) -> int:
        return 1

    def _none(self) -> int:
        return 0

    def _empty_pages(self) -> int:
        return self.empty_pages

    def _alive(self) -> bool:
        return not self.dead

    def _pending(self) -> bool:
        return self.pending

    def _gone(self) -> bool:
        return self.destroyed > 0

    def _swept(self) -> bool:
        return not self.empty_pages

    def _touch(self) -> None:
        if self.destroyed:
            raise KernelBug(Kind.USE_AFTER_FREE, "a destroyed cache was touched", clause="touched after destroy")

    def _last_one_went(self) -> bool:
        if self.variant != "naive":
            self._schedule()
        return True

    def _schedule(self) -> None:
        if not self.pending:
            self.pending = True
            self.queued += 1

    @operation(
        reads="destroyed dead",
        writes="nr pending queued",
        narrow=[
            CountsDown("nr", _nr, _one, reads="destroyed"),
            Narrow(_alive, reads="destroyed dead", writes="nr"),
            Narrow(_pending, reads="destroyed dead pending", writes="nr"),
        ],
    )
    def release(self) -> bool:
        """``free()``: true when that was the last object of a dead cache."""
        if self.destroyed:
            self._touch()
        self.nr -= 1
        return self.dead and not self.nr and self._last_one_went()

    @operation(
        reads="destroyed dead",
        writes="empty_pages nr pending queued",
        narrow=[
            Narrow(_gone, reads="destroyed"),
            Narrow(_swept, reads="destroyed empty_pages"),
            CountsDown("nr", _nr, _empty_pages, reads="destroyed", writes="empty_pages"),
            Narrow(_alive, reads="destroyed dead", writes="empty_pages nr"),
            Narrow(_pending, reads="destroyed dead pending", writes="empty_pages nr"),
        ],
    )
    def shrink_once(self) -> bool:
        """``shrink_slab()``: true when that was the last object of a dead cache."""
        if self.destroyed or not self.empty_pages:
            return False
        self.empty_pages = 0
        self.nr -= 1
        return self.dead and not self.nr and self._last_one_went()

    @operation(reads="destroyed pending")
    def is_pending(self) -> bool:
        """``delayed_work_pending()``."""
        self._touch()
        return self.pending

    @operation(reads="destroyed", writes="pending queued")
    def queue(self) -> None:
        """``queue_work()``."""
        self._touch()
        self.pending = True
        self.queued += 1

    @operation(writes="dead pending queued", narrow=[Narrow(_pending, reads="pending", writes="dead")])
    def offline(self) -> bool:
        """``dead = true``, and the work is queued: whether it was pending already."""
        self.dead = True
        was = self.pending
        if self.variant != "naive":
            self._schedule()
        return was

    @operation(guard=attrgetter("queued"), writes="pending queued", parks=True)
    def pop(self) -> None:
        """``list_del_init(&work->entry)``, which clears PENDING."""
        self.queued -= 1
        self.pending = False

    @operation(
        guard=attrgetter("queued"),
        reads="nr",
        writes="pending queued destroyed",
        parks=True,
        narrow=[CountsDown("nr", _nr, _none, reads="destroyed", writes="pending queued")],
    )
    def pop_and_destroy(self) -> bool:
        """``pop, read and destroy``: true when there was nothing left."""
        self.queued -= 1
        self.pending = False
        return self._destroy_if_empty()

    def _destroy_if_empty(self) -> bool:
        self._ran_on_destroyed()
        if self.nr == 0:
            self.destroyed += 1
        return self.nr == 0

    def destroyed_again(self) -> None:
        raise KernelBug(Kind.DOUBLE_DESTROY, "destroyed twice", clause="destroyed at most once", about=self)

    def _ran_on_destroyed(self) -> None:
        if self.destroyed:
            raise KernelBug(Kind.DOUBLE_DESTROY, "the destroy work ran twice", clause="work ran on a destroyed cache")

    @operation(reads="nr destroyed", narrow=[CountsDown("nr", _nr, _none, reads="destroyed")])
    def is_empty(self) -> bool:
        """``nr_pages == 0``."""
        self._ran_on_destroyed()
        return self.nr == 0

    @operation(writes="destroyed")
    def destroy(self) -> None:
        """``kmem_cache_destroy()``."""
        self._ran_on_destroyed()
        self.destroyed += 1

    @operation(
        reads="destroyed dead",
        writes="empty_pages nr pending queued",
        narrow=[
            Narrow(_swept, reads="destroyed empty_pages"),
            CountsDown("nr", _nr, _empty_pages, reads="destroyed", writes="empty_pages"),
            Narrow(_alive, reads="destroyed dead", writes="empty_pages nr"),
            Narrow(_pending, reads="destroyed dead pending", writes="empty_pages nr"),
        ],
    )
    def shrink(self) -> None:
        """``kmem_cache_shrink()``."""
        self._touch()
        if self.empty_pages:
            self.empty_pages = 0
            self.nr -= 1
            if self.nr == 0 and self.dead:
                self._schedule()

    @operation(
        reads="destroyed nr",
        writes="pending",
        clock=True,
        narrow=[CountsDown("nr", _nr, _none, reads="destroyed", writes="pending")],
    )
    def look_again(self) -> None:
        """``if (nr_pages) queue_delayed_work(60 * HZ)``."""
        self._touch()
        if self.nr and not self.pending:
            self.pending = True
            self.deadline = self.clock.now + RETRY_JIFFIES

    @operation(clock=True)
    def expire(self) -> None:
        """``the timer queues the work``."""
        self.deadline = None
        self.queued += 1


async def queue_unless_pending(cache: DeadCache) -> None:
    if not await cache.is_pending():
        # Window: not pending a moment ago.
        await cache.queue()


async def cpu(cache: DeadCache, frees: int) -> None:
    for _ in range(frees):
        if await cache.release() and cache.variant == "naive":
            await queue_unless_pending(cache)


async def shrinker(cache: DeadCache) -> None:
    if await cache.shrink_once() and cache.variant == "naive":
        await queue_unless_pending(cache)


async def offline(cache: DeadCache) -> None:
    if not await cache.offline() and cache.variant == "naive":
        await cache.queue()


async def worker(cache: DeadCache) -> None:
    while True:
        await work(cache)


async def work(cache: DeadCache) -> None:
    if cache.variant == "fixed":
        if await cache.pop_and_destroy():
            return
    else:
        await cache.pop()
        # Window: the work is not pending any more, and has not looked yet.
        if await cache.is_empty():
            await cache.destroy()
            return
    await cache.shrink()
    await cache.look_again()


@dataclass(frozen=True)
class Micro:
    """The micro-problem as a `slabactors.explore.program.Program`.

    Attributes:
        variant: ``fixed``, ``v5`` or ``naive``.
        cpus: how many free.
        frees: how many objects each.
        watched: an invariant is checked after every step, too.
    """

    variant: str
    cpus: int
    frees: int
    watched: bool = False

    sometimes: Sequence[str] = ()

    def execute(
        self,
        strategy: Strategy,
        *,
        observer: Observer | None = None,
        time: TimePolicy | None = None,
        driver: Driver = Simulation,
    ) -> Execution:
        watch = {"invariant": lambda: cache.destroyed <= 1 or cache.destroyed_again()} if self.watched else {}
        simulation = prepared(driver, strategy, observer, time=time or TimePolicy.QUIESCENT, **watch)
        cache = DeadCache(simulation.clock, self.cpus * self.frees + 1, self.variant)

        def at_rest() -> None:
            if cache.destroyed != 1:
                raise KernelBug(
                    Kind.ZOMBIE, f"destroyed {cache.destroyed} times", clause="not destroyed once", about=cache
                )

        # The worker never returns, so that timers go on firing until nothing is left to be done.
        everybody = parallel(
            worker(cache), *[cpu(cache, self.frees) for _ in range(self.cpus)], shrinker(cache), offline(cache)
        )
        return Execution(simulation, simulation.run(everybody, at_rest=at_rest), cache)

    def reached(self, execution: Execution) -> Sequence[bool]:
        return [True for _ in self.sometimes]

    def dispose(self, execution: Execution) -> None:
        execution.simulation.dispose()
        execution.world.__dict__.clear()
