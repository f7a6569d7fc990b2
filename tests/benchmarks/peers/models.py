"""SPIN and rumur on models of the micro-problem: how many states it has, and how fast they look at all of them."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MODELS = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class States:
    """What a model checker has seen.

    Attributes:
        states: how many.
        transitions: how many, without those of the model that the program does not have.
        seconds: CPU time of the search itself, without that of compiling it.
    """

    states: int
    transitions: int
    seconds: float


def missing(*tools: str) -> list[str]:
    """Which of some programs are not on the PATH."""
    return [tool for tool in tools if shutil.which(tool) is None]


def spin(cpus: int, frees: int, variant: int = 0) -> States:
    """All states by SPIN, without its partial order reduction."""
    with TemporaryDirectory() as directory:
        sizes = [f"-DCPUS={cpus}", f"-DFREES={frees}", f"-DVARIANT={variant}"]
        _run(["spin", *sizes, "-a", str(MODELS / "dead_cache.pml")], directory)
        _run(["gcc", "-O2", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c"], directory)
        text, seconds = _timed(["./pan", "-m1000000"], directory)
    states, transitions = (int(re.search(rf"(\d+) {what}", text)[1]) for what in ("states, stored", "transitions"))  # type: ignore[index]
    assert "errors: 0" in text, text
    # One of its transitions leads to the first state, and one goes round at rest.
    return States(states, transitions - 2, seconds)


def rumur(cpus: int, frees: int, *, symmetric: bool = False) -> States:
    """All states by rumur; with ``symmetric``, one of those that differ only in which CPU is which."""
    text = (MODELS / "dead_cache.m").read_text()
    ids = "scalarset(cpus)" if symmetric else "1 .. cpus"
    for old, new in (("cpus: 3;", f"cpus: {cpus};"), ("frees: 3;", f"frees: {frees};"), ("CPU_IDS;", f"{ids};")):
        assert old in text
        text = text.replace(old, new)
    with TemporaryDirectory() as directory:
        (Path(directory) / "model.m").write_text(text)
        options = ["--threads", "1", "--deadlock-detection", "stuck", "--output", "model.c"]
        if not symmetric:
            options += ["--symmetry-reduction", "off"]
        _run(["rumur", *options, "model.m"], directory)
        _run(["gcc", "-O2", "-std=c11", "-mcx16", "-o", "model", "model.c", "-lpthread"], directory)
        text, seconds = _timed(["./model"], directory)
    found = re.findall(r"([\d,]+) states, ([\d,]+) rules fired", text)
    assert found, text
    assert "error trace" not in text, text
    states, fired = (int(number.replace(",", "")) for number in found[-1])
    return States(states, fired - 1, seconds)  # one rule goes round at rest


def _run(command: list[str], directory: str) -> str:
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout


def _timed(command: list[str], directory: str) -> tuple[str, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = _run(command, directory)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return text, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
