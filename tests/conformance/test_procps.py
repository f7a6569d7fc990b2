"""The system's own slabtop and vmstat read what is written, as if it were the kernel's."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from slabactors import cli
from slabactors.mm.slabinfo import parse_slabinfo

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def possible() -> bool:
    """Whether the tools are there and a file may be put in the place of /proc/slabinfo, for one process."""
    if not all(map(shutil.which, ("unshare", "mount", "slabtop", "vmstat"))):
        return False
    trial = [*NAMESPACE, "mount", "--bind", "/dev/null", "/proc/slabinfo"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The slabinfo of a run that ends with a zombie."""
    if not possible():
        pytest.skip("no procps here, or no mount namespaces")
    file = tmp_path_factory.mktemp("run") / "slabinfo"
    code = cli.run(["run", "dead-cache/emptied", "--lifecycle", "pre-patch", "--slabinfo", str(file)])
    assert code == cli.BUG
    return file


def read_by(tool: str, file) -> str:
    command = f'mount --bind "$0" /proc/slabinfo && {tool}'
    done = subprocess.run([*NAMESPACE, "sh", "-c", command, file], capture_output=True, text=True, check=True)
    return done.stdout


def test_slabtop_shows_the_zombies_slab(written):
    """Objects, active ones, slabs and objects per slab of the only cache."""
    last = read_by("slabtop -o", written).splitlines()[-1].split()
    assert (last[0], last[1], last[4], last[5], last[7]) == ("16", "16", "1", "16", "dentry")


def test_vmstat_shows_the_same_numbers(written):
    """Its five columns are those of the row."""
    (row,) = parse_slabinfo(written.read_text())
    header, line = read_by("vmstat -m", written).splitlines()
    assert header.split() == ["Cache", "Num", "Total", "Size", "Pages"]
    name, active, total, size, _ = line.split()
    assert (name, int(active), int(total), int(size)) == (row.name, row.active_objs, row.num_objs, row.objsize)
