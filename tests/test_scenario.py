"""Scenarios: their knobs, the files they are in, and what binding them to a lifecycle gives."""

from __future__ import annotations

import runpy
import sys

import pytest

from slabactors.errors import ScenarioError, UnknownName
from slabactors.explore.strategy import RandomWalk
from slabactors.lifecycle import LIFECYCLES
from slabactors.machine import Machine, MachineConfig
from slabactors.runtime.step import Ending, TimePolicy
from slabactors.scenario import find, load_file, scenario, shipped
from tests.support import smaller

HEAD = "from slabactors.scenario import scenario\n\n\n"


@scenario(title="a story with every kind of knob", cpus=3, lifecycle="repaired")
async def knobs(machine, *, count: int = 2, rate: float = 0.5, loud: bool = False, name: str = "web", bare=7):
    """It only looks at what it was given."""
    await Looker.look(machine, count, rate, loud, name, bare)


class Looker:
    """Remembers what the story was given last."""

    seen: tuple = ()

    @classmethod
    async def look(cls, *seen) -> None:
        cls.seen = seen


# -- knobs -------------------------------------------------------------------------------------------------------------


def test_a_knob_has_the_type_of_its_annotation_or_of_its_default():
    """Annotations need not be importable, and may be left out."""
    assert {name: (knob.type, knob.default) for name, knob in knobs.parameters.items()} == {
        "count": (int, 2),
        "rate": (float, 0.5),
        "loud": (bool, False),
        "name": (str, "web"),
        "bare": (int, 7),
    }


def test_an_annotation_for_type_checkers_only_is_no_mistake(tmp_path):
    """``Machine`` may be imported under ``TYPE_CHECKING``, as in any other module."""
    path = tmp_path / "story.py"
    path.write_text(f"""\
from __future__ import annotations
from typing import TYPE_CHECKING
{HEAD}
if TYPE_CHECKING:
    from slabactors.scenario import Machine

@scenario(title="t")
async def story(machine: Machine, *, objects: int = 1) -> None:
    pass
""")
    (story,) = load_file(path)
    assert story.bind(settings=["objects=5"]).arguments == {"objects": 5}


def test_what_is_not_set_has_its_default():
    """The story gets every knob, the machine every field; only what was set is a setting."""
    bound = knobs.bind()
    assert bound.arguments == {"count": 2, "rate": 0.5, "loud": False, "name": "web", "bare": 7}
    assert bound.config == MachineConfig(cpus=3)
    assert bound.settings == {}
    assert bound.lifecycle.name == "repaired"


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        (["count=9"], {"count": 9}),
        (["rate=2"], {"rate": 2.0}),
        (["loud=yes", "name=a=b"], {"loud": True, "name": "a=b"}),
        ([" count = 4 "], {"count": 4}),
        (["count=1", "count=2"], {"count": 2}),
        ({"count": 9, "rate": 2}, {"count": 9, "rate": 2}),
        ({"loud": True, "name": ""}, {"loud": True, "name": ""}),
    ],
)
def test_settings_are_texts_or_values(settings, arguments):
    """A text is read as its knob's type; a value is taken if it is of that type."""
    bound = knobs.bind(settings=settings)
    assert {name: bound.arguments[name] for name in arguments} == arguments
    bound.execute(RandomWalk(0))
    assert Looker.seen[1:] == tuple(bound.arguments.values())


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        (["count"], ScenarioError, "expected name=value, found 'count'"),
        (["count=two"], ScenarioError, "'count' is a whole number, not 'two'"),
        (["rate=fast"], ScenarioError, "'rate' is a number, not 'fast'"),
        (["loud=2"], ScenarioError, "'loud' is true or false, not '2'"),
        ({"count": "2"}, ScenarioError, "'count' is a whole number, not '2'"),
        ({"count": True}, ScenarioError, "'count' is a whole number, not True"),
        ({"loud": 1}, ScenarioError, "'loud' is true or false, not 1"),
        ({"name": None}, ScenarioError, "'name' is a text, not None"),
        (["coutn=1"], UnknownName, "unknown parameter of knobs 'coutn'; did you mean 'count'"),
        ({"": 1}, UnknownName, "unknown parameter of knobs ''"),
        (["cpus=65"], ScenarioError, "cpus of a machine is a number from 1 to 64, not 65"),
        ({"pages": 0}, ScenarioError, "pages of a machine is a number from 1"),
        (["pre_destroy_runs=0"], ScenarioError, "pre_destroy_runs of a machine is a number from 1"),
        (["nodes=0"], ScenarioError, "nodes of a machine with slub-3.8 is a number from 1 to 64, not 0"),
        (["nodes=2", "allocator=slab-3.8"], ScenarioError, "with slab-3.8 is a number from 1 to 1, not 2"),
        (["allocator=slub-9"], UnknownName, "unknown allocator model 'slub-9'; did you mean 'slub-6.1'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, error, match):
    """The message says what was expected and what was found."""
    with pytest.raises(error, match=match):
        knobs.bind(settings=settings)


def test_an_unknown_lifecycle_is_refused():
    """The name is looked up when the scenario is bound."""
    with pytest.raises(UnknownName, match="unknown lifecycle 'v6'"):
        knobs.bind(lifecycle_name="v6")


@pytest.mark.parametrize("time", [*TimePolicy, "quiescent"])
def test_time_is_a_policy_or_its_name(time):
    """A story about delays says so."""

    @scenario(title="t", time=time)
    async def story(machine):
        pass

    assert story.time is TimePolicy(time)


def test_a_plain_function_is_no_scenario():
    """Only an ``async def`` over a machine is one."""
    with pytest.raises(ScenarioError, match=r"a scenario is an async def; .*story is not"):

        @scenario(title="t")
        def story(machine):
            pass

    with pytest.raises(ScenarioError, match=r"a scenario takes a machine; .*other takes nothing"):

        @scenario(title="t")
        async def other():
            pass


# -- files -------------------------------------------------------------------------------------------------------------


def test_shipped_scenarios_are_named_after_their_files():
    """Each is found under that name, tells its story, and names who reported it."""
    names = shipped()
    assert set(names) >= {
        "dead-cache/emptied",
        "dead-cache/freed-later",
        "dead-cache/rmdir-races-last-free",
        "dead-cache/memory-pressure",
        "dead-cache/creation-races-rmdir",
        "dead-cache/root-destroyed",
        "dead-cache/reaper",
        "containers/come-and-go",
    }
    for name, path in names.items():
        story = find(name)
        assert story.name == name
        assert path.stem == story.function.__name__
        assert "1." in story.story
        assert "2012" in story.story
        assert story.parameters.keys().isdisjoint(story.machine_parameters)


@pytest.mark.parametrize("name", list(shipped()))
def test_a_shipped_scenario_runs_by_itself(name, monkeypatch, capsys):
    """``python FILE --runs 5`` explores it, and ends with a code that says what it found."""
    path = shipped()[name]
    monkeypatch.setattr(sys, "argv", [str(path), "--runs", "5", "--json", *smaller(name)])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(path), run_name="__main__")
    assert leaving.value.code in (0, 1)
    assert '"executions": 5' in capsys.readouterr().out


def test_a_file_is_read_in_its_order(tmp_path):
    """A file may hold several scenarios; each is found by its name, with either kind of dash."""
    path = tmp_path / "stories.py"
    path.write_text(HEAD + "\n".join(f"@scenario(title='t')\nasync def {n}(machine): ..." for n in ("zeta", "al_pha")))
    assert [one.name for one in load_file(path)] == ["zeta", "al-pha"]
    for target in (f"{path}:al_pha", f"{path}:al-pha"):
        assert find(target).function.__name__ == "al_pha"
        assert find(target).name == target
    with pytest.raises(ScenarioError, match="holds several scenarios: zeta, al-pha"):
        find(str(path))
    with pytest.raises(UnknownName, match="'beta'; did you mean 'zeta'"):
        find(f"{path}:beta")


def test_a_file_that_did_not_import_can_be_mended(tmp_path):
    """A failed import leaves nothing behind that would stand in the way of the next."""
    path = tmp_path / "story.py"
    path.write_text("raise RuntimeError('not yet')\n")
    with pytest.raises(ScenarioError, match="RuntimeError at line 1: not yet"):
        load_file(path)
    path.write_text(HEAD + "@scenario(title='a longer title')\nasync def story(machine): ...\n")
    # The first text has another size, so that Python does not take what it compiled of it for this one.
    assert [one.name for one in load_file(path)] == ["story"]


def test_a_changed_story_has_another_digest(tmp_path):
    """The digest is of the function's text: where the file is does not matter."""
    digests = []
    for number, body in enumerate(["pass", "pass", "return None"]):
        path = tmp_path / str(number) / "story.py"
        path.parent.mkdir()
        path.write_text(HEAD + f"@scenario(title='t')\nasync def story(machine):\n    {body}\n")
        digests.append(load_file(path)[0].digest)
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 16


def test_a_story_without_a_docstring_of_its_own_has_that_of_its_file(tmp_path):
    """The story is told where its author told it."""
    path = tmp_path / "story.py"
    path.write_text('"""The tale."""\n' + HEAD + "@scenario(title='t')\nasync def story(machine): ...\n")
    assert load_file(path)[0].story == "The tale."
    assert knobs.story == "It only looks at what it was given."


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lifecycle_name", LIFECYCLES)
def test_every_run_has_a_machine_of_its_own(lifecycle_name):
    """Two runs of one bound scenario share nothing that changes."""
    bound = find("dead-cache/emptied").bind(lifecycle_name=lifecycle_name)
    first, second = (bound.execute(RandomWalk(0)) for _ in range(2))
    assert isinstance(first.world, Machine)
    assert first.world is not second.world
    assert first.simulation.record == second.simulation.record
    assert first.outcome.ending in (Ending.DONE, Ending.BUG)
    assert len(bound.reached(first)) == len(bound.sometimes) > 0
    bound.dispose(first)
    assert second.world.caches


def test_the_policy_of_time_can_be_overruled():
    """A run with time at rest never fires a timer early: the minute of the retry passes."""
    bound = find("dead-cache/freed-later").bind(lifecycle_name="v5")
    for seed in range(10):
        run = bound.execute(RandomWalk(seed), time=TimePolicy.QUIESCENT)
        assert run.outcome.now >= 60_000


def test_a_scenario_module_is_not_imported_twice(tmp_path):
    """Two names of one file give the same functions."""
    path = tmp_path / "story.py"
    path.write_text(HEAD + "@scenario(title='t')\nasync def story(machine): ...\n")
    assert find(str(path)).function is find(f"{path}:story").function
