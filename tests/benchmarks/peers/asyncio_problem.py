"""The micro-problem of `tests.explore.micro` as ordinary asyncio code, for peers that search schedules of tasks.

Each ``await`` is one scheduling point, and what stands between two of them is one atomic step, the same as there.  A
task's first step needs no ``await``: that it is started is a scheduling point by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

RETRY_SECONDS = 60.0


class Broken(AssertionError):
    """The cache was touched, or its work ran, after it was destroyed; or it was not destroyed once."""


class Cache:
    """The dead cache, its destroy work, and the worker's wake-up.

    Args:
        objects: how many it holds.
        variant: ``fixed``, ``v5`` or ``naive``.
    """

    __slots__ = ("dead", "destroyed", "empty_pages", "nr", "pending", "queued", "timer", "variant", "waiter")

    def __init__(self, objects: int, variant: str) -> None:
        self.variant = variant
        self.nr = objects
        self.dead = False
        self.pending = False
        self.queued = 0
        self.empty_pages = 1
        self.destroyed = 0
        self.waiter: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        if self.destroyed:
            raise Broken("a destroyed cache was touched")

    def ran(self) -> None:
        if self.destroyed:
            raise Broken("the destroy work ran twice")

    def queue(self) -> None:
        self.pending = True
        self.queued += 1
        self.wake()

    def queue_once(self) -> None:
        if not self.pending:
            self.queue()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def expire(self) -> None:
        self.timer = None
        self.queued += 1
        self.wake()

    def drop(self) -> bool:
        """One object is gone: true when that was the last one of a dead cache and its work is not seen to yet."""
        self.nr -= 1
        if self.nr or not self.dead:
            return False
        if self.variant == "naive":
            return True
        self.queue_once()
        return False


async def queue_unless_pending(cache: Cache) -> None:
    await asyncio.sleep(0)
    cache.touch()
    if not cache.pending:
        await asyncio.sleep(0)
        cache.touch()
        cache.queue()


async def cpu(cache: Cache, frees: int) -> None:
    for number in range(frees):
        if number:
            await asyncio.sleep(0)
        cache.touch()
        if cache.drop():
            await queue_unless_pending(cache)


async def shrinker(cache: Cache) -> None:
    if not cache.destroyed and cache.empty_pages:
        cache.empty_pages = 0
        if cache.drop():
            await queue_unless_pending(cache)


async def offline(cache: Cache) -> None:
    cache.dead = True
    if cache.variant != "naive":
        cache.queue_once()
    elif not cache.pending:
        await asyncio.sleep(0)
        cache.touch()
        cache.queue()


async def worker(cache: Cache, *, forever: bool = True) -> None:
    """The kworker.

    Args:
        cache: whose work it does.
        forever: go on after the cache was destroyed; for tools that wait until every task has returned, do not.
    """
    loop = asyncio.get_running_loop()
    while True:
        if cache.queued:
            await asyncio.sleep(0)
        else:
            cache.waiter = loop.create_future()
            await cache.waiter  # going on from here is the step that pops
        cache.queued -= 1
        cache.pending = False
        if cache.variant != "fixed":
            await asyncio.sleep(0)
        cache.ran()
        if cache.nr == 0:
            if cache.variant != "fixed":
                await asyncio.sleep(0)
                cache.ran()
            cache.destroyed += 1
            if forever:
                continue
            return
        await asyncio.sleep(0)
        cache.touch()
        if cache.empty_pages:
            cache.empty_pages = 0
            cache.nr -= 1
            if cache.nr == 0 and cache.dead:
                cache.queue_once()
        await asyncio.sleep(0)
        cache.touch()
        if cache.nr and not cache.pending:
            cache.pending = True
            cache.timer = loop.call_later(RETRY_SECONDS, cache.expire)


async def story(cpus: int, frees: int, variant: str, prepared: Callable[[Cache], None] | None = None) -> None:
    """Everybody at once, until nothing is left to be done.

    Args:
        cpus: how many free.
        frees: how many objects each.
        variant: of the protocol.
        prepared: told the cache before anything happens (for an invariant).
    """
    cache = Cache(cpus * frees + 1, variant)
    if prepared is not None:
        prepared(cache)
    loop = asyncio.get_running_loop()
    at_work = loop.create_task(worker(cache))
    others = [loop.create_task(cpu(cache, frees)) for _ in range(cpus)]
    await asyncio.gather(*others, loop.create_task(shrinker(cache)), loop.create_task(offline(cache)))
    while True:
        # Virtual time passes only when nothing else can move: then the timer is the only thing left.
        await asyncio.sleep(2 * RETRY_SECONDS)
        if at_work.done():
            await at_work
        if cache.timer is None:
            break
    at_work.cancel()
    if cache.destroyed != 1:
        raise Broken(f"destroyed {cache.destroyed} times")
