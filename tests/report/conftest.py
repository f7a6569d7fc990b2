"""Pages to look at: of a finding, of a log, and of a log with ten thousand steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slabactors import cli
from tests.cli.conftest import command

__all__ = ["command"]

DATA = Path(__file__).parents[1] / "data"
TARGET = "dead-cache/rmdir-races-last-free"


def typed(*arguments: object) -> int:
    """The exit code of a command line."""
    return cli.run([str(argument) for argument in arguments])


def document_in(page: Path) -> dict[str, Any]:
    """The document inside a page."""
    found = re.search(r'<script type="application/json" id="document">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    return document


@pytest.fixture(scope="session")
def findings(tmp_path_factory) -> Path:
    """A directory with the findings of a search of the founding patch, and its campaign."""
    directory = tmp_path_factory.mktemp("findings")
    assert typed("explore", TARGET, "--lifecycle", "v5", "--runs", 300, "--save", directory) == 1
    return directory


@pytest.fixture(scope="session")
def finding(findings) -> Path:
    """The finding in which a work item is freed that is queued."""
    [file] = findings.glob("v5-freed-active-work-*.json")
    return file


@pytest.fixture(scope="session")
def short_log(tmp_path_factory) -> Path:
    """The log of a run of about a hundred steps, in which a cache is shrunk, emptied and destroyed."""
    file = tmp_path_factory.mktemp("short") / "freed-later.jsonl"
    assert typed("run", "dead-cache/freed-later", "--lifecycle", "v5", "--log", file) == 0
    return file


@pytest.fixture(scope="session")
def long_log(tmp_path_factory) -> Path:
    """The log of a real kernel's recording, of about ten thousand steps."""
    file = tmp_path_factory.mktemp("long") / "cgroup.jsonl"
    assert typed("trace", DATA / "trace" / "trace-cgroup.txt", "--log", file) == 0
    return file


@pytest.fixture(scope="session", params=["v5", "v3.8"])
def hour_log(request, tmp_path_factory) -> Path:
    """The log of an hour with dozens of caches, a thousand paths, and bursts of steps that take no time."""
    file = tmp_path_factory.mktemp("hour") / f"{request.param}.jsonl"
    code = typed("run", "containers/come-and-go", "--lifecycle", request.param, "--log", file)
    assert code == (0 if request.param == "v5" else 1)
    return file


@pytest.fixture(scope="session")
def page_of(tmp_path_factory):
    """Make the page of a file."""
    directory = tmp_path_factory.mktemp("pages")

    def make(file: Path, name: str = "") -> Path:
        target = directory / f"{name or file.stem}.html"
        if not target.exists():
            assert typed("report", file, "-o", target) == 0
        return target

    return make
