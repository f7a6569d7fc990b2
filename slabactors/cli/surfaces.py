"""``--slabinfo FILE`` and ``--sysfs DIR``: what a kernel would show of the machine, written when a run is over.

Whatever goes wrong, neither is left half-written: all is written beside its place first and then moved there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slabactors import __version__
from slabactors.cli.output import say
from slabactors.errors import OutputError, SurfaceError, UsageError
from slabactors.machine import Machine
from slabactors.mm import models
from slabactors.mm.memcg_files import cgroup_stat, dying_memcgs, existing_memcgs, memcg_files
from slabactors.mm.slabinfo import slabinfo
from slabactors.mm.surfaces import surface_policy
from slabactors.mm.sysfs_slab import slab_directories, slab_files

MARK = ".slabactors"
"""A file in a directory that `Tree` has written: a JSON document that lists the files."""
TOPS = ("slab", "cgroup", "dying")
"""What `Tree` writes in its directory, and replaces when it is there."""


@dataclass(frozen=True, slots=True)
class SurfaceOptions:
    """Where to write what the machine shows; None for nowhere.

    Attributes:
        slabinfo: file for /proc/slabinfo.
        sysfs: directory for /sys/kernel/slab and the groups' files.
        log: where the run's log goes, which must be another file.
    """

    slabinfo: Path | None = None
    sysfs: Path | None = None
    log: Path | None = None

    def check(self, allocator: str) -> None:
        """See whether all that is asked for can be had.

        Args:
            allocator: name of the machine's allocator model.

        Raises:
            SurfaceError: the allocator has no directories in sysfs.
            UsageError: a file is to hold two things, or lies where the directory's are replaced.
        """
        if self.sysfs is not None and models.allocator(allocator).layout != "slub":
            raise SurfaceError(
                f"--sysfs needs SLUB, found {allocator}: no other allocator has a /sys/kernel/slab.\n"
                "  Leave it out (--slabinfo FILE works with any), or choose SLUB: --set allocator=slub-3.8"
            )
        if self.log is not None and self.slabinfo is not None and _same_file(self.log, self.slabinfo):
            raise UsageError(f"--log and --slabinfo are both {self.log}.\n  Give another file to one of them")
        for option, file in (("--slabinfo", self.slabinfo), ("--log", self.log)):
            if file is not None and self.sysfs is not None and _is_replaced(file, self.sysfs):
                raise UsageError(
                    f"{option} {file} would be replaced by --sysfs {self.sysfs}.\n"
                    f"  Give a file beside {', '.join(TOPS)} of that directory, or outside it: {option} FILE"
                )


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file that each would replace; a pipe can take both."""
    one_real, other_real = os.path.realpath(one), os.path.realpath(other)
    return one_real == other_real and (os.path.isfile(one_real) or not os.path.exists(one_real))  # noqa: PTH110, PTH113


def _is_replaced(file: Path, directory: Path) -> bool:
    """Whether a file lies where a `Tree` is moved to."""
    real, place = Path(os.path.realpath(file)), Path(os.path.realpath(directory))
    return any(real.is_relative_to(place / name) for name in (MARK, *TOPS))


@contextmanager
def surfaces(options: SurfaceOptions, allocator: str) -> Iterator[Callable[[Machine], None]]:
    """Where both can be written to, around a run; gives what writes them.

    Args:
        options: where to.
        allocator: name of the machine's allocator model.

    Raises:
        OutputError: a place cannot be written to, or holds what slabactors has not written.
        UsageError: what is asked for cannot be, see `SurfaceOptions.check`.
    """
    options.check(allocator)
    with ExitStack() as places:
        # The directory comes first: the file may be in it.
        tree = None if options.sysfs is None else places.enter_context(whole_tree(options.sysfs))
        file = None if options.slabinfo is None else places.enter_context(whole_file(options.slabinfo))

        def write(machine: Machine) -> None:
            # What is short of room is noticed before anything is replaced.
            moves = []
            if file is not None:
                moves.append(file(slabinfo(machine)))
            if tree is not None:
                moves.append(tree(texts_of(machine)))
            for move in moves:
                move()

        yield write


def texts_of(machine: Machine) -> dict[str, str]:
    """Path and text of every file below ``--sysfs DIR``.

    Groups that are removed and still held have no directory in any kernel; they are in ``dying``, by id and name.

    Raises:
        SurfaceError: the allocator has no directories in sysfs.
    """
    texts = {
        f"slab/{_directory(name)}/{file}": text
        for name, cache in slab_directories(machine).items()
        for file, text in slab_files(machine, cache).items()
    }
    if surface_policy(machine).cgroup_stat:
        texts["cgroup/cgroup.stat"] = cgroup_stat(machine)
    for memcg in existing_memcgs(machine):
        for file, text in memcg_files(machine, memcg).items():
            texts.setdefault(f"cgroup/{_directory(memcg.label)}/{file}", text)  # the oldest of a name
    for memcg in dying_memcgs(machine):
        for file, text in memcg_files(machine, memcg).items():
            texts[f"dying/{memcg.id}:{_directory(memcg.label.replace('/', '!'))}/{file}"] = text
    return texts


def _directory(name: str) -> str:
    """A name that is the path of a directory below another one."""
    if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
        raise OutputError(
            f"expected a cache or a group by whose name a directory can be called, found {name!r}.\n"
            "  Rename it in the scenario, or leave out --sysfs"
        )
    return name


# -- a file ------------------------------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: Path) -> Iterator[Callable[[str], Callable[[], None]]]:
    """A file that is written whole or not at all, unless it is a pipe, a terminal or the like.

    Gives what writes a text beside it, and that gives what moves it to its place.

    Raises:
        OutputError: it cannot be written.
    """
    with _writing(path, "--slabinfo FILE", "file"):
        stdout = _is_stdout(path)
        ordinary = not stdout and (path.is_file() or not path.exists())
        whole = Path(os.path.realpath(path))  # Path.resolve() fails on links that go round
        part = whole.with_name(f".{whole.name}.{os.getpid()}.slabinfo.part") if ordinary else path
        # What is no ordinary file is only opened when there is something to say: a pipe would wait for its reader.
        if ordinary or path.is_dir():
            part.open("wb").close()

    def write(text: str) -> Callable[[], None]:
        if stdout:
            say(text.removesuffix("\n"))
        else:
            with _writing(path, "--slabinfo FILE", "file"):
                part.write_bytes(_encoded(text))
        return move

    def move() -> None:
        if ordinary:
            with _writing(path, "--slabinfo FILE", "file"):
                part.replace(whole)

    try:
        yield write
    finally:
        if ordinary:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _is_stdout(path: Path) -> bool:
    """Whether it is /dev/stdout by any name: what the command has printed must come before, and must not go."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(1))
    return False


def _encoded(text: str) -> bytes:
    """A name may hold what UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace")


@contextmanager
def _writing(path: Path, option: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.\n  Give another {what}: {option}") from error


# -- a directory -------------------------------------------------------------------------------------------------------


@contextmanager
def whole_tree(path: Path) -> Iterator[Callable[[dict[str, str]], Callable[[], None]]]:
    """A directory whose `TOPS` are written whole or not at all, and replaced only if they were written by us.

    Gives what writes texts inside it, out of sight, and that gives what moves them to their places.

    Raises:
        OutputError: it cannot be written, or holds what is not ours.
    """
    place = Path(os.path.realpath(path))
    new, old = (place / f"{MARK}.{os.getpid()}.{suffix}" for suffix in ("part", "old"))
    with _writing(path, "--sysfs DIR", "directory"):
        made = not place.exists()
        if made:
            place.mkdir()
        else:
            _refuse_foreign(path, place)
        try:
            new.mkdir()
        except OSError:
            if made:
                place.rmdir()
            raise

    def write(texts: dict[str, str]) -> Callable[[], None]:
        with _writing(path, "--sysfs DIR", "directory"):
            for name, text in texts.items():
                file = new / os.fsdecode(_encoded(name))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(_encoded(text))
            for top in TOPS:
                (new / top).mkdir(exist_ok=True)
            files = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
            document = {"written_by": f"slabactors {__version__}", "files": files}
            (new / MARK).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return move

    def move() -> None:
        with _writing(path, "--sysfs DIR", "directory"):
            old.mkdir()
            _exchange(new, place, old)

    try:
        yield write
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        if made:
            with suppress(OSError):
                place.rmdir()  # if nothing was written there


def _exchange(new: Path, place: Path, old: Path) -> None:
    """Move what is new to its place and what was there away, or leave everything as it was."""
    undo: list[tuple[Path, Path]] = []
    try:
        # The mark comes first: once anything of ours is there, it is known to be.
        for name in (MARK, *TOPS):
            if (place / name).exists():
                (place / name).rename(old / name)
                undo.append((old / name, place / name))
            (new / name).rename(place / name)
            undo.append((place / name, new / name))
    except BaseException:
        for here, back in reversed(undo):
            here.rename(back)
        raise


def _refuse_foreign(path: Path, place: Path) -> None:
    """Refuse a directory with anything in it, unless the part that is to be replaced was written by us."""
    there = sorted(entry for entry in os.listdir(place) if not entry.startswith(f"{MARK}."))  # noqa: PTH208
    if not there:
        return
    foreign = there
    if MARK in there:
        ours = _listed(place / MARK)
        foreign = [
            entry.relative_to(place).as_posix()
            for top in TOPS
            for entry in ((place / top), *(place / top).rglob("*"))
            if entry.is_symlink() or (entry.is_file() and entry.relative_to(place).as_posix() not in ours)
        ]
    if foreign:
        raise OutputError(
            f"expected a new or an empty directory, or one that --sysfs has written, found {foreign[0]} in {path}.\n"
            "  Give another directory, or remove what is there: --sysfs DIR"
        )


def _listed(mark: Path) -> set[str]:
    """The files that a mark lists; none if it is not of our making."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        files = json.loads(mark.read_text(encoding="utf-8"))["files"]
        return {file for file in files if isinstance(file, str)}
    return set()
