"""Lifecycles of a user's own file: good ones go everywhere, bad ones get one clear message that names the line."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.errors import EndlessLoop, LifecycleMistake, WrongReturn
from slabactors.scenario import find, find_lifecycle
from slabactors.testing import explore_sync, verify_sync
from tests.cli.conftest import listing, refused

RACE = "dead-cache/rmdir-races-last-free"

HEAD = """\
import asyncio
import threading
import time

from slabactors.actors import Actor, choose, operation, spawn
from slabactors.lifecycle import Lifecycle
from slabactors.lifecycle.repaired import Repaired
from slabactors.mm.slab_common import kmem_cache_shrink

LOCK = threading.Lock()
LOCK.acquire()


async def nothing():
    pass


def spin(box):
    while True:
        pass


class Box(Actor):
    @operation
    def loop(self):
        while True:
            pass

    @operation(guard=spin)
    def wait(self):
        pass

    @operation
    def snooze(self):
        time.sleep(1)


class Mine(Repaired):
    name = "mine"
    release = "a sketch"

"""
FIRST = len(HEAD.splitlines()) + 1
"""The line at which the body of the class goes on."""
RELEASED = "async def last_page_released(self, cpu, cache):\n"


def hook(body: str) -> str:
    """The hook that every story under the microscope here calls, doing this."""
    return RELEASED + textwrap.indent(body, "    ")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Write a lifecycle file: the usual head, then a class body; or a text as it is."""
    monkeypatch.chdir(tmp_path)

    def go(body: str, head: str | None = None) -> str:
        text = HEAD + textwrap.indent(body, "    ") if head is None else head + body
        (tmp_path / "mine.py").write_text(text + "\n")
        return "mine.py:Mine"

    return go


def forget_files() -> None:
    """Be as another process, which has imported no file yet."""
    for name in [one for one in sys.modules if one.startswith("slabactors_file_")]:
        del sys.modules[name]


# -- good ones ---------------------------------------------------------------------------------------------------------

GOOD = "creates_in_place = True"
BROKEN = "async def kmem_cache_destroy_work_func(self, cpu, params):\n    pass"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run TARGET", cli.FINE),
        ("run TARGET --runtime asyncio", cli.FINE),
        ("run TARGET --runtime trio --log run.jsonl", cli.FINE),
        ("run TARGET --runtime asyncio --duration 0.01", cli.FINE),
        ("explore TARGET --runs 50", cli.FINE),
        ("explore TARGET --runs 300 --jobs 2 --save campaign", cli.FINE),
        ("verify TARGET --policy quiescent", cli.FINE),
        ("verify TARGET --policy quiescent --search dpor", cli.FINE),
        ("verify TARGET --policy quiescent --search states", cli.FINE),
        ("verify TARGET --policy quiescent --search dpor --jobs 2", cli.FINE),
        ("verify TARGET --policy quiescent --preemptions 1", cli.UNDETERMINED),
        ("verify TARGET --policy quiescent --delays 1", cli.UNDETERMINED),
    ],
)
@pytest.mark.parametrize("named", ["mine.py", "mine.py:Mine"])
def test_a_lifecycle_of_a_file_goes_wherever_a_shipped_one_does(command, mine, line, code, named):
    """Under every command, with several processes and on both event loops."""
    mine(GOOD)
    said = command(*line.replace("TARGET", RACE).split(), "--lifecycle", named)
    assert said.code == code, said
    assert named in said.out


@pytest.mark.parametrize("verb", ["explore", "verify"])
def test_a_finding_of_it_can_be_seen_again_explained_and_reported(command, mine, verb):
    """The file's name is in the finding, which finds the file again."""
    file = mine(BROKEN)
    said = command(verb, RACE, "--lifecycle", file, "--save", "found", "--json", "--no-reduce")
    assert said.code == cli.BUG
    (finding, *_) = said.document["findings"]
    for again in ("replay", "why"):
        assert command(again, finding["file"]).code == cli.BUG
    assert command("replay", finding["file"], "--log", "run.jsonl").code == cli.BUG
    assert f'"lifecycle":"{file}"' in Path("run.jsonl").read_text().replace(" ", "")
    assert command("log", "show", "run.jsonl").code == cli.FINE
    assert command("report", finding["file"], "-o", "page.html").code == cli.FINE
    assert command("report", "run.jsonl", "-o", "log.html").code == cli.FINE


def test_tests_take_it_too(mine):
    """`slabactors.testing` and `@interleavings` name it in the same way."""
    file = mine(GOOD)
    assert explore_sync(RACE, lifecycle=file, runs=20).verdict == "clean"
    assert verify_sync(RACE, lifecycle=file).verdict == "verified"


def test_its_own_name_does_not_matter(command, mine):
    """It goes by where it is: also without a name, and with one that a shipped lifecycle has."""
    nameless = (
        HEAD.replace('    name = "mine"\n', "")
        .replace("(Repaired)", "(WithoutDestroyWork)")
        .replace("import Lifecycle", "import Lifecycle, WithoutDestroyWork")
    )
    offline = "    async def offline(self, cpu, memcg):\n        await memcg.css_offline()"
    for number, head in enumerate([nameless, nameless + '    name = "v5"\n']):
        mine(offline, head=head)
        file = f"mine{number}.py"
        Path("mine.py").rename(file)
        assert command("run", RACE, "--lifecycle", file, "--json").document["lifecycle"] == file
        assert command("run", RACE, "--lifecycle", file, "--log", "run.jsonl").code == cli.BUG  # nobody destroys it
        assert command("report", "run.jsonl").code == cli.FINE
    assert find_lifecycle("v5").name == "v5"


def test_a_finding_says_that_its_lifecycle_has_changed(command, mine):
    """Steps that do not fit any more are refused at the first that does not, with what to do."""
    file = mine(BROKEN)
    (finding, *_) = command("explore", RACE, "--lifecycle", file, "--save", "found", "--json").document["findings"]
    assert command("replay", finding["file"]).code == cli.BUG
    mine("async def offline(self, cpu, memcg):\n    await memcg.css_offline()")
    forget_files()
    refused(command("replay", finding["file"]), "step", f"slabactors explore {RACE} --lifecycle {file}")
    Path("mine.py").unlink()
    forget_files()
    refused(command("replay", finding["file"]), "there is no lifecycle file mine.py")


# -- bad classes -------------------------------------------------------------------------------------------------------

CLASSES = [
    (
        "flag",
        'creates_in_place = "yes"',
        0,
        ["creates_in_place is true or false, not 'yes'", "creates_in_place = True"],
    ),
    ("flag misspelt", "create_in_place = True", 0, ["nobody uses create_in_place", "did you mean creates_in_place"]),
    ("hook misspelt", "async def last_page_relased(self, cpu, cache): ...", 0, ["did you mean last_page_released()"]),
    ("hook that is none", "offline = 7", 0, ["offline is a method, not 7", "async def offline(self, cpu, memcg)"]),
    ("plain def", "def offline(self, cpu, memcg): ...", 0, ["has to be an async def, not def", "async def offline("]),
    ("generator", "async def offline(self, cpu, memcg):\n    yield", 0, ["an async def, and it has a yield"]),
    ("async def", "async def new_params(self, machine, child, memcg, root): ...", 0, ["a plain def, not async def"]),
    ("too few", "async def last_page_released(self, cpu): ...", 0, ["too many positional", "(self, cpu, cache)"]),
    ("too many", "async def last_page_released(self, cpu, cache, order): ...", 0, ["argument: 'order'"]),
    ("no self", "async def offline(cpu, memcg): ...", 0, ["(self, cpu, memcg)"]),
    ("keyword", "async def get_cache(self, cpu, root, memcg): ...", 0, ["may_sleep"]),
    ("init", "def __init__(self):\n    raise ValueError('not today')", 1, ["making Mine raised ValueError: not today"]),
    ("init's arguments", "def __init__(self, cpus):\n    pass", 0, ["missing 1 required", "without arguments"]),
    ("no await", hook("if cache.params.is_dead():\n    pass"), 1, ["cache.params.is_dead() is not awaited"]),
    ("no await of a path", hook("kmem_cache_shrink(cpu, cache)"), 1, ["Write: await kmem_cache_shrink(cpu, cache)"]),
]


@pytest.mark.parametrize(("body", "line", "fragments"), [one[1:] for one in CLASSES], ids=[one[0] for one in CLASSES])
@pytest.mark.parametrize("verb", ["run", "explore", "verify"])
def test_a_class_that_cannot_be_a_lifecycle_is_refused(command, mine, tmp_path, verb, body, line, fragments):
    """Before anything is run, with the line, and what to write instead."""
    file = mine(body)
    refused(command(verb, RACE, "--lifecycle", file), f"mine.py:{FIRST + line}: ", *fragments)
    with pytest.raises(LifecycleMistake, match=f"mine.py:{FIRST + line}: "):
        explore_sync(RACE, lifecycle=file)
    assert listing(tmp_path) == {"mine.py"}


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["'Mine'", "slabactors new lifecycle"]),
        ("class Mine:\n    pass\n", ["mine.py:1: Mine is no lifecycle", "class Mine(Lifecycle)"]),
        ("x = 1\ndef Mine(): ...\n", ["mine.py:2: Mine is no lifecycle"]),
        ("from slabactors.lifecycle.v5 import V5 as Mine\n", ["the shipped lifecycle v5", "--lifecycle v5"]),
        ("class Other:\n    pass\nraise ValueError('no')\n", ["does not import: ValueError at line 3: no"]),
        ("def (:\n", ["SyntaxError at line 1"]),
    ],
)
def test_a_file_without_that_lifecycle_is_refused(command, mine, text, fragments):
    """It says what there is instead, or where importing it failed."""
    refused(command("run", RACE, "--lifecycle", mine("", head=text)), *fragments)


def test_missing_methods_are_named(command, mine):
    """With the class's line and the first one's head."""
    offline = "async def offline(self, cpu, memcg): ..."
    head = f"from slabactors.lifecycle import Lifecycle\n\nclass Mine(Lifecycle):\n    {offline}"
    said = command("run", RACE, "--lifecycle", mine("", head=head))
    refused(
        said, "mine.py:3: Mine misses kmem_cache_destroy_work_func and last_page_released", "async def kmem_cache_d"
    )


def test_two_classes_of_one_name_are_refused(command, mine):
    """Python would drop the first without a word."""
    file = mine("pass\n\n")
    text = HEAD + "    pass\n\n\nclass Mine(Repaired):\n    pass\n"
    mine("", head=text)
    refused(command("run", RACE, "--lifecycle", file), "two classes are called Mine", f"line {FIRST + 3}")


def test_a_file_of_several_and_a_file_that_is_missing(command, mine):
    """What to type is said."""
    mine("pass\n\n\nclass Other(Repaired):\n    pass", head=HEAD + "    ")
    refused(command("run", RACE, "--lifecycle", "mine.py"), "Mine, Other", "--lifecycle mine.py:Mine")
    refused(command("run", RACE, "--lifecycle", "mine.py:Mein"), "did you mean 'Mine'")
    refused(command("run", RACE, "--lifecycle", "yours.py"), "no lifecycle file yours.py", "slabactors new lifecycle")


def test_what_only_looks_like_a_mistake_is_let_through(mine):
    """A helper of nearly a hook's name that is called, a lock of the module's own, an inherited lifecycle."""
    file = mine(
        "async def destroy_caches(self, cpu):\n    LOCK.locked()\n\n"
        "async def register_cache(self, cpu, cache):\n    await self.destroy_caches(cpu)\n"
    )
    assert find_lifecycle(file).name == file


# -- what hooks return and raise ---------------------------------------------------------------------------------------

RETURNS = [
    ("async def get_cache(self, cpu, root, memcg, *, may_sleep): ...", "get_cache() returned None", "the root"),
    ("async def create_child(self, cpu, root, memcg):\n    return 7", "create_child() returned 7", "the child, or the"),
    ("async def charge_slab(self, cpu, cache, memcg, order): ...", "charge_slab() returned None", "false at the limit"),
    ("def new_params(self, machine, child, memcg, root): ...", "new_params() returned None", "a MemcgCacheParams"),
]


@pytest.mark.parametrize(("body", "what", "wanted"), RETURNS)
@pytest.mark.parametrize(
    "line",
    ["run", "run --runtime asyncio", "run --runtime trio", "explore --runs 9", "verify", "verify --search states"],
)
def test_a_hook_that_returns_something_else_is_the_users_mistake(command, mine, line, body, what, wanted):
    """No finding of kind `exception` somewhere in the model, in whatever is run, but the hook's own line."""
    verb, *options = line.split()
    said = command(verb, RACE, "--lifecycle", mine(body), *options)
    refused(said, f"mine.py:{FIRST}: {what}, and has to return ", wanted, "super()")
    with pytest.raises(WrongReturn):
        verify_sync(RACE, lifecycle="mine.py")


@pytest.mark.parametrize(
    ("body", "place", "text"),
    [
        ("raise RuntimeError('not today')", "mine.py", "not today"),
        ("raise StopIteration", "mine.py", "StopIteration"),
        ("await kmem_cache_shrink(cache, cpu)", "mine.py", "in slab_common.py:"),
        ("await self.last_page_released(cpu, cache)", "mine.py", "maximum recursion"),
    ],
)
@pytest.mark.parametrize("line", ["run", "run --runtime asyncio", "explore --runs 9", "verify"])
def test_what_a_hook_raises_is_a_finding_at_the_users_line(command, mine, line, body, place, text):
    """Also where it was raised further down, in our own code: that is told besides."""
    verb, *options = line.split()
    said = command(verb, RACE, "--lifecycle", mine(hook(body)), *options, "--json")
    assert said.code == cli.BUG
    finding = said.document.get("finding") or said.document["findings"][0]
    assert finding["kind"] == "exception"
    assert f" at {place}:{FIRST + 1}" in finding["message"]
    assert text in finding["message"]


# -- loops without an end ----------------------------------------------------------------------------------------------

LOOPS = {
    "a loop": (hook("while True:\n    pass"), "in last_page_released()"),
    "a loop that awaits nothing": (hook("while True:\n    await nothing()"), "in last_page_released()"),
    "an operation": (hook("await Box('box').loop()"), "in loop()"),
    "a guard": (hook("await Box('box').wait()"), "in spin()"),
    "a lock": (hook("with LOCK:\n    pass"), "in last_page_released()"),
    "an event": (hook("threading.Event().wait()"), "in last_page_released()"),
    "a plain hook": ("def new_params(self, machine, child, memcg, root):\n    while True: pass", "in new_params()"),
}


@pytest.mark.parametrize("what", LOOPS)
@pytest.mark.parametrize("line", ["run", "run --runtime asyncio", "run --runtime trio"])
def test_a_loop_without_a_step_ends_with_its_line(command, mine, monkeypatch, what, line):
    """After patience is at its end; a blocked event loop, too."""
    monkeypatch.setenv("SLABACTORS_PATIENCE", "0.2")
    verb, *options = line.split()
    body, where = LOOPS[what]
    said = command(verb, RACE, "--lifecycle", mine(body), *options)
    refused(said, "mine.py:", where, "went on for 0.2 s without awaiting anything", "SLABACTORS_PATIENCE=2")


@pytest.mark.parametrize(
    "line",
    [
        "explore",
        "explore --jobs 2",
        "verify",
        "verify --search states",
        "verify --preemptions 1",
        "verify --search dpor --jobs 2",
    ],
)
def test_every_search_ends_at_a_loop_without_a_step(command, mine, monkeypatch, line):
    """Also where another process has come to it."""
    monkeypatch.setenv("SLABACTORS_PATIENCE", "0.5")
    verb, *options = line.split()
    said = command(verb, RACE, "--lifecycle", mine(LOOPS["a loop"][0]), *options)
    refused(said, "in last_page_released() went on for 0.5 s", "mine.py:")


@pytest.mark.parametrize("body", ["await spawn(nothing())", "await choose(2)"])
@pytest.mark.parametrize("line", ["run", "run --runtime trio", "explore --runs 9", "verify", "verify --search states"])
def test_requests_without_end_that_are_no_step_are_bounded(command, mine, line, body):
    """Spawning and choosing for ever would never hit the bound on steps."""
    verb, *options = line.split()
    said = command(verb, RACE, "--lifecycle", mine(hook(f"while True:\n    {body}")), *options)
    refused(said, "20,000 things", f"at mine.py:{FIRST + 2} in last_page_released()", "Bound the loop")


@pytest.mark.parametrize("where", ["head", "init"])
def test_a_file_that_does_not_come_to_its_end_is_refused(command, mine, monkeypatch, where):
    """While it is imported, and while the lifecycle is made."""
    monkeypatch.setenv("SLABACTORS_PATIENCE", "0.1")
    file = mine("def __init__(self):\n    while True: pass") if where == "init" else mine("", head="while True: pass")
    refused(command("run", RACE, "--lifecycle", file), "mine.py:", "was still running after 0.3 s")
    with pytest.raises(EndlessLoop):
        find(RACE).bind(lifecycle_name=file)


STEPS = hook("while True:\n    await cpu.machine.slab_mutex.lock()\n    await cpu.machine.slab_mutex.unlock()")


def test_a_run_that_never_ends_is_bounded_and_says_who_goes_on(command, mine):
    """A loop of steps hits the bound; by states it is seen that there is no end, and nothing is verified."""
    file = mine(STEPS)
    said = command("run", RACE, "--lifecycle", file)
    assert said.code == cli.UNDETERMINED
    assert "hit the bound on steps; free at mine.py:" in said.out
    said = command("explore", RACE, "--lifecycle", file, "--runs", 2)
    assert said.code == cli.UNDETERMINED
    assert "2 of 2 executions hit the bound on steps" in said.out
    said = command("verify", RACE, "--lifecycle", file, "--search", "states", "--policy", "quiescent")
    assert said.code == cli.UNDETERMINED
    assert "Undetermined: it goes on for ever" in said.out
    assert "Verified" not in said.out
