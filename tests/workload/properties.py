"""What holds of an allocator after every line of any workload."""

from __future__ import annotations

import random
from collections import Counter

from slabactors.mm.allocator import slabs_of
from slabactors.workload.generate import Generator
from slabactors.workload.language import Destroy, Op, Shrink, parse
from slabactors.workload.player import Played, Player

MACHINES = ((1, 1), (2, 1), (3, 2), (4, 2), (4, 1))
"""CPUs and memory nodes."""


def play_random(model: str, seed: int, operations: int = 60, *, at_once: bool = True) -> int:
    """Play a random workload and check every property after each line; how many lines there were.

    Every fourth one destroys its caches with objects held.
    """
    cpus, nodes = MACHINES[seed % len(MACHINES)]
    if not model.startswith("slub"):
        nodes = 1
    rng = random.Random(seed)
    objects = rng.choice((20, 200, 800))
    sizes = tuple(rng.sample((8, 64, 100, 256, 700, 1024, 2048, 4096, 5000, 20000), 3))
    generator = Generator(seed, cpus=cpus, nodes=nodes, objects_max=objects, sizes=sizes)
    script = [*generator.script(operations)]
    if seed % 4 == 3:
        script = script[:operations] + [line for line in script[operations:] if line.startswith("destroy")]
    player = Player(model, cpus, nodes, at_once=at_once)
    for number, text in enumerate(script, 1):
        op = parse(number, text)
        assert op is not None
        held = {name: played.held for name, played in player.caches.items()}
        document = player.play(op)
        check(player, op, document, held)
    player.close()
    return len(script)


def check(player: Player, op: Op, document: dict, held_before: dict[str, int]) -> None:
    """Every property of the machine between two lines."""
    everything = [*player.caches.values(), *player.zombies]
    for played in everything:
        check_cache(player, played)
    pages = sum(1 << slab.order for slab in player.machine.slabs)
    allocator = player.machine.page_alloc
    assert allocator.pages - allocator.free == pages, "pages that are out are those of the slabs there are"
    assert {slab for played in everything for slab in played.slabs.numbers if slab.tombstone is None} == set(
        player.machine.slabs
    )
    match op:
        case Shrink():
            listed = lists(player, player.caches[op.name])
            assert all(slab.inuse for slab in listed), "a shrink leaves no empty slab on a node's list"
        case Destroy():
            assert document["in_slabinfo"] == (1 if held_before[op.name] else 0), "gone exactly when nothing was held"


def check_cache(player: Player, played: Played) -> None:
    """Objects: each is held by the script, or free in exactly one place."""
    machine, cache = player.machine, played.cache
    slabs = [*slabs_of(machine, cache)]
    held = [(obj.slab, obj.index) for tag in played.tags.values() for obj in tag.objects.values()]
    free = [(slab, index) for slab in slabs for index in slab.freelist]
    if machine.allocator.layout == "slub":
        free += [(c.page, index) for c in cache.cpu_slabs for index in c.freelist]
        check_slub(cache, slabs)
    else:
        free += [entry for ac in cache.arrays for entry in ac.entries]
        free += [entry for l3 in cache.nodelists for entry in l3.shared]
        check_slab(cache, slabs)
    where = Counter(held + free)
    assert len(where) == len(held) + len(free), "no object is in two places, or handed out twice"
    assert len(where) == sum(slab.objects for slab in slabs), "every object is allocated or free"
    assert machine.allocator.live_objects(machine, cache) == len(held)
    by_slab = Counter(slab for slab, _ in held)
    assert all(played.slabs.held[slab] == by_slab[slab] for slab in slabs)


def check_slub(cache, slabs) -> None:
    """A slab is a CPU's, on its node's list, or full and on no list."""
    owned = [c.page for c in cache.cpu_slabs if c.page is not None]
    owned += [entry.slab for c in cache.cpu_slabs for entry in c.partial]
    listed = [slab for node in cache.nodes for slab in node.partial]
    assert len({*owned, *listed}) == len(owned) + len(listed), "no slab is in two places"
    for slab in slabs:
        assert slab.inuse == slab.objects - len(slab.freelist)
        assert slab.frozen == (slab in owned)
        assert (slab in listed) == (not slab.frozen and slab.inuse < slab.objects)
    for number, node in enumerate(cache.nodes):
        assert all(slab.node == number for slab in node.partial)
        mine = [slab for slab in slabs if slab.node == number]
        assert (node.nr_slabs, node.total_objects) == (len(mine), sum(slab.objects for slab in mine))


def check_slab(cache, slabs) -> None:
    """A slab is on the one list that fits what is in use of it."""
    (l3,) = cache.nodelists
    assert sorted(slab.number for slab in (*l3.slabs_full, *l3.slabs_partial, *l3.slabs_free)) == sorted(
        slab.number for slab in slabs
    )
    assert all(slab.inuse == slab.objects for slab in l3.slabs_full)
    assert all(0 < slab.inuse < slab.objects for slab in l3.slabs_partial)
    assert all(slab.inuse == 0 for slab in l3.slabs_free)
    assert l3.free_objects == sum(slab.objects - slab.inuse for slab in slabs)


def lists(player: Player, played: Played) -> list:
    """Every slab that could be given back."""
    cache = played.cache
    if player.machine.allocator.layout == "slub":
        return [slab for node in cache.nodes for slab in node.partial]
    return [slab for l3 in cache.nodelists for slab in (*l3.slabs_free, *l3.slabs_partial)]
