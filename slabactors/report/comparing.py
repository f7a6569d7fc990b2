"""One scenario under several lifecycles: which bugs there are, and what becomes of the dead caches.

Each lifecycle plays the same seeds.  A run is that of ``slabactors run --seed``: random order, quiescent time.
"""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import ceil
from typing import Any, Final

from slabactors.errors import Kind
from slabactors.explore.campaign import REPORT_SECONDS, Found
from slabactors.explore.crew import STOP, Flight, Processes
from slabactors.explore.determinism import check_determinism
from slabactors.explore.finding import signature
from slabactors.explore.parallel import pickled, telling
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.report.dead_caches import DeadCaches, DeadCachesWatch
from slabactors.runtime.step import Ending
from slabactors.runtime.tripwires import guarded_search, tripwires
from slabactors.scenario import BoundScenario

__all__ = ["Bug", "Compared", "Comparison", "Curve", "PlayedOnce", "compare", "rank"]

CURVE_POINTS: Final = 400
"""Of a curve over virtual time, at most; one with more changes is looked at as often, at equal distances."""

LOW, MEDIAN, HIGH = 0.1, 0.5, 0.9
"""The quantiles of a curve's band and of its line."""

Curve = list[tuple[int, int, int, int]]
"""A step function: from a time in jiffies on, the low, the median and the high number of pages."""


@dataclass(frozen=True, slots=True)
class PlayedOnce:
    """What one run comes to; plain data, so that it can be sent.

    Attributes:
        seed: of the run.
        ending: how it ended.
        deliveries: how many messages were delivered.
        works: how many works ran.
        dead: what became of the dead caches.
        signature: of its bug; None without one.
        message: of its bug.
        record: its choices, when it has a bug.
    """

    seed: int
    ending: Ending
    deliveries: int
    works: int
    dead: DeadCaches
    signature: str | None = None
    message: str = ""
    record: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """The machine came to rest.  A zombie is only found then, and breaks no step."""
        return self.ending is not Ending.BOUND and self.dead.broke is None


def play(program: BoundScenario, seed: int) -> PlayedOnce:
    """One run; always the same for the same arguments."""
    watch = DeadCachesWatch()
    execution = program.execute(RandomWalk(f"{seed}/0"), observer=watch)
    outcome, bug = execution.outcome, execution.outcome.bug
    played = PlayedOnce(
        seed,
        outcome.ending,
        outcome.deliveries,
        sum(workqueue.executed for workqueue in execution.world.workqueues),
        watch.seen(outcome),
        None if bug is None else signature(outcome),
        "" if bug is None else bug.message,
        () if bug is None else tuple(execution.simulation.record),
    )
    program.dispose(execution)
    return played


def rank(ordered: Sequence[int], quantile: float) -> int:
    """The least of the numbers that so large a part of them is not above.

    Args:
        ordered: the numbers, at least one, the least first.
        quantile: the part, 0 to 1.
    """
    return ordered[max(0, ceil(quantile * len(ordered)) - 1)]


def median(numbers: Sequence[int]) -> int | None:
    """The middle one of some numbers, the lesser one of two; None of none."""
    return rank(sorted(numbers), MEDIAN) if numbers else None


@dataclass(slots=True)
class Bug:
    """A distinct bug of one lifecycle.

    Attributes:
        signature: what it is called.
        message: one sentence, of the first run that shows it.
        seed: of that run.
        record: the choices of that run.
        count: how many runs show it.
    """

    signature: str
    message: str
    seed: int
    record: tuple[int, ...] = field(repr=False)
    count: int = 1

    @property
    def kind(self) -> Kind:
        """The class of bug; a signature begins with it."""
        return Kind(self.signature.partition(":")[0])

    @property
    def found(self) -> Found:
        """As a search finds it: the first execution of one with that seed, by a random walk."""
        return Found(self.signature, list(self.record), 0, self.count, "random")


@dataclass
class Compared:
    """What the runs under one lifecycle come to.

    What is told of caches, pages, works and messages is of the runs that came to rest: of the others nobody knows how
    they would have gone on.

    Attributes:
        program: the scenario under that lifecycle.
        runs: those that were made, by seed.
    """

    program: BoundScenario
    runs: list[PlayedOnce]

    @property
    def name(self) -> str:
        """The lifecycle's."""
        return self.program.lifecycle.name

    @cached_property
    def whole(self) -> list[PlayedOnce]:
        """The runs that came to rest."""
        return [run for run in self.runs if run.whole]

    @property
    def broken(self) -> int:
        """How many runs have a bug."""
        return sum(run.signature is not None for run in self.runs)

    @property
    def bounded(self) -> int:
        """How many runs hit the bound on steps."""
        return sum(run.ending is Ending.BOUND for run in self.runs)

    @property
    def cut(self) -> int:
        """How many runs a bug ended before their machine came to rest."""
        return sum(run.dead.broke is not None for run in self.runs)

    @property
    def bugs(self) -> list[Bug]:
        """The distinct bugs, the most frequent first."""
        found: dict[str, Bug] = {}
        for run in self.runs:
            if run.signature is None:
                continue
            known = found.setdefault(run.signature, Bug(run.signature, run.message, run.seed, run.record, 0))
            known.count += 1
        return sorted(found.values(), key=lambda bug: (-bug.count, bug.signature))

    # -- dead caches ---------------------------------------------------------------------------------------------------

    @cached_property
    def lasted(self) -> list[int]:
        """For how long each destroyed cache had been dead, in jiffies, the shortest first."""
        return sorted(one for run in self.whole for child in run.dead.dead if (one := child.dying_jiffies) is not None)

    @property
    def dead(self) -> int:
        """How many caches died."""
        return sum(len(run.dead.dead) for run in self.whole)

    @property
    def never(self) -> int:
        """How many of them were still there when nothing moved any more."""
        return self.dead - len(self.lasted)

    def within(self, quantile: float) -> int | None:
        """Within how many jiffies so large a part of all dead caches was destroyed; None for never.

        Args:
            quantile: the part, 0 to 1; there has to be a dead cache.
        """
        position = max(0, ceil(quantile * self.dead) - 1)
        return self.lasted[position] if position < len(self.lasted) else None

    # -- pages ---------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        """When the last of the runs came to rest, in jiffies."""
        return max((run.dead.ended for run in self.whole), default=0)

    @property
    def pages_most(self) -> int | None:
        """The most pages that dead caches pinned at any time; the median of the runs."""
        return median([run.dead.pages_most for run in self.whole])

    @property
    def pages_left(self) -> int | None:
        """The pages that dead caches pin at the end; the median of the runs."""
        return median([run.dead.pages_leaked for run in self.whole])

    @property
    def page_seconds(self) -> float | None:
        """The area under the pages over virtual time; the median of the runs."""
        areas = sorted(run.dead.page_seconds for run in self.whole)
        return areas[(len(areas) - 1) // 2] if areas else None

    def curve(self, points: int = CURVE_POINTS) -> Curve:
        """The pages that dead caches pin over virtual time; where a run has ended it stays as it was.

        Args:
            points: how many to make of it at most.
        """
        times = sorted({begin for run in self.whole for begin, _ in run.dead.pinned})
        if len(times) > points:
            times = sorted({self.ended * number // (points - 1) for number in range(points)})
        begins = [[begin for begin, _ in run.dead.pinned] for run in self.whole]
        curve: Curve = []
        for now in times:
            pages = sorted(
                run.dead.pinned[bisect_right(begin, now) - 1][1] for run, begin in zip(self.whole, begins, strict=True)
            )
            point = (rank(pages, LOW), rank(pages, MEDIAN), rank(pages, HIGH))
            if not curve or curve[-1][1:] != point:
                curve.append((now, *point))
        return curve

    # -- what it costs -------------------------------------------------------------------------------------------------

    @property
    def works(self) -> int | None:
        """How many works ran; the median of the runs."""
        return median([run.works for run in self.whole])

    @property
    def messages(self) -> int | None:
        """How many messages were delivered; the median of the runs."""
        return median([run.deliveries for run in self.whole])

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it: virtual seconds and pages."""
        return {
            "lifecycle": self.name,
            "release": self.program.lifecycle.release,
            "runs": len(self.runs),
            "broken": self.broken,
            "bounded": self.bounded,
            "cut_short": self.cut,
            "at_rest": len(self.whole),
            "findings": [
                {"signature": bug.signature, "kind": bug.kind.value, "message": bug.message, "count": bug.count}
                | {"first_seed": bug.seed}
                for bug in self.bugs
            ],
            "dead": self.dead,
            "destroyed": len(self.lasted),
            "never": self.never,
            "seconds_to_destruction": {
                "median": _seconds(self.within(MEDIAN)),
                "p90": _seconds(self.within(HIGH)),
                "longest": _seconds(self.lasted[-1] if self.lasted else None),
            }
            if self.dead
            else None,
            "pages": {
                "peak": self.pages_most,
                "end": self.pages_left,
                "page_seconds": None if self.page_seconds is None else round(self.page_seconds, 3),
            },
            "works": self.works,
            "messages": self.messages,
            "pinned": [[begin / HZ, *pages] for begin, *pages in self.curve()],
        }


def _seconds(jiffies: int | None) -> float | None:
    return None if jiffies is None else jiffies / HZ


@dataclass(slots=True)
class Comparison:
    """One scenario under several lifecycles, as far as it was played.

    Attributes:
        programs: the scenario under each of the lifecycles.
        seed: the first.
        runs: how many of each are to be made, with consecutive seeds.
        played: the runs that were made, by the position of the program and the seed.
        finished: false while it goes on, and when it was interrupted.
    """

    programs: list[BoundScenario]
    seed: int
    runs: int
    played: dict[tuple[int, int], PlayedOnce] = field(default_factory=dict)
    finished: bool = False

    @property
    def signatures(self) -> int:
        """How many distinct bugs there are, each counted once for a lifecycle."""
        return len({(position, run.signature) for (position, _), run in self.played.items() if run.signature})

    @property
    def lifecycles(self) -> list[Compared]:
        """What each lifecycle comes to, those left out that were not played at all."""
        of_each: list[list[PlayedOnce]] = [[] for _ in self.programs]
        for (position, _), run in sorted(self.played.items(), key=lambda item: item[0]):
            of_each[position].append(run)
        return [Compared(program, runs) for program, runs in zip(self.programs, of_each, strict=True) if runs]

    @property
    def verdict(self) -> str:
        """``broken``, ``clean``, or ``undetermined``: a bound was hit, or it was interrupted."""
        runs = self.played.values()
        if any(run.signature is not None for run in runs):
            return "broken"
        return "clean" if self.finished and not any(run.ending is Ending.BOUND for run in runs) else "undetermined"

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it; nothing in it depends on the machine it was made on."""
        program = self.programs[0]
        return {
            "scenario": program.scenario.name,
            "parameters": program.settings,
            "seed": self.seed,
            "runs": self.runs,
            "time": program.scenario.time.value,
            "finished": self.finished,
            "verdict": self.verdict,
            "lifecycles": [one.as_json() for one in self.lifecycles],
        }


@guarded_search
def compare(
    programs: list[BoundScenario],
    *,
    seed: int = 0,
    runs: int = 20,
    jobs: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Comparison]:
    """Play every lifecycle with every seed; yields one growing comparison, now and then and at the end.

    All lifecycles play a seed before the next one's turn, so that there is something of each when it is interrupted.

    Args:
        programs: the scenario under each of the lifecycles, in the time that it is to be played in.
        seed: the first.
        runs: how many of each lifecycle, with consecutive seeds.
        jobs: how many processes; what they find does not depend on it.
        stop: asked before each run; true ends it unfinished.

    Raises:
        NondeterminismError: the scenario does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
        UsageError: it cannot be sent to another process.
        WorkersLost: processes died again and again.
    """
    comparison = Comparison(programs, seed, runs)
    yield comparison
    check_determinism(programs[0], seed=seed)
    wanted = [(position, number) for number in range(seed, seed + runs) for position in range(len(programs))]
    playing = _here(programs, wanted) if jobs == 1 else _elsewhere(programs, wanted, jobs, stop)
    for name, played in playing:
        if name is not None and played is not None:
            comparison.played[name] = played
        yield comparison
        if stop() and jobs == 1:
            break
    comparison.finished = len(comparison.played) == len(wanted)
    yield comparison


Name = tuple[int, int]


def _here(programs: list[BoundScenario], wanted: list[Name]) -> Iterator[tuple[Name, PlayedOnce]]:
    for position, seed in wanted:
        yield (position, seed), play(programs[position], seed)


def _elsewhere(
    programs: list[BoundScenario], wanted: list[Name], jobs: int, stop: Callable[[], bool]
) -> Iterator[tuple[Name | None, PlayedOnce | None]]:
    """The same by several processes, in whatever order they end; nothing now and then, while none does."""
    sent = [pickled(program) for program in programs]

    def describe(name: Name) -> tuple[str, str]:
        program = programs[name[0]]
        again = f"slabactors run {program.scenario.name} --lifecycle {program.lifecycle.name} --seed {name[1]}"
        return f"{program.lifecycle.name} with seed {name[1]}", again

    left = iter(wanted)
    with Processes(jobs) as crew:
        flight: Flight[Name, PlayedOnce | None] = Flight(crew, describe)
        while not stop():
            while flight.has_room and (name := next(left, None)) is not None:
                flight.start(name, _work, sent[name[0]], name[1])
            if not flight.busy:
                return
            yield None, None
            yield from flight.landed(REPORT_SECONDS)
        yield from flight.land()


def _work(data: bytes, seed: int) -> PlayedOnce | None:
    """In a worker: one run, unless it is over by now."""
    if STOP.is_set():
        return None
    with telling(), tripwires():
        return play(_received(data), seed)


@lru_cache(maxsize=64)
def _received(data: bytes) -> BoundScenario:
    program: BoundScenario = pickle.loads(data)
    return program
