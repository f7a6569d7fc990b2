"""The null driver: the same paths, first in first out, with no choice, no record and no checks.

What it costs is what the program itself costs; the simulator is measured against it.
"""

from __future__ import annotations

from collections import deque

from slabactors.actors import Clock, Join, Spawn, Timed


class _Path:
    __slots__ = ("daemon", "done", "joiner", "request", "result", "send")


def drive(main, daemons, clock: Clock) -> int:
    """Run a program to its end; how many deliveries it took."""
    ready: deque[_Path] = deque()
    timers: list[Timed] = []
    deliveries = 0

    def start(spawn: Spawn) -> _Path:
        path = _Path()
        path.send, path.daemon = spawn.coroutine.send, spawn.daemon
        path.done, path.joiner, path.result = False, None, None
        resume(path, None)
        return path

    def resume(path: _Path, value) -> None:
        try:
            while type(request := path.send(value)) is not tuple:
                if isinstance(request, Spawn):
                    value = start(request)
                elif isinstance(request, Join):
                    if not request.task.done:
                        request.task.joiner = path
                        return
                    value = request.task.result
                else:
                    raise TypeError(request)
        except StopIteration as stop:
            path.done, path.result = True, stop.value
            if path.joiner is not None:
                resume(path.joiner, stop.value)
            return
        path.request = request
        ready.append(path)

    for daemon in daemons:
        start(daemon)
    start(Spawn(main, name="main"))
    waiting = 0
    while ready:
        path = ready.popleft()
        operation, actor, args = path.request
        if operation.guard is not None and not operation.guard(actor, *args):
            ready.append(path)
            waiting += 1
            if waiting > len(ready):
                due = next((timer for timer in timers if timer.deadline is not None), None)
                if due is None:
                    break
                clock.now, due.deadline = due.deadline, None
                follow_up = due.on_expiry()
                if follow_up is not None:
                    start(follow_up)
                waiting = 0
            continue
        waiting = 0
        deliveries += 1
        reply = operation.function(actor, *args)
        if operation.clock and isinstance(actor, Timed) and actor.deadline is not None:
            timers.append(actor)
        try:
            request = path.send(reply)
        except StopIteration as stop:
            path.done, path.result = True, stop.value
            if path.joiner is not None:
                resume(path.joiner, stop.value)
            continue
        if type(request) is tuple:
            path.request = request
            ready.append(path)
        elif isinstance(request, Spawn):
            resume(path, start(request))
        elif isinstance(request, Join):
            if request.task.done:
                resume(path, request.task.result)
            else:
                request.task.joiner = path
    return deliveries
