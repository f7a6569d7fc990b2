"""``slabactors verify`` within a bound on preemptions or delays."""

from __future__ import annotations

import pytest

from slabactors import cli
from tests.cli.conftest import refused

BROKEN = "dead-cache/rmdir-races-last-free"


@pytest.mark.parametrize("bound", ["--preemptions", "--delays"])
@pytest.mark.parametrize("other", [["--search", "dpor"], ["--jobs", 2], ["--executor", "dask://127.0.0.1:1"]])
def test_a_bound_goes_with_no_other_search(command, bound, other):
    """A mistake, and what to leave out."""
    said = command("verify", BROKEN, bound, 1, *other)
    assert said.code == cli.MISTAKE
    assert f"Leave {other[0]} out" in said.err


QUIET = ["--policy", "quiescent"]


@pytest.mark.parametrize("unit", ["preemption", "delay"])
def test_each_bug_has_what_it_needs(command, unit):
    """The document and the text say the same: which bound was explored, and at which one each bug was found."""
    document = command("verify", BROKEN, f"--{unit}s", 1, *QUIET, "--json").document
    assert (document["strategy"], document["verdict"]) == (f"{unit}-bounded", "broken")
    assert (document[f"{unit}s_exhausted"], document["exhaustive"]) == (1, False)
    assert document["findings"]
    said = command("verify", BROKEN, f"--{unit}s", 1, *QUIET)
    assert said.code == cli.BUG
    assert f"all schedules with at most 1 {unit} were explored" in said.out
    for finding in document["findings"]:
        assert finding[f"{unit}s_needed"] == 1
        assert finding["signature"] in said.out
    assert said.out.count(f"needs 1 {unit}; all schedules with 0 were explored") == len(document["findings"])


def test_without_delays_there_is_one_schedule(command):
    """The round itself; it is not enough to say that nothing breaks."""
    document = command("verify", BROKEN, "--delays", 0, *QUIET, "--json").document
    assert (document["executions"], document["verdict"], document["delays_exhausted"]) == (1, "undetermined", 0)


def test_a_bound_must_be_one_and_a_number_from_zero(command):
    """Two bounds are no search, and less than none is no bound."""
    refused(command("verify", BROKEN, "--delays", -1), "--delays must be at least 0, not -1", "--delays 2")
    refused(command("verify", BROKEN, "--delays", 1, "--preemptions", 1), "two bounds", "Leave one of them out")
