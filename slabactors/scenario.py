"""The meeting point: a scenario is an ``async def`` over a machine, run by either driver, explored and replayed.

from slabactors.scenario import Machine, scenario

@scenario(title="What happens when ...", cpus=2)
async def my_story(machine: Machine, *, objects: int = 1) -> None:
    ...

if __name__ == "__main__":
    my_story.main()
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slabactors.actors import Clock
from slabactors.errors import ScenarioError, UnknownName
from slabactors.explore.program import Driver, Execution, prepared
from slabactors.files import FILE_MODULE, module_of, place_of
from slabactors.kernel.jiffies import HZ
from slabactors.lifecycle import Lifecycle
from slabactors.machine import SETTLE_JIFFIES, WATCHED, Machine, MachineConfig
from slabactors.own_lifecycle import find_lifecycle
from slabactors.runtime.simulated import Simulation, Strategy
from slabactors.runtime.step import Decision, Observer, Outcome, TimePolicy
from slabactors.runtime.watchdog import watched

if TYPE_CHECKING:
    from slabactors.explore.simplify import Knob

__all__ = [
    "BoundScenario",
    "LiveExecution",
    "Machine",
    "Parameter",
    "Scenario",
    "catalogued",
    "find",
    "find_lifecycle",
    "load_file",
    "scenario",
    "shipped",
]

Story = Callable[..., Coroutine[Any, Any, None]]

STEPS_MAX: Final = 20_000
"""Bound on the steps of a run, of a scenario that does not ask for more."""

MACHINE_BOUNDS = (
    ("cpus", 1, 64),
    ("deferrable_slip", 0, 1 << 30),
    ("kworkers", 1, 64),
    ("memcg_caches_min", 0, 65535),
    ("memoryless_nodes", 0, 63),
    ("pages", 1, 1 << 30),
    ("pre_destroy_runs", 1, 64),
    ("watermark_low", 0, 1 << 30),
)
"""Smallest and largest values of the numbers in a `MachineConfig`."""


@dataclass(frozen=True)
class Parameter:
    """One knob of a scenario or of its machine.

    Attributes:
        name: as in ``--set name=value``.
        type: bool, int, float or str.
        default: used when it is not set.
        about: one line.
        where: file and line of the scenario that it is a knob of.
    """

    name: str
    type: type
    default: Any
    about: str = ""
    where: str = ""

    def parse(self, text: str) -> Any:
        """The value that a command-line text stands for.

        Raises:
            ScenarioError: the text is not of the parameter's type.
        """
        if self.type is bool:
            lowered = text.lower()
            if lowered in ("true", "yes", "on", "1"):
                return True
            if lowered in ("false", "no", "off", "0"):
                return False
        elif self.type is str:
            return text
        else:
            try:
                return self.type(text)
            except ValueError:
                pass
        raise ScenarioError(
            f"parameter {self.name!r} is {_article(self.type)}, not {text!r}.\n"
            f"  {self._declared}Type for example: --set {self.name}={self.default}"
        )

    def check(self, value: Any) -> Any:
        """A value given from Python or from a finding file, if it is of the parameter's type.

        Raises:
            ScenarioError: it is not.
        """
        if type(value) is self.type or (self.type is float and type(value) is int):
            return value
        raise ScenarioError(
            f"parameter {self.name!r} is {_article(self.type)}, not {value!r}.\n"
            f"  {self._declared}Write for example: {self.name}={self.default!r}"
        )

    @property
    def _declared(self) -> str:
        return self.where and f"It is declared at {self.where}.  "


_ARTICLES: Final[dict[type, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _article(kind: type) -> str:
    return _ARTICLES[kind]


def _kind(parameter: inspect.Parameter) -> type | None:
    """The type of a knob: as annotated, else that of its default; None when it cannot be one."""
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return None  # it is set by its name
    # Annotations are not evaluated: they may name what is imported for type checkers only.
    wanted = parameter.annotation
    kind = type(parameter.default)
    if wanted is inspect.Parameter.empty or wanted in (kind, kind.__name__):
        return kind if kind in _ARTICLES else None
    return float if kind is int and wanted in (float, "float") else None


@dataclass(frozen=True, repr=False)
class Scenario:
    """A story that is run, explored and replayed.

    Attributes:
        name: as the commands call it.
        title: one line.
        function: the ``async def`` over a machine.
        config: the machine it wants, before ``--set``.
        lifecycle: the generation it is about unless another is asked for.
        time: when timers may fire.
        early_firings_max: how many timers may fire while something else could still run.
        steps_max: bound on the steps of a run.
    """

    name: str
    title: str
    function: Story
    config: MachineConfig
    lifecycle: str
    time: TimePolicy
    early_firings_max: int
    steps_max: int = STEPS_MAX

    @property
    def story(self) -> str:
        """The whole story: the docstring of the function, or of its file."""
        own = inspect.getdoc(self.function)
        module = sys.modules.get(self.function.__module__)
        return own or (inspect.getdoc(module) if module is not None else None) or self.title

    def __repr__(self) -> str:
        knobs = [str(one) for one in inspect.signature(self.function).parameters.values()][1:]
        return f"<scenario {self.name}({', '.join(knobs)}): {self.title}>"

    @property
    def where(self) -> str:
        """File and line of its function."""
        return place_of(self.function)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Its own knobs.

        Raises:
            ScenarioError: a parameter of the function cannot be one.
        """
        found = {}
        for name, parameter in list(inspect.signature(self.function).parameters.items())[1:]:
            kind = _kind(parameter)
            if kind is None:
                raise ScenarioError(
                    f"scenario {self.name}: parameter {name!r} must be a bool, int, float or str "
                    f"with a default of that type; found {str(parameter)!r} at {self.where}.\n"
                    f"  Write for example: {name}: int = 1"
                )
            found[name] = Parameter(name, kind, parameter.default, where=self.where)
        return found

    def described(self) -> list[Parameter]:
        """Its own knobs with what the ``Args`` section of its docstring, or that of its file, says about each."""
        from docstring_parser import DocstringStyle, parse

        module = sys.modules.get(self.function.__module__)
        docs = [inspect.getdoc(one) or "" for one in (module, self.function) if one is not None]
        said = {
            one.arg_name: " ".join((one.description or "").split())
            for text in docs
            for one in parse(text, DocstringStyle.GOOGLE).params
        }
        return [replace(one, about=said.get(one.name, "")) for one in self.parameters.values()]

    @property
    def machine_parameters(self) -> dict[str, Parameter]:
        """The knobs of its machine."""
        return {
            item.name: Parameter(item.name, type(getattr(self.config, item.name)), getattr(self.config, item.name))
            for item in fields(MachineConfig)
        }

    @property
    def digest(self) -> str:
        """A digest of the function's source, to notice that a finding is of another version of the scenario."""
        try:
            source = inspect.getsource(self.function)
        except OSError:
            source = self.name
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by where its function is: the file was imported under a name that another process does not know."""
        file = Path(inspect.getfile(self.function)).resolve()
        directory = _shipped_directory().resolve()
        if file.is_relative_to(directory):
            file = file.relative_to(directory)  # where this package is in the other process
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "function"}
        return _found_again, (str(file), self.function.__qualname__, values)

    def bind(
        self, *, lifecycle_name: str | None = None, settings: dict[str, Any] | Sequence[str] = ()
    ) -> BoundScenario:
        """The scenario with its parameters and a lifecycle, ready to be run.

        Args:
            lifecycle_name: the generation; the scenario's own by default.
            settings: values by name, or ``name=value`` texts; of the scenario's and the machine's parameters.

        Raises:
            UnknownName: there is no such lifecycle or parameter.
            ScenarioError: a value does not fit.
        """
        own, of_machine = self.parameters, self.machine_parameters
        known = {**of_machine, **own}
        values: dict[str, Any] = {}
        if isinstance(settings, dict):
            pairs = [(name, value, False) for name, value in settings.items()]
        else:
            pairs = []
            for text in settings:
                name, separator, value = text.partition("=")
                if not separator:
                    raise ScenarioError(f"expected name=value, found {text!r}.\n  Type for example: --set cpus=2")
                pairs.append((name.strip().replace("-", "_"), value.strip(), True))
        for name, value, is_text in pairs:
            if name not in known:
                raise UnknownName(
                    f"parameter of {self.name}", name, sorted(known), hint=f"Its own are declared at {self.where}."
                )
            values[name] = known[name].parse(value) if is_text else known[name].check(value)
        machine_values = {name: value for name, value in values.items() if name in of_machine and name not in own}
        config = replace(self.config, **machine_values)
        _check_config(config)
        return BoundScenario(
            self,
            find_lifecycle(lifecycle_name or self.lifecycle),
            config,
            {name: values.get(name, parameter.default) for name, parameter in own.items()},
            dict(sorted(values.items())),
        )

    def main(self) -> None:
        """Run the command line on this scenario: what ``python my_scenario.py`` does.

        Raises:
            ScenarioError: it is called while a command imports the file.
        """
        from slabactors.cli import main

        caller = inspect.stack(0)[1].frame.f_globals.get("__name__", "")  # it may run the story of another file
        if caller.startswith(FILE_MODULE):
            raise ScenarioError(
                f"{self.where}: {self.function.__name__}.main() is called whenever the file is imported.\n"
                f'  Write: if __name__ == "__main__": {self.function.__name__}.main()'
            )

        file = self.where.rpartition(":")[0]
        arguments = sys.argv[1:]
        command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "explore"
        of_scenario = command in ("run", "explore", "verify")
        main([command, *([f"{file}:{self.function.__name__}"] if of_scenario else []), *arguments])


def _check_config(config: MachineConfig) -> None:
    from slabactors.mm.models import MODELS

    for item in fields(config):
        value = getattr(config, item.name)
        if type(value) is not type(item.default):
            raise ScenarioError(
                f"{item.name} of a machine is {_article(type(item.default))}, not {value!r}.\n"
                f"  Write for example: @scenario(title=..., {item.name}={item.default!r})"
            )
    for name, low, high in MACHINE_BOUNDS:
        value = getattr(config, name)
        if not low <= value <= high:
            raise ScenarioError(
                f"{name} of a machine is a number from {low} to {high}, not {value}.\n"
                f"  Type for example: --set {name}={getattr(MachineConfig(), name)}"
            )
    if config.allocator not in MODELS:
        raise UnknownName("allocator model", config.allocator, sorted(MODELS))
    nodes_max = MODELS[config.allocator].nodes_max
    if not 1 <= config.nodes <= nodes_max:
        raise ScenarioError(
            f"nodes of a machine with {config.allocator} is a number from 1 to {nodes_max}, not {config.nodes}.\n"
            "  Type for example: --set nodes=1"
        )
    if config.memoryless_nodes >= config.nodes:
        raise ScenarioError(
            f"memoryless_nodes of a machine is less than its nodes, {config.nodes}, not {config.memoryless_nodes}.\n"
            "  Type for example: --set nodes=2 --set memoryless_nodes=1"
        )


@dataclass(frozen=True, slots=True)
class LiveExecution:
    """One live run.

    Attributes:
        outcome: how it ended.
        world: the machine.
        decisions: the schedule that replays it in the simulator.
    """

    outcome: Outcome
    world: Machine
    decisions: list[Decision]

    @property
    def steps(self) -> int:
        """How many operations were delivered, up to the one that broke it."""
        return sum(decision.value is None for decision in self.decisions)


@dataclass(frozen=True, repr=False)
class BoundScenario:
    """A scenario with its parameters, bound to a lifecycle and a machine: a program that a search can run.

    Attributes:
        scenario: the story.
        lifecycle: the generation it runs under.
        config: the machine it runs on.
        arguments: its parameters, all of them.
        settings: those that were set, of the scenario and the machine.
        starvation_jiffies: for how much virtual time at most a timer that fires early may leave a path waiting that
            can move; None for any time.  Exhaustive searches know no such bound.
    """

    scenario: Scenario
    lifecycle: Lifecycle
    config: MachineConfig
    arguments: dict[str, Any]
    settings: dict[str, Any]
    starvation_jiffies: int | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in {**self.arguments, **self.settings}.items())
        return f"<scenario {self.scenario.name}({values}) under {self.lifecycle.name}>"

    def under(self, time: TimePolicy | None = None, starvation_jiffies: int | None = None) -> BoundScenario:
        """The same under another clock policy.

        Args:
            time: when timers may fire; None for the scenario's own.
            starvation_jiffies: for how long at most they may leave somebody waiting, when they fire early.
        """
        story = self.scenario if time is None else replace(self.scenario, time=time)
        return replace(self, scenario=story, starvation_jiffies=starvation_jiffies)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was bound from, so that another process finds it again."""
        name = self.lifecycle.name
        path, separator, class_name = name.rpartition(":")
        if not separator or not path.endswith(".py"):
            path, class_name = name, ""
        origin: Lifecycle | tuple[str, str] = self.lifecycle
        if path.endswith(".py"):
            origin = str(Path(path).resolve()) + (f":{class_name}" if class_name else ""), name
        bound = self.scenario, origin, self.config, self.arguments, self.settings
        return _bound_again, (*bound, self.starvation_jiffies)

    def machine(self, clock: Clock) -> Machine:
        """A new machine for one run."""
        return Machine(clock, self.lifecycle, self.config)

    def main(self, machine: Machine) -> Coroutine[Any, Any, None]:
        """The story's path over a machine."""
        return self.scenario.function(machine, **self.arguments)

    @property
    def sometimes(self) -> Sequence[str]:
        """What at least one run of a search must reach for its verdict to mean anything."""
        return [f"{checker.name}: {checker.sometimes}" for checker in WATCHED]

    def execute(
        self,
        strategy: Strategy,
        *,
        observer: Observer | None = None,
        time: TimePolicy | None = None,
        driver: Driver = Simulation,
    ) -> Execution:
        """Run once in the simulator; see `slabactors.explore.program.Program`."""
        early: dict[str, Any] = {}
        if driver is Simulation:
            early = {
                "early_firings_max": self.scenario.early_firings_max,
                "starvation_jiffies": self.starvation_jiffies,
            }
        simulation = prepared(
            driver,
            strategy,
            observer,
            time=time or self.scenario.time,
            **early,
            steps_max=self.scenario.steps_max,
            settle_jiffies=SETTLE_JIFFIES,
        )
        machine = self.machine(simulation.clock)
        try:
            outcome = simulation.run(
                self.main(machine), daemons=machine.daemons(), at_rest=machine.at_rest, at_bound=machine.at_bound
            )
        except SystemExit as leaving:
            last = traceback.extract_tb(leaving.__traceback__)[-1]
            raise ScenarioError(
                f"scenario {self.scenario.name} called exit at {Path(last.filename).name}:{last.lineno} "
                f"in {last.name}().\n  To report a bug raise an exception; to end the story return."
            ) from leaving
        return Execution(simulation, outcome, machine)

    async def execute_live(
        self, *, seed: int = 0, jitter: float = 0.0, time_scale: float = 1000.0, observer: Observer | None = None
    ) -> LiveExecution:
        """Run once on the event loop that this is awaited on, asyncio or trio.

        Args:
            seed: of ``choose()`` and of the jitter; it does not make a live run deterministic.
            jitter: how often a mailbox hesitates, 0 to 1.
            time_scale: how many times faster than real time timers go.
            observer: called after each step.
        """
        from slabactors.runtime.live import LiveRuntime

        runtime = LiveRuntime(
            seed=seed,
            jitter=jitter,
            jiffies_per_second=HZ * time_scale,
            settle_jiffies=SETTLE_JIFFIES,
            steps_max=self.scenario.steps_max,
            observer=observer,
            autojump=False,
        )
        machine = self.machine(runtime.clock)
        with watched():
            outcome = await runtime.run(self.main(machine), daemons=machine.daemons(), at_rest=machine.at_rest)
        return LiveExecution(outcome, machine, runtime.decisions())

    @property
    def knobs(self) -> list[Knob]:
        """The numbers and switches that a search may turn down, for a simpler story of what it has found.

        Of the machine only those that were set, and only down to what the scenario asks for: its author knows why.
        """
        from slabactors.explore.simplify import Knob

        found = [
            Knob(name, self.arguments[name], parameter.default)
            for name, parameter in self.scenario.parameters.items()
            if parameter.type in (int, bool) and self.arguments[name] > 0
        ]
        for name, parameter in self.scenario.machine_parameters.items():
            value, usual = getattr(self.config, name), parameter.default
            if parameter.type is int and value > usual and name not in self.arguments:
                found.append(Knob(name, value, usual, usual))
        return found

    def variant(self, settings: Mapping[str, Any]) -> BoundScenario:
        """The same with other values of some parameters.

        Raises:
            UsageError: they do not fit.
        """
        values = {**self.settings, **settings}
        known = {**self.scenario.machine_parameters, **self.scenario.parameters}
        changed = {name: value for name, value in values.items() if value != known[name].default}
        bound = self.scenario.bind(lifecycle_name=self.lifecycle.name, settings=changed)
        return replace(bound, starvation_jiffies=self.starvation_jiffies)

    def reached(self, execution: Execution) -> Sequence[bool]:
        """Which of `sometimes` a run has reached."""
        return [checker.reached(execution.world) for checker in WATCHED]

    def dispose(self, execution: Execution) -> None:
        """Untie a run's paths and its machine."""
        execution.simulation.dispose()
        execution.world.dispose()


def _found_again(file: str, name: str, values: dict[str, Any]) -> Scenario:
    """A pickled scenario, found again by its file and its name in it."""
    found = vars(module_of(_shipped_directory() / file)).get(name)
    if not isinstance(found, Scenario):
        raise ScenarioError(
            f"{file} has no scenario {name!r} at its top level, so another process cannot find it.\n"
            "  Define the scenario at the top level of its file."
        )
    return Scenario(function=found.function, **values)


def _bound_again(
    story: Scenario,
    origin: Lifecycle | tuple[str, str],
    config: MachineConfig,
    arguments: dict[str, Any],
    settings: dict[str, Any],
    starvation_jiffies: int | None,
) -> BoundScenario:
    """A pickled program; a lifecycle of a file comes as where it is and what it is called."""
    chosen = origin if isinstance(origin, Lifecycle) else find_lifecycle(*origin)
    return BoundScenario(story, chosen, config, arguments, settings, starvation_jiffies)


def scenario(
    *,
    title: str,
    lifecycle: str = "v5",
    time: TimePolicy | str = TimePolicy.ADVERSARIAL,
    early_firings_max: int = 3,
    steps_max: int = STEPS_MAX,
    **machine: Any,
) -> Callable[[Story], Scenario]:
    """Make an ``async def story(machine, *, knob=default ...)`` a scenario.

    Args:
        title: one line.
        lifecycle: the generation it is about.
        time: when timers may fire; adversarial unless the story is about delays.
        early_firings_max: how many timers may fire while something else could still run.
        steps_max: bound on the steps of a run, simulated or live.
        machine: fields of `MachineConfig`.
    """

    def decorate(function: Story) -> Scenario:
        if not inspect.iscoroutinefunction(function):
            place = f" ({place_of(function)})" if inspect.isfunction(function) else ""
            called = getattr(function, "__name__", type(function).__name__)
            raise ScenarioError(
                f"a scenario is an async def; {called} is not{place}.\n"
                f"  Write: async def {called}(machine: Machine) -> None"
            )
        first = next(iter(inspect.signature(function).parameters.values()), None)
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            found = "nothing" if first is None else repr(str(first))
            raise ScenarioError(
                f"a scenario takes a machine; {function.__name__} takes {found} ({place_of(function)}).\n"
                f"  Write: async def {function.__name__}(machine: Machine) -> None"
            )
        return Scenario(
            name=function.__name__.replace("_", "-"),
            title=title,
            function=function,
            config=MachineConfig(**machine),
            lifecycle=lifecycle,
            time=TimePolicy(time),
            early_firings_max=early_firings_max,
            steps_max=steps_max,
        )

    return decorate


# -- finding them ------------------------------------------------------------------------------------------------------


def _shipped_directory() -> Path:
    """Where the shipped scenarios are: inside the installed package, or beside it in a checkout."""
    installed = Path(__file__).parent / "shipped_scenarios"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "scenarios"


def shipped() -> dict[str, Path]:
    """Name and file of every shipped story: ``dead-cache/emptied`` is in ``dead_cache/emptied.py``.

    Those of `catalogued` are not among them.
    """
    catalogue = catalogued()
    return {name: file for name, file in _scenario_files("*").items() if name not in catalogue}


def catalogued() -> dict[str, Path]:
    """Name and file of every entry of the catalogue of real bugs; each is a scenario, too."""
    return _scenario_files("catalogue")


def _scenario_files(folder: str) -> dict[str, Path]:
    directory = _shipped_directory()
    return {
        file.relative_to(directory).with_suffix("").as_posix().replace("_", "-"): file
        for file in sorted(directory.glob(f"{folder}/*.py"))
        if not file.name.startswith("_")
    }


def load_file(file: Path, *, name: str | None = None) -> list[Scenario]:
    """Import a file and give its scenarios, in the order of the file.

    Args:
        file: a Python file.
        name: the module name to import it under.

    Raises:
        ScenarioError: it is missing, does not import, holds no scenario, or two of one name.
    """
    if not file.is_file():
        raise ScenarioError(f"there is no scenario file {file}.\n  List the shipped scenarios with: slabactors list")
    module = module_of(file, name)
    found = list({id(value): value for value in vars(module).values() if isinstance(value, Scenario)}.values())
    if not found:
        raise ScenarioError(
            f"{file} holds no scenario: expected an async def under @scenario(title=...).\n"
            "  Begin with: slabactors new scenario my-story; or see a shipped one for an example: slabactors list"
        )
    by_name: dict[str, str] = {}
    for place, called in [*_lost(file, found), *((one.where, one.name) for one in found)]:
        if called in by_name:
            raise ScenarioError(
                f"two scenarios are called {called}: at {by_name[called]} and at {place}.\n"
                "  Give one of the functions another name."
            )
        by_name[called] = place
    return found


def _lost(file: Path, found: Sequence[Scenario]) -> Iterator[tuple[str, str]]:
    """Places and names of functions under ``@scenario`` that a later one of the same name has overwritten."""
    decorated = {
        node.name: node.lineno
        for node in reversed(ast.parse(file.read_bytes()).body)  # of one name the first
        if isinstance(node, ast.AsyncFunctionDef)
        and any(isinstance(one, ast.Call) and ast.unparse(one.func).endswith("scenario") for one in node.decorator_list)
    }
    for one in found:
        place, _, line = one.where.rpartition(":")
        first = decorated.get(one.function.__name__)
        if first is not None and first < int(line) and Path(place).resolve() == file.resolve():
            yield f"{place}:{first}", one.name


def find(target: str) -> Scenario:
    """The scenario that a command's TARGET names: ``FILE``, ``FILE:NAME``, or the name of a shipped one.

    Raises:
        ScenarioError: the file is missing, does not import, or holds no or several scenarios.
        UnknownName: there is no scenario of that name.
    """
    names = shipped()
    files = names | catalogued()
    if target in files:
        return replace(load_file(files[target])[0], name=target)
    path, separator, name = target.rpartition(":")
    if not separator or not path.endswith(".py"):
        path, name = target, ""
    if not path.endswith(".py"):
        raise UnknownName("scenario", target, list(names), hint="Or give a file: path/to/scenario.py or FILE.py:NAME.")
    found = load_file(Path(path))
    by_name = {one.name: one for one in found}
    if name:
        wanted = name.replace("_", "-")
        if wanted not in by_name:
            raise UnknownName(f"scenario in {path}", name, sorted(by_name))
        return replace(by_name[wanted], name=target)
    if len(found) > 1:
        raise ScenarioError(
            f"{path} holds several scenarios: {', '.join(by_name)}.\n  Name one: {path}:{found[0].function.__name__}"
        )
    return replace(found[0], name=target)
