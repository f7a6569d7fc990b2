"""The models do what real kernels were recorded to do, in every field of every operation."""

from __future__ import annotations

import json
import random

import pytest

from slabactors.mm.models import MODELS
from slabactors.workload.check import check_recording
from slabactors.workload.generate import Generator
from slabactors.workload.language import parse
from slabactors.workload.machines import shape_of
from slabactors.workload.player import Player
from slabactors.workload.recording import Sequence, read_recording
from tests.workload.recorded import documents, lines

RECORDINGS = {
    "slub61/logs-seed1.jsonl": ("slub-6.1", 124, 2422),
    "slub61/trace-private.jsonl": ("slub-6.1", 1, 19),
    "slub61/trace-cgroup.jsonl": ("slub-6.1", 1, 4),
    "slub61/geometry.jsonl": ("slub-6.1", 848, 848),
    "kernel38/slub-3.8.3-4cpu.jsonl": ("slub-3.8", 15, 646),
    "kernel38/slub-3.8.3-2cpu.jsonl": ("slub-3.8", 12, 592),
    "kernel38/slub-3.10.108-4cpu.jsonl": ("slub-3.10", 12, 531),
    "kernel38/slab-3.8.3-4cpu.jsonl": ("slab-3.8", 12, 531),
    "kernel38/slab-3.8.3-sizes.jsonl": ("slab-3.8", 200, 200),
}
"""Each with the model of its release, and how many sequences and positions it has."""

DEFAULT_ORDER_FITS = {
    "041-shrinking": "every order of the CPUs gives what this boot showed, or the default does",
    "042-shrinking": "as above",
    "044-shrinking": "as above",
    "066-survivors": "as above",
    "069-survivors": "as above",
    "094-shrink_edge": "as above",
    "109-mixed": "as above",
    "123-retuned": "as above",
}
"""Scripts that differed between boots, and whose recorded boot flushed the CPUs as the default order does."""

OTHER_ORDER_FITS = {
    "064-survivors": "shrink: CPU 1 was flushed before CPU 0",
    "065-survivors": "shrink: CPU 3 was flushed first",
    "067-survivors": "shrink: CPU 2's current slab was listed between CPU 1's and CPU 1's partial list",
    "068-survivors": "shrink: CPU 3 was flushed before CPU 2",
    "104-mixed": "shrink: CPU 0 was flushed last",
    "121-retuned": "a write to cpu_partial: CPU 3 was flushed before CPU 2",
}
"""Those that another order explains, with the reason."""


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_equal_in_every_operation(name):
    model, sequences, operations = RECORDINGS[name]
    verdict = check_recording(read_recording(lines(name)), model)
    assert verdict.first is None
    assert (verdict.sequences, verdict.operations, verdict.equal) == (sequences, operations, operations)
    assert (verdict.different, verdict.undetermined) == (0, 0)


def test_scripts_that_differ_between_boots_are_equal_in_some_order():
    unstable = {one["w"]: one["first"] for one in documents("slub61/unstable-seed1.jsonl")}
    assert set(unstable) == set(DEFAULT_ORDER_FITS) | set(OTHER_ORDER_FITS)
    recording = read_recording(lines("slub61/logs-seed1.jsonl"))
    recording.sequences = [one for one in recording.sequences if one.name in unstable]
    verdict = check_recording(recording, "slub-6.1")
    assert verdict.equal == verdict.operations
    assert set(verdict.chosen) == set(OTHER_ORDER_FITS)
    for name, orders in verdict.chosen.items():
        assert min(orders) == unstable[name], "it is the first flush that boots did not agree on"


def test_the_wrong_release_is_told_apart():
    """3.10 stops taking slabs from a node's list earlier than 3.8, which shows after an allocation."""
    recording = read_recording(lines("kernel38/slub-3.10.108-4cpu.jsonl"))
    verdict = check_recording(recording, "slub-3.8")
    assert verdict.different > 0
    assert verdict.equal + verdict.different + verdict.undetermined == verdict.operations
    assert verdict.first is not None
    assert verdict.first["field"].startswith("state.")


# -- a recording in which something is not as it was -------------------------------------------------------------------

DROPPED = ("flags", "kmsg")


def leaves(value, path=()):
    """Every value in a recorded line that is no object, with the way to it."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif not set(path) & set(DROPPED):
        yield path


def spoilt(value):
    """Another value of the same type."""
    if isinstance(value, list):
        return [*value, 1]
    return value + 1 if isinstance(value, int) else f"{value} N9=1" if isinstance(value, str) else {}


def spoil(document, path):
    """The document with one leaf changed."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = spoilt(inner[path[-1]])
    return copy


def test_every_field_of_a_log_is_compared():
    """One changed value anywhere is a difference at that operation and in that field."""
    script = documents("slub61/trace-private.jsonl")
    for position in (0, 4, 10, 12, 17):
        for path in leaves(script[position]):
            if path[0] in ("w", "i", "op"):
                continue
            changed = [*script[:position], spoil(script[position], path), *script[position + 1 :]]
            recording = read_recording(json.dumps(one).encode() + b"\n" for one in changed)
            verdict = check_recording(recording, "slub-6.1", cpus=4)
            assert verdict.different == 1, path
            assert verdict.first["field"] == ".".join(path)
            assert verdict.first["position"] == verdict.equal == position
            assert verdict.undetermined == len(script) - position - 1


@pytest.mark.parametrize(
    ("name", "model", "position"),
    [("kernel38/slub-3.8.3-4cpu.jsonl", "slub-3.8", 20), ("kernel38/slab-3.8.3-4cpu.jsonl", "slab-3.8", 20)],
)
def test_every_number_of_a_state_is_compared(name, model, position):
    script = documents(name)[: position + 1]
    digits = [
        (row, column)
        for row, text in enumerate(script[position]["state"])
        for column, letter in enumerate(text)
        if letter.isdigit() and text[column - 1] in "=(/"
    ]
    assert len(digits) > 20
    for row, column in digits:
        changed = json.loads(json.dumps(script))
        text = changed[position]["state"][row]
        changed[position]["state"][row] = text[:column] + "77" + text[column:]
        recording = read_recording(json.dumps(one).encode() + b"\n" for one in changed)
        verdict = check_recording(recording, model, cpus=4)
        assert verdict.different == 1, text[max(0, column - 12) : column + 4]
        assert verdict.first["position"] == position


def test_swapped_slabs_in_a_list_are_a_difference():
    """Labels are matched, but a slab keeps its label as long as it lives."""
    script = documents("kernel38/slub-3.8.3-4cpu.jsonl")
    listed = [all(slab in one["state"][-1] for slab in ("P1(", "P2(")) for one in script]
    position = next(i for i in range(2, len(script)) if listed[i] and listed[i - 1] and script[i]["i"] > 1)
    start = next(i for i in range(position, -1, -1) if script[i]["i"] == 0)
    changed = json.loads(json.dumps(script[start : position + 1]))
    text = changed[-1]["state"][-1]
    changed[-1]["state"][-1] = text.replace("P1(", "P@(").replace("P2(", "P1(").replace("P@(", "P2(")
    verdict = check_recording(read_recording(json.dumps(one).encode() + b"\n" for one in changed), "slub-3.8", cpus=4)
    assert verdict.different == 1


def test_nothing_is_decided_when_not_all_orders_could_be_tried():
    recording = read_recording(lines("slub61/logs-seed1.jsonl"))
    recording.sequences = [one for one in recording.sequences if one.name == "067-survivors"]
    length = len(recording.sequences[0].entries)
    verdict = check_recording(recording, "slub-6.1", ops_max=length)
    assert (verdict.different, verdict.first) == (0, None)
    assert verdict.undetermined == length - 18


def test_a_machine_of_another_size_is_found_out():
    """Orders depend on how many CPUs there are: with too few, the first create differs."""
    recording = read_recording(lines("slub61/trace-private.jsonl"))
    assert check_recording(recording, "slub-6.1").different == 0
    verdict = check_recording(recording, "slub-6.1", cpus=64)
    assert verdict.first is not None
    assert verdict.first["field"] in ("d.order", "d.objects")


def test_every_model_has_a_recording():
    assert set(MODELS) <= {model for model, _, _ in RECORDINGS.values()}


def test_sequences_are_what_begins_at_position_0():
    recording = read_recording(lines("kernel38/slub-3.8.3-2cpu.jsonl"))
    assert all(isinstance(one, Sequence) and one.entries[0].position == 0 for one in recording.sequences)


# -- recordings of our own ---------------------------------------------------------------------------------------------


class Disorder:
    """Somebody else each time."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def next(self, ready):
        return self.random.choice(ready)


def recorded(model, seed, *, cpus, nodes, node_of=None, disorder=None):
    """A log as a kernel would have written it, by the model itself; with a seed for it, flushed in any order."""
    player = Player(model, cpus, nodes)
    for cpu, node in (node_of or {}).items():
        player.machine.cpus[cpu].node = node
    script = Generator(seed, cpus=cpus, nodes=nodes, caches_max=1, sizes=(256, 1024, 4096)).script(80)
    turns = None if disorder is None else Disorder(disorder)
    documents = []
    for position, line in enumerate(script):
        op = parse(position + 1, line)
        own = {"w": f"own-{seed}", "i": position, "op": line}
        documents.append(own | player.play(op, turns))
    return [json.dumps(one).encode() + b"\n" for one in documents]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_what_a_model_logs_it_agrees_with(model, cpus):
    for seed in range(4):
        recording = read_recording(recorded(model, seed, cpus=cpus, nodes=1))
        verdict = check_recording(recording, model)
        assert verdict.first is None
        assert verdict.equal == verdict.operations > 80
        assert not verdict.chosen


@pytest.mark.parametrize("model", [model for model in MODELS if model.startswith("slub")])
@pytest.mark.parametrize("node_of", [None, {0: 1, 1: 0, 2: 1, 3: 0}])
def test_memory_nodes_and_which_cpus_are_near_them_are_read_off_a_recording(model, node_of):
    for seed in range(6):
        recording = read_recording(recorded(model, seed, cpus=4, nodes=2, node_of=node_of))
        shape = shape_of(recording, model, cpus=None, nodes=None)
        assert shape.nodes == 2
        assert shape.node_of.items() <= (node_of or {0: 0, 1: 0, 2: 1, 3: 1}).items()
        verdict = check_recording(recording, model, cpus=4)
        assert verdict.first is None
        assert verdict.equal == verdict.operations


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("nodes", [1, 2])
def test_whatever_order_a_flush_had_is_found_again(model, nodes):
    """CPUs that were flushed in some other order, section by section, and what came later: some order explains it."""
    nodes = nodes if model.startswith("slub") else 1
    found = 0
    for seed in range(20):
        recording = read_recording(recorded(model, seed, cpus=3, nodes=nodes, disorder=seed))
        verdict = check_recording(recording, model, cpus=3)
        assert verdict.first is None
        assert verdict.equal == verdict.operations
        found += bool(verdict.chosen)
    assert found, "at least one of them is not what the default order gives"


@pytest.mark.parametrize("d", [{"text": "7"}, {"value": 7}, {"text": "7\n"}])
def test_what_a_file_said_is_compared_whatever_it_is_called(d):
    create = json.loads(lines("slub61/trace-cgroup.jsonl")[0])
    said = [create, {"w": "px", "i": 1, "op": "read px min_partial", "d": {"text": "5"}}]
    assert check_recording(read_recording([json.dumps(one).encode() for one in said]), "slub-6.1").different == 0
    said[1]["d"] = d
    assert check_recording(read_recording([json.dumps(one).encode() for one in said]), "slub-6.1").different == 1
