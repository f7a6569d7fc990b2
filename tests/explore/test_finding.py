"""Findings: their names, and the files they are kept in."""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabactors.actors import spawn
from slabactors.errors import FindingFileError, KernelBug, Kind, OutputError
from slabactors.explore.finding import Choice, Finding, check_directory, file_name, load, save, signature
from slabactors.explore.strategy import RandomWalk
from slabactors.runtime.step import Decision, Ending, Outcome
from tests.explore.programs import SmallProgram, World, broken

FINDING = Finding(
    scenario="dead-cache/emptied",
    scenario_digest="0123456789abcdef",
    lifecycle="v5",
    parameters={"objects": 3},
    strategy="random",
    seed=0,
    execution=7,
    signature="zombie: empty dead cache never destroyed",
    kind=Kind.ZOMBIE,
    message="it is still there",
    preemptions=1,
    schedule=[Choice("main.0", "lock", "mutex"), Choice("main.0", "choose", "", 2)],
)

texts = st.text(max_size=20)
findings = st.builds(
    Finding,
    scenario=texts,
    scenario_digest=texts,
    lifecycle=texts,
    parameters=st.dictionaries(texts, st.one_of(st.booleans(), st.integers(-9, 9), texts), max_size=3),
    strategy=texts,
    seed=st.integers(-(2**40), 2**40),
    execution=st.integers(0, 2**40),
    signature=texts,
    kind=st.sampled_from(Kind),
    message=texts,
    preemptions=st.integers(0, 99),
    schedule=st.lists(st.builds(Choice, texts, texts, texts, st.none() | st.integers(0, 9)), max_size=4),
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(findings)
def test_a_file_holds_the_whole_finding(tmp_path_factory, finding):
    """What is read is what was written, whatever the texts in it are."""
    path = tmp_path_factory.mktemp("findings") / "finding.json"
    save(finding, path)
    assert load(path) == finding
    assert [one.name for one in path.parent.iterdir()] == ["finding.json"]


def test_a_choice_is_a_decision():
    """The file's form of a step says the same as the replay's."""
    assert [one.decision() for one in FINDING.schedule] == [
        Decision("main.0", "lock", "mutex"),
        Decision("main.0", "choose", "", 2),
    ]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """When it cannot be put in its place, the old one stays and nothing lies beside it."""
    path = tmp_path / "finding.json"
    save(FINDING, path)
    before = path.read_bytes()

    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OutputError, match=r"(?s)finding.json: Permission denied.*--save DIR"):
        save(msgspec.structs.replace(FINDING, seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_bugs_have_other_files():
    """Names differ when scenario, parameters, lifecycle or signature do, also in what a file name cannot show."""
    long = "deadlock: waits for " + ", ".join(f"lock{number}.take" for number in range(30))
    others = [
        FINDING,
        msgspec.structs.replace(FINDING, scenario="dead-cache/freed-later"),
        msgspec.structs.replace(FINDING, parameters={"objects": 4}),
        msgspec.structs.replace(FINDING, lifecycle="pre-patch"),
        msgspec.structs.replace(FINDING, signature="zombie: empty dead cache: never destroyed"),
        msgspec.structs.replace(FINDING, signature=long),
        msgspec.structs.replace(FINDING, signature=long + ", last.take"),
    ]
    names = [file_name(one) for one in others]
    assert len(set(names)) == len(others)
    assert all(len(name) < 120 and name == os.path.basename(name) for name in names)  # noqa: PTH119
    assert names[0].startswith("v5-zombie-empty-dead-cache-never-destroyed-")


def test_the_same_bug_has_the_same_file():
    """Where and when it was found does not change the name."""
    assert file_name(FINDING) == file_name(
        msgspec.structs.replace(FINDING, seed=9, execution=1, message="", schedule=[])
    )


def test_a_directory_is_made_and_tried(tmp_path):
    """A directory that can be written to is there afterwards, and empty; a file in its place is refused."""
    check_directory(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: File exists.\n  Give a directory"):
        check_directory(tmp_path / "file")


def test_what_is_no_finding_is_refused(tmp_path):
    """Reading raises one error for all that can be wrong with a file; the text says which it is."""
    path = tmp_path / "finding.json"
    with pytest.raises(FindingFileError, match="No such file"):
        load(path)
    path.write_text("[]")
    with pytest.raises(FindingFileError, match="is JSON but not a finding"):
        load(path)


# -- signatures --------------------------------------------------------------------------------------------------------


@dataclass
class Path:
    """A path with a name."""

    name: str
    key: str = ""
    lane: str = ""


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("kworker/0", "kworker"),
        ("kworker/1:3", "kworker"),
        ("free", "free"),
        ("kswapd0", "kswapd"),
        ("workload 12", "workload"),
        ("timer dentry(3:web).destroy", "timer"),
    ],
)
def test_a_signature_names_the_role_and_not_the_number(name, role):
    """The same bug on another CPU, or of another object, has the same signature."""
    bug = KernelBug(Kind.DOUBLE_FREE, "slab7 was freed twice", clause="slab freed twice")
    outcome = Outcome(Ending.BUG, 1, 0, bug, culprit=Path(name))
    assert signature(outcome) == f"double-free: slab freed twice by {role}"
    assert signature(Outcome(Ending.BUG, 1, 0, bug)) == "double-free: slab freed twice"


def test_a_signature_is_the_same_in_every_run_that_shows_the_bug():
    """Messages differ from run to run; signatures do not."""

    async def story(world: World) -> None:
        async def racer() -> None:
            if await world.x.write_a() == 2:
                raise broken("somebody was second")

        for _ in range(3):
            await spawn(racer())

    outcomes = [SmallProgram(story).execute(RandomWalk(seed)).outcome for seed in range(30)]
    assert {signature(outcome) for outcome in outcomes} == {"property: somebody was second by racer"}
    assert len({outcome.culprit.key for outcome in outcomes}) > 1
