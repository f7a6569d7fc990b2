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
    help_format="plaintext",  # what else it could be takes long to import
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
Reduce = Annotated[
    bool,
    Parameter(help="Make the numbers of the scenario smaller, too, as long as the bug shows.", negative="--no-reduce"),
]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document on stdout.", negative=())]
Jobs = Annotated[int | None, Parameter(help="Search with so many processes; one by default.")]
Executor = Annotated[str | None, Parameter(help="dask://HOST:PORT: search on the workers of that Dask cluster.")]
Save = Annotated[
    Path | None,
    Parameter(help="Directory of the campaign: findings' files, and what was searched, to go on from there."),
]
Slabinfo = Annotated[Path | None, Parameter(help="Write what /proc/slabinfo would say in the end there.")]
Sysfs = Annotated[
    Path | None,
    Parameter(help="Directory for what /sys/kernel/slab and the groups' memory.kmem files would hold in the end."),
]
Runtime = Literal["sim", "asyncio", "trio"]
Policy = Literal["adversarial", "quiescent", "untimed"]


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
    slabinfo: Slabinfo = None,
    sysfs: Sysfs = None,
    time_scale: Annotated[float, Parameter(help="Live: how many times faster than real time timers go.")] = 10_000.0,
    jitter: Annotated[float, Parameter(help="Live: how often a mailbox hesitates, 0 to 1.")] = 0.3,
    duration: Annotated[
        float | None, Parameter(help="Live: again and again for so many seconds; then say which bugs there were.")
    ] = None,
    save: Annotated[Path | None, Parameter(help="With --duration: directory for a file of each finding.")] = None,
    json: Json = False,
) -> int:
    """Run a scenario once and say what became of its caches, or live for a while and say what broke."""
    from slabactors.cli.once import LiveOptions, run_once
    from slabactors.cli.surfaces import SurfaceOptions

    show = SurfaceOptions(slabinfo, sysfs, log)
    live = LiveOptions(runtime=runtime, seed=seed, time_scale=time_scale, jitter=jitter, duration=duration, save=save)
    return run_once(target, lifecycle, settings or [], live, log=log, show=show, json=json)


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
    policy: Annotated[
        Policy | None,
        Parameter(
            help="When timers may fire: at any moment, the earliest first or whichever (untimed), or only when nothing "
            "else can move."
        ),
    ] = None,
    starvation: Annotated[
        float | None,
        Parameter(help="For how many virtual seconds at most a timer that fires early may leave somebody waiting."),
    ] = None,
    jobs: Jobs = None,
    executor: Executor = None,
    save: Save = None,
    reduce: Reduce = True,
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
        policy=policy,
        starvation=starvation,
        jobs=jobs,
        executor=executor,
        save=save,
        reduce=reduce,
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
        Policy | None,
        Parameter(
            help="When timers may fire: once each at any moment, the earliest first or whichever (untimed), or only "
            "when nothing else can move."
        ),
    ] = None,
    search: Annotated[
        Literal["auto", "dpor", "states"],
        Parameter(help="By traces (dpor), by states, or both in turn until one of them is through."),
    ] = "auto",
    preemptions: Annotated[
        int | None, Parameter(help="All schedules with none, one ... at most so many preemptions instead.")
    ] = None,
    delays: Annotated[
        int | None, Parameter(help="All schedules with none, one ... at most so many delays of a round instead.")
    ] = None,
    jobs: Annotated[int | None, Parameter(help="Search by traces with so many processes; one by default.")] = None,
    executor: Executor = None,
    runs: Annotated[int | None, Parameter(help="Give up after so many executions.")] = None,
    time: Annotated[float | None, Parameter(help="Give up after so many seconds.")] = None,
    save: Save = None,
    reduce: Reduce = True,
    json: Json = False,
) -> int:
    """Explore every interleaving of a scenario: every trace once, or every step from every state once."""
    from slabactors.cli.verify import verify_scenario

    return verify_scenario(
        target,
        lifecycle,
        settings or [],
        policy=policy,
        search=search,
        preemptions=preemptions,
        delays=delays,
        jobs=jobs,
        executor=executor,
        runs=runs,
        seconds=time,
        save=save,
        reduce=reduce,
        json=json,
    )


@app.command
def replay(
    finding: Annotated[Path, Parameter(help="A file that explore or verify --save wrote.")],
    /,
    *,
    lenient: Annotated[
        bool, Parameter(help="Follow what still fits, skip the rest, and go on after its end.", negative=())
    ] = False,
    explore: Annotated[
        int | None, Parameter(help="Run so many executions that begin as the finding does, and then go on at random.")
    ] = None,
    prefix: Annotated[
        int | None, Parameter(help="With --explore: how many decisions they share; all but the last third by default.")
    ] = None,
    step: Annotated[bool, Parameter(help="Stop before each step and ask which one is next.", negative=())] = False,
    strategy: Annotated[
        str | None, Parameter(help="What goes on after the schedule: fair, or portfolio with --explore, by default.")
    ] = None,
    seed: Seed = 0,
    log: Annotated[Path | None, Parameter(help="Write the run's JSON lines there.")] = None,
    save: Annotated[Path | None, Parameter(help="With --explore: directory for the findings' files.")] = None,
    json: Json = False,
) -> int:
    """Run a finding's schedule again: strictly, as far as it fits, step by step, or on from a point of it."""
    from slabactors.cli.replay import ReplayOptions, replay_finding

    return replay_finding(
        finding,
        ReplayOptions(
            lenient=lenient,
            explore=explore,
            prefix=prefix,
            step=step,
            strategy=strategy,
            seed=seed,
            log=log,
            save=save,
            json=json,
        ),
    )


@app.command
def why(
    finding: Annotated[Path, Parameter(help="A file that explore or verify --save wrote.")],
    /,
    *,
    mermaid: Annotated[Path | None, Parameter(help="Write a Mermaid sequence diagram of the run there.")] = None,
    json: Json = False,
) -> int:
    """Tell how a finding came about: the steps that led to it, and the pairs of steps whose order broke it."""
    from slabactors.cli.why import why_finding

    return why_finding(finding, mermaid=mermaid, json=json)


@app.command
def report(
    file: Annotated[Path, Parameter(help="A finding's file, or a log that run, replay or trace --log wrote.")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="The HTML file; beside the input, with its name, by default."),
    ] = None,
    show: Annotated[bool, Parameter(name="--open", help="Open it in the browser.", negative=())] = False,
    json: Json = False,
) -> int:
    """Write one self-contained HTML page about a run: its story, timeline, caches step by step, and curves."""
    from slabactors.cli.html import write_report

    return write_report(file, output=output, show=show, json=json)


@app.command
def trace(
    file: Annotated[Path, Parameter(help="ftrace text, or what trace-cmd report or perf script print.")],
    /,
    *,
    lifecycle: Annotated[str, Parameter(help="Generation of the protocol.")] = "v5",
    seed: Seed = 0,
    limit: Annotated[int | None, Parameter(help="Use only so many allocations and frees.")] = None,
    log: Annotated[Path | None, Parameter(help="Write the run's JSON lines there.")] = None,
    slabinfo: Slabinfo = None,
    sysfs: Sysfs = None,
    json: Json = False,
) -> int:
    """Run a real kernel's recorded allocations, frees and cgroup deaths as the workload of the machine."""
    from slabactors.cli.surfaces import SurfaceOptions
    from slabactors.cli.trace import trace_file

    show = SurfaceOptions(slabinfo, sysfs, log)
    return trace_file(file, lifecycle, seed=seed, limit=limit, log=log, show=show, json=json)


@app.command
def compare(
    target: Target,
    /,
    *,
    lifecycle: Annotated[
        list[str] | None,
        Parameter(
            name="--lifecycle",
            help="A generation of the protocol, once for each; every shipped one by default, but no mutant.",
            negative=(),
        ),
    ] = None,
    settings: Settings = None,
    seed: Annotated[int, Parameter(help="The first seed; run has the same ones.")] = 0,
    runs: Annotated[
        int, Parameter(name=["--runs", "--seeds"], help="How many runs of each lifecycle, with seeds that follow.")
    ] = 20,
    jobs: Annotated[int | None, Parameter(help="Play with so many processes; one by default.")] = None,
    plot: Annotated[Path | None, Parameter(help="Draw the comparison: a file that ends in .svg or .png.")] = None,
    save: Annotated[Path | None, Parameter(help="Directory for a file of each finding, shrunken.")] = None,
    json: Json = False,
) -> int:
    """Run a scenario under several lifecycles: bugs, pages of dead caches over time, time to destruction, costs."""
    from slabactors.cli.compare import compare_lifecycles

    return compare_lifecycles(
        target, lifecycle or [], settings or [], seed=seed, runs=runs, jobs=jobs, file=plot, save=save, json=json
    )


@app.command
def workload(
    file: Annotated[
        str | None,
        Parameter(help="A script of one operation a line; - for standard input.", allow_leading_hyphen=True),
    ] = None,
    /,
    *,
    model: Annotated[str | None, Parameter(help="Allocator model; see: slabactors list.")] = None,
    cpus: Annotated[int | None, Parameter(help="How many CPUs.")] = None,
    nodes: Annotated[int | None, Parameter(help="How many memory nodes.")] = None,
    check: Annotated[Path | None, Parameter(help="Replay a recording of a real kernel and compare everything.")] = None,
    random: Annotated[
        int | None, Parameter(help="Make a random script from this seed: print it, or with --model play it.")
    ] = None,
    operations: Annotated[int, Parameter(help="With --random: how many lines.")] = 100,
    objects: Annotated[int, Parameter(help="With --random: how many objects are held at most.")] = 400,
    json: Annotated[
        bool,
        Parameter(
            name="--json", help="Print JSON lines, one for each operation; with --check one document.", negative=()
        ),
    ] = False,
) -> int:
    """Play a script of allocations and frees through one allocator model, or check a recording against it."""
    from slabactors.cli.workload import WorkloadOptions, workload_command

    return workload_command(
        WorkloadOptions(
            file=file,
            model=model,
            cpus=cpus,
            nodes=nodes,
            json=json,
            check=check,
            random=random,
            operations=operations,
            objects=objects,
        )
    )


log_app = App(name="log", help="Look into the log of a run: see, follow, explain, compare, count, export, query.")
app.command(log_app)

LogFile = Annotated[Path, Parameter(help="A file that run, replay or trace --log wrote.")]
LineLimit = Annotated[int | None, Parameter(help="Show at most so many steps.")]
JsonLines = Annotated[bool, Parameter(name="--json", help="Print the lines as the file has them.", negative=())]


@log_app.command
def show(
    file: LogFile,
    /,
    *,
    actor: Annotated[str | None, Parameter(help="Only steps of these actors; patterns as in a shell.")] = None,
    path: Annotated[str | None, Parameter(help="Only steps of these paths, by name or whole key.")] = None,
    lane: Annotated[str | None, Parameter(help="Only steps on these CPUs and kworkers.")] = None,
    operation: Annotated[str | None, Parameter(help="Only these operations.")] = None,
    cache: Annotated[str | None, Parameter(help="Only what this cache, and what belongs to it, handled.")] = None,
    act: Annotated[Literal[1, 2] | None, Parameter(help="Only while the story plays, or while it settles.")] = None,
    first: Annotated[int | None, Parameter(name="--from", help="From this step on.")] = None,
    last: Annotated[int | None, Parameter(name="--to", help="Up to this step.")] = None,
    since: Annotated[float | None, Parameter(help="From this virtual second on.")] = None,
    until: Annotated[float | None, Parameter(help="Up to this virtual second.")] = None,
    limit: LineLimit = None,
    lanes: Annotated[bool, Parameter(help="A column for each path.", negative=())] = False,
    json: JsonLines = False,
) -> int:
    """Print the steps of a run, or some of them."""
    from slabactors.cli.log import show
    from slabactors.trace.query import Filter

    which = Filter(actor, path, lane, operation, cache, act, first, last, since, until)
    return show(file, which, limit=limit, lanes=lanes, json=json)


@log_app.command
def follow(
    file: LogFile,
    name: Annotated[str, Parameter(name="OBJECT", help="A cache, a memcg, a slab, an object: any name in the log.")],
    /,
    *,
    limit: LineLimit = None,
    json: JsonLines = False,
) -> int:
    """Follow an object through its life: what it handled, and who handed it on."""
    from slabactors.cli.log import follow_object

    return follow_object(file, name, limit=limit, json=json)


@log_app.command(name="why")
def why_step(
    file: LogFile,
    step: Annotated[int, Parameter(help="Number of the step.")],
    /,
    *,
    limit: Annotated[int, Parameter(help="Tell at most so many steps, the nearest.")] = 30,
    json: Json = False,
) -> int:
    """Tell what led to a step: those that it comes after, directly or not."""
    from slabactors.cli.log import why_step

    return why_step(file, step, limit=limit, json=json)


@log_app.command
def diff(
    left: LogFile,
    right: LogFile,
    /,
    *,
    context: Annotated[int, Parameter(help="Show so many steps before and after.")] = 3,
    json: Json = False,
) -> int:
    """Show where two runs part; exit 1 when they do."""
    from slabactors.cli.log import diff_logs

    return diff_logs(left, right, context=context, json=json)


@log_app.command
def stats(file: LogFile, /, *, json: Json = False) -> int:
    """Count what a log holds."""
    from slabactors.cli.log import print_stats

    return print_stats(file, json=json)


@log_app.command
def export(
    file: LogFile,
    /,
    *,
    kind: Annotated[
        Literal["perfetto", "shiviz", "itf", "dot", "mermaid", "ftrace"],
        Parameter(name="--format", help="What is to read it."),
    ],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="Write it there, not to stdout.")] = None,
    first: Annotated[int | None, Parameter(name="--from", help="From this step on.")] = None,
    last: Annotated[int | None, Parameter(name="--to", help="Up to this step.")] = None,
    release: Annotated[
        Literal["3.8", "6.1"] | None, Parameter(help="For ftrace: the kernel whose lines it has; 3.8 by default.")
    ] = None,
) -> int:
    """Write a run for another tool: a timeline, a space-time diagram, a graph, states, a kernel's trace."""
    from slabactors.cli.export import export_log
    from slabactors.trace.query import Filter

    return export_log(file, kind, Filter(first=first, last=last), output=output, release=release)


@log_app.command
def sql(
    file: Annotated[Path | None, Parameter(help="A file that run, replay or trace --log wrote.")] = None,
    query_text: Annotated[str | None, Parameter(name="QUERY", help="SQL over the table steps.")] = None,
    /,
    *,
    query: Annotated[str | None, Parameter(help="A shipped query; see --list.")] = None,
    listed: Annotated[bool, Parameter(name="--list", help="List the shipped queries.", negative=())] = False,
    limit: Annotated[int, Parameter(help="Show at most so many rows.")] = 1000,
    json: Json = False,
) -> int:
    """Ask a log something in SQL."""
    from slabactors.cli.log import ask_sql

    return ask_sql(file, query_text, query=query, listed=listed, limit=limit, json=json)


catalogue_app = App(name="catalogue", help="The real bugs that the protocol had, and which generation has which.")
app.command(catalogue_app)


@catalogue_app.default
def catalogue(
    *ids: Annotated[str, Parameter(name="ID", help="Tell these entries with their stories: B01, or FILE.py.")],
    json: Json = False,
) -> int:
    """List the entries of the catalogue, or tell some of them."""
    from slabactors.cli.catalogue import list_catalogue

    return list_catalogue([*ids], json=json)


@catalogue_app.command(name="verify")
def catalogue_verify(
    *ids: Annotated[str, Parameter(name="ID", help="Only these entries: B01, B16 for both its forms, or FILE.py.")],
    lifecycle: Annotated[
        list[str] | None,
        Parameter(name="--lifecycle", help="Only this generation, or one of your own; may be repeated.", negative=()),
    ] = None,
    fast: Annotated[bool, Parameter(help="Only the entries that take a second or two each.", negative=())] = False,
    jobs: Annotated[int | None, Parameter(help="Examine with so many processes; one by default.")] = None,
    markdown: Annotated[bool, Parameter(help="Print the matrix as a table of Markdown.", negative=())] = False,
    json: Json = False,
) -> int:
    """Search each entry in each generation, and say where it is, where it is not, and where history differs."""
    from slabactors.cli.catalogue import catalogue_verify

    return catalogue_verify([*ids], lifecycle or [], fast=fast, jobs=jobs, as_markdown=markdown, json=json)


@app.command
def new(
    kind: Annotated[Literal["scenario", "lifecycle", "test"], Parameter(help="What to begin.")],
    name: Annotated[str, Parameter(help="What to call it, for example my-story.")],
    /,
    *,
    directory: Annotated[Path, Parameter(help="Where to write it.")] = Path(),
    force: Annotated[bool, Parameter(help="Overwrite a file of that name.", negative=())] = False,
    json: Json = False,
) -> int:
    """Write a scenario, a lifecycle or a test to start from, which runs as it is."""
    from slabactors.cli.new import New, new_file

    return new_file(New(kind), name, directory=directory, force=force, json=json)


@app.command(name="list")
def list_(*, json: Json = False) -> int:
    """List the shipped scenarios, and lifecycles, checkers, strategies and allocator models."""
    from slabactors.cli.list import list_everything

    return list_everything(json=json)
