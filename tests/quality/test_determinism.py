"""All that is random is in the seed: the same in every process, whatever the hash seed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from slabactors.scenario import shipped

SCRIPT = """\
import contextlib, io, json, sys
from slabactors import cli
from slabactors.scenario import shipped
from tests.support import smaller

for name in shipped():
    log = f"{sys.argv[1]}/{name.replace('/', '-')}.jsonl"
    cli.run(["run", name, "--seed", "5", "--log", log])
for name in shipped():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        cli.run(["explore", name, "--seed", "5", "--runs", "60", "--json", *smaller(name)])
    document = json.loads(out.getvalue())
    del document["seconds"]
    with open(f"{sys.argv[1]}/{name.replace('/', '-')}.json", "w") as file:
        json.dump(document, file)
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """The directories that three processes have written to: two under one hash seed, one under another."""
    directories = []
    for hash_seed in ("1", "1", "2"):
        directory = tmp_path_factory.mktemp("process")
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(directory)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        directories.append(directory)
    return directories


@pytest.mark.parametrize("name", list(shipped()))
def test_a_log_is_the_same_to_the_byte(processes, name):
    """Three processes, two hash seeds, one log."""
    logs = [(directory / f"{name.replace('/', '-')}.jsonl").read_bytes() for directory in processes]
    assert len({hashlib.sha256(log).hexdigest() for log in logs}) == 1
    assert logs[0].startswith(b'{"event":"run","schema":2,')
    assert logs[0].count(b"\n") > 20
    assert b" at 0x" not in logs[0]


@pytest.mark.parametrize("name", list(shipped()))
def test_a_search_is_the_same_but_for_its_seconds(processes, name):
    """The same bugs, in the same executions, with the same schedules and tables."""
    documents = [json.loads((directory / f"{name.replace('/', '-')}.json").read_text()) for directory in processes]
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["executions"] == 60


def test_another_seed_is_another_run(tmp_path):
    """The seed does change what happens: ten of them give more than one log of a story that races."""
    from slabactors import cli

    logs = set()
    for seed in range(10):
        cli.run(["run", "dead-cache/rmdir-races-last-free", "--seed", str(seed), "--log", str(tmp_path / "run.jsonl")])
        logs.add(b"\n".join((tmp_path / "run.jsonl").read_bytes().splitlines()[1:]))
    assert len(logs) > 1
