"""What a workload's operations do, and what the log says of them."""

from __future__ import annotations

import pytest

from slabactors.errors import KernelBug, Kind
from slabactors.mm.models import MODELS
from slabactors.workload.generate import Generator
from slabactors.workload.player import Player
from tests.workload.scripts import parsed, played

FILL = """\
create c 256
alloc 0 c 40 t
free 1 c t 0-15
free 0 c t 32-39
"""


def test_an_allocation_says_where_its_objects_lie_and_what_changed_when():
    document = played(FILL)[1]
    assert document["d"] == {
        "cpu_ran": 0,
        "n": 40,
        "first": 0,
        "from": [[0, 16], [1, 16], [2, 8]],
        "steps": [[0, 1, 0, 0], [16, 2, 0, 0], [32, 3, 0, 0]],
        "cpu": {"0": {"slab": 2, "flist": 1}},
        "node": {"0": []},
        "slab": [[0, 16, 0, 16], [1, 16, 0, 16], [2, 16, 1, 8]],
    }
    assert document["ctr"]["slabs"] == 3
    assert document["ctr"]["slabs_cpu_partial"] == "0(0)"


def test_a_free_says_where_its_objects_went():
    far, near = played(FILL)[2:]
    assert far["d"]["to"] == [[0, 16]]
    assert far["d"]["steps"] == [[0, 3, 0, 1]]
    assert far["d"]["cpu"]["1"] == {"slab": -1, "count": 1, "partial": [0]}
    assert near["d"]["to"] == [[2, 8]]
    assert near["d"]["slab"][2] == [2, 16, 1, 0], "what lies on a CPU's own freelist is in use for the slab"


def test_a_shrink_says_which_slabs_went_and_what_it_returned():
    document = played(FILL + "shrink c\n")[-1]
    assert document["d"] == {"rc": 1, "gone": [0, 2], "cpu": {}, "node": {"0": []}, "slab": [[1, 16, 0, 16]]}


def test_slabs_are_numbered_as_they_are_first_seen_and_never_again():
    documents = played("create c 4096\nalloc 0 c 8 t\nfree 0 c t\nshrink c\nalloc 0 c 8 t\n")
    assert documents[-2]["d"]["gone"] == [0]
    assert documents[-1]["d"]["from"] == [[1, 8]]
    assert documents[-1]["d"]["first"] == 8, "positions go on"


def test_a_destroyed_cache_has_no_counters():
    document = played("create c 256\nalloc 0 c 1 t\nfree 0 c t\ndestroy c\n")[-1]
    assert document == {"d": {"held_objects": 0, "held_slabs": 1, "gone": [0]}, "ctr": None, "in_slabinfo": 0}


@pytest.mark.parametrize("model", MODELS)
def test_a_cache_that_is_destroyed_with_objects_stays_and_is_a_finding(model):
    script = "create c 256\nalloc 0 c 33 t\nfree 0 c t 0-31\ndestroy c\ncreate d 256\ndestroy d\n"
    document, _, other = played(script, model)[-3:]
    assert document["d"]["held_objects"] == 1
    assert document["in_slabinfo"] == 1
    assert document["ctr"] is not None
    assert document["finding"]["kind"] == Kind.OBJECTS_REMAINING
    assert document["finding"]["line"] == 4
    assert other["in_slabinfo"] == 0, "other caches can be destroyed as before"


def test_an_object_that_is_freed_twice_is_found_with_its_line():
    player = Player("slub-3.8")
    *before, last = parsed("create c 256\nalloc 0 c 3 t\nfree 0 c t 1\nfree 0 c t 0-2\n")
    for op in before:
        player.play(op)
    with pytest.raises(KernelBug, match="line 4: object 1 of 't' in 'c'") as found:
        player.play(last)
    assert found.value.kind is Kind.DOUBLE_FREE


def test_bulk_frees_go_from_the_end_and_leave_no_steps():
    documents = played("create c 256\nallocb 0 c 40 t\nfreeb 1 c t\n")
    assert "steps" not in documents[1]["d"]
    assert documents[2]["d"]["to"] == [[0, 16], [1, 16], [2, 8]]
    assert documents[2]["d"]["cpu"]["1"]["partial"] == [0, 1], "slab 1 was freed to before slab 0"


def test_bulk_calls_are_single_ones_where_the_release_has_none():
    script = "create c 256\nalloc{0} 0 c 40 t\nfree{0} 1 c t\n"
    single, bulk = (played(script.format(kind), "slub-3.8") for kind in ("", "b"))
    assert bulk[2]["d"]["slab"] == single[2]["d"]["slab"]


def test_files_of_a_cache_are_written_and_read():
    documents = played("create c 256\nset c min_partial 7\nread c min_partial\nset c cpu_partial 0\n")
    assert documents[1]["ctr"]["min_partial"] == 7
    assert documents[2]["d"]["text"] == "7"
    assert documents[3]["ctr"]["cpu_partial"] == 0


def test_the_reaper_of_slab_works_while_the_script_sleeps():
    documents = played("create c 256\nalloc 0 c 60 t\nfree 0 c t\nsleep 60000\ndump c\n", "slab-3.8")
    assert documents[2]["d"]["cpu"]["0"]["avail"] == 60
    assert documents[4]["d"]["cpu"].get("0", {"avail": 0})["avail"] == 0
    assert len(documents[4]["d"]["slab"]) < len(documents[2]["d"]["slab"])


def test_nothing_happens_to_slub_while_the_script_sleeps():
    documents = played(FILL + "dump c\nsleep 60000\ndump c\n")
    assert documents[-2] == {}
    assert documents[-1] == documents[-3]


def test_an_object_comes_from_the_node_that_is_asked_for():
    documents = played("create c 256\nalloc 0 c 3 t node=1\nalloc 0 c 3 u\n", nodes=2)
    assert documents[1]["d"]["slab"] == [[0, 16, 1, 3, 1]]
    assert documents[1]["ctr"]["slabs"] == "1 N1=1"
    assert documents[2]["d"]["from"] == [[0, 3]], "the current slab serves whoever does not ask for a node"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_delivering_by_hand_what_takes_one_operation_changes_nothing(model, seed):
    """The quick way and the coroutines give the same log, line for line."""
    script = "\n".join(Generator(seed).script(120))
    assert played(script, model) == played(script, model, at_once=False)


def test_what_is_left_at_the_end_is_freed_and_destroyed():
    player = Player("slub-6.1")
    for op in parsed("create c 256\nalloc 0 c 40 t\ncreate d 64\nalloc 1 d 10 t\n"):
        player.play(op)
    player.finish()
    assert player.findings == []
    assert player.machine.page_alloc.free == player.machine.page_alloc.pages
