"""Read-copy update: readers, grace periods, callbacks and barriers (kernel/rcutree.c, v3.8).

Three things are different, and protocols have been broken by taking one for another: that a grace period has passed
(`synchronize_rcu`), that a callback is registered (`call_rcu`), and that callbacks have run (`rcu_barrier`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from slabactors.actors import Actor, CountsDown, Narrow, might_sleep, operation, start
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.workqueue import Work

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.debugobjects import DebugObjects

__all__ = [
    "Rcu",
    "RcuCallback",
    "RcuData",
    "RcuHead",
    "RcuHeadOrWork",
    "call_rcu",
    "call_rcu_sched",
    "rcu_barrier",
    "rcu_barrier_sched",
    "synchronize_rcu",
    "synchronize_sched",
]

RcuCallback: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"
"""Makes the path that runs after a grace period."""

_NEVER_OUT: Final = 1 << 30
"""What a counter is said to have left on it whose last step does nothing that the others do not."""


class Rcu(Actor):
    """One flavour: which read-side sections are open, and which grace periods have to wait for them.

    Sections are told apart by how many grace periods had begun when they began.  Those of one age are alike, so readers
    are independent of each other, and of whoever waits for older ones.

    Deviation: each waiter and each callback has a grace period of its own, which begins at some moment after it was
    asked for.  A kernel lets many share one, so that they wait for more sections than these.

    Args:
        name: the flavour's.
        cpus: how many CPUs have a list of callbacks.

    Attributes:
        data: the list of callbacks of each CPU.
    """

    role = "rcu"
    counts = ("epoch",)
    ordered = False

    def __init__(self, name: str, cpus: int) -> None:
        super().__init__(name)
        self.lock_class = name.replace("rcu", "rcu_read_lock", 1)
        self.atomic = f"{self.lock_class} held"
        self.epoch = 0
        """How many grace periods have begun while somebody read."""
        self.open = 0
        """Sections that began after the newest grace period did: no grace period waits for them."""
        self.closed: dict[int, int] = {}
        """Older sections that are open still, by their epoch."""
        self.data = [RcuData(f"{name}.cpu{cpu}") for cpu in range(cpus)]

    def _plenty(self) -> int:
        return _NEVER_OUT

    def _one(self) -> int:
        return 1

    def _if_new(self, token: int) -> int:
        return 1 if token == self.epoch else -1

    def _if_old(self, token: int) -> int:
        return 1 if token < self.epoch else -1

    @operation(writes="epoch open", shares=True, narrow=[CountsDown("open", _plenty, _one, reads="epoch")])
    def read_lock(self) -> int:
        """``rcu_read_lock()``: what `read_unlock` has to be given.  Any context; sections may be nested.

        Until then nobody may sleep.

        Of the sched flavour: ``preempt_disable()``, ``local_irq_save()``, or any other way to stay on the CPU.
        """
        self.open += 1
        return self.epoch

    @operation(
        writes="epoch open closed",
        releases=True,
        narrow=[
            CountsDown("open", _plenty, _if_new, reads="epoch"),
            CountsDown("closed", _plenty, _if_old),
        ],
    )
    def read_unlock(self, token: int) -> None:
        """``rcu_read_unlock()``.

        Raises:
            KernelBug: ``bug-on`` when no such section is open.
        """
        left = (self.open if token == self.epoch else self.closed.get(token, 0)) - 1
        if left < 0:
            raise KernelBug(
                Kind.BUG_ON,
                f"{self.name}: a read-side section ends that is not open",
                clause="unbalanced rcu_read_unlock",
            )
        if token == self.epoch:
            self.open = left
        elif left:
            self.closed[token] = left
        else:
            del self.closed[token]

    def _nobody_reads(self) -> bool:
        return not self.open

    @operation(writes="epoch open closed", narrow=[Narrow(_nobody_reads, reads="epoch open")])
    def start_grace_period(self) -> int:
        """``rcu_start_gp()``: it has to wait for the sections that are open now; its number, for `wait_readers`."""
        if self.open:
            self.closed[self.epoch] = self.open
            self.open = 0
            self.epoch += 1
        return self.epoch

    def _quiescent(self, grace_period: int) -> bool:
        return all(epoch >= grace_period for epoch in self.closed)

    @operation(guard=_quiescent, reads="closed", narrow=[Narrow(_quiescent)])
    def wait_readers(self, grace_period: int) -> None:
        """``wait_for_completion(&rcu.completion)``: until the sections have ended that began before it."""


class RcuData(Actor):
    """``struct rcu_data``: the callbacks of one CPU, which are called in the order in which they were registered."""

    role = "rcu_data"
    lock_class = "rcu_callback"
    counts = ("registered", "called")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.registered = 0
        self.called = 0

    @operation(writes="registered")
    def enqueue(self) -> int:
        """``*rdp->nxttail[RCU_NEXT_TAIL] = head``: its place in the order."""
        self.registered += 1
        return self.registered

    def _earlier_called(self, place: int) -> bool:
        return self.called >= place - 1

    @operation(guard=_earlier_called, reads="called", narrow=[Narrow(_earlier_called)])
    def begin(self, place: int) -> None:
        """``rcu_do_batch()``: until the callbacks before it have returned."""

    def _plenty(self) -> int:
        return _NEVER_OUT

    def _one(self) -> int:
        return 1

    @operation(writes="called", narrow=[CountsDown("called", _plenty, _one)])
    def done(self) -> None:
        """``rdp->qlen--``: a callback has returned."""
        self.called += 1

    @operation(reads="registered")
    def entrain(self) -> int:
        """``rcu_barrier_func()``: how many callbacks a barrier waits for on this CPU, from the first one ever."""
        return self.registered

    def _called(self, place: int) -> bool:
        return self.called >= place

    def _itself(self, place: int) -> RcuData:
        return self

    @operation(guard=_called, reads="called", waits_for=_itself, sleeps=True, narrow=[Narrow(_called)])
    def wait_called(self, place: int) -> None:
        """``wait_for_completion(&rcu_barrier_completion)``: until so many callbacks have returned."""


class RcuHead(Actor):
    """``struct rcu_head`` that lies in an object: a callback on an object that was freed is a use after free.

    Args:
        name: how reports call it.
        debug: the debugobjects checker, or one that is switched off.
        container: the object that embeds it.
    """

    role = "rcu_head"

    def __init__(self, name: str, debug: DebugObjects, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.debug = debug
        self.callback: RcuCallback | None = None

    @operation
    def register(self, callback: RcuCallback) -> None:
        """``head->func = func``: it is on a list of callbacks from here on.

        Raises:
            KernelBug: ``active-rcu-head`` when it is on one already.
        """
        if self.callback is not None:
            self.debug.activate_active_head(self.name)
        self.callback = callback

    @operation
    def unregister(self) -> RcuCallback:
        """``debug_rcu_head_unqueue(head)``: it is off the list, and its function about to be called."""
        return _called_once(self, self.callback)


class RcuHeadOrWork(Work):
    """``union { struct rcu_head rcu_head; struct work_struct work; }``: one is used when the other is done with.

    As a work it has to be initialised each time after it was an RCU head.
    """

    role = "rcu_head_or_work"
    callback: RcuCallback | None = None

    @operation
    def init(self, function: Any) -> None:
        """``INIT_WORK()`` over an RCU head.

        Raises:
            KernelBug: ``active-rcu-head`` when it is on a list of callbacks, else as `Work.init`.
        """
        if self.callback is not None:
            self.debug.overwrite_active_head(self.name)
            self.callback = None
        self.initialise(function)

    @operation
    def register(self, callback: RcuCallback) -> None:
        """``head->func = func`` over a work item: what was known about the work is lost.

        Raises:
            KernelBug: ``active-rcu-head`` when it is on a list of callbacks already, ``reinitialised-active-work`` when
                it is queued as a work.
        """
        if self.callback is not None:
            self.debug.activate_active_head(self.name)
        if self.initialised and self.active:
            self.debug.init_active(self.name)
        self.callback = callback
        self.function = None
        self.initialised = self.pending = False

    @operation
    def unregister(self) -> RcuCallback:
        """``debug_rcu_head_unqueue(head)``: it is off the list, and its function about to be called."""
        return _called_once(self, self.callback)


def _called_once(head: RcuHead | RcuHeadOrWork, callback: RcuCallback | None) -> RcuCallback:
    if callback is None:
        raise KernelBug(
            Kind.BUG_ON,
            f"{head.name} is called and is no RCU callback any more: NULL pointer dereference",
            clause="rcu callback without function",
        )
    head.callback = None
    return callback


async def call_rcu(cpu: Cpu, callback: RcuCallback, head: RcuHead | RcuHeadOrWork | None = None) -> None:
    """Run a path on this CPU some time after a grace period.  Any context.

    Models call_rcu() and rcu_do_batch() (kernel/rcutree.c, v3.8).
    Deviation: a callback is a path of its own, so a task of its CPU may run between two of its steps.

    Args:
        cpu: where the task runs.
        callback: makes the path, which is in softirq context.
        head: the RCU head, when what it lies in may be freed, or registered twice, too early.
    """
    await _call(cpu, cpu.machine.rcu, callback, head)


async def call_rcu_sched(cpu: Cpu, callback: RcuCallback, head: RcuHead | RcuHeadOrWork | None = None) -> None:
    """As `call_rcu`, after a grace period for sections that stay on their CPU.  Any context.

    Models call_rcu_sched() (kernel/rcutree.c, v3.8).
    """
    await _call(cpu, cpu.machine.rcu_sched, callback, head)


async def _call(cpu: Cpu, rcu: Rcu, callback: RcuCallback, head: RcuHead | RcuHeadOrWork | None) -> None:
    if head is not None:
        await head.register(callback)
    data = rcu.data[cpu.id]
    place = await data.enqueue()
    await start(cpu.softirq(_after_grace_period(rcu, data, place, callback, head), "RCU callback", inside=data))


async def _after_grace_period(
    rcu: Rcu, data: RcuData, place: int, callback: RcuCallback, head: RcuHead | RcuHeadOrWork | None
) -> None:
    grace_period = await rcu.start_grace_period()
    await rcu.wait_readers(grace_period)
    # Window: the grace period has ended, and the callback has not run; only a barrier waits for that.
    await data.begin(place)
    if head is not None:
        callback = await head.unregister()
    await callback()
    await data.done()


async def synchronize_rcu(cpu: Cpu) -> None:
    """Wait until every section that is open now has ended.  No callback needs to have run by then.  Sleeps.

    Models synchronize_rcu() (kernel/rcutree.c, v3.8).
    """
    await _synchronize(cpu.machine.rcu)


async def synchronize_sched(cpu: Cpu) -> None:
    """As `synchronize_rcu`, for sections that stay on their CPU.  Sleeps.

    Models synchronize_sched() (kernel/rcutree.c, v3.8).
    """
    await _synchronize(cpu.machine.rcu_sched)


async def _synchronize(rcu: Rcu) -> None:
    await might_sleep()
    grace_period = await rcu.start_grace_period()
    await rcu.wait_readers(grace_period)


async def rcu_barrier(cpu: Cpu) -> None:
    """Wait until every callback that is registered now has run, and for no later one.  Sleeps.

    Models rcu_barrier() (kernel/rcutree.c, v3.8), which looks at one CPU after the other.
    """
    await _barrier(cpu.machine.rcu)


async def rcu_barrier_sched(cpu: Cpu) -> None:
    """As `rcu_barrier`, for callbacks of `call_rcu_sched`.  Sleeps.

    Models rcu_barrier_sched() (kernel/rcutree.c, v3.8).
    """
    await _barrier(cpu.machine.rcu_sched)


async def _barrier(rcu: Rcu) -> None:
    places = []
    for data in rcu.data:
        place = await data.entrain()
        # Window: callbacks that are registered on CPUs not looked at yet are waited for, too.
        places.append(place)
    for data, place in zip(rcu.data, places, strict=True):
        await data.wait_called(place)
