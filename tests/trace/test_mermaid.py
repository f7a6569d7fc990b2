"""Mermaid diagrams: lines that the language has, few enough to be read, with what matters marked."""

from __future__ import annotations

import re

import pytest

from slabactors.actors import Actor, operation, parallel
from slabactors.explore.campaign import search
from slabactors.explore.shrink import shrink
from slabactors.runtime.history import History
from slabactors.runtime.simulated import Simulation
from slabactors.scenario import find
from slabactors.trace.formats.mermaid import MESSAGES_MAX, escaped, sequence_diagram
from tests.explore.programs import PROGRAMS
from tests.support import Oldest

NAME = r"[a-z]\d+"
TEXT = r"(?:[^#;\n]|#\w+;)+"
STATEMENTS = {
    "title": re.compile(rf"    title {TEXT}"),
    "participant": re.compile(rf"    participant ({NAME}) as {TEXT}"),
    "message": re.compile(rf"    ({NAME})(?:->>|-x)({NAME}): {TEXT}"),
    "note": re.compile(rf"    Note over ({NAME})(?:,({NAME}))?: {TEXT}"),
}


def parsed(diagram: str) -> list[tuple[str, str]]:
    """Each line with the kind of statement it is; fails on any that is none, or names nobody that takes part."""
    first, *lines, last = diagram.split("\n")
    assert (first, last) == ("sequenceDiagram", "")
    declared: set[str] = set()
    found = []
    for line in lines:
        ((kind, match),) = [(kind, match) for kind, rule in STATEMENTS.items() if (match := rule.fullmatch(line))]
        if kind == "participant":
            assert match.group(1) not in declared
            declared.add(match.group(1))
        else:
            assert {name for name in match.groups() if name} <= declared
        found.append((kind, line.strip()))
    return found


def of_kind(diagram: str, kind: str) -> list[str]:
    return [line for one, line in parsed(diagram) if one == kind]


@pytest.fixture(scope="module")
def broken():
    """The founding patch's simplest bug, shrunken; 1 in 70 random runs shows it."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    *_, result = search(program, runs=1200, seed=0)
    wanted = "uninitialised-work: queueing of an uninitialised work item by free"
    return shrink(program, result.found[wanted].record, wanted)


def test_a_finding_is_drawn_with_its_paths_and_the_actors_that_they_share(broken):
    """A lifeline for each, an arrow for each step, what came back beside it, and the step that broke crossed out."""
    diagram = sequence_diagram(broken.history, title="a bug", notes={12: "race"}, matter=[11])
    assert of_kind(diagram, "title") == ["title a bug"]
    assert of_kind(diagram, "participant") == [
        "participant p0 as cpu0 rmdir",
        "participant p1 as cpu1 free",
        "participant a0 as dentry(1:web).params",
        "participant a1 as dentry(1:web).destroy",
    ]
    messages = of_kind(diagram, "message")
    assert messages[0] == "p0->>a0: params->dead = true"
    assert messages[-2:] == [
        "p1->>a1: delayed_work_pending() = false",
        "p1-xa1: test_and_set_bit(WORK_STRUCT_PENDING)",
    ]
    assert of_kind(diagram, "note")[-1] == "Note over p1,a1: race, breaks"


def test_every_step_is_drawn_or_counted(broken):
    """What is left out is said, at its place."""
    for matter in ([], [0], range(len(broken.history.events))):
        diagram = sequence_diagram(broken.history, matter=matter)
        left_out = [int(number) for number in re.findall(r": (\d+) steps? not shown", diagram)]
        assert len(of_kind(diagram, "message")) + sum(left_out) == len(broken.history.events)
    assert left_out == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bugs_of_any_program_are_drawn(name):
    """Whatever takes part: timers, messages that were told, bugs that no step has."""
    *_, result = search(PROGRAMS[name], runs=800, seed=0)
    for found in result.found.values():
        small = shrink(PROGRAMS[name], found.record, found.signature)
        diagram = sequence_diagram(small.history, title=found.signature)
        assert of_kind(diagram, "title") == [f"title {found.signature}"]
        crossed = sum("-x" in line for line in of_kind(diagram, "message"))
        assert crossed == (small.outcome.culprit is not None and found.signature.startswith("use-after-free"))


def history_of(*paths) -> History:
    """The history of a run of some paths, one after the other."""
    history = History()

    async def main() -> None:
        await parallel(*paths)

    simulation = Simulation(Oldest(), observer=history)
    history.follow(simulation)
    simulation.run(main())
    return history


class Awkward(Actor):
    """Something that is called what Mermaid takes for its own."""

    @operation(writes="a")
    def touch(self) -> str:
        """``a; b # c->>d: <e>``."""
        return "end; of\nthe #line"


async def visitor(actor: Awkward, times: int) -> None:
    for _ in range(times):
        await actor.touch()


def test_no_text_is_taken_for_a_statement():
    """Semicolons, hashes, angle brackets and ends of lines come out as text."""
    actor = Awkward("x; y #z\nparticipant")
    diagram = sequence_diagram(history_of(visitor(actor, 1), visitor(actor, 1)), title="a;b\nc")
    assert of_kind(diagram, "title") == ["title a#59;b c"]
    assert "participant a0 as x#59; y #35;z participant" in of_kind(diagram, "participant")
    assert of_kind(diagram, "message") == ["p0->>a0: a#59; b #35; c->>d: #lt;e> = end#59; of the #35;line"] * 2


def test_a_diagram_that_nobody_would_read_is_cut():
    """The last steps are kept, and those that matter."""
    actor = Awkward("x")
    history = history_of(visitor(actor, 100), visitor(actor, 100))
    diagram = sequence_diagram(history, matter=[3, 70])
    assert len(of_kind(diagram, "message")) == MESSAGES_MAX
    notes = of_kind(diagram, "note")
    assert notes[:3] == [
        "Note over p0: 3 steps not shown",
        "Note over p0: 66 steps not shown",
        "Note over p0: 71 steps not shown",
    ]
    assert len(of_kind(sequence_diagram(history, matter=range(200)), "message")) == MESSAGES_MAX


def test_a_run_without_steps_is_drawn():
    """An empty diagram is one, too."""
    assert parsed(sequence_diagram(History())) == []
    assert escaped("plain") == "plain"
