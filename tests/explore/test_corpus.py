"""The corpus of a campaign: what was done is not done again, nothing is lost, and nothing damaged is believed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from slabactors.errors import CorpusError, Kind, OutputError
from slabactors.explore import claims, corpus
from slabactors.explore.campaign import BLOCK, Plan, SearchResult, search
from slabactors.explore.claims import SavedBlocks, is_alive, owner
from slabactors.explore.corpus import NAME, Corpus, Subject
from slabactors.explore.finding import Choice, Finding
from slabactors.explore.known import State, replay_known
from slabactors.explore.replay import record
from tests.explore.micro import Micro
from tests.explore.programs import PROGRAMS

MICRO = Micro("v5", 2, 2)

SUBJECT = Subject(
    scenario="micro",
    scenario_digest="a",
    sources_digest="b",
    lifecycle="v5",
    parameters={"cpus": 2, "name": "x"},
    strategy="random",
    seed=3,
)


class Counting(Micro):
    """Counts how often it was run."""

    runs = 0

    def execute(self, strategy, **options):
        type(self).runs += 1
        return super().execute(strategy, **options)


def saved(directory, *, program=MICRO, runs: int = 4 * BLOCK, subject: Subject = SUBJECT, **options) -> SearchResult:
    """A search that is kept in a directory, without how long it took."""
    with Corpus(directory) as open_corpus:
        plan = Plan(subject.strategy, subject.seed, runs)
        with SavedBlocks(open_corpus, open_corpus.campaign(subject), plan, program) as blocks:
            *_, result = search(program, strategy=plan.strategy, seed=plan.seed, runs=runs, blocks=blocks, **options)
    result.seconds = 0
    return result


def fresh(runs: int = 4 * BLOCK, seed: int = SUBJECT.seed) -> SearchResult:
    """The same, not kept anywhere."""
    *_, result = search(MICRO, seed=seed, runs=runs)
    result.seconds = 0
    return result


# -- going on ----------------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_run_again(tmp_path, monkeypatch):
    """The second time only the check that the program repeats itself runs it; the result is the same."""
    monkeypatch.setattr(Counting, "runs", 0)
    program = Counting("v5", 2, 2)
    assert saved(tmp_path, program=program) == fresh()
    assert Counting.runs == 2 + 4 * BLOCK
    assert saved(tmp_path, program=program) == fresh()
    assert Counting.runs == 2 + 4 * BLOCK + 2


@pytest.mark.parametrize("steps", [(300, 1000), (1000, 300), (BLOCK, 2 * BLOCK + 5, 2 * BLOCK + 4)])
def test_more_or_fewer_runs_use_the_blocks_that_fit(tmp_path, steps):
    """A block that is cut short by ``runs`` is another one than the whole."""
    for runs in steps:
        assert saved(tmp_path, runs=runs) == fresh(runs)


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"strategy": "pos"}, {"sources_digest": "other"}, {"parameters": {}}, {"program_version": "9"}],
)
def test_another_search_in_the_same_directory_adds_to_it(tmp_path, change):
    """What was done for another seed, strategy, or source says nothing about this one."""
    first = saved(tmp_path)
    other = replace(SUBJECT, **change)
    result = saved(tmp_path, subject=other)
    *_, wanted = search(MICRO, strategy=other.strategy, seed=other.seed, runs=4 * BLOCK)
    wanted.seconds = 0
    assert result == wanted
    assert saved(tmp_path) == first
    with sqlite3.connect(tmp_path / NAME) as database:
        assert database.execute("SELECT count(*) FROM campaign").fetchall() == [(2,)]
        assert database.execute("SELECT count(*), sum(executions) FROM block").fetchall() == [(8, 8 * BLOCK)]
    database.close()


def test_a_block_that_was_cut_short_counts_now_and_is_run_again(tmp_path):
    """What is not whole is not kept: it would be counted twice."""
    asked = iter(range(10**6))
    cut = saved(tmp_path, stop=lambda: next(asked) == BLOCK + 10)
    assert (cut.executions, cut.finished) == (BLOCK + 10, False)
    assert saved(tmp_path) == fresh()


# -- sharing -----------------------------------------------------------------------------------------------------------


def test_two_that_share_a_directory_take_each_block_once(tmp_path, monkeypatch):
    """Both end with the result of the whole, and between them they ran it once."""
    names = threading.local()
    monkeypatch.setattr(claims, "owner", lambda: f'["elsewhere", {names.number}, ""]')
    monkeypatch.setattr(Counting, "runs", 0)
    results = []

    def go(number: int) -> None:
        names.number = number
        results.append(saved(tmp_path, program=Counting("v5", 2, 2), runs=12 * BLOCK))

    threads = [threading.Thread(target=go, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [fresh(12 * BLOCK)] * 2
    assert Counting.runs == 2 * 2 + 12 * BLOCK


def blocks_of(open_corpus: Corpus, *, runs: int = 2 * BLOCK) -> SavedBlocks:
    return SavedBlocks(open_corpus, open_corpus.campaign(SUBJECT), Plan("random", SUBJECT.seed, runs), MICRO)


def test_what_a_dead_process_had_claimed_is_free(tmp_path, monkeypatch):
    """At once, when it can be seen that it is dead; it may be alive as long as that cannot be seen."""
    script = "from slabactors.explore.claims import owner; print(owner(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        other = process.stdout.readline().strip()
        assert is_alive(other)
        with Corpus(tmp_path) as open_corpus:
            monkeypatch.setattr(claims, "owner", lambda: other)
            theirs = blocks_of(open_corpus)
            assert theirs.take() == 0
            monkeypatch.undo()
            ours = blocks_of(open_corpus)
            assert (ours.take(), ours.take(), ours.others) == (1, None, True)
            process.kill()
            process.wait()
            assert not is_alive(other)
            assert (ours.take(), ours.others) == (0, False)


def test_a_claim_ends_with_its_lease(tmp_path, monkeypatch):
    """On a machine that cannot be seen from here, only a sign of life prolongs it."""
    with Corpus(tmp_path) as open_corpus:
        monkeypatch.setattr(claims, "owner", lambda: '["far away", 1, "2"]')
        theirs = blocks_of(open_corpus)
        assert theirs.take() == 0
        monkeypatch.undo()
        ours = blocks_of(open_corpus)
        assert (ours.take(), ours.take(), ours.others) == (1, None, True)
        now = time.time()
        monkeypatch.setattr(claims, "BEAT_SECONDS", 0.0)
        monkeypatch.setattr(time, "time", lambda: now + claims.LEASE_SECONDS - 1)
        theirs.beat()
        monkeypatch.setattr(time, "time", lambda: now + claims.LEASE_SECONDS + 1)
        assert (ours.take(), ours.others) == (None, True)
        monkeypatch.setattr(time, "time", lambda: now + 2 * claims.LEASE_SECONDS + 1)
        assert (ours.take(), ours.others) == (0, False)


def test_a_claim_is_given_back_when_the_search_ends(tmp_path, monkeypatch):
    """Nobody has to wait for the lease of one that has ended in good order."""
    with Corpus(tmp_path) as open_corpus:
        monkeypatch.setattr(claims, "owner", lambda: '["far away", 1, "2"]')
        with blocks_of(open_corpus) as theirs:
            assert theirs.take() == 0
        monkeypatch.undo()
        assert blocks_of(open_corpus).take() == 0


def test_a_process_number_that_was_given_again_is_another_process():
    """A process is known by when it was started as well."""
    place, pid, started = corpus.msgspec.json.decode(owner())
    assert is_alive(corpus.as_text([place, pid, started]))
    assert not is_alive(corpus.as_text([place, pid, started + "0"]))
    assert not is_alive("nonsense")


def test_a_block_that_two_have_run_is_counted_once(tmp_path, monkeypatch):
    """A process that sleeps longer than its lease has run its block for nothing, and does no harm."""
    with Corpus(tmp_path) as open_corpus:
        part = SearchResult(executions=BLOCK, deliveries=5, begin=0)
        monkeypatch.setattr(claims, "owner", lambda: '["far away", 1, "2"]')
        theirs = blocks_of(open_corpus)
        theirs.take()
        monkeypatch.undo()
        monkeypatch.setattr(claims, "LEASE_SECONDS", -1.0)
        ours = blocks_of(open_corpus)
        ours.take()
        theirs.keep(0, part)
        ours.keep(0, part)
        assert theirs.total.executions == ours.total.executions == BLOCK
        assert open_corpus.connection.execute("SELECT count(*) FROM block").fetchall() == [(1,)]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_foreign_database_is_left_alone(tmp_path):
    """Somebody else's file of that name is neither used nor changed."""
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(CorpusError, match=r"something else(.|\n)*--save DIR"):
        Corpus(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_newer_version_is_refused(tmp_path):
    """It says which one, and which one would do."""
    saved(tmp_path, runs=1)
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(CorpusError, match=r"format version 2(.|\n)*reads version 1(.|\n)*--save DIR"):
        Corpus(tmp_path)


@pytest.mark.parametrize("content", [b"what is this?\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000, b"x"])
def test_what_is_no_database_is_refused(tmp_path, content):
    """Random bytes are not overwritten."""
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CorpusError, match=r"is damaged(.|\n)*Move it away"):
        Corpus(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content


def test_an_empty_file_is_a_new_corpus(tmp_path):
    """It is what a process leaves that is killed as soon as it has made the file."""
    (tmp_path / NAME).touch()
    assert saved(tmp_path) == fresh()


def test_a_truncated_corpus_is_refused_or_whole(tmp_path):
    """Wherever it ends: what is believed is right."""
    wanted = saved(tmp_path)
    data = (tmp_path / NAME).read_bytes()
    refused = 0
    for size in range(512, len(data), 512):
        (tmp_path / NAME).write_bytes(data[:size])
        refused += refused_or(tmp_path, wanted)
    assert refused > 5


def test_damaged_bytes_are_refused_or_harmless(tmp_path):
    """Bytes changed at random anywhere in the file: an answer that comes in spite of it is the right one."""
    wanted = saved(tmp_path)
    data = (tmp_path / NAME).read_bytes()
    source = random.Random("damage")
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(source.choice([1, 8, 200])):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        (tmp_path / NAME).write_bytes(damaged)
        refused += refused_or(tmp_path, wanted)
    assert 10 < refused < 60


def refused_or(directory, wanted: SearchResult) -> bool:
    """Whether a corpus is refused; what it gives otherwise must be what is wanted."""
    try:
        assert saved(directory) == wanted
    except CorpusError as error:
        assert "\n  " in str(error)  # noqa: PT017 -- that it is refused is one of two right answers
        return True
    finally:
        for left in directory.glob(f"{NAME}-*"):
            left.unlink()
    return False


def test_a_row_that_was_changed_is_not_believed(tmp_path):
    """A database can be sound, and not what we wrote."""
    saved(tmp_path)
    for change in (
        "UPDATE block SET part = replace(part, '1', '2')",
        "UPDATE block SET deliveries = 1",
        "UPDATE block SET number = number + 1 WHERE number = 3",
        "UPDATE block SET checksum = 0",
        "UPDATE block SET part = x'ff00'",
        "DROP TABLE block",
    ):
        before = (tmp_path / NAME).read_bytes()
        database = sqlite3.connect(tmp_path / NAME)
        database.execute(change)
        database.commit()
        database.close()
        if "number + 1" in change:
            assert saved(tmp_path) == fresh()  # a block that nobody asks for; the one that is missing is run again
            with pytest.raises(CorpusError, match="checksum"):
                saved(tmp_path, runs=5 * BLOCK)
        else:
            with pytest.raises(CorpusError, match="is damaged"):
                saved(tmp_path)
        (tmp_path / NAME).write_bytes(before)


def test_a_full_disk_keeps_what_was_written(tmp_path):
    """The search ends with the reason and what it has found; with room again it goes on from there."""
    with Corpus(tmp_path) as open_corpus:
        number = open_corpus.campaign(SUBJECT)
        open_corpus.connection.execute("PRAGMA wal_autocheckpoint = 1")
        [[pages]] = open_corpus.connection.execute("PRAGMA page_count")
        open_corpus.connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        plan = Plan("random", SUBJECT.seed, 20 * BLOCK)
        result = SearchResult()
        with (
            pytest.raises(OutputError, match=r"full(.|\n)*same command goes on"),
            SavedBlocks(open_corpus, number, plan, MICRO) as blocks,
        ):
            for result in search(MICRO, seed=SUBJECT.seed, runs=plan.runs, blocks=blocks):  # noqa: B007
                pass
        assert result.found
        assert not result.finished
        [[kept]] = open_corpus.connection.execute("SELECT count(*) FROM block")
        assert 0 < kept < 20
    monkey = Counting("v5", 2, 2)
    Counting.runs = 0
    assert saved(tmp_path, program=monkey, runs=20 * BLOCK) == fresh(20 * BLOCK)
    assert Counting.runs == 2 + (20 - kept) * BLOCK


# -- what is known -----------------------------------------------------------------------------------------------------


def finding_of(name: str) -> Finding:
    """The first bug of a program, with the whole of its first schedule."""
    steps: list = []
    program = PROGRAMS[name]
    *_, result = search(program, runs=500)
    first = next(iter(result.found.values()))
    from slabactors.explore.strategy import FollowRecord

    execution = program.execute(FollowRecord(first.record), observer=steps.append)
    return Finding(
        scenario="micro",
        scenario_digest="a",
        lifecycle="v5",
        parameters=SUBJECT.parameters,
        strategy="random",
        seed=0,
        execution=first.execution,
        signature=first.signature,
        kind=Kind(first.kind),
        message="m",
        preemptions=0,
        schedule=[Choice(one.path, one.operation, one.actor, one.value) for one in record(execution.simulation, steps)],
    )


def test_a_known_schedule_fails_passes_or_does_not_fit():
    """The same program still breaks; one without the bug does not; another one takes other steps."""
    finding = finding_of("lost update")
    [still] = replay_known(lambda _: PROGRAMS["lost update"], [finding])
    assert (still.state, still.detail) == (State.FAILS, "")
    [other] = replay_known(lambda _: PROGRAMS["deadlock"], [finding])
    assert other.state is State.DIVERGES
    assert "ReplayDiverged: step" in other.detail
    unchosen = Finding(**{**fields_of(finding_of("chosen free")), "schedule": []})
    [gone] = replay_known(lambda _: PROGRAMS["chosen free"], [unchosen])
    assert (gone.state, gone.detail) == (State.PASSES, "the run ends without a bug")
    [changed] = replay_known(
        lambda _: PROGRAMS["lost update"], [Finding(**{**fields_of(finding), "signature": "property: x"})]
    )
    assert changed.state is State.PASSES
    assert finding.signature in changed.detail


def fields_of(finding: Finding) -> dict:
    return {name: getattr(finding, name) for name in finding.__struct_fields__}


def test_the_bugs_of_a_campaign_are_known_to_others_and_to_itself_once_they_were_shown(tmp_path):
    """Killed after they were written and before they were shown, it is still the same campaign that goes on."""
    finding = finding_of("lost update")
    with Corpus(tmp_path) as open_corpus:
        one, other = open_corpus.campaign(SUBJECT), open_corpus.campaign(replace(SUBJECT, seed=4))
        elsewhere = replace(SUBJECT, lifecycle="repaired")
        open_corpus.keep(one, [finding])
        assert open_corpus.known(SUBJECT, one) == []
        assert open_corpus.known(replace(SUBJECT, seed=4), other) == [finding]
        assert open_corpus.known(elsewhere, open_corpus.campaign(elsewhere)) == []
        open_corpus.reported(one)
        assert open_corpus.known(SUBJECT, one) == [finding]
