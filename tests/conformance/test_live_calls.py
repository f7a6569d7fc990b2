"""A machine that foreign tasks talk to is a simulated one: the same calls, by its schedule, are the same steps.

Compared are keys of paths, operations, actors, arguments, replies, virtual time, what each step comes after and what it
changed, and how the run ended.  Who calls what and when is drawn at random; some of it breaks the founding patch.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from slabactors.actors import choose, sleep
from slabactors.errors import KernelBug
from slabactors.explore.finding import signature
from slabactors.explore.replay import replay
from slabactors.live import Failed, LiveMachine, live_machine
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from tests.conformance.test_live_equals_simulated import Rows


async def hesitant(path, most):
    """A path that begins later, by as much as the schedule says."""
    await sleep(await choose(3) * most)
    return await path


async def user(machine: LiveMachine, random: Random, dentry, web, held) -> None:
    """A task of somebody's, that allocates and frees."""
    for _ in range(random.randint(2, 6)):
        cpu = random.choice(machine.cpus)
        match random.randrange(5):
            case 0 | 1:
                held.append(await machine.call(cpu.task(kmem_cache_alloc(cpu, dentry, web), "alloc")))
            case 2 if held:
                await machine.call(kmem_cache_free(cpu, held.pop()))
            case 3:
                machine.start(hesitant(kmem_cache_shrink(cpu, dentry), random.randrange(100)))
            case _:
                await checkpoint()


async def program(random: Random, machines: list[LiveMachine], **options) -> None:
    async with live_machine(cpus=2, **options) as machine:
        machines.append(machine)
        cpu = machine.cpus[0]
        dentry = await machine.call(kmem_cache_create(cpu, "dentry", random.choice([192, 1000]), min_partial=0))
        web = await machine.call(mem_cgroup_create(cpu, "web"))
        held: list[object] = []
        async with anyio.create_task_group() as group:
            for _ in range(random.randint(1, 4)):
                group.start_soon(user, machine, random, dentry, web, held)
            if random.random() < 0.5:
                await machine.settle()
        for obj in held[1:]:
            await machine.call(hesitant(kmem_cache_free(random.choice(machine.cpus), obj), 50))
        if held:
            await machine.call(kmem_cache_shrink(cpu, held[0].slab.cache))
        async with anyio.create_task_group() as group:
            group.start_soon(machine.call, mem_cgroup_rmdir(cpu, web))
            for obj in held[:1]:
                group.start_soon(machine.call, kmem_cache_free(random.choice(machine.cpus), obj))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("lifecycle", ["repaired", "v5", "pre-patch"])
def test_what_foreign_tasks_have_called_replays_step_for_step(backend, lifecycle):
    endings: Counter[str] = Counter()
    for seed in range(12):
        live, machines = Rows(), []
        options = {"lifecycle": lifecycle, "seed": seed, "jitter": 0.4, "time_scale": 50_000, "observer": live}
        go = partial(program, Random(seed), machines, **options)
        bug = "none"
        try:
            anyio.run(go, backend=backend)
        except (Failed, KernelBug) as failed:
            bug = str(failed).partition(", live on")[0]
        [machine] = machines
        simulated = Rows()
        again = replay(machine.program(), machine.decisions(), observer=simulated)
        made = sum(decision.value is None for decision in machine.decisions())
        # The step that breaks a run is shown to no observer; that of the live run may have seen more, which is no part.
        wanted = simulated.rows
        assert live.rows[: len(wanted)] == wanted, f"seed {seed}"
        assert made - 1 <= len(wanted) <= made, f"seed {seed}"
        assert bug == ("none" if again.outcome.bug is None else signature(again.outcome)), f"seed {seed}"
        endings[bug.partition(":")[0]] += 1
    assert set(endings) == {"none"} if lifecycle == "repaired" else len(endings) > 1, endings
