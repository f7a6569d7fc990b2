"""Random workload scripts: valid in the language, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

SIZES = (8, 24, 64, 100, 192, 256, 320, 512, 700, 1000, 1024, 2048, 3000, 4096, 5000)
"""Bytes; some of each kind of geometry."""


@dataclass(slots=True)
class _Cache:
    name: str
    next_tag: int = 0
    tags: dict[str, list[int]] = field(default_factory=dict)
    """Positions that are held, of each tag."""
    sizes: dict[str, int] = field(default_factory=dict)
    """How many objects each tag has got."""

    @property
    def held(self) -> int:
        return sum(map(len, self.tags.values()))


class Generator:
    """Writes a script line by line.

    Args:
        seed: of everything that is random.
        cpus: CPUs of the machine that it is for.
        nodes: its memory nodes.
        objects_max: objects that are held at a time, all caches together.
        caches_max: caches that there are at a time.
        sizes: bytes of the objects.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        cpus: int = 4,
        nodes: int = 1,
        objects_max: int = 400,
        caches_max: int = 2,
        sizes: tuple[int, ...] = SIZES,
    ) -> None:
        self.random = random.Random(seed)
        self.cpus = cpus
        self.nodes = nodes
        self.objects_max = objects_max
        self.caches_max = caches_max
        self.sizes = sizes
        self._caches: list[_Cache] = []
        self._made = 0

    def script(self, operations: int) -> Iterator[str]:
        """So many lines, then those that free and destroy what is left."""
        for _ in range(operations):
            yield self._line()
        for cache in self._caches:
            for tag in cache.tags:
                yield f"free 0 {cache.name} {tag}"
            yield f"destroy {cache.name}"

    def _line(self) -> str:
        rng = self.random
        if not self._caches or (len(self._caches) < self.caches_max and rng.random() < 0.02):
            return self._create()
        cache = rng.choice(self._caches)
        held = cache.held
        room = self.objects_max - sum(one.held for one in self._caches)
        kind = rng.choices(
            ("alloc", "free", "shrink", "dump", "sleep", "destroy"),
            (10 if room else 0, 10 if held else 0, 1, 0.5, 0.5, 0.2 if not held else 0),
        )[0]
        match kind:
            case "alloc":
                return self._alloc(cache, room)
            case "free":
                return self._free(cache)
            case "sleep":
                return f"sleep {rng.choice((1, 50, 2000, 5000))}"
            case "destroy":
                self._caches.remove(cache)
        return f"{kind} {cache.name}"

    def _create(self) -> str:
        rng = self.random
        cache = _Cache(f"c{self._made}")
        self._made += 1
        self._caches.append(cache)
        flags = "".join(f" {flag}" for flag in ("hwalign", "rcu", "ctor") if rng.random() < 0.1)
        return f"create {cache.name} {rng.choice(self.sizes)} {rng.choice((0, 0, 0, 8, 64))}{flags}"

    def _alloc(self, cache: _Cache, room: int) -> str:
        rng = self.random
        count = min(room, rng.choice((1, 2, 5, 17, 40, 80)))
        if cache.tags and rng.random() < 0.3:
            tag = rng.choice([*cache.tags])
        else:
            tag = f"t{cache.next_tag}"
            cache.next_tag += 1
        first = cache.sizes.get(tag, 0)
        cache.sizes[tag] = first + count
        cache.tags.setdefault(tag, []).extend(range(first, first + count))
        node = f" node={rng.randrange(self.nodes)}" if self.nodes > 1 and rng.random() < 0.2 else ""
        bulk = "b" if not node and rng.random() < 0.05 else ""
        return f"alloc{bulk} {rng.randrange(self.cpus)} {cache.name} {count} {tag}{node}"

    def _free(self, cache: _Cache) -> str:
        rng = self.random
        tag = rng.choice([*cache.tags])
        held = cache.tags[tag]
        head = f"free{'b' if rng.random() < 0.05 else ''} {rng.randrange(self.cpus)} {cache.name} {tag}"
        if len(held) < 2 or rng.random() < 0.4:
            self._forget(cache, tag)
            return head
        count = rng.randrange(1, len(held) + 1)
        if rng.random() < 0.5:
            first = rng.randrange(len(held) - count + 1)
            chosen = held[first : first + count]
            if rng.random() < 0.5:
                chosen.reverse()
        else:
            chosen = rng.sample(held, min(count, 30))
        gone = set(chosen)
        cache.tags[tag] = [position for position in held if position not in gone]
        if not cache.tags[tag]:
            self._forget(cache, tag)
        return f"{head} {','.join(items(chosen))}"

    def _forget(self, cache: _Cache, tag: str) -> None:
        """A tag of which nothing is held is not used again: its name says nothing any more."""
        del cache.tags[tag]
        del cache.sizes[tag]


def items(positions: list[int]) -> Iterator[str]:
    """Positions as items of a LIST: neighbours as A-B."""
    start = 0
    while start < len(positions):
        end = start + 1
        step = positions[end] - positions[start] if end < len(positions) else 0
        if abs(step) == 1:
            while end < len(positions) and positions[end] - positions[end - 1] == step:
                end += 1
            yield f"{positions[start]}-{positions[end - 1]}"
        else:
            yield str(positions[start])
        start = end
