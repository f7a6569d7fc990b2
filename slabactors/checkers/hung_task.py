"""hung_task: what should have happened by now, and has not.  The drivers raise deadlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.checkers.base import Checker
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.jiffies import HZ

if TYPE_CHECKING:
    from slabactors.machine import Machine


PERIOD_JIFFIES: Final = 60 * HZ
"""A minute: as often as the founding patch looks at a dead cache again."""

WAKEUPS_MAX: Final = 100
"""How often the work of a dead cache may run in such a period: whoever frees the last page may queue it as well."""


class HungTask(Checker):
    """A dead cache without objects does not outlive two retry periods of a machine in which nothing else happens.

    Nor does one with objects have its work run all the time.
    """

    name = "hung_task"
    sometimes = "a memcg with a child cache went offline"

    def reached(self, machine: Machine) -> bool:
        """There was something to wait for."""
        return any(c.params is not None and c.params.orphaned for c in machine.caches)

    def at_bound(self, machine: Machine) -> None:
        """Look for dead caches that keep kworkers busy.

        Raises:
            KernelBug: ``property`` when the work of one ran more often than `WAKEUPS_MAX` in a period.
        """
        for cache in machine.children():
            params = cache.params
            assert params is not None
            if params.memcg.online:
                continue
            since = machine.clock.now - params.memcg.removed_at
            runs = params.destroy.started
            if runs > WAKEUPS_MAX * (1 + since // PERIOD_JIFFIES):
                raise KernelBug(
                    Kind.PROPERTY,
                    f"the work of {cache.name} ran {runs} times in {since} jiffies and is not done",
                    clause="work of a dead cache runs again and again",
                    about=params,
                )

    def at_rest(self, machine: Machine) -> None:
        """Look for dead caches that nobody needs.

        Raises:
            KernelBug: ``lost-wakeup`` when a cache marked dead has no page and no work, ``zombie`` otherwise.
        """
        for cache in machine.children():
            params = cache.params
            assert params is not None
            if not params.orphaned or machine.lifecycle.needed(machine, cache):
                continue
            age = "when nothing has moved for two retry periods"
            pending = "its work is pending" if params.destroy.pending else "no work is pending"
            if params.dead and not params.pages and not params.destroy.pending:
                raise KernelBug(
                    Kind.LOST_WAKEUP,
                    f"{cache.name} is dead, has no pages, and is still there {age}: {pending}",
                    clause="dead cache without pages and without work",
                    about=params,
                )
            raise KernelBug(
                Kind.ZOMBIE,
                f"{cache.name} is still there {age}: {params.pages} pages without objects, "
                f"{'marked dead' if params.dead else 'never marked dead'}, {pending}",
                clause="empty dead cache never destroyed",
                about=params,
            )
