"""The reference pages name everything there is, and nothing that there is not."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from cyclopts import App

from slabactors import __version__, pytest_plugin
from slabactors.actors import Actor, Operation, operation_of, operations
from slabactors.actors.actor import Timed
from slabactors.cli import run
from slabactors.cli.app import app
from slabactors.errors import Kind
from slabactors.explore.campaign import search
from slabactors.explore.finding import Choice, Finding
from slabactors.explore.strategy import STRATEGIES
from slabactors.lifecycle import LIFECYCLES
from slabactors.scenario import find, shipped
from slabactors.trace.formats.ftrace_events import SkipReason
from tests.docs.pages import ROOT, bare, code_spans, headings, names_in, tables

REFERENCE = ROOT / "docs" / "reference"


def rows(page: Path, heading: str, first_column: str = "") -> list[list[str]]:
    """The rows of the tables under a heading, or of the one whose first column is called so."""
    found = [table for table in tables(page) if table.heading == heading]
    if first_column:
        found = [table for table in found if table.header[0] == first_column]
    assert found, f"{page.name} has no such table under {heading!r}"
    return [row for table in found for row in table.rows]


# -- commands ----------------------------------------------------------------------------------------------------------


def commands_of(group: App) -> Iterator[tuple[str, App]]:
    """Every command that can be typed, with those of groups after the group's name."""
    for name in group:
        if name.startswith("-"):
            continue
        below = list(commands_of(group[name]))
        yield from [(f"{name} {inner}", command) for inner, command in below] or [(name, group[name])]


COMMANDS = dict(commands_of(app))


def test_every_command_has_its_section_and_its_row_in_the_readme():
    page = REFERENCE / "commands.md"
    assert set(COMMANDS) <= set(headings(page))
    listed = {bare(row[0]).split()[1] for row in rows(ROOT / "README.md", "Commands")}
    assert listed == {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_are_those_that_the_page_has(command):
    wanted = {argument.names[0]: argument for argument in COMMANDS[command].assemble_argument_collection()}
    listed = {bare(row[0]): row[1] for row in rows(REFERENCE / "commands.md", command)}
    assert set(listed) == set(wanted)
    for name, argument in wanted.items():
        default = argument.field_info.default
        if isinstance(default, (int, float, str)) and not isinstance(default, bool):
            assert bare(listed[name]) == f"{default:g}" if isinstance(default, float) else str(default), name


def pytest_options() -> list[str]:
    """Those that the plugin gives to pytest."""
    names: list[str] = []
    group = SimpleNamespace(addoption=lambda name, **_: names.append(name))
    pytest_plugin.pytest_addoption(SimpleNamespace(getgroup=lambda *_: group))
    return names


def test_no_page_shows_an_option_that_there_is_not():
    known = {
        name
        for command in COMMANDS.values()
        for argument in command.assemble_argument_collection()
        for name in argument.names
    }
    known |= {"--help", "--version", *pytest_options()}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for span in code_spans(page):
            for option in re.findall(r"(?<!\S)--[a-z-]+(?![>\w-])", span):
                assert option in known, f"{page.name}: {span}"


def test_the_options_of_the_pytest_plugin_are_listed():
    listed = {
        bare(row[0]).split()[0]
        for row in rows(ROOT / "docs/how-to/search-in-a-test-suite.md", "Which generation, how much, where")
    }
    assert listed == set(pytest_options())
    assert len(listed) == 4


def test_the_exit_codes_are_those_of_the_command_line():
    from slabactors.cli import BUG, FINE, INTERNAL, MISTAKE, UNDETERMINED

    listed = [int(row[0]) for row in rows(REFERENCE / "commands.md", "Exit codes")]
    assert listed == [FINE, BUG, MISTAKE, INTERNAL, UNDETERMINED]


# -- scenarios and lifecycles ------------------------------------------------------------------------------------------


def test_every_shipped_scenario_has_its_section_with_its_knobs():
    page = REFERENCE / "scenarios.md"
    assert {one for one in headings(page) if one.startswith(("dead-cache/", "containers/"))} == set(shipped())
    for name in shipped():
        wanted = {knob.name: str(knob.default) for knob in find(name).parameters.values()}
        listed = {bare(row[0]): row[1] for table in tables(page) if table.heading == name for row in table.rows}
        assert listed == wanted, name


def test_every_knob_of_the_machine_is_listed_with_its_default():
    from slabactors.machine import MachineConfig

    listed = {bare(row[0]): row[1] for row in rows(REFERENCE / "scenarios.md", "Knobs of the machine")}
    plain = MachineConfig()
    assert listed == {name: str(getattr(plain, name)) for name in MachineConfig.__dataclass_fields__}


def test_every_lifecycle_is_listed_with_its_release():
    page = REFERENCE / "lifecycles.md"
    listed = {bare(row[0]): row[1] for name in ("Generations", "Mutants of v5") for row in rows(page, name)}
    assert listed == {name: one.release for name, one in LIFECYCLES.items()}


def matrix() -> dict[tuple[str, str], set[str]]:
    [table] = [one for one in tables(REFERENCE / "lifecycles.md") if one.heading == "Which story finds what"]
    stories = [bare(cell) for cell in table.header[1:]]
    return {
        (bare(row[0]), story): set() if cell == "nothing" else {kind.strip(" ()") for kind in cell.split(",")}
        for row in table.rows
        for story, cell in zip(stories, row[1:], strict=True)
    }


SEARCHED = [name for name in shipped() if name.startswith("dead-cache/")]
"""The others are too long for thousands of executions."""


def test_the_table_of_findings_has_every_pair_and_only_kinds_that_there_are():
    cells = matrix()
    assert set(cells) == {(name, story.partition("/")[2]) for name in LIFECYCLES for story in SEARCHED}
    assert set().union(*cells.values()) <= {kind.value for kind in Kind}


@pytest.mark.parametrize("story", SEARCHED)
def test_a_short_search_finds_nothing_that_the_table_does_not_have(story):
    for name in LIFECYCLES:
        program = find(story).bind(lifecycle_name=name)
        *_, result = search(program, strategy="portfolio", runs=100)
        kinds = {found.kind.value for found in result.found.values()}
        missing = kinds - matrix()[name, story.partition("/")[2]]
        assert not missing, f"the table lacks {missing}: slabactors explore {story} --lifecycle {name} --runs 3000"


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_fields_of_a_finding_file_are_listed():
    page = REFERENCE / "finding-file.md"
    assert [bare(row[0]) for row in rows(page, "Finding file")] == [
        field.name for field in msgspec.structs.fields(Finding)
    ]
    assert [bare(row[0]) for row in rows(page, "The schedule")] == [
        field.name for field in msgspec.structs.fields(Choice)
    ]


def test_every_kind_of_bug_is_explained():
    listed = [kind for row in rows(REFERENCE / "finding-file.md", "Kinds") for kind in names_in(row[0])]
    assert sorted(listed) == sorted(kind.value for kind in Kind)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log of each command that writes one."""
    where = tmp_path_factory.mktemp("logs")
    story = "dead-cache/rmdir-races-last-free"
    run(["run", story, "--log", str(where / "run.jsonl")])
    run(["explore", story, "--runs", "50", "--save", str(where / "findings")])
    finding = next((where / "findings").iterdir())
    run(["replay", str(finding), "--log", str(where / "replay.jsonl")])
    trace = ROOT / "tests" / "data" / "trace" / "trace-kmem.txt"
    run(["trace", str(trace), "--limit", "50", "--log", str(where / "trace.jsonl")])
    return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in where.glob("*.jsonl")}


@pytest.mark.parametrize("command", ["run", "replay", "trace"])
def test_the_fields_of_a_log_are_listed(logs, command):
    page = REFERENCE / "log-schema.md"
    lines = logs[command]
    first = rows(page, "The first line: run")
    assert {bare(name) for name, _, where in first if where == "all" or command in where.split(", ")} == set(lines[0])
    steps = {bare(row[0]) for row in rows(page, "A line for each step: step")}
    assert all(steps == set(line) for line in lines[1:-1])
    assert {bare(row[0]) for row in rows(page, "The last line: end")} == set(lines[-1])
    caches = {bare(row[0]) for row in rows(page, "In caches")}
    assert all(caches == set(cache) for cache in lines[-1]["caches"])


def test_the_json_of_a_search_has_the_keys_that_the_page_names(tmp_path, capsys):
    run(["explore", "dead-cache/rmdir-races-last-free", "--runs", "50", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) | set(document["findings"][0]) <= code_spans(REFERENCE / "commands.md")


def test_the_json_of_a_proof_has_the_keys_that_the_page_names(capsys):
    run(["verify", "dead-cache/creation-races-rmdir", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) | set(document["findings"][0]) <= code_spans(REFERENCE / "commands.md")


def test_every_strategy_is_listed():
    assert [bare(row[0]) for row in rows(REFERENCE / "commands.md", "Strategies")] == list(STRATEGIES)


def test_every_story_has_its_row_in_what_is_verified():
    named = [bare(row[0]) for row in rows(REFERENCE / "lifecycles.md", "Verified")]
    listed = [name if "/" in name else f"dead-cache/{name}" for name in named]
    assert sorted(listed) == sorted(shipped())


def test_every_reason_for_skipping_a_line_of_a_trace_is_listed():
    page = ROOT / "docs" / "how-to" / "play-a-kernel-trace.md"
    assert {bare(row[0]) for row in rows(page, "What is skipped, and why")} == {reason.value for reason in SkipReason}


def test_the_changelog_knows_the_version():
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()


# -- the kernel map ----------------------------------------------------------------------------------------------------

MAP = REFERENCE / "kernel-map.md"
MODEL = ("kernel", "mm", "lifecycle", "machine")


def model_modules():
    for package in MODEL:
        module = importlib.import_module(f"slabactors.{package}")
        yield module
        for inner in pkgutil.iter_modules(getattr(module, "__path__", ())):
            yield importlib.import_module(f"{module.__name__}.{inner.name}")


def resolve(name: str) -> object:
    """What a dotted name of the map stands for."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(["slabactors", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = inspect.getattr_static(found, part)
        return found
    raise AssertionError(f"there is no {name}")


def map_tables(kind: str):
    return [table for table in tables(MAP) if table.header[0] == kind]


def actor_classes() -> dict[str, type[Actor]]:
    found = {"Timed": Timed}
    for module in model_modules():
        found |= {
            name: value
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, Actor) and value.__module__ == module.__name__
        }
    return found


def test_the_operations_of_the_map_are_those_of_the_model():
    listed = {bare(row[0]): bare(row[1]).replace(r"\|", "|") for table in map_tables("operation") for row in table.rows}
    wanted: dict[str, str] = {}
    for cls in actor_classes().values():
        for operation in operations(cls):
            if operation.owner == cls.__name__:
                module = "actors" if cls is Timed else cls.__module__.removeprefix("slabactors.")
                wanted[f"{module}.{cls.__name__}.{operation.name}"] = operation.expression
    assert listed == wanted


def test_the_paths_of_the_map_exist():
    for table in map_tables("kernel function"):
        for row in table.rows:
            for name in names_in(row[1]):
                assert resolve(name) is not None, name


def test_what_a_path_of_the_map_awaits_exists():
    allocators = {"Slub": resolve("mm.slub.Slub"), "SlabAllocator": resolve("mm.slab.SlabAllocator")}
    classes = {**actor_classes(), **allocators}
    functions = {name for module in model_modules() for name in vars(module)}
    hooks = set(vars(resolve("lifecycle.base.Lifecycle"))) | {"mem_cgroup_destroy_all_caches"}
    for table in map_tables("kernel function"):
        for row in table.rows:
            for name in names_in(row[3]):
                owner, _, attribute = name.removeprefix("actors.").rpartition(".")
                if not owner:
                    assert attribute in functions | hooks, name
                    continue
                found = getattr(classes[owner], attribute)
                assert owner in allocators or isinstance(operation_of(found), Operation), name


def docstrings():
    """Name and docstring of everything in the model."""
    for module in model_modules():
        yield module.__name__, module.__doc__ or ""
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            yield f"{module.__name__}.{name}", inspect.getdoc(value) or ""
            if inspect.isclass(value):
                for attribute, member in vars(value).items():
                    if inspect.isfunction(member):
                        yield f"{module.__name__}.{name}.{attribute}", inspect.getdoc(member) or ""


def test_every_function_that_the_model_says_it_models_is_in_the_map():
    listed = {name for table in map_tables("kernel function") for row in table.rows for name in names_in(row[0])}
    for name, text in docstrings():
        for sentence in re.findall(r"Models ([^:;.]*?\))(?= \(|[:;.]| of|,)", " ".join(text.split())):
            for function in re.findall(r"\w+\(\)", sentence):
                assert function in listed, f"{name} models {function}"


def test_every_deviation_that_the_model_admits_is_in_the_map():
    admitted = [name.removeprefix("slabactors.") for name, text in docstrings() if "Deviation:" in text]
    assert admitted
    told = {name: row[4] for table in map_tables("kernel function") for row in table.rows for name in names_in(row[1])}
    for name in admitted:
        if inspect.isclass(resolve(name)):
            continue  # of an actor: told in the text
        assert told.get(name), f"{name} deviates, and the map does not say how"
