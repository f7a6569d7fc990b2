"""Whether a script makes sense as a whole: looked at before anything of it is played."""

from __future__ import annotations

from collections.abc import Callable

from slabactors.errors import WorkloadError
from slabactors.mm.allocator import CacheSpec
from slabactors.workload.language import Alloc, Create, Destroy, Free, Op, Read, Set, Sleep, quoted


class Sense:
    """Whether the lines of a script make sense one after the other, before any of them is played.

    Args:
        cpus: how many there are.
        nodes: how many memory nodes.
        check_spec: raises ValueError for a cache that cannot be made.
        check_file: raises WorkloadError for a file of such a cache that cannot be read, or written to.
    """

    def __init__(
        self,
        cpus: int,
        nodes: int,
        check_spec: Callable[[CacheSpec], object],
        check_file: Callable[[CacheSpec, Set | Read], object] | None = None,
    ) -> None:
        self.cpus = cpus
        self.nodes = nodes
        self.check_spec = check_spec
        self.check_file = check_file
        self._specs: dict[str, CacheSpec] = {}
        self._caches: dict[str, dict[str, int]] = {}
        """Every cache that there is, with how many objects each tag has got."""
        self._destroyed: dict[str, int] = {}

    def check(self, op: Op) -> None:
        """Look at one more operation.

        Raises:
            WorkloadError: it names what is not there.
        """
        match op:
            case Create():
                self._create(op)
            case Alloc() | Free():
                self._use(op)
            case Destroy():
                del self._caches[self._known(op, op.name)]
                self._destroyed[op.name] = op.line
            case Sleep():
                pass
            case Set() | Read():
                self._known(op, op.name)
                if self.check_file is not None:
                    self.check_file(self._specs[op.name], op)
            case _:
                self._known(op, op.name)

    def _create(self, op: Create) -> None:
        if op.name in self._caches:
            raise WorkloadError(
                op.line,
                f"there is a cache {quoted(op.name)} already.",
                "Give it another name, or destroy that one first.",
            )
        try:
            self.check_spec(op.spec)
        except ValueError as error:
            raise WorkloadError(
                op.line, f"no such cache can be made: {error}.", "Give another SIZE or ALIGN."
            ) from None
        self._caches[op.name] = {}
        self._specs[op.name] = op.spec
        self._destroyed.pop(op.name, None)

    def _known(self, op: Op, name: str) -> str:
        if name in self._caches:
            return name
        if name in self._destroyed:
            what = f"cache {quoted(name)} was destroyed in line {self._destroyed[name]}."
            raise WorkloadError(op.line, what, f"Create it again: create {name} SIZE")
        known = f" (there is: {', '.join([*self._caches][:8])})" if self._caches else ""
        raise WorkloadError(
            op.line, f"there is no cache {quoted(name)}{known}.", f"Create it first: create {name} SIZE"
        )

    def _use(self, op: Alloc | Free) -> None:
        tags = self._caches[self._known(op, op.name)]
        if op.cpu >= self.cpus:
            raise WorkloadError(
                op.line,
                f"CPU {op.cpu} is none of the {self.cpus} that there are.",
                f"More of them: --cpus {op.cpu + 1}",
            )
        if isinstance(op, Alloc):
            if op.node is not None and op.node >= self.nodes:
                raise WorkloadError(
                    op.line,
                    f"node {op.node} is none of the {self.nodes} that there are.",
                    f"More of them: --nodes {op.node + 1}",
                )
            tags[op.tag] = tags.get(op.tag, 0) + op.count
            return
        if op.tag not in tags:
            raise WorkloadError(
                op.line,
                f"nothing was allocated in {quoted(op.name)} under the tag {quoted(op.tag)}.",
                f"Allocate first: alloc {op.cpu} {op.name} COUNT {op.tag}",
            )
        last = max((max(item[0], item[-1]) for item in op.items), default=0) if op.items is not None else 0
        if last >= tags[op.tag]:
            raise WorkloadError(
                op.line,
                f"object {last} of {quoted(op.tag)} was never allocated: it has {tags[op.tag]}, numbered from 0.",
                f"The last one is: free {op.cpu} {op.name} {op.tag} {tags[op.tag] - 1}",
            )
