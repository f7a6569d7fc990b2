"""Reference counts that nobody tests for zero until they are killed (lib/percpu-refcount.c, v5.3).

Killing one takes a grace period: until the callback of `percpu_ref_kill` has run, the count is spread over the CPUs and
no put can know that it was the last.  The callback works on the count, so whoever frees it has to wait for callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from slabactors.actors import Actor, CountsDown, Narrow, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.rcu import RcuHead, call_rcu_sched

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.debugobjects import DebugObjects

__all__ = [
    "PercpuRef",
    "RefFunction",
    "RefMode",
    "percpu_ref_exit",
    "percpu_ref_kill",
    "percpu_ref_kill_and_confirm",
    "percpu_ref_put",
]

RefFunction: TypeAlias = "Callable[[Cpu], Coroutine[Any, Any, None]]"
"""What is called when the last reference is gone, or the switch confirmed, on the CPU where that happened."""

_NEVER_OUT: Final = 1 << 30
"""What an untested count is said to have left on it."""


class RefMode(Enum):
    """How a count is kept."""

    PERCPU = "per-cpu"
    """Each CPU counts for itself."""
    SWITCHING = "switching"
    """Killed; what the CPUs have counted has not been added up."""
    ATOMIC = "atomic"
    """One count, which every put tests."""
    EXITED = "exited"
    """The CPUs' counts were freed; what is left works as in atomic mode."""


class PercpuRef(Actor):
    """``struct percpu_ref``, born alive with one reference.

    Deviation: the CPUs' counts are one number, which nobody looks at while they are apart.  A get or put that found the
    CPU's count is one step: it stays on its CPU, so the grace period of the switch waits for it.

    Args:
        name: how reports call it.
        release: makes the path that runs when the last reference is gone; any context.
        debug: debugobjects.
        container: the object that embeds it.

    Attributes:
        mode: which of the four states it is in.
        dead: it was killed.
        count: references, that of the switch under way among them.
    """

    role = "percpu_ref"

    def __init__(self, name: str, release: RefFunction, debug: DebugObjects, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.release = release
        self.rcu_head = RcuHead(f"{name}.rcu", debug, self)
        self.mode = RefMode.PERCPU
        self.dead = False
        self.count = 1

    def _untested(self) -> bool:
        return self.mode in (RefMode.PERCPU, RefMode.SWITCHING)

    def _plenty(self) -> int:
        return _NEVER_OUT

    def _if_untested(self) -> int:
        return 1 if self._untested() else -1

    def _count(self) -> int:
        return self.count

    def _one(self) -> int:
        return 1

    @operation(writes="count", reads="mode", narrow=[CountsDown("count", _plenty, _if_untested, reads="mode")])
    def get(self) -> None:
        """``percpu_ref_get(ref)``: for who has a reference."""
        self.count += 1

    @operation(writes="count", reads="mode", narrow=[CountsDown("count", _plenty, _if_untested, reads="mode")])
    def tryget(self) -> bool:
        """``percpu_ref_tryget(ref)``: false when there is no reference left; in per-CPU mode always true."""
        if not self._untested() and self.count == 0:
            return False
        self.count += 1
        return True

    def _killed(self) -> bool:
        return self.dead

    @operation(
        writes="count",
        reads="mode dead",
        narrow=[
            Narrow(_killed, reads="dead"),
            CountsDown("count", _plenty, _if_untested, reads="mode dead"),
        ],
    )
    def tryget_live(self) -> bool:
        """``percpu_ref_tryget_live(ref)``: false once it was killed."""
        if self.dead:
            return False
        self.count += 1
        return True

    @operation(
        writes="count",
        reads="mode",
        narrow=[
            CountsDown("count", _plenty, _if_untested, reads="mode"),
            CountsDown("count", _count, _one, reads="mode"),
        ],
    )
    def put(self) -> bool:
        """``percpu_ref_put(ref)``: true when the last reference is gone; never before the switch is done.

        Raises:
            KernelBug: ``accounting`` when there is none to put; unnoticed before the switch.
        """
        self.count -= 1
        if self._untested():
            return False
        if self.count < 0:
            raise KernelBug(Kind.ACCOUNTING, f"{self.name} was put too often", clause="references are negative")
        return self.count == 0

    @operation(reads="dead")
    def is_dying(self) -> bool:
        """``percpu_ref_is_dying(ref)``: whether it was killed."""
        return self.dead

    @operation(writes="count mode dead")
    def mark_dead(self) -> None:
        """``ref->percpu_count_ptr |= __PERCPU_REF_DEAD``: the switch begins, and has a reference of its own.

        Raises:
            KernelBug: ``bug-on`` when it was killed before.
        """
        if self.dead:
            raise KernelBug(
                Kind.BUG_ON, f"percpu_ref_kill called more than once on {self.name}", clause="percpu ref killed twice"
            )
        self.dead = True
        self.mode = RefMode.SWITCHING
        self.count += 1

    @operation(writes="count mode")
    def switch_to_atomic(self) -> None:
        """``atomic_long_add(count - PERCPU_COUNT_BIAS, &ref->count)``: what the CPUs have counted is added up.

        Raises:
            KernelBug: ``use-after-free`` when their counts were freed, ``accounting`` when it was put too often.
        """
        if self.mode is RefMode.EXITED:
            raise KernelBug(
                Kind.USE_AFTER_FREE,
                f"{self.name} is switched to atomic mode, and percpu_ref_exit() has freed what the CPUs counted",
                clause="switch of a percpu ref after its exit",
            )
        self.mode = RefMode.ATOMIC
        if self.count <= 0:
            raise KernelBug(
                Kind.ACCOUNTING,
                f"percpu ref {self.name} <= 0 ({self.count}) after switching to atomic",
                clause="percpu ref put too often",
            )

    @operation(writes="count mode")
    def exit(self) -> RefMode:
        """``free_percpu(percpu_count)``: in which state it was."""
        mode, self.mode = self.mode, RefMode.EXITED
        return mode


async def percpu_ref_put(cpu: Cpu, ref: PercpuRef) -> None:
    """Drop a reference; who drops the last one, after the switch, calls the release function.  Any context.

    Models percpu_ref_put() (include/linux/percpu-refcount.h, v5.3).
    """
    if await ref.put():
        await ref.release(cpu)


async def percpu_ref_kill(cpu: Cpu, ref: PercpuRef) -> None:
    """Drop the first reference, and let puts find the last one after a grace period.  Any context.

    Models percpu_ref_kill() (lib/percpu-refcount.c, v5.3).

    Raises:
        KernelBug: ``bug-on`` when it was killed before.
    """
    await percpu_ref_kill_and_confirm(cpu, ref, None)


async def percpu_ref_kill_and_confirm(cpu: Cpu, ref: PercpuRef, confirm: RefFunction | None) -> None:
    """As `percpu_ref_kill`, and call a function when every CPU knows that the count is dead.  Any context.

    Models percpu_ref_kill_and_confirm() and percpu_ref_switch_to_atomic_rcu() (lib/percpu-refcount.c, v5.3), which
    waits for who stays on a CPU (call_rcu_sched() up to 4.20).

    Args:
        cpu: where the task runs.
        ref: the count.
        confirm: makes the path that runs in the callback of the grace period, in softirq context.
    """

    async def switch_to_atomic_rcu() -> None:
        await ref.switch_to_atomic()
        if confirm is not None:
            await confirm(cpu)
        await percpu_ref_put(cpu, ref)

    await ref.mark_dead()
    await call_rcu_sched(cpu, switch_to_atomic_rcu, ref.rcu_head)
    # Window: no get finds it alive any more, and no put can tell that it is the last.
    await percpu_ref_put(cpu, ref)


async def percpu_ref_exit(cpu: Cpu, ref: PercpuRef) -> None:
    """Free what the CPUs have counted.  The kernel warns when the switch is under way, and goes on.

    Models percpu_ref_exit() (lib/percpu-refcount.c, v5.3).  What comes of it, when the callback of the switch runs, is
    a use after free: of these counts, or of the object that the count is in.
    """
    if await ref.exit() is RefMode.SWITCHING:
        cpu.machine.printk(f"WARNING: percpu_ref_exit() of {ref.name} while it is switched to atomic mode")
