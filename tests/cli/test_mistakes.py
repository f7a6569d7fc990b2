"""What the user can get wrong: one clear message on stderr, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import pytest

from slabactors import cli
from slabactors.lifecycle import LIFECYCLES
from slabactors.scenario import find, shipped
from tests.cli.conftest import HEAD, listing, refused

STORY = """\
@scenario(title="a story")
async def story(machine: Machine, *, objects: int = 1, factor: float = 0.5, loud: bool = False) -> None:
    pass
"""


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("run", ["TARGET", "--help"]),
        ("frobnicate", ["frobnicate", "explore"]),
        ("run nowhere", ["'nowhere'", "dead-cache/emptied", "FILE.py:NAME"]),
        ("run dead-cache/emptyed", ["did you mean 'dead-cache/emptied'"]),
        ("explore dead-cache/emptied --lifecycle v55", ["'v55'", "did you mean 'v5.5'", *LIFECYCLES]),
        ("run dead-cache/emptied --lifecycle v55", ["'v55'", "did you mean 'v5.5'", *LIFECYCLES]),
        ("run dead-cache/emptied --frobnicate", ["--frobnicate", "--help"]),
        ("explore dead-cache/emptied --no-json", ["--no-json", "--help"]),
        ("run dead-cache/emptied more", ["more", "--help"]),
        ("run dead-cache/emptied --seed x", ["--seed", "x"]),
        ("run dead-cache/emptied --runtime twisted", ["twisted", "asyncio", "trio"]),
        ("run dead-cache/emptied --set rows=1", ["'rows'", "objects", "cpus"]),
        ("run dead-cache/emptied --set objects", ["name=value", "'objects'", "--set cpus=2"]),
        ("run dead-cache/emptied --set objects=many", ["a whole number", "'many'", "--set objects=3"]),
        ("run dead-cache/emptied --set debugobjects=maybe", ["true or false", "'maybe'", "--set debugobjects=True"]),
        ("run dead-cache/emptied --set cpus=0", ["from 1 to 64", "not 0", "--set cpus=2"]),
        ("run dead-cache/emptied --set kworkers=65", ["from 1 to 64", "not 65", "--set kworkers=1"]),
        ("run dead-cache/emptied --set watermark_low=-1", ["from 0", "not -1", "--set watermark_low=0"]),
        ("run dead-cache/emptied --set allocator=slob", ["'slob'", "slub-3.8"]),
        ("run dead-cache/emptied --time-scale 0", ["more than 0", "not 0.0", "--time-scale 10000"]),
        ("run dead-cache/emptied --time-scale -1", ["more than 0", "not -1.0", "--time-scale 10000"]),
        ("run dead-cache/emptied --time-scale nan", ["more than 0", "not nan", "--time-scale 10000"]),
        ("run dead-cache/emptied --time-scale inf", ["more than 0", "not inf", "--time-scale 10000"]),
        ("run dead-cache/emptied --jitter 1.5", ["from 0 to 1", "not 1.5", "--jitter 0.3"]),
        ("run dead-cache/emptied --jitter nan", ["from 0 to 1", "not nan", "--jitter 0.3"]),
        ("explore dead-cache/emptied --strategy guess", ["'guess'", "random"]),
        ("explore dead-cache/emptied --runs 0", ["at least 1", "not 0", "--runs 10000"]),
        ("explore dead-cache/emptied --runs -5", ["at least 1", "not -5", "--runs 10000"]),
        ("explore dead-cache/emptied --runs 1e3", ["--runs", "1e3"]),
        ("explore dead-cache/emptied --time 0", ["more than 0", "not 0.0", "--time 10"]),
        ("explore dead-cache/emptied --time -1", ["more than 0", "not -1.0", "--time 10"]),
        ("explore dead-cache/emptied --time nan", ["more than 0", "not nan", "--time 10"]),
        ("trace trace.txt --limit 0", ["at least 1", "not 0", "--limit 1000"]),
        ("replay", ["FINDING", "--help"]),
        ("why", ["FINDING", "--help"]),
        ("replay nowhere.json", ["nowhere.json", "No such file", "slabactors explore"]),
        ("why nowhere.json", ["nowhere.json", "No such file", "slabactors explore"]),
    ],
)
def test_a_mistyped_command_is_refused(command, tmp_path, line, fragments):
    """What is not understood is named, with what would have been, and nothing is written."""
    refused(command(*line.split()), *fragments)
    assert listing(tmp_path) == set()


def test_an_argument_that_is_not_utf8_is_refused(command):
    """A name that neither a finding nor a log could hold is refused before anything is run."""
    refused(command("run", "st\udcffry.py"), "UTF-8", "'st\\udcffry.py'", "Rename")


def test_a_misspelt_scenario_lists_all_there_are(command):
    """Who does not know the name of a scenario learns all of them."""
    refused(command("run", "x"), *shipped())


# -- scenario files ----------------------------------------------------------------------------------------------------


def test_a_scenario_file_that_is_missing(command):
    """A missing file is named, and where to find scenarios."""
    refused(command("run", "missing.py"), "missing.py", "slabactors list")


def test_a_directory_is_no_scenario_file(command, tmp_path):
    """A directory with the name of a file is not taken for one."""
    (tmp_path / "folder.py").mkdir()
    refused(command("explore", "folder.py"), "folder.py", "slabactors list")


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("def (:\n", ["SyntaxError at line 1"]),
        ("x = 1\n\nimport no_such_module\n", ["ModuleNotFoundError at line 3", "no_such_module"]),
        ("x = 1\nraise ValueError('not today')\n", ["ValueError at line 2: not today"]),
        ("def f():\n    return 1 / 0\n\nf()\n", ["ZeroDivisionError at line 2"]),
        ("import sys\nsys.exit(0)\n", ["SystemExit at line 2"]),
        ("import sys\nsys.exit('leaving')\n", ["SystemExit at line 2: leaving"]),
        (HEAD + "@scenario\nasync def story(machine): ...\n", ["TypeError at line 4"]),
        (HEAD + "@scenario(title='t', pets=2)\nasync def story(machine): ...\n", ["TypeError at line 4", "pets"]),
        (HEAD + "@scenario(title='t', time='soon')\nasync def story(machine): ...\n", ["ValueError at line 4", "soon"]),
    ],
)
def test_a_scenario_file_that_does_not_import(command, write, text, fragments):
    """The error and the line of the file are said, and how to see the traceback."""
    write(text, head="")
    refused(command("run", "story.py"), "story.py does not import", "python story.py", *fragments)


@pytest.mark.parametrize("data", [b"x = 1\x00\n", b"\xff\xfe\x00\x01", b"x = '\xff'\n", b"\x7fELF\x02\x01\x01\x00"])
def test_a_scenario_file_that_is_no_text(command, tmp_path, data):
    """Bytes that are no Python are refused like any other file that does not import."""
    (tmp_path / "story.py").write_bytes(data)
    refused(command("run", "story.py"), "story.py does not import: SyntaxError")


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("x = 1\n", ["holds no scenario", "@scenario", "slabactors list"]),
        ("", ["holds no scenario"]),
        ("@scenario(title='t')\ndef story(machine): ...\n", ["async def", "story is not (story.py:5)"]),
        ("@scenario(title='t')\nclass Story: ...\n", ["async def", "Story is not"]),
        ("scenario(title='t')(7)\n", ["async def", "int is not"]),
        ("@scenario(title='t')\nasync def story(): ...\n", ["takes a machine", "async def story(machine: Machine)"]),
        ("@scenario(title='t')\nasync def story(*, machine): ...\n", ["takes a machine", "'machine' (story.py:5)"]),
        ("@scenario(title='t')\nasync def story(machine, some=1, /): ...\n", ["'some'", "'some=1'", "some: int = 1"]),
        ("@scenario(title='t', cpus='2')\nasync def story(machine): ...\n", ["cpus", "a whole number", "'2'"]),
        ("@scenario(title='t', cpus=99)\nasync def story(machine): ...\n", ["cpus", "from 1 to 64", "99"]),
        ("@scenario(title='t', lifecycle='v55')\nasync def story(machine): ...\n", ["'v55'", "did you mean 'v5.5'"]),
        ("@scenario(title='t')\nasync def story(machine, *, some): ...\n", ["'some'", "default", "at story.py:5"]),
        ("@scenario(title='t')\nasync def story(machine, *, some: list = None): ...\n", ["'some'", "default"]),
        ("@scenario(title='t')\nasync def story(machine, *, some: int = 'x'): ...\n", ["'some'", "default"]),
        ("@scenario(title='t')\nasync def story(machine, **many): ...\n", ["'many'", "default"]),
    ],
)
def test_a_scenario_that_is_none(command, write, text, fragments):
    """A scenario that cannot be run says what one looks like."""
    write(text)
    refused(command("run", "story.py"), *fragments)


def test_a_file_of_several_scenarios_needs_a_name(command, write):
    """Of several scenarios in a file one must be named, and the message shows how; then it runs."""
    write(STORY + STORY.replace("def story", "def other_story"))
    refused(command("run", "story.py"), "story, other-story", "story.py:story")
    refused(command("run", "story.py:third"), "'third'", "other-story")
    assert command("run", "story.py:other_story").code == cli.FINE
    assert command("run", "story.py:other-story").code == cli.FINE


TWICE = STORY.replace("a story", "the first") + "\n\n" + STORY.replace("a story", "the second")


@pytest.mark.parametrize("target", ["story.py", "story.py:story"])
def test_two_scenarios_of_one_name_in_a_file(command, write, target):
    """Python would drop the first without a word; here both are named by their lines."""
    write(TWICE)
    refused(
        command("run", target), "two scenarios are called story", "at story.py:5 and at story.py:10", "another name"
    )


def test_two_scenarios_of_one_name_from_two_files(command, write):
    """Also where one of them is imported under another name."""
    write(STORY, name="neighbour.py")
    write("from neighbour import story as theirs\n" + STORY)
    refused(command("explore", "story.py:story"), "neighbour.py:5 and at story.py:6")
    write("from neighbour import story\n\nagain = story\n", name="reused.py")
    assert command("run", "reused.py").code == cli.FINE


def test_a_file_that_runs_itself_when_it_is_imported(command, write):
    """``main()`` without its guard would run one search inside another."""
    write(STORY + "\nstory.main()\n")
    refused(command("run", "story.py"), "story.py:5: story.main() is called", 'if __name__ == "__main__": story.main()')


# -- help --------------------------------------------------------------------------------------------------------------

KNOBS = """\
@scenario(title="a story")
async def story(machine: Machine, *, objects: int = 1, factor: float = 0.5, loud: bool = False, who: str = "me"):
    \"\"\"Objects are made.

    Args:
        machine: is no knob.
        objects: how many there are,
            all in all.
        loud: whether they are heard.
    \"\"\"
"""


@pytest.mark.parametrize("verb", ["run", "explore", "verify"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_after_a_scenario_lists_its_knobs(command, write, monkeypatch, verb, flag):
    """With types, defaults, and a line each; what the command itself takes comes first, as always."""
    monkeypatch.setenv("COLUMNS", "150")
    write(KNOBS)
    plain = command(verb, flag)
    said = command(verb, "--lifecycle", "v5", "story.py", flag)
    assert (said.code, said.err) == (cli.FINE, "")
    assert said.out.startswith(plain.out)
    rows = [" ".join(line.strip("│").split()) for line in said.out[len(plain.out) :].splitlines()]
    assert "Parameters of story.py" in rows[0]
    assert rows[1:5] == [
        "--set objects=INT how many there are, all in all. [default: 1]",
        "--set factor=FLOAT [default: 0.5]",
        "--set loud=BOOL whether they are heard. [default: False]",
        "--set who=STR [default: me]",
    ]
    assert "cpus=2" in rows[5]


def test_help_after_what_is_no_scenario_is_the_help_and_the_mistake(command, tmp_path):
    """Who mistypes the file sees the options, and what was wrong."""
    said = command("run", "missing.py", "--help")
    assert said.code == cli.MISTAKE
    assert "--runtime" in said.out
    assert "missing.py" in said.err
    assert "Traceback" not in said.err
    assert command("log", "show", "--help").code == cli.FINE


@pytest.mark.parametrize("name", shipped())
def test_every_knob_of_a_shipped_scenario_is_explained(name):
    """In the story's docstring, which ``--help`` shows."""
    for knob in find(name).described():
        assert knob.about, knob.name


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("objects=1.5", ["a whole number", "'1.5'", "--set objects=1"]),
        ("factor=half", ["a number", "'half'", "--set factor=0.5"]),
        ("loud=loudly", ["true or false", "'loudly'", "--set loud=False", "declared at story.py:5"]),
        ("=1", ["''", "objects"]),
        ("object=1", ["did you mean 'objects'", "declared at story.py:5"]),
    ],
)
def test_a_parameter_of_the_wrong_type(command, write, setting, fragments):
    """A value that is not of its parameter's type is refused with an example of one that is."""
    write(STORY)
    refused(command("run", "story.py", "--set", setting), *fragments)
    assert command("run", "story.py", "--set", "objects=2", "--set", "factor=2", "--set", "loud=yes").code == cli.FINE


# -- while it runs -----------------------------------------------------------------------------------------------------

FOREIGN = {
    "asyncio.sleep(0)": "import asyncio\n    await asyncio.sleep(0)",
    "asyncio.sleep(1)": "import asyncio\n    await asyncio.sleep(1)",
    "an asyncio future": "import asyncio\n    await asyncio.Future(loop=LOOP)",
    "an asyncio event": "import asyncio\n    await asyncio.Event().wait()",
    "trio.sleep": "import trio\n    await trio.sleep(1)",
    "a trio event": "import trio\n    await trio.Event().wait()",
    "anyio.sleep": "import anyio\n    await anyio.sleep(1)",
    "an anyio event": "import anyio\n    await anyio.Event().wait()",
    "anyio.sleep(0)": "import anyio\n    await anyio.sleep(0)",
}

FOREIGN_STORY = """\
class Box(Actor):
    @operation
    def open(self):
        pass


class Loop:
    def get_debug(self):
        return False


LOOP = Loop()


async def helper(machine):
    await Box("box").open()
    {body}


@scenario(title="awaits what only an event loop can serve")
async def story(machine: Machine) -> None:
    await helper(machine)
"""


@pytest.mark.parametrize("verb", ["run", "explore"])
@pytest.mark.parametrize("what", FOREIGN)
def test_an_awaitable_of_an_event_loop_is_refused_in_the_simulator(command, write, tmp_path, verb, what):
    """A simulated path that awaits what no simulator can serve is told where, and what to do; no log stays."""
    text = FOREIGN_STORY.format(body=FOREIGN[what])
    write(text)
    line = next(number for number, one in enumerate((HEAD + text).splitlines(), 1) if "await" in one and "io." in one)
    options = ["--log", "run.jsonl"] if verb == "run" else []
    said = command(verb, "story.py", *options)
    refused(said, f"story.py:{line} in helper()", "--runtime asyncio or trio")
    assert listing(tmp_path) == {"story.py"}


def test_a_scenario_that_calls_exit_is_refused(command, write):
    """``sys.exit(0)`` in a story is not taken for a run in which all was well."""
    write("@scenario(title='t')\nasync def story(machine):\n    raise SystemExit(0)\n")
    refused(command("run", "story.py"), "called exit at story.py:6 in story()", "return")
    refused(command("explore", "story.py"), "called exit at story.py:6 in story()", "return")


RAISING = """\
class Box(Actor):
    @operation
    def open(self):
        pass


async def helper(box, steps):
    for _ in range(steps):
        await box.open()
    raise RuntimeError("the box is empty")


@scenario(title="raises")
async def story(machine: Machine, *, steps: int = 0, where: str = "main") -> None:
    box = Box("box")
    if where == "child":
        first = await spawn(helper(box, steps))
        await spawn(helper(box, steps + 1))
        await join(first)
    elif where == "joiner":
        await join(await spawn(box.open()))
        await helper(box, 0)
    else:
        await helper(box, steps)
"""


@pytest.mark.parametrize("where", ["main", "child", "joiner"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_scenario_that_raises_is_a_finding(command, write, steps, where):
    """An exception of a path's own code is a finding of that kind, which names the line and replays."""
    write(RAISING)
    settings = ["--set", f"steps={steps}", "--set", f"where={where}"]
    said = command("run", "story.py", "--json", *settings)
    assert said.code == cli.BUG
    assert said.document["finding"]["kind"] == "exception"
    assert "raised RuntimeError at story.py:13: the box is empty" in said.document["finding"]["message"]

    said = command("explore", "story.py", "--runs", 20, "--save", "out", "--json", *settings)
    assert said.code == cli.BUG
    (finding,) = said.document["findings"]
    assert finding["kind"] == "exception"
    assert finding["count"] == 20
    assert "story.py:13" in finding["message"]
    for verb in ("replay", "why"):
        said = command(verb, finding["file"])
        assert said.code == cli.BUG
        assert "the box is empty" in said.out


@pytest.mark.parametrize("verb", ["run", "explore"])
def test_an_assertion_that_fails_is_a_finding(command, write, verb):
    """``assert`` is how a story says what must hold."""
    write("@scenario(title='t')\nasync def story(machine):\n    assert machine is None, 'there is a machine'\n")
    said = command(verb, "story.py")
    assert said.code == cli.BUG
    assert "raised AssertionError at story.py:6: there is a machine" in said.out


COUNTING = """\
class Box(Actor):
    @operation
    def put(self, number):
        return number

    @operation
    def open(self):
        pass


class Broken(Exception):
    pass


RUNS = []


@scenario(title="remembers the run before")
async def story(machine: Machine, *, how: str = "operation") -> None:
    RUNS.append(None)
    box = Box("box")
    await box.open()
    await box.open()
    if how == "operation" and len(RUNS) % 2 == 0:
        await box.put(1)
    elif how == "argument":
        await box.put(len(RUNS))
    elif how == "length":
        for _ in RUNS:
            await box.open()
    elif how == "ending" and len(RUNS) % 2 == 0:
        raise Broken
    await box.open()
"""


@pytest.mark.parametrize(
    ("how", "step", "first", "second"),
    [
        ("operation", 2, "Box.open()", "Box.put(1)"),
        ("argument", 2, "Box.put(1)", "Box.put(2)"),
        ("length", 4, "the run ended", "Box.open()"),
        ("ending", 2, "Box.open()", "ended: exception: Broken"),
    ],
)
def test_a_scenario_with_a_memory_is_refused(command, write, how, step, first, second):
    """State that outlives a run would make every finding a lie: the first step that differs is named."""
    write(COUNTING)
    said = command("explore", "story.py", "--set", f"how={how}")
    refused(said, f"differed at step {step}", "\n  first  ", first, "\n  second ", second, "must not keep state")


LATE = """\
RUNS = []


@scenario(title="remembers many runs")
async def story(machine: Machine) -> None:
    RUNS.append(None)
    if len(RUNS) == 10:
        raise RuntimeError("the tenth")
"""


def test_a_bug_that_does_not_come_back_is_refused(command, write):
    """A bug that its own schedule does not show again is not reported as one that it does."""
    write(LATE)
    refused(command("explore", "story.py", "--runs", 20), "RuntimeError at story.py:11", "showed no bug")
