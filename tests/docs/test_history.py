"""The picture of the history is what the command draws that the page names."""

from __future__ import annotations

import re
import shlex

import pytest

from slabactors.lifecycle import SHIPPED_GENERATIONS
from slabactors.report.comparing import compare
from slabactors.report.plotting import drawn_digest
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "explanation" / "history.md"


@pytest.mark.slow
def test_the_picture_of_every_generation_shows_what_they_do_now():
    """By a digest of the figures in it: how it is drawn depends on the release of Matplotlib."""
    [line] = re.findall(r"^slabactors compare .*--plot.*$", PAGE.read_text(), re.MULTILINE)
    words = shlex.split(line)
    target, runs, picture = words[2], int(words[words.index("--runs") + 1]), words[words.index("--plot") + 1]
    programs = [find(target).bind(lifecycle_name=name).under(TimePolicy.QUIESCENT) for name in SHIPPED_GENERATIONS]
    *_, comparison = compare(programs, runs=runs)
    wanted = f"what is drawn: {drawn_digest(comparison)}"
    assert wanted in (ROOT / picture).read_text(), f"draw it again, at the top of the checkout: {line}"


def test_every_generation_is_told_on_the_page():
    text = PAGE.read_text()
    assert [name for name in SHIPPED_GENERATIONS if f"`{name}`" not in text] == []
    assert [number for number in range(14) if f"**G{number}, " not in text] == []
