"""Every fenced block of the documentation is run, and says what really happens.

What a block is, the fence says:

- ``python``: executed; the blocks of a page share one namespace and one temporary directory, and run in their order.
- ``python title="FILE"`` and ``text title="FILE"``: written to that directory, for the commands that follow.
- ``python append="FILE"``: added to a file that was written before.
- ``python source="FILE"``: an excerpt of the checkout's own code; ``...`` stands for lines left out.
- ``console``: each line that begins with ``$`` is run, and what follows it must be what it prints.  There ``...``
  stands for anything, blanks are all alike, and a command that does not end with 0 says so: ``# exit 1``.  With the
  mark ``numbers="any"`` one number is as good as another: the page shows what a run printed, and the next one is as
  fast as it is.
- ``yaml``: a workflow of a CI server.  Its ``run:`` lines are run as those of a console block whose commands
  end with 0; ``${{ ... }}`` is one of `EXPRESSIONS`.
- ``diff edit="FILE"``: done to a file that is there: the lines with ``-`` become those with ``+``.
- ``text``: shown, and nothing more.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, Block, blocks, headings, links, page_id, slug

BIN = Path(sys.executable).parent
PROGRAMS = {
    "slabactors": [str(BIN / "slabactors")],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", "-p", "no:asyncio"],
}
NOT_RUN = {
    "cd": "goes nowhere here",
    "make": "sets up an environment and takes minutes; CI runs it by itself",
    "pip": "needs the network",
    "python3": "makes an environment",
    "source": "is the shell's own",
    "sudo": "needs a kernel to record",
    "unshare": "needs a kernel that lets it, and procps",
}
"""Commands that a page may show without their being run, and why."""
EXPRESSIONS = {"github.run_number": "17", "env.SEARCH_SECONDS": "2"}
"""What a CI server would put in the place of these."""
MARKS = {
    "python": {"title", "append", "source"},
    "text": {"title"},
    "console": {"numbers"},
    "diff": {"edit"},
    "yaml": set(),
}
SECONDS_MAX = 60


def run_console(block: Block, where: Path, at: str) -> None:
    for number, command, code, expected in commands(block):
        words = shlex.split(command)
        program = words[0].removeprefix(".venv/bin/")
        place = f"{at}:{number}: $ {command}"
        if program in NOT_RUN:
            assert not expected, f"{place}\nis not run, so nothing vouches for the output shown"
            continue
        assert program in PROGRAMS, f"{place}\nis neither run nor listed in NOT_RUN"
        done = subprocess.run(
            [*PROGRAMS[program], *(one for word in words[1:] for one in expand(word, where))],
            cwd=where,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode == code, f"{place}\nended with {done.returncode}, not {code}:\n{done.stdout}"
        any_number = block.marks.get("numbers") == "any"
        if expected.strip() and not matches(expected, done.stdout, any_number=any_number):
            pytest.fail(f"{place}\nthe page has\n{expected}\nthe command printed\n{done.stdout}")


def run_workflow(block: Block, where: Path, at: str) -> None:
    for name, job in yaml.safe_load(block.text)["jobs"].items():
        scripts = [step["run"] for step in job["steps"] if "run" in step]
        assert scripts, f"{at}: the job {name} runs nothing"
        for script in scripts:
            lines = re.sub(r"\\\n\s*", "", re.sub(r"\${{ *(.*?) *}}", value_of, script)).splitlines()
            text = "".join(f"$ {line}\n" for line in lines)
            run_console(Block("console", {}, text, block.line), where, at)


def value_of(expression: re.Match[str]) -> str:
    assert expression[1] in EXPRESSIONS, f"{expression[0]} has no value here; see EXPRESSIONS"
    return EXPRESSIONS[expression[1]]


def expand(word: str, where: Path) -> list[str]:
    """What a shell makes of a word with a ``*`` in it."""
    found = sorted(file.relative_to(where).as_posix() for file in where.glob(word)) if "*" in word else []
    return found or [word]


def commands(block: Block):
    """``(line, command, exit code, expected output)`` of each command of a console block."""
    found: list[list] = []
    lines = iter(enumerate(block.text.splitlines(), block.line + 1))
    for number, line in lines:
        if not line.startswith("$ "):
            assert found, f"line {number}: output without a command"
            found[-1][3] += line + "\n"
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines)[1].strip()
        command, _, code = line[2:].partition("  # exit ")
        found.append([number, command.strip(), int(code or 0), ""])
    assert found, f"line {block.line}: a console block without a command"
    return found


def matches(expected: str, printed: str, *, any_number: bool = False) -> bool:
    if any_number:
        expected, printed = (re.sub(r"\d[\d,]*(\.\d+)?", "0", text) for text in (expected, printed))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, printed, flags)


def edit(block: Block, file: Path) -> None:
    """Replace the lines with ``-``, which have to be there once and together, by those with ``+``."""
    lines = block.text.splitlines(keepends=True)
    assert all(line[0] in "-+ " for line in lines), f"line {block.line}: neither -, + nor a blank"
    before = "".join(line[1:] for line in lines if line[0] != "+")
    text = file.read_text()
    assert text.count(before) == 1, f"line {block.line}: {file.name} does not have this, or not once:\n{before}"
    file.write_text(text.replace(before, "".join(line[1:] for line in lines if line[0] != "-")))


def check_excerpt(block: Block, at: str) -> None:
    """The pieces between the ``...`` lines are in the file, in this order, at any indentation."""
    source = (ROOT / block.marks["source"]).read_text()
    position = 0
    for piece in re.split(r"(?m)^\s*\.\.\.\n", block.text):
        wanted = textwrap.dedent(piece).strip("\n")
        pattern = r"\n".join(rf"[ ]*{re.escape(line.strip())}" for line in wanted.split("\n"))
        found = re.compile(pattern).search(source, position)
        assert found, f"{at}: {block.marks['source']} does not have, or not in this order:\n{wanted}"
        position = found.end()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The directory in which a page's blocks run: empty but for the checkout's data."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_does_what_the_page_says(page, place):
    namespace = {"__name__": "docs"}
    for block in blocks(page):
        at = f"{page_id(page)}:{block.line}"
        assert block.language in MARKS, f"{at}: no rule for blocks of {block.language!r}"
        assert set(block.marks) <= MARKS[block.language], f"{at}: unknown mark"
        if "title" in block.marks:
            (place / block.marks["title"]).write_text(block.text)
        elif "append" in block.marks:
            with (place / block.marks["append"]).open("r+") as file:
                file.seek(0, os.SEEK_END)
                file.write("\n\n" + block.text)
        elif "edit" in block.marks:
            edit(block, place / block.marks["edit"])
        elif "source" in block.marks:
            check_excerpt(block, at)
        elif block.language == "python":
            exec(compile(block.text, at, "exec"), namespace)
        elif block.language == "console":
            run_console(block, place, page_id(page))
        elif block.language == "yaml":
            run_workflow(block, place, at)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_written_file_is_used_by_a_command_or_a_block(page):
    found = list(blocks(page))
    for number, block in enumerate(found):
        if "title" in block.marks:
            name = Path(block.marks["title"]).stem
            assert any(name in later.text for later in found[number + 1 :]), f"{page_id(page)}: {name} is never used"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_leads_somewhere(page):
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page_id(page)}: {link} leads nowhere"
        if anchor:
            assert anchor in {slug(one) for one in headings(target)}, f"{page_id(page)}: {link} has no such heading"


def test_every_page_can_be_reached_from_the_readme():
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        queue += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert set(PAGES) <= reached


# -- the checks themselves ---------------------------------------------------------------------------------------------


def block(text: str, **marks: str) -> Block:  # of one console command
    return Block("console", marks, text, 1)


def test_a_command_that_is_neither_run_nor_excused_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="neither run nor listed"):
        run_console(block("$ rm -r everything\n"), tmp_path, "page")


def test_a_wrong_exit_code_and_a_wrong_output_are_noticed(tmp_path):
    (tmp_path / "hello.py").write_text("print('hello', 3.1, 'world')\n")
    run_console(block("$ python hello.py\nhello ...   world\n"), tmp_path, "page")
    with pytest.raises(AssertionError, match="ended with 0, not 1"):
        run_console(block("$ python hello.py  # exit 1\n"), tmp_path, "page")
    run_console(block("$ python hello.py\nhello 12,000 world\n", numbers="any"), tmp_path, "page")
    with pytest.raises(pytest.fail.Exception, match="the page has"):
        run_console(block("$ python hello.py\nbye ...\n"), tmp_path, "page")


WORKFLOW = "jobs: {search: {steps: [{uses: a}, {run: %s}]}}\n"


def workflow(script: str) -> Block:
    return Block("yaml", {}, WORKFLOW % script, 1)


def test_what_a_workflow_runs_is_run_with_values_for_its_expressions(tmp_path):
    (tmp_path / "seed.py").write_text("import sys, pathlib; pathlib.Path('seen').write_text(' '.join(sys.argv[1:]))\n")
    run_workflow(workflow('"python seed.py \\\\\\n  --seed ${{ github.run_number }}"'), tmp_path, "page")
    assert (tmp_path / "seen").read_text() == "--seed 17"


def test_a_workflow_that_fails_or_runs_nothing_or_has_an_unknown_expression_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="ended with 2, not 0"):
        run_workflow(workflow("python gone.py"), tmp_path, "page")
    with pytest.raises(AssertionError, match=r"github.actor }} has no value here"):
        run_workflow(workflow('"python ${{ github.actor }}"'), tmp_path, "page")
    with pytest.raises(AssertionError, match="the job search runs nothing"):
        run_workflow(Block("yaml", {}, "jobs: {search: {steps: [{uses: a}]}}\n", 1), tmp_path, "page")


def test_an_edit_changes_the_lines_it_shows_and_notices_others(tmp_path):
    file = tmp_path / "hello.py"
    file.write_text("one = 1\ntwo = 2\n")
    edit(Block("diff", {}, " one = 1\n-two = 2\n+two = 3\n+four = 4\n", 1), file)
    assert file.read_text() == "one = 1\ntwo = 3\nfour = 4\n"
    with pytest.raises(AssertionError, match="does not have this"):
        edit(Block("diff", {}, "-two = 2\n+two = 3\n", 1), file)


def test_an_excerpt_that_the_source_does_not_have_is_noticed():
    mark = SimpleNamespace(marks={"source": "slabactors/actors/actor.py"}, text="class Actor:\n    ...\n    role = 7\n")
    with pytest.raises(AssertionError, match="does not have"):
        check_excerpt(mark, "page")
