"""How fast the live driver is, against a bare ping-pong over anyio's memory object streams.

An ask is two messages, the request and the reply, as is one round trip of the ping-pong.  Three ping-pongs are
measured: ``send`` awaits both ends, as in anyio's documentation, over a stream of its default size, and over a buffer
of one; ``send_nowait`` leaves out what the live driver leaves out, too, and is the hardest to keep up with.

Run it as a program; it prints ratios and judges nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from slabactors.actors import Actor, operation, parallel
from slabactors.runtime.live import LiveRuntime
from slabactors.runtime.step import Ending


class Counter(Actor):
    """The smallest actor there is."""

    def __init__(self) -> None:
        super().__init__("counter")
        self.value = 0

    @operation(writes="value")
    def add(self, amount: int) -> int:
        """``value += amount``."""
        self.value += amount
        return self.value


@contextmanager
def cpu_time(into: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    into.append(time.process_time() - began)


async def ping_pong(rounds: int, size: int, *, nowait: bool) -> float:
    """CPU seconds of some round trips."""
    ping_send, ping_receive = anyio.create_memory_object_stream[int](size)
    pong_send, pong_receive = anyio.create_memory_object_stream[int](size)
    spent: list[float] = []

    async def echo_awaiting() -> None:
        for _ in range(rounds):
            await pong_send.send(await ping_receive.receive())

    async def echo_nowait() -> None:
        for _ in range(rounds):
            pong_send.send_nowait(await ping_receive.receive())

    with ping_send, ping_receive, pong_send, pong_receive:
        async with anyio.create_task_group() as group:
            group.start_soon(echo_nowait if nowait else echo_awaiting)
            with cpu_time(spent):
                if nowait:
                    for number in range(rounds):
                        ping_send.send_nowait(number)
                        await pong_receive.receive()
                else:
                    for number in range(rounds):
                        await ping_send.send(number)
                        await pong_receive.receive()
    return spent[0]


async def asks(rounds: int, paths: int) -> float:
    """CPU seconds of as many asks of live paths."""
    spent: list[float] = []
    counter = Counter()

    async def ask() -> None:
        for _ in range(rounds // paths):
            await counter.add(1)

    async def main() -> None:
        await counter.add(0)  # opens the mailbox
        with cpu_time(spent):
            if paths == 1:
                await ask()
            else:
                await parallel(*(ask() for _ in range(paths)))

    outcome = await LiveRuntime(steps_max=rounds + 1).run(main())
    assert outcome.ending is Ending.DONE, outcome
    assert counter.value == rounds // paths * paths
    return spent[0]


def median(measure: Callable[[], Awaitable[float]], backend: str, repeats: int) -> float:
    async def once() -> float:
        return await measure()

    return statistics.median(anyio.run(once, backend=backend) for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    rounds, repeats = options.rounds, options.repeats
    print("CPU time, medians; a ratio of 1 is as many messages a second as the ping-pong's")
    for backend in ("asyncio", "trio"):
        bare = {
            "send, size 0": median(lambda: ping_pong(rounds, 0, nowait=False), backend, repeats),
            "send, size 1": median(lambda: ping_pong(rounds, 1, nowait=False), backend, repeats),
            "send_nowait": median(lambda: ping_pong(rounds, 1, nowait=True), backend, repeats),
        }
        for paths in (1, 8):
            live = median(lambda paths=paths: asks(rounds, paths), backend, repeats)  # type: ignore[misc]
            ratios = "  ".join(f"{seconds / live:5.2f} ({name})" for name, seconds in bare.items())
            print(f"{backend:8} {paths} path(s): {rounds / live:9.0f} deliveries/s   ratios: {ratios}")


if __name__ == "__main__":
    main()
