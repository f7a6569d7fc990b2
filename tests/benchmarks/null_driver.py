"""The null driver: the same paths, first in first out, with no choice, no record and no checks.

What it costs is what the program itself costs; the simulator is measured against it.
"""

from __future__ import annotations

from collections import deque

from slabactors.actors import Clock, Join, Parallel, Spawn, Timed


class _Path:
    __slots__ = ("daemon", "done", "gathers", "joiner", "request", "result", "send")


def drive(main, daemons, clock: Clock) -> int:
    """Run a program to its end; how many deliveries it took."""
    ready: deque[_Path] = deque()
    timers: list[Timed] = []
    deliveries = 0

    def start(coroutine, *, daemon: bool = False) -> _Path:
        path = _Path()
        path.send, path.daemon = coroutine.send, daemon
        path.done, path.joiner, path.result, path.gathers = False, None, None, None
        resume(path, None)
        return path

    def resume(path: _Path, value) -> None:
        try:
            request = path.send(value)
            if type(request) is not tuple:
                request = serve(path, request)
                if request is None:
                    return
        except StopIteration as stop:
            finish(path, stop.value)
            return
        path.request = request
        ready.append(path)

    def serve(path: _Path, request):
        while type(request) is not tuple:
            if isinstance(request, Parallel):
                request.begun = len(request.paths)
                path.gathers = [start(one.coroutine) if isinstance(one, Spawn) else start(one) for one in request.paths]
                value = gathered(path)
                if value is None:
                    return None
            elif isinstance(request, Spawn):
                value = start(request.coroutine, daemon=request.daemon)
            elif isinstance(request, Join):
                if not request.task.done:
                    request.task.joiner = path
                    return None
                value = request.task.result
            else:
                raise TypeError(request)
            request = path.send(value)
        return request

    def gathered(path: _Path):
        for child in path.gathers:
            if not child.done:
                child.joiner = path
                return None
        results, path.gathers = [child.result for child in path.gathers], None
        return results

    def finish(path: _Path, result) -> None:
        path.done, path.result = True, result
        joiner = path.joiner
        if joiner is not None:
            if joiner.gathers is not None:
                result = gathered(joiner)
                if result is None:
                    return
            resume(joiner, result)

    for daemon in daemons:
        start(daemon.coroutine, daemon=True)
    start(main)
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
                    start(follow_up.coroutine)
                waiting = 0
            continue
        waiting = 0
        deliveries += 1
        reply = operation.function(actor, *args) if args else operation.function(actor)
        if operation.clock and isinstance(actor, Timed) and actor.deadline is not None:
            timers.append(actor)
        try:
            request = path.send(reply)
            if type(request) is not tuple:
                request = serve(path, request)
                if request is None:
                    continue
        except StopIteration as stop:
            finish(path, stop.value)
            continue
        path.request = request
        ready.append(path)
    return deliveries
