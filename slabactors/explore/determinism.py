"""The first schedule of a search, twice: a program that does not repeat itself is not searched.

What `slabactors.runtime.tripwires` cannot see shows here, as far as it shows in the first run: a clock behind C code,
an address or a hash that an order depends on, state that one run leaves to the next.
"""

from __future__ import annotations

import hashlib
from itertools import zip_longest
from pathlib import Path
from types import CodeType, CoroutineType
from typing import Any, TypeAlias

from slabactors.actors import Actor
from slabactors.errors import NondeterminismError
from slabactors.explore.finding import REPEAT_HINT, signature
from slabactors.explore.program import Program
from slabactors.explore.strategy import FollowRecord, RandomWalk
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import Outcome, Step, TimePolicy
from slabactors.runtime.tripwires import raise_swallowed

Place: TypeAlias = "tuple[CodeType, int]"

MISFIT = "the schedule does not fit any more"


def not_repeated(step: int) -> NondeterminismError:
    """What an exhaustive search raises that comes to a state for the second time, and it is another one.

    Args:
        step: how many steps lead to it.
    """
    return NondeterminismError(
        f"two executions with the same {step} first steps went different ways after them: what one of them has left "
        f"behind the next one sees, so that there is no end to what there is to explore.\n{REPEAT_HINT}"
    )


class _Transcript:
    """An observer that writes down each step with where it is in the source, and what else could have come."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.places: list[Place | None] = []
        self.enabled: list[list[tuple[str, str, str]]] = []
        """By step: key, operation and actor of everybody else whose message could have been delivered."""
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation

    def __call__(self, step: Step) -> None:
        """A step."""
        assert self._simulation is not None
        self.steps.append(_render(step))
        path = step.path
        assert isinstance(path, SimPath)
        self.places.append(None if path.timer is not None else _place(path.coroutine))
        others = [one for one in self._simulation.enabled if one is not path]
        self.enabled.append([(one.key, one.request[0].name, one.request[1].name) for one in others])

    def end(self, text: str) -> None:
        """How it ended."""
        self.steps.append(text)


class FirstSchedule:
    """The first run of a search, to be compared with what its schedule gives later.

    Args:
        program: what is searched.
        seed: of the search.
        time: overrides the program's own policy.
    """

    def __init__(self, program: Program, *, seed: int, time: TimePolicy | None) -> None:
        self._program = program
        self._time = time
        self._first = _Transcript()
        execution = program.execute(RandomWalk(f"{seed}/0"), observer=self._first, time=time)
        self._record = list(execution.simulation.record)
        self._first.end(_render_end(execution.outcome))
        program.dispose(execution)

    @property
    def digest(self) -> str:
        """A digest of all its steps."""
        return hashlib.sha256("\n".join(self._first.steps).encode()).hexdigest()

    def repeat(self) -> None:
        """Run it again, and compare the two step by step.

        Raises:
            NondeterminismError: they differ; names the first step that does, and its line.
            ForeignCall: a path called what no schedule can repeat, and its own code has swallowed the refusal.
        """
        first, second = self._first, _Transcript()
        again = self._program.execute(FollowRecord(self._record), observer=second, time=self._time)
        fits = not isinstance(again.outcome.error, StopIteration | IndexError)
        second.end(_render_end(again.outcome) if fits else MISFIT)
        self._program.dispose(again)
        raise_swallowed()
        for index, (one, other) in enumerate(zip_longest(first.steps, second.steps)):
            same_enabled = first.enabled[index : index + 1] == second.enabled[index : index + 1]
            if one != other or not (same_enabled or index >= min(len(first.enabled), len(second.enabled))):
                raise _differed(first, second, index)


def check_determinism(program: Program, *, seed: int, time: TimePolicy | None = None) -> FirstSchedule:
    """Run the first schedule twice and compare the two step by step.

    Args:
        program: what is to be searched.
        seed: of the search.
        time: overrides the program's own policy.

    Returns:
        The first run, for another comparison when the search is through: a program that has changed meanwhile was not
        searched, whatever was seen.

    Raises:
        NondeterminismError: they differ; names the first step that does, and its line.
        ForeignCall: a path called what no schedule can repeat, and its own code has swallowed the refusal.
    """
    first = FirstSchedule(program, seed=seed, time=time)
    first.repeat()
    return first


def _differed(first: _Transcript, second: _Transcript, index: int) -> NondeterminismError:
    lines = [f"the same schedule ran twice and differed at step {index}:"]
    lines += [f"  first  {_at(first, index)}", f"  second {_at(second, index)}"]
    if first.steps[index : index + 1] == second.steps[index : index + 1]:
        lines += [f"  first  could also have had {_listed(first.enabled[index])}"]
        lines += [f"  second could also have had {_listed(second.enabled[index])}"]
    elif index and index >= min(len(first.places), len(second.places)):
        lines.append(f"  the last step that was the same is{_shown(first.places[index - 1])}")
    return NondeterminismError("\n".join([*lines, REPEAT_HINT]))


def _at(transcript: _Transcript, index: int) -> str:
    if index >= len(transcript.steps):
        return "had ended"
    place = transcript.places[index] if index < len(transcript.places) else None
    return transcript.steps[index] + (f",{_shown(place)}" if place is not None else "")


def _place(coroutine: Any) -> Place | None:
    """Where a path waits: file, line and function of its innermost ``await``."""
    place = None
    while isinstance(coroutine, CoroutineType) and coroutine.cr_frame is not None:
        place = coroutine.cr_code, coroutine.cr_frame.f_lineno
        coroutine = coroutine.cr_await
    return place


def _shown(place: Place | None) -> str:
    if place is None:
        return " that of a timer"
    code, line = place
    return f" at {Path(code.co_filename).name}:{line} in {code.co_name}()"


def _listed(enabled: list[tuple[str, str, str]]) -> str:
    return ", ".join(f"{key} ({operation} of {actor})" for key, operation, actor in enabled) or "nothing else"


def _render(step: Step) -> str:
    given = ", ".join(_stable(one) for one in step.args)
    return (
        f"{step.path.key}: {step.operation.owner}.{step.operation.name}({given}) = {_stable(step.reply)} "
        f"on {step.actor.name} at {step.now} jiffies"
    )


def _render_end(outcome: Outcome) -> str:
    return f"the run ended: {'done' if outcome.bug is None else signature(outcome)}"


def _stable(value: object) -> str:
    """A value if it is one that can be compared between two runs, else what it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return value.name if isinstance(value, Actor) else type(value).__qualname__
