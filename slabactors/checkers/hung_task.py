"""hung_task: what should have happened by now, and has not.  The drivers raise deadlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.checkers.base import Checker
from slabactors.errors import Kind, KernelBug
from slabactors.mm.slab_common import live_objects

if TYPE_CHECKING:
    from slabactors.machine import Machine


class HungTask(Checker):
    """A dead cache without objects does not outlive two retry periods of a machine in which nothing else happens."""

    name = "hung_task"
    sometimes = "a memcg with a child cache went offline"

    def reached(self, machine: Machine) -> bool:
        """There was something to wait for."""
        return any(c.params is not None and not c.params.memcg.online for c in machine.caches)

    def at_rest(self, machine: Machine) -> None:
        """Look for dead caches that nobody needs.

        Raises:
            KernelBug: ``zombie`` when empty pages keep the cache, ``lost-wakeup`` when it has no page either.
        """
        for cache in machine.children():
            params = cache.params
            assert params is not None
            if params.memcg.online or live_objects(machine.slabs, cache):
                continue
            pages = params.pages
            pending = "its work is pending" if params.destroy.pending else "no work is pending"
            age = "two retry periods after everything else had come to rest"
            if pages:
                raise KernelBug(
                    Kind.ZOMBIE,
                    f"{cache.name} is still there {age}: {pages} pages without objects keep it, {pending}",
                    clause="empty dead cache never destroyed",
                    about=params,
                )
            raise KernelBug(
                Kind.LOST_WAKEUP,
                f"{cache.name} is still there {age}: it has no pages, and {pending}",
                clause="dead cache without pages never destroyed",
                about=params,
            )
