"""``--slabinfo`` and ``--sysfs``: what the machine shows when a run is over, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.mm import models
from slabactors.mm.slabinfo import HEADER, parse_slabinfo
from slabactors.mm.slub import Slub
from tests.cli.conftest import listing, refused
from tests.mm.test_slabinfo import slabtop

STORY = """
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create


@scenario(title="two groups, one of them removed while an object is held", cpus=4)
async def story(machine: Machine) -> None:
    cpu = machine.cpus[0]
    cache = await kmem_cache_create(cpu, NAME, 256)
    held = []
    for group in GROUPS:
        memcg = await mem_cgroup_create(cpu, group, limit=65536)
        held.append(await kmem_cache_alloc(cpu, cache, memcg))
    await mem_cgroup_rmdir(cpu, memcg)
"""


@pytest.fixture
def story(write):
    """Write the story, with other names if need be."""

    def go(name: str = "spec0", groups: tuple[str, ...] = ("kept", "gone")) -> Path:
        return write(STORY.replace("NAME", repr(name)).replace("GROUPS", repr(groups)))

    return go


def names(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(entry.name for entry in directory.iterdir())


def content(directory: Path) -> dict[str, str]:
    """Every file below, with its text."""
    return {file: (directory / file).read_text() for file in sorted(listing(directory))}


@pytest.mark.parametrize("runtime", ["sim", "asyncio", "trio"])
def test_both_are_written_when_the_run_is_over(command, story, tmp_path, runtime):
    """Whoever drives: slabinfo as slabtop reads it, a directory for each cache, and the groups' files."""
    said = command("run", story(), "--runtime", runtime, "--slabinfo", "slabinfo", "--sysfs", "out", "--json")
    assert said.err == ""
    assert said.document["finding"] is None
    text = (tmp_path / "slabinfo").read_text()
    row = "spec0                 32     32    256   16    1 : tunables    0    0    0 : slabdata      2      2      0"
    # The dead group's work has shrunk its child meanwhile, and its slab is on the node's list: one object of 16.
    assert text.startswith(HEADER)
    (name, active, *rest) = slabtop(text)[0]
    assert (name, int(active) in (17, 32), tuple(rest)) == ("spec0", True, slabtop(f"{HEADER}{row}\n")[0][2:])
    out = content(tmp_path / "out")
    assert {Path(file).parent.as_posix() for file in out} == {
        ".", "slab/spec0", "slab/spec0(1:kept)", "slab/spec0(2:gone)", "cgroup/kept", "dying/2:gone",
    }  # fmt: skip
    assert out["slab/spec0/slabs"] == "0\n"
    assert out["slab/spec0(1:kept)/slabs"] == "1 N0=1\n"
    assert out["cgroup/kept/memory.kmem.usage_in_bytes"] == "4096\n"
    assert out["cgroup/kept/memory.kmem.limit_in_bytes"] == "65536\n"
    assert [one.name for one in parse_slabinfo(out["cgroup/kept/memory.kmem.slabinfo"])] == ["spec0"]
    assert out["dying/2:gone/memory.kmem.usage_in_bytes"] == "4096\n"
    assert listing(tmp_path) == {"story.py", "slabinfo"} | {f"out/{file}" for file in out}


def test_what_a_bug_has_left_is_written_too(command, tmp_path):
    """A zombie's pages are in its root's row; exit 1 says that there was a bug."""
    said = command("run", "dead-cache/emptied", "--lifecycle", "pre-patch", "--slabinfo", "slabinfo", "--sysfs", "out")
    assert said.code == cli.BUG
    (row,) = parse_slabinfo((tmp_path / "slabinfo").read_text())
    assert (row.name, row.num_slabs, row.num_objs) == ("dentry", 1, 16)
    assert (tmp_path / "out/slab/dentry(1:web)/slabs").read_text() == "1 N0=1\n"
    assert (tmp_path / "out/dying/1:web/memory.kmem.usage_in_bytes").read_text() == "16384\n"


@pytest.mark.parametrize("target", ["rmdir-races-last-free", "root-destroyed", "unloaded-after-a-while"])
def test_a_run_that_breaks_anywhere_can_be_shown(command, tmp_path, target):
    """Also with a freed cache still in its slot, or a slab discarded twice: then a count is huge, as it would be."""
    broken = 0
    for seed in range(8):
        said = command("run", f"dead-cache/{target}", "--seed", seed, "--slabinfo", "s", "--sysfs", "out")
        assert said.code in (cli.FINE, cli.BUG)
        assert said.err == ""
        broken += said.code
        parse_slabinfo((tmp_path / "s").read_text())
    assert broken or target == "unloaded-after-a-while"


def test_a_played_trace_can_be_shown(command, tmp_path):
    """A recorded kernel's caches, as this machine has them in the end."""
    recorded = Path(__file__).parent.parent / "data" / "trace" / "trace-cgroup.txt"
    said = command("trace", recorded, "--slabinfo", "slabinfo", "--sysfs", "out")
    assert said.code == cli.FINE
    assert said.err == ""
    rows = parse_slabinfo((tmp_path / "slabinfo").read_text())
    assert len(rows) == 30
    assert {row.name for row in rows} == set(names(tmp_path / "out" / "slab"))
    slabs = {row.name: int((tmp_path / "out/slab" / row.name / "slabs").read_text().split()[0]) for row in rows}
    assert slabs == {row.name: row.num_slabs for row in rows}


# -- what is there already ---------------------------------------------------------------------------------------------


def test_what_an_earlier_run_wrote_is_replaced_whole(command, story, tmp_path):
    """Caches and groups that there are no more go; what others put beside them stays."""
    command("run", story("older", ("a", "b")), "--slabinfo", "out.txt", "--sysfs", "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    text = story().read_text()
    (tmp_path / "other.py").write_text(text)
    assert command("run", "other.py", "--slabinfo", "out.txt", "--sysfs", "out").code == cli.FINE
    assert names(tmp_path / "out" / "slab") == ["spec0", "spec0(1:kept)", "spec0(2:gone)"]
    assert names(tmp_path / "out" / "cgroup") == ["kept"]
    assert names(tmp_path / "out") == [".slabactors", "cgroup", "dying", "notes.txt", "slab"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert "older" not in (tmp_path / "out.txt").read_text()


def test_an_empty_directory_and_a_link_to_it_will_do(command, story, tmp_path):
    """A mounted directory cannot be replaced, nor should a link be."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    inode = (tmp_path / "real").stat().st_ino
    (tmp_path / "text").write_text("old")
    (tmp_path / "text-link").symlink_to("text")
    assert command("run", story(), "--sysfs", "link", "--slabinfo", "text-link").code == cli.FINE
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "text-link").is_symlink()
    assert (tmp_path / "text").read_text().startswith(HEADER)
    assert (tmp_path / "real").stat().st_ino == inode
    assert (tmp_path / "real" / "slab" / "spec0").is_dir()


def test_the_file_may_be_in_the_directory(command, story, tmp_path):
    """Made by the same command, and replaced by the next one."""
    for _ in range(2):
        assert command("run", story(), "--sysfs", "out", "--slabinfo", "out/slabinfo").code == cli.FINE
        assert (tmp_path / "out" / "slabinfo").read_text().startswith(HEADER)


@pytest.mark.parametrize("there", ["mine.txt", "slab/mine", ".hidden"])
def test_a_directory_with_something_in_it_is_refused(command, story, tmp_path, there):
    """Nothing of the user's is replaced or mixed with ours."""
    (tmp_path / "out" / there).parent.mkdir(parents=True)
    (tmp_path / "out" / there).write_text("mine")
    before = listing(tmp_path) | {"story.py"}
    refused(
        command("run", story(), "--sysfs", "out", "--slabinfo", "slabinfo"),
        "a new or an empty directory",
        f"found {there.split('/')[0]} in out",
        "--sysfs DIR",
    )
    assert listing(tmp_path) == before


def test_a_file_of_the_users_among_ours_is_refused(command, story, tmp_path):
    """It would go with the directory that it is in."""
    command("run", story(), "--sysfs", "out")
    (tmp_path / "out" / "slab" / "spec0" / "notes").write_text("mine")
    before = content(tmp_path)
    refused(command("run", story(), "--sysfs", "out"), "found slab/spec0/notes in out")
    assert content(tmp_path) == before


@pytest.mark.parametrize("mark", ["", "[]", "{}", '{"files": 3}', "\udcff"])
def test_a_mark_that_is_not_ours_protects_everything(command, story, tmp_path, mark):
    """A directory with a damaged list of our files is treated as the user's."""
    command("run", story(), "--sysfs", "out")
    (tmp_path / "out" / ".slabactors").write_bytes(mark.encode(errors="surrogateescape"))
    refused(command("run", story(), "--sysfs", "out"), "a new or an empty directory")


# -- bad places --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--slabinfo", "--sysfs"])
@pytest.mark.parametrize(("place", "why"), [("no/where", "No such file"), ("file/x", "Not a directory")])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(command, story, tmp_path, option, place, why):
    """Its path and what is wrong with it are said, and nothing is left behind."""
    path = story()
    (tmp_path / "file").write_text("mine")
    before = listing(tmp_path)
    refused(command("run", path, option, place), place, why, option)
    assert listing(tmp_path) == before


def test_a_directory_is_no_file_and_a_file_no_directory(command, story, tmp_path):
    """Neither is replaced by the other."""
    (tmp_path / "file").write_text("mine")
    refused(command("run", story(), "--slabinfo", tmp_path), "Is a directory", "--slabinfo FILE")
    refused(command("run", story(), "--sysfs", "file"), "Not a directory", "--sysfs DIR")
    assert listing(tmp_path) == {"story.py", "file"}


def test_a_log_and_slabinfo_cannot_be_one_file(command, story, tmp_path):
    """The second would replace the first."""
    refused(command("run", story(), "--log", "x", "--slabinfo", tmp_path / "x"), "--log and --slabinfo are both x")
    assert listing(tmp_path) == {"story.py"}


@pytest.mark.parametrize("option", ["--slabinfo", "--log"])
def test_a_file_cannot_lie_where_directories_are_replaced(command, story, tmp_path, option):
    """It would be gone when the run is over; beside them it stays."""
    assert command("run", story(), "--sysfs", "there").code == cli.FINE
    refused(command("run", story(), "--sysfs", "there", option, "there/slab/x"), f"{option} there/slab/x would be")
    assert command("run", story(), "--sysfs", "there", option, "there/x").code == cli.FINE
    assert (tmp_path / "there" / "x").stat().st_size


def test_a_run_that_does_not_come_about_leaves_nothing(command, write, tmp_path):
    """A story that awaits what it must not ends with its own message, and makes no directory."""
    write("""
class Foreign:
    def __await__(self):
        yield 3


@scenario(title="waits for what only an event loop can serve")
async def story(machine: Machine) -> None:
    await Foreign()
""")
    said = command("run", "story.py", "--slabinfo", "slabinfo", "--sysfs", "out")
    assert said.code == cli.MISTAKE
    assert listing(tmp_path) == {"story.py"}
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_slabinfo(command, story):
    """What was found is said, then why it cannot be kept."""
    said = command("run", story(), "--slabinfo", "/dev/full")
    assert said.code == cli.MISTAKE
    assert (
        said.err
        == "slabactors: cannot write /dev/full: No space left on device.\n  Give another file: --slabinfo FILE\n"
    )
    assert "spec0(1:kept)" in said.out


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_a_disk_that_gets_full_leaves_what_was_there(command, story, tmp_path, monkeypatch, after):
    """After any number of files: nothing of the new run is seen, and all of the old one."""
    command("run", story("older"), "--slabinfo", "text", "--sysfs", "out")
    before = content(tmp_path)
    (tmp_path / "newer.py").write_text(story().read_text())
    before |= content(tmp_path)
    written = []

    def write_bytes(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    said = command("run", "newer.py", "--slabinfo", "text", "--sysfs", "out")
    assert said.code == cli.MISTAKE
    assert "No space left" in said.err
    assert content(tmp_path) == before


@pytest.mark.parametrize("after", range(8))
def test_a_move_that_fails_is_taken_back(command, story, tmp_path, monkeypatch, after):
    """However far it got, the directory is as it was."""
    command("run", story("older"), "--sysfs", "out")
    (tmp_path / "newer.py").write_text(story().read_text())
    before = content(tmp_path)
    moved = []
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        moved.append(self)
        if len(moved) == after + 1:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    refusal = command("run", "newer.py", "--sysfs", "out")
    assert refusal.code == cli.MISTAKE
    assert "cannot write out: Permission denied" in refusal.err
    assert content(tmp_path) == before


def test_stdout_by_its_name_comes_after_the_summary(process, tmp_path, story):
    """Into a pipe or a file, nothing that the command printed is lost."""
    said = process("run", story(), "--slabinfo", "/dev/stdout")
    assert said.code == cli.FINE
    summary, _, text = said.out.partition(HEADER)
    assert "story.py under v5" in summary
    assert [row.name for row in parse_slabinfo(HEADER + text)] == ["spec0"]
    said = process("run", "story.py", "--slabinfo", "/dev/stderr", "--json")
    assert json.loads(said.out)["scenario"] == "story.py"
    assert [row.name for row in parse_slabinfo(said.err)] == ["spec0"]


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_slash_in_a_caches_name_becomes_what_sysfs_makes_of_it(command, story, tmp_path):
    """And one in a group's name is a directory in another one."""
    assert command("run", story("a/b", ("x/y", "x")), "--sysfs", "out").code == cli.FINE
    assert names(tmp_path / "out" / "slab") == ["a!b", "a!b(1:x!y)", "a!b(2:x)"]
    assert (tmp_path / "out/cgroup/x/y/memory.kmem.usage_in_bytes").read_text() == "4096\n"


@pytest.mark.parametrize(("name", "groups"), [("..", ("a", "b")), ("a", ("../../up", "b")), ("a", ("", "b"))])
def test_a_name_never_leads_out_of_the_directory(command, story, tmp_path, name, groups):
    """A directory cannot be called so, and the message says what."""
    path = story(name, groups)
    said = command("run", path, "--sysfs", "out")
    assert said.code == cli.MISTAKE
    assert "by whose name a directory can be called" in said.err
    assert listing(tmp_path) == {"story.py"}


def test_a_name_that_is_too_long_for_a_file(command, story, tmp_path):
    """The system's own reason is given."""
    said = command("run", story("n" * 300), "--sysfs", "out")
    assert said.code == cli.MISTAKE
    assert "File name too long" in said.err
    assert not (tmp_path / "out").exists()


def test_slab_has_no_such_directory(command, story, tmp_path, monkeypatch):
    """Only SLUB has one; slabinfo is there with any allocator."""

    class NotSlub(Slub):
        layout = "slab"

    monkeypatch.setitem(models.MODELS, "slub-3.8", NotSlub(models.MODELS["slub-3.8"].policy))
    path = story()
    refused(command("run", path, "--sysfs", "out"), "--sysfs needs SLUB", "--slabinfo FILE")
    assert listing(tmp_path) == {"story.py"}
    assert command("run", path, "--slabinfo", "slabinfo").code == cli.FINE
