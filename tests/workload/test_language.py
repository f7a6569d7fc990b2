"""What a line of a workload says, and what is wrong with one that says nothing."""

from __future__ import annotations

import pytest

from slabactors.errors import WorkloadError
from slabactors.mm.allocator import CacheSpec
from slabactors.workload.generate import Generator, items
from slabactors.workload.language import LINES, Alloc, Create, Free, Set, Sleep, parse, parse_script
from slabactors.workload.player import script_sense
from slabactors.workload.sense import Sense


def test_a_line_is_an_operation_whatever_the_blanks_and_comments():
    assert parse(3, "  alloc 2  c 37\tt0  # some ") == Alloc(3, "alloc 2 c 37 t0", 2, "c", 37, "t0")
    assert parse(1, "# nothing") is None
    assert parse(1, " \t") is None


def test_flags_may_stand_apart_or_together():
    spec = CacheSpec(100, align=64, hwcache_align=True, rcu=True, ctor=True)
    for text in (
        "create c 100 64 hwalign rcu ctor",
        "create c 100 64 hwalign|rcu|ctor",
        "create c 100 64 ctor,rcu,hwalign",
    ):
        assert isinstance(op := parse(1, text), Create)
        assert op.spec == spec
    assert isinstance(op := parse(1, "create c 100 reclaim account"), Create)
    assert op.spec == CacheSpec(100, reclaimable=True, account=True)


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("3", [3]),
        ("1-4", [1, 2, 3, 4]),
        ("4-1", [4, 3, 2, 1]),
        ("0-9/4", [0, 4, 8]),
        ("9-0/4", [9, 5, 1]),
        ("5,2-3,5", [5, 2, 3, 5]),
    ],
)
def test_a_list_names_objects_in_its_order(text, positions):
    op = parse(1, f"free 0 c t {text}")
    assert isinstance(op, Free)
    assert [position for item in op.items for position in item] == positions


def test_no_list_and_all_mean_all_that_are_held():
    for text in ("free 0 c t", "free 0 c t all"):
        assert isinstance(op := parse(1, text), Free)
        assert op.items is None


def test_the_other_operations():
    assert parse(1, "sleep 50") == Sleep(1, "sleep 50", 50)
    assert parse(1, "set c cpu_partial 7") == Set(1, "set c cpu_partial 7", "c", "cpu_partial", "7")
    assert isinstance(op := parse(1, "alloc 1 c 5 t node=1"), Alloc)
    assert op.node == 1
    assert isinstance(op := parse(1, "freeb 1 c t"), Free)
    assert op.bulk


@pytest.mark.parametrize(
    "text",
    [
        "frobnicate c",
        "create c",
        "create c 0",
        "create c -8",
        "create c 12x",
        "create c 1073741825",
        "create c 100 3",
        "create c 100 8192",
        "create c 100 0 shiny",
        "alloc 0 c 0 t",
        "alloc 0 c 10000001 t",
        "alloc 0 c 5",
        "alloc x c 5 t",
        "alloc ٣ c 5 t",
        "alloc 0 c 5 t 1",
        "alloc 0 c 5 t node=x",
        "free 0 c t 1--2",
        "free 0 c t 1-5/0",
        "free 0 c t 1,,2",
        "free 0 c t a",
        "free 0 c t 1 2",
        "shrink",
        "shrink a b",
        "sleep",
        "sleep 1.5",
        "set c order",
        "read c",
        "create " + "n" * 65 + " 8",
    ],
)
def test_what_is_no_operation_is_refused_with_its_line(text):
    with pytest.raises(WorkloadError) as refused:
        parse(17, text)
    first, second = str(refused.value).splitlines()
    assert first.startswith("line 17: ")
    assert second.startswith("  ")


@pytest.mark.parametrize("script", [[], [b"\n"], [b"# only\n", b"\n"]])
def test_an_empty_script_is_refused(script):
    with pytest.raises(WorkloadError, match="expected one operation a line"):
        list(parse_script(script))


@pytest.mark.parametrize("line", [b"create c\xff 8\n", b"create c 8\0\n"])
def test_what_is_no_text_is_refused(line):
    with pytest.raises(WorkloadError, match="line 2: expected text"):
        list(parse_script([b"create c 8\n", line]))


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("create c 64", "there is a cache 'c' already"),
        ("create d 100000000", "no such cache can be made"),
        ("shrink d", "there is no cache 'd'"),
        ("alloc 4 c 1 t", "CPU 4 is none of the 4"),
        ("alloc 0 c 1 t node=2", "node 2 is none of the 2"),
        ("free 0 c u", "nothing was allocated in 'c' under the tag 'u'"),
        ("free 0 c t 3-5", "object 5 of 't' was never allocated"),
        ("dump gone", "'gone' was destroyed in line 4"),
        ("set c frob 3", "no file 'frob'"),
        ("set c min_partial x", "refuses"),
        ("read c frob", "no file 'frob'"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_before_anything_is_played(line, fragment):
    sense = script_sense("slub-6.1", 4, 2)
    for number, text in enumerate(["create c 256", "alloc 0 c 5 t", "create gone 8", "destroy gone"], 1):
        sense.check(parse(number, text))
    wrong = parse(5, line)
    with pytest.raises(WorkloadError, match="line 5: ") as refused:
        sense.check(wrong)
    assert fragment in str(refused.value)


def test_a_name_can_be_used_again_after_its_cache_is_gone():
    sense = Sense(1, 1, lambda spec: None)
    for number, text in enumerate(["create c 8", "destroy c", "create c 16", "alloc 0 c 1 t"], 1):
        sense.check(parse(number, text))


@pytest.mark.parametrize("seed", range(20))
def test_a_generated_script_makes_sense_and_is_the_same_for_the_same_seed(seed):
    script = [*Generator(seed, nodes=2).script(150)]
    assert script == [*Generator(seed, nodes=2).script(150)]
    assert script != [*Generator(seed + 1, nodes=2).script(150)]
    sense = Sense(4, 2, lambda spec: None)
    for number, line in enumerate(script, 1):
        sense.check(parse(number, line))
    created = sum(line.startswith("create") for line in script)
    assert created == sum(line.startswith("destroy") for line in script) >= 1


def test_positions_are_written_as_items_that_read_back():
    for positions in ([5], [1, 2, 3], [3, 2, 1, 7], [0, 2, 4, 5, 6], [9, 8, 1, 2, 2]):
        op = parse(1, f"free 0 c t {','.join(items(positions))}")
        assert isinstance(op, Free)
        assert [position for item in op.items for position in item] == positions


def test_every_operation_has_its_line_to_type():
    assert set(LINES) == {
        *("create", "alloc", "allocb", "free", "freeb", "shrink", "destroy", "dump", "sleep", "set", "read")
    }
