"""``slabactors replay``, and what every command needs that takes a finding's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from slabactors import __version__
from slabactors.calls import program_of
from slabactors.cli import BUG
from slabactors.cli.once import logged, write_end
from slabactors.cli.output import note, say, say_json
from slabactors.errors import FindingFileError, KernelBug, ReplayDiverged, UsageError
from slabactors.explore.finding import Finding, load, signature
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken, replayed
from slabactors.kernel.jiffies import HZ
from slabactors.report.words import counted
from slabactors.scenario import BoundScenario
from slabactors.trace.race_table import race_table


def opened(file: Path) -> tuple[Finding, BoundScenario]:
    """A finding, and its program.

    Raises:
        FindingFileError: it is damaged, or cannot be run again here.
    """
    finding = load(file)
    try:
        program = program_of(finding)
    except UsageError as error:
        raise FindingFileError(
            f"{file} cannot be run again here: {error}\n"
            f"  It was found in {finding.scenario} under {finding.lifecycle} by slabactors {finding.program_version}; "
            "a file is looked for from the current directory."
        ) from error
    if program.scenario.digest != finding.scenario_digest:
        note(f"slabactors: the scenario {finding.scenario} has changed since {file} was written; it may not fit.")
    starvation = None if finding.starvation is None else round(finding.starvation * HZ)
    return finding, program.under(finding.time, starvation)


def seen_again(finding: Finding, program: BoundScenario) -> tuple[Shrunken, KernelBug]:
    """The finding's run, and its bug.

    Raises:
        ReplayDiverged: the schedule does not fit, or does not show the bug any more.
    """
    try:
        return _same_bug(finding, replayed(program, [choice.decision() for choice in finding.schedule]))
    except ReplayDiverged as error:
        search = f"slabactors explore {finding.scenario} --lifecycle {finding.lifecycle} --save DIR"
        again = f"Find it again: {search}" if finding.calls is UNSET else f"Run again what it is of: {finding.scenario}"
        error.add_note(f"  It was written by slabactors {finding.program_version}; this is {__version__}.\n  {again}")
        raise


def _same_bug(finding: Finding, again: Shrunken) -> tuple[Shrunken, KernelBug]:
    bug = again.outcome.bug
    if bug is None or signature(again.outcome) != finding.signature:
        found = "the run ended without a bug" if bug is None else f"it showed {signature(again.outcome)!r}"
        raise ReplayDiverged(len(finding.schedule), repr(finding.signature), found)
    return again, bug


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How ``slabactors replay`` is to go on; strictly unless one of the first three is given.

    Attributes:
        lenient: follow what fits.
        explore: how many executions to make that begin as the finding does.
        prefix: how many decisions they share.
        step: ask before each step.
        strategy: what goes on after the schedule.
        seed: of that strategy.
        log: a file for the run's JSON lines.
        save: a directory for what ``explore`` finds.
        json: print one JSON document.
    """

    lenient: bool = False
    explore: int | None = None
    prefix: int | None = None
    step: bool = False
    strategy: str | None = None
    seed: int = 0
    log: Path | None = None
    save: Path | None = None
    json: bool = False

    def check(self) -> None:
        """See whether they go together.

        Raises:
            UsageError: they do not.
        """
        modes = [
            name
            for name, given in (
                ("--lenient", self.lenient),
                ("--explore", self.explore is not None),
                ("--step", self.step),
            )
            if given
        ]
        if len(modes) > 1:
            raise UsageError(f"{' and '.join(modes)} are different ways to replay.\n  Give one of them.")
        if self.explore is not None and self.explore < 1:
            raise UsageError(f"--explore must be at least 1, not {self.explore}.\n  Type for example: --explore 1000")
        if self.explore is None:
            for name, given in (("--prefix", self.prefix), ("--save", self.save)):
                if given is not None:
                    raise UsageError(f"{name} goes with --explore only.\n  Type for example: --explore 1000 {name} ...")
            if self.strategy is not None and not self.lenient:
                raise UsageError("--strategy goes with --lenient or --explore only.\n  Add one of them.")
        elif self.log is not None:
            raise UsageError(
                "--log is for one run, and --explore makes many.\n  Log a replay of what it finds: --save DIR"
            )
        if self.step and self.json:
            raise UsageError("--step talks to a person, --json does not.\n  Leave one of them out.")


def replay_finding(file: Path, options: ReplayOptions) -> int:
    """Run a finding again in one of the ways; strictly by default, exit 1 when it shows the bug again."""
    options.check()
    finding, program = opened(file)
    if not options.lenient:
        check_version(finding, file)
    try:
        if options.lenient:
            from slabactors.cli.replay_on import follow_leniently

            return follow_leniently(file, finding, program, options)
        if options.explore is not None:
            from slabactors.cli.replay_on import explore_on

            return explore_on(finding, program, options)
        if options.step:
            from slabactors.cli.step import step_through

            return step_through(finding, program, log=options.log)
        return _replay_strictly(file, finding, program, options)
    except ReplayDiverged as error:
        error.add_note(f"  Follow it as far as it fits: slabactors replay {file} --lenient")
        raise


def check_version(finding: Finding, file: Path) -> None:
    """Refuse the schedule of another version: its steps may be called the same and mean something else.

    Raises:
        FindingFileError: it was written by another version of slabactors.
    """
    if finding.program_version != __version__:
        raise FindingFileError(
            f"{file} was written by slabactors {finding.program_version}; this is slabactors {__version__}, whose "
            "machine may take other steps.\n"
            f"  Replay it all the same, as far as it fits: slabactors replay {file} --lenient"
        )


def _replay_strictly(file: Path, finding: Finding, program: BoundScenario, options: ReplayOptions) -> int:
    again, bug = seen_again(finding, program)
    if options.log is not None:
        with logged(options.log) as sink:
            sink.run(
                scenario=finding.scenario, lifecycle=finding.lifecycle, parameters=finding.parameters, replay=str(file)
            )
            execution = replay(program, again.whole_schedule, observer=sink)
            write_end(sink, execution.outcome, execution.world)
    table = race_table(again.history, bug.about)
    if options.json:
        say_json(
            {
                "scenario": finding.scenario,
                "lifecycle": finding.lifecycle,
                "reproduced": True,
                "signature": finding.signature,
                "kind": bug.kind,
                "message": bug.message,
                "preemptions": again.preemptions,
                "deliveries": again.outcome.deliveries,
                "steps": table.as_json(),
            }
        )
    else:
        say(f"{finding.scenario} under {finding.lifecycle}: reproduced in {counted(again.outcome.deliveries, 'step')}")
        say(f"  {finding.signature}")
        say(f"  {bug.message}")
        say()
        say(table.render())
    return BUG
