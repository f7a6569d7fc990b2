"""Subsystem states of cgroups: references, the stages in which they go away, and ids (kernel/cgroup.c, v4.0).

A css goes away in two halves.  Removing the directory kills its reference count and, when every CPU knows that, takes
it offline (`kill_css`).  The last reference takes it from there to being freed, through works and a grace period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from slabactors.actors import Actor, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.percpu_ref import PercpuRef, percpu_ref_exit, percpu_ref_kill_and_confirm, percpu_ref_put
from slabactors.kernel.rcu import RcuHead, call_rcu
from slabactors.kernel.workqueue import Work, queue_work

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine

__all__ = [
    "CSS_3_14",
    "CSS_3_16",
    "CSS_4_0",
    "CgroupSubsysState",
    "CssHooks",
    "CssPolicy",
    "Idr",
    "css_create",
    "css_get",
    "css_is_online",
    "css_put",
    "css_tryget",
    "css_tryget_online",
    "kill_css",
]


@dataclass(frozen=True, slots=True)
class CssPolicy:
    """What releases do differently.

    Attributes:
        tryget_revives: `css_tryget` gets a reference of a css that was killed, as long as another one is left.
            In 3.14 it fails as `css_tryget_online` does.
        released_by_work: the last reference leaves it to a kworker to unlink the css under ``cgroup_mutex``, and the
            grace period before it is freed begins after that.
        id_outlives_free: the id is given back after the free hook, so that no new css has it while things named after
            it exist (4.0).  Before, it is given back with the last reference.
    """

    tryget_revives: bool = True
    released_by_work: bool = True
    id_outlives_free: bool = True


CSS_3_14: Final = CssPolicy(tryget_revives=False, released_by_work=False, id_outlives_free=False)
"""kernel/cgroup.c, v3.14."""
CSS_3_16: Final = CssPolicy(id_outlives_free=False)
"""kernel/cgroup.c, v3.16 to v3.19."""
CSS_4_0: Final = CssPolicy()
"""kernel/cgroup.c, v4.0 and later."""


class CssHooks(Protocol):
    """``struct cgroup_subsys``: what a controller does with its css."""

    async def css_offline(self, cpu: Cpu) -> None:
        """The directory is gone.  Under ``cgroup_mutex``, once.  Sleeps."""
        ...

    async def css_free(self, cpu: Cpu) -> None:
        """The last reference is gone: free the object that the css is in.  Sleeps."""
        ...


class Idr(Actor):
    """``struct idr``: hands out the smallest free number, and takes it back.

    Args:
        name: how reports call it.
        first: the smallest number of all.
    """

    role = "idr"

    def __init__(self, name: str, first: int = 1) -> None:
        super().__init__(name)
        self.first = first
        self.taken: list[int] = []

    @operation(writes="taken")
    def alloc(self, owner: str) -> int:
        """``cgroup_idr_alloc(&ss->css_idr)``: the smallest free number.

        Args:
            owner: whose it is, for those who read the log.
        """
        number = self.first
        while number in self.taken:
            number += 1
        self.taken = sorted([*self.taken, number])
        return number

    @operation(writes="taken")
    def remove(self, number: int) -> None:
        """``cgroup_idr_remove(&ss->css_idr, id)``: another one may have the number from here on.

        Raises:
            KernelBug: ``bug-on`` when nobody has it.
        """
        if number not in self.taken:
            raise KernelBug(
                Kind.BUG_ON, f"idr_remove called for id={number} which is not allocated", clause="idr removed twice"
            )
        self.taken = [taken for taken in self.taken if taken != number]


class CgroupSubsysState(Actor):
    """``struct cgroup_subsys_state``: online until its directory is gone, there until its last reference is.

    Args:
        name: how reports call it.
        number: its id.
        hooks: what its controller does.
        machine: where it is.
        policy: the release.
        container: the object that embeds it, which `CssHooks.css_free` frees.

    Attributes:
        refcnt: its references: one of its own until it is killed.
        online: its directory is there.
    """

    role = "cgroup_subsys_state"

    def __init__(
        self, name: str, number: int, hooks: CssHooks, machine: Machine, policy: CssPolicy, container: Actor
    ) -> None:
        super().__init__(name, container)
        self.id = number
        self.hooks = hooks
        self.policy = policy
        self.online = True
        self.refcnt = PercpuRef(f"{name}.refcnt", self.release, machine.debugobjects, self)
        self.rcu_head = RcuHead(f"{name}.rcu", machine.debugobjects, self)
        self.destroy_work = Work(f"{name}.destroy_work", machine.clock, machine.debugobjects, self)

    @operation(reads="online")
    def is_online(self) -> bool:
        """``css->flags & CSS_ONLINE``."""
        return self.online

    @operation(writes="online")
    def clear_online(self) -> None:
        """``css->flags &= ~CSS_ONLINE``."""
        self.online = False

    async def release(self, cpu: Cpu) -> None:
        """The last reference is gone; any context.  Models css_release() (kernel/cgroup.c, v4.0)."""
        if self.policy.released_by_work:
            await self.destroy_work.init(self._release_work_fn)
            await queue_work(cpu, cpu.machine.cgroup_destroy_wq, self.destroy_work)
        else:
            await self._release(cpu)

    async def _release_work_fn(self, cpu: Cpu) -> None:
        """Models css_release_work_fn() (kernel/cgroup.c, v4.0)."""
        await cpu.machine.cgroup_mutex.lock()
        await self._release(cpu)
        await cpu.machine.cgroup_mutex.unlock()

    async def _release(self, cpu: Cpu) -> None:
        if not self.policy.id_outlives_free:
            await cpu.machine.css_idr.remove(self.id)
            # Window: a new css may have this id, and the free hook has not run.

        async def free_rcu_fn() -> None:
            await self.destroy_work.init(self._free_work_fn)
            await queue_work(cpu, cpu.machine.cgroup_destroy_wq, self.destroy_work)

        await call_rcu(cpu, free_rcu_fn, self.rcu_head)

    async def _free_work_fn(self, cpu: Cpu) -> None:
        """Models css_free_work_fn() (kernel/cgroup.c, v4.0)."""
        number = self.id
        await percpu_ref_exit(cpu, self.refcnt)
        await self.hooks.css_free(cpu)
        # Window: freed, with its id still taken where that outlives it.
        if self.policy.id_outlives_free:
            await cpu.machine.css_idr.remove(number)


async def css_create(
    cpu: Cpu, name: str, hooks: CssHooks, container: Actor, policy: CssPolicy = CSS_4_0
) -> CgroupSubsysState:
    """Give an object a css, which is online at once.

    Models create_css() and online_css() (kernel/cgroup.c, v4.0).

    Args:
        cpu: where the task runs.
        name: how reports call it.
        hooks: what its controller does.
        container: the object that embeds it.
        policy: the release.
    """
    number = await cpu.machine.css_idr.alloc(name)
    return CgroupSubsysState(name, number, hooks, cpu.machine, policy, container)


async def css_get(css: CgroupSubsysState) -> None:
    """Another reference, for who has one.  Any context.  Models css_get() (include/linux/cgroup.h, v4.0)."""
    await css.refcnt.get()


async def css_tryget(css: CgroupSubsysState) -> bool:
    """A reference unless none is left, or, in 3.14, unless it was killed.  Under RCU, or the like.

    Models css_tryget() (include/linux/cgroup.h, v4.0).
    """
    if css.policy.tryget_revives:
        return await css.refcnt.tryget()
    return await css.refcnt.tryget_live()


async def css_tryget_online(css: CgroupSubsysState) -> bool:
    """A reference unless it was killed.  It may be offline when this returns.

    Models css_tryget_online() (include/linux/cgroup.h, v4.0).
    """
    return await css.refcnt.tryget_live()


async def css_put(cpu: Cpu, css: CgroupSubsysState) -> None:
    """Drop a reference.  Any context.  Models css_put() (include/linux/cgroup.h, v4.0)."""
    await percpu_ref_put(cpu, css.refcnt)


async def css_is_online(css: CgroupSubsysState) -> bool:
    """Whether the offline hook has not been called.  Stable under ``cgroup_mutex`` only."""
    return await css.is_online()


async def kill_css(cpu: Cpu, css: CgroupSubsysState) -> None:
    """The directory is removed: no new references, and once every CPU knows, the offline hook in a work.  Sleeps.

    Models kill_css(), css_killed_ref_fn() and css_killed_work_fn() (kernel/cgroup.c, v4.0).

    Args:
        cpu: where the task runs, which holds ``cgroup_mutex`` in a kernel.
        css: what is killed.
    """

    async def killed_work_fn(cpu: Cpu) -> None:
        await cpu.machine.cgroup_mutex.lock()
        await css.hooks.css_offline(cpu)
        await css.clear_online()
        await cpu.machine.cgroup_mutex.unlock()
        await css_put(cpu, css)

    async def killed_ref_fn(cpu: Cpu) -> None:
        await css.destroy_work.init(killed_work_fn)
        await queue_work(cpu, cpu.machine.cgroup_destroy_wq, css.destroy_work)

    await css_get(css)  # until the offline hook has run
    await percpu_ref_kill_and_confirm(cpu, css.refcnt, killed_ref_fn)
