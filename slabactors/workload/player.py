"""Plays a workload's operations on a machine, one after the other, and says after each what the cache looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slabactors.errors import KernelBug, Kind, WorkloadError
from slabactors.lifecycle import lifecycle
from slabactors.machine import Machine, MachineConfig
from slabactors.mm.allocator import CacheSpec
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_shrink, try_destroy
from slabactors.mm.slub import Slub
from slabactors.runtime.sequential import Sequential, Turns
from slabactors.workload.language import Alloc, Create, Destroy, Dump, Free, Op, Read, Set, Shrink, Sleep
from slabactors.workload.sense import Sense
from slabactors.workload.slab_view import SlabView
from slabactors.workload.slub_view import SlubView
from slabactors.workload.views import Numbered, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabObject, SlabPage

PAGES = 1 << 22
"""Pages of the machine: 16 GiB, which no recorded workload comes near."""

Document = dict[str, Any]


@dataclass(slots=True)
class Tag:
    """Objects under one name.

    Attributes:
        objects: those that are held, by their position.
        next: the position of the next one.
    """

    objects: dict[int, SlabObject] = field(default_factory=dict)
    next: int = 0


class Played:
    """A cache as the script knows it: its objects and its slabs."""

    def __init__(self, cache: KmemCache) -> None:
        self.cache = cache
        self.tags: dict[str, Tag] = {}
        self.slabs = Numbered()
        self.gone: list[int] = []
        """Slabs that went back since the last line about the cache."""

    @property
    def held(self) -> int:
        """Objects that the script holds."""
        return sum(len(tag.objects) for tag in self.tags.values())


class Player:
    """A machine and the caches of one script.

    Args:
        model: name of the allocator model.
        cpus: how many CPUs.
        nodes: how many memory nodes.
        pages: pages of the machine.
        states: say the whole state and the counters after each operation, and not only what it did.
        at_once: deliver by hand what takes one operation, see `slabactors.workload.views.View.taker`; for tests.

    Attributes:
        findings: what a kernel would have reported as a bug, with the line that did it.
    """

    def __init__(
        self,
        model: str,
        cpus: int = 4,
        nodes: int = 1,
        pages: int = PAGES,
        *,
        at_once: bool = True,
        states: bool = True,
    ) -> None:
        self.at_once = at_once
        self.states = states
        self.driver = Sequential()
        config = MachineConfig(cpus=cpus, nodes=nodes, pages=pages, allocator=model)
        self.machine = Machine(self.driver.clock, lifecycle("pre-patch"), config)
        allocator = self.machine.allocator
        self.view: View = SlubView() if allocator.layout == "slub" else SlabView()
        self.bulk = allocator if isinstance(allocator, Slub) and allocator.policy.bulk else None
        """The allocator, if its release has bulk calls; where it has none, they are played one by one."""
        self.caches: dict[str, Played] = {}
        self.zombies: list[Played] = []
        self.findings: list[Document] = []
        self._frees_seen = 0
        self.driver.start(self.machine.daemons())

    # -- operations ------------------------------------------------------------------------------------------------

    def play(self, op: Op, turns: Turns | None = None) -> Document:
        """Play one operation: what the log says of it, without ``w``, ``i`` and ``op``.

        Args:
            op: the operation.
            turns: who goes on where several CPUs work at the same time; see `slabactors.runtime.sequential`.

        Raises:
            WorkloadError: it makes no sense.
        """
        match op:
            case Alloc():
                return self._alloc(op)
            case Free():
                return self._free(op)
            case Create():
                return self._create(op)
            case Dump():
                return self._document(op.name, {"size": self._played(op.name).cache.geometry.size})
            case Sleep():
                self.driver.advance(op.milliseconds)
                return {}
        self.driver.turns = turns
        try:
            match op:
                case Shrink():
                    return self._shrink(op)
                case Destroy():
                    return self._destroy(op)
                case Set():
                    return self._set(op)
                case Read():
                    return self._read(op)
        finally:
            self.driver.turns = None

    def finish(self) -> None:
        """At the end of a script: free and destroy what is left."""
        for name, played in [*self.caches.items()]:
            for tag in played.tags:
                self.play(Free(0, "", 0, name, tag))
            self.play(Destroy(0, "", name))

    def fingerprint(self) -> object:
        """Equal for two states of a script from which the same follows."""
        return tuple(
            (name, self.view.fingerprint(self.machine, one.cache, one.slabs)) for name, one in self.caches.items()
        )

    def close(self) -> None:
        """Let go of the machine."""
        self.driver.close()
        self.machine.dispose()

    def _played(self, name: str) -> Played:
        return self.caches[name]

    def _document(self, name: str, d: Document) -> Document:
        """An operation's own fields, then what it left: slabs that went, the state, the counters."""
        played = self.caches[name]
        if self.machine.page_alloc.frees != self._frees_seen:
            self._frees_seen = self.machine.page_alloc.frees
            # A page of any cache went back, so that every cache looks at its own.
            for one in self.caches.values():
                one.gone += one.slabs.forget_gone()
        if played.gone:
            d["gone"], played.gone = sorted(played.gone), []
        if not self.states:
            return {"d": d}
        d.update(self.view.state(self.machine, played.cache, played.slabs))
        return {"d": d, "ctr": self.view.counters(self.machine, played.cache)}

    def _create(self, op: Create) -> Document:
        machine = self.machine
        spec = op.spec
        cache = self.driver.run(
            kmem_cache_create(
                machine.cpus[0],
                op.name,
                spec.object_size,
                align=spec.align,
                ctor=spec.ctor,
                hwcache_align=spec.hwcache_align,
                rcu=spec.rcu,
                reclaimable=spec.reclaimable,
                account=spec.account,
            )
        )
        self.caches[op.name] = Played(cache)
        return {"d": self.view.geometry(machine, cache)} | self._counters(cache)

    def _counters(self, cache: KmemCache) -> Document:
        return {"ctr": self.view.counters(self.machine, cache)} if self.states else {}

    # -- objects ---------------------------------------------------------------------------------------------------

    def _alloc(self, op: Alloc) -> Document:
        played = self.caches[op.name]
        cpu = self.machine.cpus[op.cpu]
        tag = played.tags.get(op.tag)
        if tag is None:
            tag = played.tags[op.tag] = Tag()
        first = tag.next
        steps: list[list[int]] = []
        runs: list[list[Any]] = []
        if op.bulk and self.bulk is not None:
            self.driver.run(self._alloc_bulk(self.bulk, op, cpu, played.cache, tag, runs), cpu.name)
        else:
            self.driver.run(self._alloc_all(op, cpu, played.cache, tag, runs, steps), cpu.name)
        d: Document = {"cpu_ran": op.cpu, "n": tag.next - first, "first": first}
        d["from"] = self._numbered(played, runs, 1)
        if not op.bulk:
            d["steps"] = steps
        return self._document(op.name, d)

    async def _alloc_all(
        self, op: Alloc, cpu: Cpu, cache: KmemCache, tag: Tag, runs: list[list[Any]], steps: list[list[int]]
    ) -> None:
        """One task that allocates them all: not through kmem_cache_alloc(), which would look for its memcg."""
        alloc = self.machine.allocator.alloc
        take = self._taker(cache, op)
        marks = self.view.marks
        objects = tag.objects
        first, end = tag.next, tag.next + op.count
        before = marks(cache, op.cpu)
        run: list[Any] = [None, 0]
        while tag.next < end:
            at_once = take(end - tag.next)
            if at_once:
                slab = at_once[0].slab
                objects.update(zip(range(tag.next, end), at_once, strict=False))
            else:
                obj = await alloc(cpu, cache, None, op.node)
                if obj is None:
                    return
                slab = obj.slab
                objects[tag.next] = obj
                after = marks(cache, op.cpu)
                if after != before:
                    steps.append([tag.next - first, *after])
                    before = after
            if run[0] is not slab:
                run = [slab, 0]
                runs.append(run)
            done = len(at_once) or 1
            run[1] += done
            tag.next += done

    def _taker(self, cache: KmemCache, op: Alloc) -> Callable[[int], list[SlabObject]]:
        if op.node is not None or not self.at_once:
            return lambda count: []
        return self.view.taker(cache, op.cpu)

    async def _alloc_bulk(
        self, bulk: Slub, op: Alloc, cpu: Cpu, cache: KmemCache, tag: Tag, runs: list[list[Any]]
    ) -> None:
        for obj in await bulk.alloc_bulk(cpu, cache, op.count):
            tag.objects[tag.next] = obj
            tag.next += 1
            if runs and runs[-1][0] is obj.slab:
                runs[-1][1] += 1
            else:
                runs.append([obj.slab, 1])

    def _free(self, op: Free) -> Document:
        played = self.caches[op.name]
        cpu = self.machine.cpus[op.cpu]
        tag = played.tags[op.tag]
        objects = self._named(op, tag)
        steps: list[list[int]] = []
        runs: list[list[Any]] = []
        last: SlabPage | None = None
        for obj in objects:
            if obj.slab is last:
                runs[-1][1] += 1
            else:
                last = obj.slab
                runs.append([last, 1])
        d: Document = {"to": self._numbered(played, runs, -1)}
        if op.bulk and self.bulk is not None:
            self.driver.run(self.bulk.free_bulk(cpu, objects), cpu.name)
        else:
            self.driver.run(self._free_all(op, cpu, played.cache, objects, steps), cpu.name)
        d["cpu_ran"] = op.cpu
        d["n"] = len(objects)
        if not op.bulk:
            d["steps"] = steps
        return self._document(op.name, d)

    def _named(self, op: Free, tag: Tag) -> list[SlabObject]:
        """The objects that a free names, which are no longer held.

        Raises:
            KernelBug: ``double-free``.
        """
        held = tag.objects
        if op.items is None:
            objects = list(held.values())
            held.clear()
            return objects
        objects = []
        for item in op.items:
            for position in item:
                obj = held.pop(position, None)
                if obj is None:
                    self._not_held(op, tag, position)
                else:
                    objects.append(obj)
        return objects

    def _not_held(self, op: Free, tag: Tag, position: int) -> None:
        if position >= tag.next:
            raise WorkloadError(
                op.line,
                f"object {position} of {op.tag!r} was never allocated: there was no memory for it.",
                "Allocate less.",
            )
        raise KernelBug(
            Kind.DOUBLE_FREE,
            f"line {op.line}: object {position} of {op.tag!r} in {op.name!r} is freed a second time",
            clause="double free of an object",
        )

    async def _free_all(
        self, op: Free, cpu: Cpu, cache: KmemCache, objects: list[SlabObject], steps: list[list[int]]
    ) -> None:
        free = self.machine.allocator.free
        give = self.view.giver(cache, op.cpu) if self.at_once else lambda objects, start: start
        marks = self.view.marks
        before = marks(cache, op.cpu)
        index, count = 0, len(objects)
        while (index := give(objects, index)) < count:
            await free(cpu, objects[index])
            after = marks(cache, op.cpu)
            if after != before:
                steps.append([index, *after])
                before = after
            index += 1

    @staticmethod
    def _numbered(played: Played, runs: list[list[Any]], sign: int) -> list[list[int]]:
        """Runs with the slabs' numbers instead of the slabs; the held objects are counted on the way."""
        slabs = played.slabs
        found = []
        for slab, count in runs:
            found.append([slabs.see(slab), count])
            slabs.held[slab] += sign * count
        return found

    # -- caches ----------------------------------------------------------------------------------------------------

    def _shrink(self, op: Shrink) -> Document:
        cpu = self.machine.cpus[0]
        rc = self.driver.run(kmem_cache_shrink(cpu, self.caches[op.name].cache), cpu.name)
        return self._document(op.name, {"rc": rc})

    def _destroy(self, op: Destroy) -> Document:
        played = self.caches[op.name]
        cpu = self.machine.cpus[0]
        d: Document = {"held_objects": played.held, "held_slabs": len(played.slabs.numbers)}
        complaint = self.driver.run(try_destroy(cpu, played.cache), cpu.name)
        forgotten = played.gone + played.slabs.forget_gone()
        if forgotten:
            d["gone"] = sorted(forgotten)
        del self.caches[op.name]
        if complaint is None:
            return {"d": d, "ctr": None, "in_slabinfo": 0}
        finding = {"kind": Kind.OBJECTS_REMAINING.value, "line": op.line, "message": f"line {op.line}: {complaint}"}
        self.findings.append(finding)
        self.zombies.append(played)
        left = 1 + sum(1 for other in self.zombies[:-1] if other.cache.name == op.name)
        return {"d": d} | self._counters(played.cache) | {"in_slabinfo": left, "finding": finding}

    # -- attributes ------------------------------------------------------------------------------------------------

    def _set(self, op: Set) -> Document:
        cpu = self.machine.cpus[0]
        cache = self.caches[op.name].cache
        try:
            self.driver.run(self._slub(op).store(cpu, cache, op.file, op.value), cpu.name)
        except ValueError as error:
            raise WorkloadError(op.line, f"the kernel refuses it: {error}.", "Give another FILE or VALUE.") from None
        self.view.written(cache)
        return self._document(op.name, {"size": cache.geometry.size})

    def _slub(self, op: Set | Read) -> Slub:
        allocator = self.machine.allocator
        if not isinstance(allocator, Slub):
            raise WorkloadError(
                op.line, f"caches of {allocator.name} have no directory in /sys/kernel/slab.", "Leave the line out."
            )
        return allocator

    def _read(self, op: Read) -> Document:
        cache = self.caches[op.name].cache
        try:
            text = self._slub(op).attribute(self.machine, cache, op.file)
        except ValueError as error:
            raise WorkloadError(op.line, f"there is nothing to read: {error}.", "Give another FILE.") from None
        return self._document(op.name, {"text": text})


def play_script(player: Player, ops: Iterable[Op], workload: str) -> Iterator[Document]:
    """Play a script; a log line after each operation.

    Raises:
        KernelBug: the script did what no kernel survives.
    """
    for position, op in enumerate(ops):
        yield {"w": workload, "i": position, "op": op.text, **player.play(op)}


def script_sense(model: str, cpus: int, nodes: int) -> Sense:
    """What looks at a script for one model before it is played; what a file takes is tried out on a machine apart."""
    player = Player(model, cpus, nodes)
    allocator, machine = player.machine.allocator, player.machine

    def check_file(spec: CacheSpec, op: Set | Read) -> None:
        known = player.caches.get(op.name)
        if known is None or known.cache.spec != spec:
            player.play(Create(op.line, "", op.name, spec))
        player.play(op)

    return Sense(cpus, nodes, lambda spec: allocator.geometry(spec, machine), check_file)
