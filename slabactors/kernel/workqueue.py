"""Work items and workqueues (kernel/workqueue.c, v3.8).

PENDING is set by queueing *or* by an armed timer and cleared just before the function is called, so it is clear while
the function runs.  An item never runs on two workers at once.  The item's memory belongs to whoever embeds it: the
function may free it, and a message to a freed item is a use after free.

Each workqueue has kworkers of its own, as many for a CPU as its ``max_active``.  A kernel of 3.8 or later shares them:
a pool for each CPU and one for the unbound workqueues, with another worker for each that sleeps, and a rescuer where
memory is short.  So there, too, what items of one workqueue wait for never holds up another one's, and how many items
are under way is bounded by ``max_active`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from slabactors.actors import Actor, Clock, Narrow, Spawn, Timed, operation, start
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.timer import apply_slack

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.debugobjects import DebugObjects

__all__ = [
    "Work",
    "WorkFunction",
    "Workqueue",
    "WorkqueueSpec",
    "alloc_workqueue",
    "cancel_work_sync",
    "destroy_workqueue",
    "disable_work_sync",
    "drain_workqueue",
    "flush_work",
    "flush_workqueue",
    "queue_delayed_work",
    "queue_work",
]

WorkFunction: TypeAlias = "Callable[[Cpu], Coroutine[Any, Any, None]]"
"""What a work item runs, on the CPU of its kworker."""


class WorkqueueSpec(NamedTuple):
    """What a workqueue is made with.

    Attributes:
        name: how it is found and how reports call it.
        max_active: how many of its items may be under way at a time, of each CPU.
        unbound: its items may run anywhere; with a ``max_active`` of 1 it is ordered.
    """

    name: str
    max_active: int = 1
    unbound: bool = False


class Grab(Enum):
    """What a canceller found the item to be."""

    IDLE = "idle"
    TIMER = "timer"
    QUEUED = "queued"


class Work(Timed):
    """``struct delayed_work``; a ``work_struct`` is one whose timer is never used.

    Args:
        name: how reports call it.
        clock: virtual time, for the timer.
        debug: the debugobjects checker, or one that is switched off.
        container: the object that embeds it.
    """

    role = "work"
    counts = ("queueings", "started")

    def __init__(self, name: str, clock: Clock, debug: DebugObjects, container: Actor | None = None) -> None:
        super().__init__(name, clock, container)
        self.debug = debug
        self.function: WorkFunction | None = None
        self.initialised = False
        self.pending = False
        self.canceling = False
        self.queueings = 0
        """How often it was queued or its timer armed, without the times that was taken back."""
        self.started = 0
        """How often a worker was about to call the function."""
        self.queued_on: tuple[Workqueue, Cpu] | None = None

    @property
    def active(self) -> bool:
        """What debugobjects calls active: queued, or waiting for its timer."""
        return self.pending and not self.canceling

    @operation(clock=True)
    def init(self, function: WorkFunction) -> None:
        """``INIT_DELAYED_WORK()``: forgets PENDING, whatever was going on.

        Raises:
            KernelBug: ``reinitialised-active-work`` when the item is queued or its timer armed.
        """
        self.initialise(function)

    def initialise(self, function: WorkFunction) -> None:
        """As `init`, for operations of classes that have more to do."""
        if self.initialised and self.active:
            self.debug.init_active(self.name)
        self.initialised = True
        self.function = function
        self.pending = False
        self.deadline = None

    def _pending(self) -> bool:
        return self.pending

    @operation(narrow=[Narrow(_pending, reads="pending")])
    def test_and_set_pending(self) -> bool:
        """``test_and_set_bit(WORK_STRUCT_PENDING)``: true when it was clear and the caller now has to queue the item.

        Raises:
            KernelBug: ``uninitialised-work`` when no initialisation has run.
        """
        if self.pending:
            return False
        self.pending = True
        if not self.initialised:
            self.debug.activate_uninitialised(self.name)
            # A zeroed item looks as if it were on a list: the kernel warns and gives up, and PENDING stays set.
            return False
        self.queueings += 1
        return True

    @operation(reads="pending")
    def is_pending(self) -> bool:
        """``delayed_work_pending()``: queued or waiting for the timer; false while the function runs."""
        return self.pending

    @operation(clock=True)
    def add_timer(self, delay_jiffies: int, workqueue: Workqueue, cpu: Cpu) -> None:
        """``add_timer(&dwork->timer)``: PENDING stays set until it has fired and the function is about to run."""
        self.queued_on = workqueue, cpu
        self.deadline = apply_slack(self.clock.now, delay_jiffies)

    @operation
    def clear_pending(self) -> WorkFunction:
        """``set_work_cpu_and_clear_pending()``: the worker is about to call the function."""
        self.pending = False
        self.started += 1
        if self.function is None:
            raise KernelBug(
                Kind.BUG_ON,
                f"{self.name} has no function to call: NULL pointer dereference",
                clause="work without function",
            )
        return self.function

    def on_expiry(self) -> Spawn[None] | None:
        """``delayed_work_timer_fn()`` in softirq context: puts the item on the worklist."""
        if self.queued_on is None:
            return None
        workqueue, cpu = self.queued_on
        return Spawn(workqueue.timer_fn(self, cpu), name="delayed_work_timer_fn", lane=cpu.name)

    def _not_canceling(self) -> bool:
        return not self.canceling

    @operation(guard=_not_canceling, clock=True)
    def try_to_grab(self) -> tuple[Grab, int]:
        """``try_to_grab_pending()``, first part: the caller owns PENDING afterwards unless the item is queued.

        Returns:
            What it was, and how often it had been queued.

        Raises:
            KernelBug: ``uninitialised-work`` when no initialisation has run: flushing it would tell lockdep of a lock
                without a class.
        """
        if not self.initialised:
            self.debug.cancel_uninitialised(self.name)
        queueings = self.queueings
        if self.deadline is not None:
            self.deadline = None
            self.queueings -= 1
            grabbed = Grab.TIMER
        elif self.pending:
            return Grab.QUEUED, queueings
        else:
            grabbed = Grab.IDLE
        self.pending = self.canceling = True
        return grabbed, queueings

    def _started(self, queueings: int) -> bool:
        return self.started >= queueings

    @operation(guard=_started)
    def wait_started(self, queueings: int) -> None:
        """``cpu_relax()``: until the worker that has unlinked the item has cleared PENDING."""

    @operation
    def mark_canceling(self) -> None:
        """``mark_work_canceling()``: taken off the worklist; PENDING is held so that nobody can queue the item."""
        self.canceling = True
        self.queueings -= 1

    @operation
    def clear_canceling(self) -> None:
        """``clear_work_data()``: the item may be queued again."""
        self.pending = self.canceling = False


class Workqueue(Actor):
    """``struct workqueue_struct``: a first-in first-out worklist for each CPU, or one, and who executes what.

    Deviation: that an item is not run twice at once is only kept within a workqueue.

    Args:
        name: how reports call it.
        cpus: how many CPUs there are.
        max_active: how many of its items may be under way at a time, of each CPU; how many kworkers it has there.
        unbound: it has one worklist, and its items may run anywhere.

    Attributes:
        home: to which CPU's worklist the items of each go: another one's while it is offline.
        workers: kworkers that have not left.
    """

    role = "workqueue"
    reports = ("executed",)
    counts = ("inserted",)

    def __init__(self, name: str, cpus: int, max_active: int = 1, *, unbound: bool = False) -> None:
        super().__init__(name)
        self.max_active = max_active
        self.unbound = unbound
        self.home = [0 if unbound else cpu for cpu in range(cpus)]
        self.workers = max_active * (1 if unbound else cpus)
        self.leaving = False
        self.flushers: dict[int, list[tuple[Work, bool]]] = {}
        """What each flush under way waits for: items, and whether a kworker has them."""
        self.worklists: list[list[Work]] = [[] for _ in range(1 if unbound else cpus)]
        self.executing: dict[str, tuple[int, Work]] = {}
        self.executed = 0
        self.inserted: dict[Work, int] = {}
        """How often each item was inserted, without the times it was taken back."""

    def _executed_by(self, work: Work) -> int | None:
        for cpu, running in self.executing.values():
            if running is work:
                return cpu
        return None

    def _queued(self, work: Work) -> list[Work] | None:
        for worklist in self.worklists:
            if work in worklist:
                return worklist
        return None

    @operation
    def insert(self, work: Work, cpu: int) -> None:
        """``insert_work()``: to the CPU that runs the item at this moment, else to the caller's."""
        running_on = self._executed_by(work)
        self.worklists[self.home[cpu] if running_on is None else running_on].append(work)
        self.inserted[work] = self.inserted.get(work, 0) + 1

    def _runnable(self, cpu: int, worker: str) -> bool:
        busy = self.executing
        worklist = self.worklists[cpu]
        if not worklist:
            return self.leaving
        return not busy or any(self._executed_by(work) is None for work in worklist)

    @operation(guard=_runnable, parks=True)
    def take(self, cpu: int, worker: str) -> Work | None:
        """``list_del_init(&work->entry)``: the oldest item that nobody executes; others wait for their worker.

        Args:
            cpu: whose worklist; 0 of an unbound workqueue.
            worker: the kworker.

        Returns:
            The item, or None when the workqueue is destroyed and the kworker has left.
        """
        worklist = self.worklists[cpu]
        if not worklist:
            self.workers -= 1
            return None
        work = next(work for work in worklist if self._executed_by(work) is None)
        worklist.remove(work)
        self.executing[worker] = cpu, work
        for waited in self.flushers.values():
            if (work, False) in waited:
                waited[waited.index((work, False))] = (work, True)
        return work

    @operation
    def done(self, worker: str) -> None:
        """``worker->current_work = NULL``."""
        work = self.executing.pop(worker)[1]
        self.executed += 1
        for waited in self.flushers.values():
            if (work, True) in waited:
                waited.remove((work, True))

    def _arrived(self, work: Work, queueings: int) -> bool:
        return self.inserted.get(work, 0) >= queueings

    @operation(guard=_arrived)
    def dequeue(self, work: Work, queueings: int) -> bool:
        """``list_del_init(&work->entry)`` by a canceller: false when a worker took the item before.

        An item that is pending and not inserted yet is on its way; the kernel spins until it is there, and this waits.

        Args:
            work: the item.
            queueings: how often it had been queued when the canceller found it pending.
        """
        worklist = self._queued(work)
        if worklist is None:
            return False
        worklist.remove(work)
        self.inserted[work] -= 1
        for waited in self.flushers.values():
            if (work, False) in waited:
                waited.remove((work, False))
        return True

    def _not_executing(self, work: Work) -> bool:
        return self._executed_by(work) is None

    @operation(guard=_not_executing)
    def wait_executed(self, work: Work) -> None:
        """``flush_work()`` of an item that is not queued: until the run under way has ended."""

    def _idle(self, work: Work) -> bool:
        return self._executed_by(work) is None and self._queued(work) is None

    @operation(guard=_idle)
    def wait_idle(self, work: Work) -> None:
        """``flush_work()``: until the item is neither queued nor executed.  An armed timer does not count."""

    @operation
    def start_flush(self) -> int:
        """``flush_workqueue_prep_cwqs()``: a new colour; what is queued or executed now has the old one."""
        colour = next(number for number in range(len(self.flushers) + 1) if number not in self.flushers)
        queued = [(work, False) for worklist in self.worklists for work in worklist]
        self.flushers[colour] = [(work, True) for _, work in self.executing.values()] + queued
        return colour

    def _flushed(self, colour: int) -> bool:
        return not self.flushers[colour]

    @operation(guard=_flushed)
    def wait_flushed(self, colour: int) -> None:
        """``wait_for_completion(&this_flusher.done)``: until what was queued before the flush has run."""
        del self.flushers[colour]

    def _drained(self) -> bool:
        return not self.executing and not any(self.worklists)

    @operation(guard=_drained)
    def wait_drained(self) -> None:
        """``drain_workqueue()``: until nothing is queued and nothing executed."""

    @operation(guard=_drained)
    def start_leaving(self) -> None:
        """``pool->flags |= POOL_DISASSOCIATED``: idle kworkers leave; the items that they have are done with."""
        self.leaving = True

    def _left(self) -> bool:
        return not self.workers

    @operation(guard=_left)
    def wait_left(self) -> None:
        """``destroy_worker()``: until the last kworker has left."""

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(wq)``: queueing on it is a use after free from here on."""

    @operation
    def unbind(self, cpu: int, to: int) -> None:
        """``gcwq_unbind_fn()``: a CPU goes away; what is on its worklist, and what follows, goes to another one.

        Args:
            cpu: the CPU that goes.
            to: one that stays.
        """
        if self.unbound:
            return
        self.home = [to if home == cpu else home for home in self.home]
        self.worklists[to] += self.worklists[cpu]
        self.worklists[cpu] = []

    @operation
    def rebind(self, cpu: int) -> None:
        """``rebind_workers()``: a CPU is back, and items queued there are its own again."""
        if not self.unbound:
            self.home[cpu] = cpu

    async def timer_fn(self, work: Work, cpu: Cpu) -> None:
        """Models delayed_work_timer_fn() (kernel/workqueue.c, v3.8): softirq, interrupts off."""
        await self.insert(work, cpu.id)


async def queue_work(cpu: Cpu, workqueue: Workqueue, work: Work) -> bool:
    """Queue an item on this CPU; false when it was pending already.  Any context.

    Models queue_work() (kernel/workqueue.c, v3.8).
    """
    if not await work.test_and_set_pending():
        return False
    # Window: PENDING is set and the item is on no list yet.
    await workqueue.insert(work, cpu.id)
    return True


async def queue_delayed_work(cpu: Cpu, workqueue: Workqueue, work: Work, delay_jiffies: int) -> bool:
    """Queue an item after some jiffies, at once when that is 0; false when it was pending already.  Any context.

    Models queue_delayed_work() (kernel/workqueue.c, v3.8).
    """
    if not await work.test_and_set_pending():
        return False
    if delay_jiffies == 0:
        await workqueue.insert(work, cpu.id)
    else:
        await work.add_timer(delay_jiffies, workqueue, cpu)
    return True


async def cancel_work_sync(workqueue: Workqueue, work: Work) -> bool:
    """Take an item off its timer or worklist and wait for a run under way; true when it was pending.  Sleeps.

    Models __cancel_work_timer() (kernel/workqueue.c, v3.8).
    """
    pending = await disable_work_sync(workqueue, work)
    # If the run that was waited for freed the item, this last write is a use after free.
    await work.clear_canceling()
    return pending


async def disable_work_sync(workqueue: Workqueue, work: Work) -> bool:
    """As `cancel_work_sync`, and nobody can queue the item ever after.  Sleeps.

    Models disable_work_sync() (kernel/workqueue.c, v6.10), which 3.8 did not have.
    """
    while True:
        grabbed, queueings = await work.try_to_grab()
        if grabbed is not Grab.QUEUED:
            break
        # Window: queued a moment ago, it may be taken, done, or queued again by now.
        if await workqueue.dequeue(work, queueings):
            await work.mark_canceling()
            break
        await work.wait_started(queueings)
    await workqueue.wait_executed(work)
    return grabbed is not Grab.IDLE


async def flush_work(workqueue: Workqueue, work: Work) -> None:
    """Wait until a queued or running item has run.  Returns at once when only its timer is armed.  Sleeps.

    Models flush_work() (kernel/workqueue.c, v3.8).
    Deviation: an item that re-queues itself is waited for again; the kernel waits for the last queued run only.
    """
    await workqueue.wait_idle(work)


async def flush_workqueue(workqueue: Workqueue) -> None:
    """Wait until every item that is queued or running now has run, and for no later one.  Sleeps.

    Models flush_workqueue() (kernel/workqueue.c, v3.8).  Armed timers do not count, nor does an item queued between its
    PENDING bit and the worklist.
    """
    colour = await workqueue.start_flush()
    await workqueue.wait_flushed(colour)


async def drain_workqueue(workqueue: Workqueue) -> None:
    """Wait until a workqueue is empty, whatever its items queue meanwhile.  Sleeps.

    Models drain_workqueue() (kernel/workqueue.c, v3.8).
    Deviation: who queues from outside meanwhile is not warned about, and waited for.
    """
    await workqueue.wait_drained()


async def alloc_workqueue(cpu: Cpu, name: str, max_active: int, *, unbound: bool = False) -> Workqueue:
    """Make a workqueue while the machine runs.  Sleeps.  `slabactors.machine.Machine.new_workqueue` makes one at boot.

    Models __alloc_workqueue_key() (kernel/workqueue.c, v3.8).

    Args:
        cpu: where the task runs.
        name: the workqueue's.
        max_active: how many of its items may be under way at a time, of each CPU.
        unbound: its items may run anywhere.  With a ``max_active`` of 1 it is an ordered workqueue: one item at a
            time, in the order in which they were queued.
    """
    workqueue = cpu.machine.new_workqueue(name, max_active, unbound=unbound)
    for thread in kworkers(workqueue, cpu.machine.cpus):
        await start(thread)
    return workqueue


async def destroy_workqueue(cpu: Cpu, workqueue: Workqueue) -> None:
    """Run what is queued, then let the workqueue go.  Sleeps.

    Models destroy_workqueue() (kernel/workqueue.c, v3.8): whoever queues on it afterwards uses freed memory.
    """
    await drain_workqueue(workqueue)
    # Window: what is queued here is run, too; after the next step nobody may queue any more.
    await workqueue.start_leaving()
    await workqueue.wait_left()
    cpu.machine.workqueues.remove(workqueue)
    await workqueue.free()


def kworkers(workqueue: Workqueue, cpus: Sequence[Cpu]) -> Iterator[Spawn[None]]:
    """The threads that run the items of a workqueue."""
    for cpu in cpus[:1] if workqueue.unbound else cpus:
        place = f"kworker/u:{workqueue.name}" if workqueue.unbound else f"kworker/{cpu.id}"
        if not workqueue.unbound and workqueue is not cpu.machine.system_wq:
            place += f":{workqueue.name}"
        for number in range(workqueue.max_active):
            name = f"{place}:{number}" if workqueue.max_active > 1 else place
            yield Spawn(kworker(workqueue, cpu, name), name=name, lane=name, daemon=True)


async def kworker(workqueue: Workqueue, cpu: Cpu, name: str) -> None:
    """Take items of one CPU's worklist and run them, until the workqueue is destroyed.

    Models worker_thread() and process_one_work() (kernel/workqueue.c, v3.8).
    Deviation: the kworkers of an unbound workqueue stay on the CPU that they are on.
    """
    worklist = 0 if workqueue.unbound else cpu.id
    while True:
        work = await workqueue.take(worklist, name)
        if work is None:
            return
        # Window: unlinked and still PENDING; nobody can queue it here.
        function = await work.clear_pending()
        await function(cpu)
        await workqueue.done(name)
