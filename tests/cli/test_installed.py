"""The package as it is installed: scenarios and all, away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from slabactors import __version__, cli
from slabactors.scenario import catalogued, shipped
from tests.cli.conftest import pip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A directory into which the wheel of this checkout was installed, without what it depends on."""
    site = tmp_path_factory.mktemp("site")
    pip(["install", "--no-deps", "--no-index", "--target", str(site), str(wheel)])
    return site


@pytest.fixture
def command(installed, tmp_path):
    """The installed command line in an empty directory: the checkout is on no path, what it depends on is."""

    def go(*arguments: str) -> subprocess.CompletedProcess[str]:
        dependencies = sysconfig.get_path("purelib")
        # -I and -S leave out the current directory and the editable install; the rest is put there by hand.
        script = (
            f"import sys; sys.path[1:1] = [{str(installed)!r}, {dependencies!r}]; "
            "from slabactors.cli import main; main()"
        )
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, *arguments],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return go


def test_the_installed_package_is_the_one_that_runs(installed):
    """What is tested here is the wheel: its modules, its type marker and its scenarios."""
    package = installed / "slabactors"
    assert (package / "py.typed").is_file()
    names = {
        path.relative_to(package / "shipped_scenarios").as_posix() for path in package.glob("shipped_scenarios/*/*.py")
    }
    assert names == {f"{name.replace('-', '_')}.py" for name in [*shipped(), *catalogued()]}
    assert not list(package.glob("**/tests"))


def test_every_scenario_is_listed_away_from_the_checkout(command, installed):
    """``list`` names what the checkout names."""
    done = command("list", "--json")
    assert (done.returncode, done.stderr) == (cli.FINE, "")
    assert list(json.loads(done.stdout)["scenarios"]) == list(shipped())
    assert command("--version").stdout.strip() == __version__
    assert installed.exists()


def test_a_shipped_scenario_is_explored_away_from_the_checkout(command, tmp_path):
    """Search, file and replay work where there is nothing but the package."""
    done = command(
        "explore", "dead-cache/emptied", "--lifecycle", "pre-patch", "--runs", "10", "--save", "out", "--json"
    )
    assert (done.returncode, done.stderr) == (cli.BUG, "")
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["kind"], finding["count"]) == ("zombie", 10)
    again = command("replay", finding["file"])
    assert (again.returncode, again.stderr) == (cli.BUG, "")
    assert (tmp_path / finding["file"]).is_file()


def test_a_broken_installation_would_be_noticed(command, installed):
    """Nothing of the checkout is within reach: the package that runs lies where it was installed."""
    done = command("run", "nowhere")
    assert done.returncode == cli.MISTAKE
    assert "dead-cache/emptied" in done.stderr
    probe = subprocess.run(
        [
            sys.executable, "-I", "-S", "-c",
            f"import sys; sys.path[1:1] = [{str(installed)!r}]; import slabactors; print(slabactors.__file__)",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert probe.stdout.strip() == str(installed / "slabactors" / "__init__.py")
    assert not zipfile.is_zipfile(probe.stdout.strip())
