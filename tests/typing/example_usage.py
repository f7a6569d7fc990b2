"""The public API as its users would use it: type-checked by mypy and pyright, and run, by the test beside it."""

# pyright: strict
# ruff: noqa: PT017 -- a program, which has no pytest.raises

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from pathlib import Path

from slabactors.actors import Actor, choose, join, operation, parallel, prepare, sleep, spawn, tell
from slabactors.errors import KernelBug, Kind, UnknownName
from slabactors.explore.finding import Finding, load, save
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.jiffies import HZ
from slabactors.kernel.locking import Mutex
from slabactors.lifecycle import LIFECYCLES, Lifecycle, lifecycle
from slabactors.lifecycle.v5 import V5
from slabactors.machine import MachineConfig
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slabinfo import parse_slabinfo, slabinfo
from slabactors.scenario import BoundScenario, Machine, Scenario, find, load_file, scenario, shipped
from slabactors.testing import Failed, Searched, explore, explore_sync, interleavings, verify_sync
from slabactors.trace.query import Filter, select, stats
from slabactors.trace.reader import LogReader, StepLine

# -- an actor, and paths ---------------------------------------------------------------------------------------------


class Counter(Actor):
    """A number that is read and written in two steps."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.value = 0

    @operation(reads="value")
    def read(self) -> int:
        """``v = value``."""
        return self.value

    @operation(writes="value")
    def write(self, value: int) -> None:
        """``value = v``.

        Raises:
            KernelBug: ``property`` when it would not grow.
        """
        if value <= self.value:
            raise KernelBug(Kind.PROPERTY, f"{self.name} was {self.value} and is to be {value}", clause="a count grows")
        self.value = value


async def count_up(counter: Counter, by: int) -> int:
    value = await counter.read()
    await counter.write(value + by)
    return value


# -- a scenario ------------------------------------------------------------------------------------------------------


@scenario(title="two paths count", cpus=2)
async def counting(machine: Machine, *, step: int = 1, locked: bool = False) -> None:
    """Two paths count up.

    Args:
        step: by how much.
        locked: whether they take a mutex.
    """
    counter, mutex = Counter("count"), Mutex("count_mutex")

    async def careful(cpu: Cpu) -> None:
        await sleep(HZ)
        if locked:
            await mutex.lock()
        await count_up(counter, step)
        if locked:
            await mutex.unlock()

    cpu0, cpu1 = machine.cpus
    await parallel(cpu0.task(careful(cpu0), "first"), cpu1.task(careful(cpu1), "second"))
    task = await spawn(count_up(counter, 1 + await choose(2)), name="last")
    before: int = await join(task)
    await tell(counter.write(before + 10))


# -- a story of the kernel, and a protocol ---------------------------------------------------------------------------


async def one_object(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry: KmemCache = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web: MemCgroup = prepare(mem_cgroup_create(cpu0, "web"))
    obj: SlabObject | None = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_free(cpu1, obj), "free"),
    )
    assert [row.name for row in parse_slabinfo(slabinfo(machine))] == ["dentry"]


class InitEarly(V5):
    """The work is initialised when its child is made."""

    name = "init-early"
    release = "an example"

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """As the repair does it."""
        assert cache.params is not None
        await cache.params.destroy.init(self.work_func(cache.params))


# -- tests -----------------------------------------------------------------------------------------------------------


@interleavings(cpus=2, runs=50, lifecycle="repaired")
async def test_one_object(machine: Machine) -> None:
    await one_object(machine)


@interleavings
async def test_plain(machine: Machine) -> None:
    await one_object(machine)


# -- searches --------------------------------------------------------------------------------------------------------


async def search() -> Searched:
    return await explore(one_object, lifecycle="v5", runs=300, seed=1, cpus=2)


def main() -> None:
    broken = explore_sync(counting, runs=200)
    kinds: set[str] = {report.finding.kind for report in broken.reports}
    assert (broken.verdict, kinds) == ("broken", {"property"}), broken
    try:
        broken.check()
    except Failed as failed:
        assert "a count grows" in str(failed)
        assert "first" in failed.text

    proof = verify_sync(counting, locked=True)
    assert (proof.verdict, proof.exhaustive) == ("verified", True), proof

    found = asyncio.run(search())
    assert found.reports
    early = explore_sync(one_object, lifecycle=f"{__file__}:{InitEarly.__name__}", runs=300)
    assert "uninitialised-work" not in {report.finding.kind for report in early.reports}
    test_one_object()
    with contextlib.suppress(Failed):
        test_plain()

    bound: BoundScenario = counting.bind(settings={"step": 2})
    assert bound.arguments == {"step": 2, "locked": False}
    assert bound.config == MachineConfig(cpus=2)
    try:
        find("dead-cache/emptyed")
    except UnknownName as error:
        assert "dead-cache/emptied" in str(error)
    stories: list[Scenario] = load_file(shipped()["dead-cache/emptied"])
    assert [one.name for one in stories] == ["emptied"]
    generation: Lifecycle = lifecycle("repaired")
    assert generation.name in LIFECYCLES

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "finding.json"
        save(broken.reports[0].finding, file)
        again: Finding = load(file)
        assert again.signature == broken.reports[0].finding.signature
        look_into_a_log(Path(place) / "run.jsonl")


def look_into_a_log(file: Path) -> None:
    from slabactors.cli import run

    with contextlib.redirect_stdout(io.StringIO()):
        run(["run", "dead-cache/emptied", "--log", str(file)])
    with LogReader(file) as log:
        steps: list[StepLine] = list(select(log, Filter(operation="set_dead")))
        assert [step.actor for step in steps] == ["dentry(1:web).params"]
        assert stats(log).steps > 20


if __name__ == "__main__":
    main()
