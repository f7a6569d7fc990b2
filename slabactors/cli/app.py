"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from slabactors import __version__

app = App(
    name="slabactors",
    help="Find the interleavings that break the teardown of per-memcg slab caches.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)

Target = Annotated[str, Parameter(help="A shipped scenario (see: slabactors list), FILE.py, or FILE.py:NAME.")]
LifecycleName = Annotated[
    str | None, Parameter(name="--lifecycle", help="Generation of the protocol; the scenario's own by default.")
]
Settings = Annotated[
    list[str] | None,
    Parameter(name="--set", help="NAME=VALUE: a parameter of the scenario or its machine.", negative=()),
]
Seed = Annotated[int, Parameter(help="Seed of everything that is random.")]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document on stdout.", negative=())]
Jobs = Annotated[int | None, Parameter(help="Search with so many processes; one by default.")]
Save = Annotated[
    Path | None,
    Parameter(help="Directory of the campaign: findings' files, and what was searched, to go on from there."),
]
Runtime = Literal["sim", "asyncio", "trio"]


@app.command
def run(
    target: Target,
    /,
    *,
    lifecycle: LifecycleName = None,
    settings: Settings = None,
    seed: Seed = 0,
    runtime: Annotated[Runtime, Parameter(help="Simulated, or live on an event loop.")] = "sim",
    log: Annotated[Path | None, Parameter(help="Write the run's JSON lines there.")] = None,
    time_scale: Annotated[float, Parameter(help="Live: how many times faster than real time timers go.")] = 10_000.0,
    jitter: Annotated[float, Parameter(help="Live: how often a mailbox hesitates, 0 to 1.")] = 0.3,
    json: Json = False,
) -> int:
    """Run a scenario once and say what became of its caches."""
    from slabactors.cli.once import run_once

    return run_once(
        target,
        lifecycle,
        settings or [],
        seed=seed,
        runtime=runtime,
        log=log,
        time_scale=time_scale,
        jitter=jitter,
        json=json,
    )


@app.command
def explore(
    target: Target,
    /,
    *,
    lifecycle: LifecycleName = None,
    settings: Settings = None,
    seed: Seed = 0,
    strategy: Annotated[str, Parameter(help="How the next step is picked; see: slabactors list.")] = "portfolio",
    runs: Annotated[int, Parameter(help="How many executions.")] = 10_000,
    time: Annotated[float | None, Parameter(help="Stop after so many seconds.")] = None,
    jobs: Jobs = None,
    executor: Annotated[
        str | None, Parameter(help="dask://HOST:PORT: search on the workers of that Dask cluster.")
    ] = None,
    save: Save = None,
    json: Json = False,
) -> int:
    """Run a scenario many times; print each distinct bug with the shortest schedule found for it."""
    from slabactors.cli.explore import explore_scenario

    return explore_scenario(
        target,
        lifecycle,
        settings or [],
        seed=seed,
        strategy=strategy,
        runs=runs,
        seconds=time,
        jobs=jobs,
        executor=executor,
        save=save,
        json=json,
    )


@app.command
def verify(
    target: Target,
    /,
    *,
    lifecycle: LifecycleName = None,
    settings: Settings = None,
    policy: Annotated[
        Literal["adversarial", "quiescent"] | None,
        Parameter(help="When timers may fire: once each at any moment, or only when nothing else can move."),
    ] = None,
    preemptions: Annotated[
        int | None, Parameter(help="All schedules with none, one ... at most so many preemptions instead.")
    ] = None,
    runs: Annotated[int | None, Parameter(help="Give up after so many executions.")] = None,
    time: Annotated[float | None, Parameter(help="Give up after so many seconds.")] = None,
    save: Save = None,
    json: Json = False,
) -> int:
    """Explore every interleaving of a scenario, one execution for all that differ only in independent steps."""
    from slabactors.cli.verify import verify_scenario

    return verify_scenario(
        target,
        lifecycle,
        settings or [],
        policy=policy,
        preemptions=preemptions,
        runs=runs,
        seconds=time,
        save=save,
        json=json,
    )


@app.command
def replay(
    finding: Annotated[Path, Parameter(help="A file that explore or verify --save wrote.")],
    /,
    *,
    log: Annotated[Path | None, Parameter(help="Write the run's JSON lines there.")] = None,
    json: Json = False,
) -> int:
    """Run a finding's schedule again, step for step."""
    from slabactors.cli.replay import replay_finding

    return replay_finding(finding, log=log, json=json)


@app.command
def why(
    finding: Annotated[Path, Parameter(help="A file that explore or verify --save wrote.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Tell how a finding came about: the steps that led to it, and who did what in which column."""
    from slabactors.cli.replay import why_finding

    return why_finding(finding, json=json)


@app.command
def trace(
    file: Annotated[Path, Parameter(help="ftrace text, or what trace-cmd report or perf script print.")],
    /,
    *,
    lifecycle: Annotated[str, Parameter(help="Generation of the protocol.")] = "v5",
    seed: Seed = 0,
    limit: Annotated[int | None, Parameter(help="Use only so many allocations and frees.")] = None,
    log: Annotated[Path | None, Parameter(help="Write the run's JSON lines there.")] = None,
    json: Json = False,
) -> int:
    """Run a real kernel's recorded allocations, frees and cgroup deaths as the workload of the machine."""
    from slabactors.cli.trace import trace_file

    return trace_file(file, lifecycle, seed=seed, limit=limit, log=log, json=json)


@app.command(name="list")
def list_(*, json: Json = False) -> int:
    """List the shipped scenarios, and lifecycles, checkers, strategies and allocator models."""
    from slabactors.cli.list import list_everything

    return list_everything(json=json)
