"""The directory that ``--save`` names: findings as files, and the corpus of what was searched there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slabactors.cli.output import note, say
from slabactors.cli.report import save_all
from slabactors.errors import OutputError, UsageError
from slabactors.explore.campaign import Blocks, Plan
from slabactors.explore.finding import check_directory
from slabactors.explore.known import Known, State, replay_known
from slabactors.report.finding import Report
from slabactors.report.words import counted
from slabactors.scenario import BoundScenario

if TYPE_CHECKING:
    from slabactors.explore.corpus import Corpus, Subject
    from slabactors.explore.crew import Crew

JOBS_MAX: Final = 256
"""More processes than that are a slip of the finger."""


def check_jobs(jobs: int | None, executor: str | None) -> None:
    """Refuse numbers of processes that make no sense, and workers from two places.

    Raises:
        UsageError: it is one.
    """
    if jobs is not None and not 0 < jobs <= JOBS_MAX:
        raise UsageError(f"--jobs must be from 1 to {JOBS_MAX}, not {jobs}.\n  Type for example: --jobs 2")
    if jobs is not None and executor is not None:
        raise UsageError("expected --jobs or --executor, found both.\n  A cluster has the workers that it has.")


def connected(address: str) -> AbstractContextManager[Crew]:
    """The cluster at an address."""
    from slabactors.explore.cluster import connected

    return connected(address)


@dataclass
class Campaign:
    """A search, and where it is kept if it is.

    Attributes:
        program: what is searched.
        known: bugs that earlier searches have found, with what became of them.
        resumed: executions that were made before.
        unsaved: why not everything could be done or kept; said when everything was printed.
    """

    program: BoundScenario
    directory: Path | None
    known: list[Known]
    corpus: Corpus | None = None
    number: int = 0
    resumed: int = 0
    unsaved: UsageError | None = None

    @contextmanager
    def blocks(self, plan: Plan) -> Iterator[Blocks]:
        """The blocks of the search that are left to be run."""
        if self.corpus is None:
            yield Blocks(plan, self.program)
            return
        from slabactors.explore.claims import SavedBlocks

        with SavedBlocks(self.corpus, self.number, plan, self.program) as blocks:
            self.resumed = blocks.resumed
            if blocks.resumed:
                note(f"slabactors: {counted(blocks.resumed, 'execution')} had been made before; going on from there.")
            yield blocks

    def save(self, reports: list[Report]) -> None:
        """Keep what was found; what goes wrong is told by `finish`, when everything was printed."""
        if self.directory is None:
            return
        try:
            save_all(reports, self.directory)
            if self.corpus is not None:
                self.corpus.keep(self.number, [report.finding for report in reports], self.program.settings)
        except OutputError as error:
            self.unsaved = self.unsaved or error

    def finish(self) -> None:
        """Everything was printed.

        Raises:
            OutputError: not everything could be kept.
        """
        if self.unsaved is None and self.corpus is not None:
            try:
                self.corpus.reported(self.number)
            except OutputError as error:
                self.unsaved = error
        if self.unsaved is not None:
            raise self.unsaved

    def verdict(self, found: str) -> str:
        """That of the search, unless a bug that was known is still there."""
        return "broken" if any(one.state is State.FAILS for one in self.known) else found

    def print_still_broken(self, found: str) -> None:
        """Say that the last word is not that of the search."""
        if found != "broken" and self.verdict(found) == "broken":
            say("A bug that was known is still there.")

    def known_json(self) -> list[dict[str, Any]]:
        """The known bugs as ``--json`` prints them."""
        return [
            {
                "signature": one.finding.signature,
                "state": one.state,
                "detail": one.detail,
                "strategy": one.finding.strategy,
                "seed": one.finding.seed,
            }
            for one in self.known
        ]

    def print_known(self) -> None:
        """The known bugs for a person."""
        if not self.known:
            return
        states = Counter(one.state for one in self.known)
        words = {
            State.FAILS: "still broken",
            State.PASSES: "not broken any more",
            State.DIVERGES: "not to be run any more",
        }
        summary = ", ".join(f"{states[state]} {text}" for state, text in words.items() if states[state])
        say(f"{counted(len(self.known), 'known schedule')} of {self.directory} run again: {summary}")
        for one in self.known:
            say(f"  {one.state}: {one.finding.signature}")
            if one.detail:
                say(f"    {one.detail.splitlines()[0]}")


@contextmanager
def opened(program: BoundScenario, directory: Path | None, *, strategy: str, seed: int) -> Iterator[Campaign]:
    """A campaign, with its corpus open and the bugs that are known run again.

    Raises:
        CorpusError: the corpus is damaged, something else, or of a newer version.
        OutputError: the directory cannot be written to.
    """
    if directory is None:
        yield Campaign(program, None, [])
        return
    check_directory(directory)  # now, and not after a search of an hour
    from slabactors.explore.corpus import Corpus

    with Corpus(directory) as corpus:
        subject = _subject(program, strategy, seed)
        number = corpus.campaign(subject)
        known = replay_known(lambda finding: program.variant(finding.parameters), corpus.known(subject, number))
        yield Campaign(program, directory, known, corpus, number)


def _starving(program: BoundScenario) -> str:
    """Under another bound it is another search."""
    return "" if program.starvation_jiffies is None else f", {program.starvation_jiffies} jiffies at most"


def _subject(program: BoundScenario, strategy: str, seed: int) -> Subject:
    from slabactors.explore.corpus import Subject
    from slabactors.sources import sources_digest

    return Subject(
        scenario=program.scenario.name,
        scenario_digest=program.scenario.digest,
        sources_digest=sources_digest(program),
        lifecycle=program.lifecycle.name,
        parameters=program.settings,
        strategy=f"{strategy} in {program.scenario.time} time{_starving(program)}",
        seed=seed,
    )
