"""Follows cgroups and their tasks through a trace, to tell which group an allocation is charged to."""

from __future__ import annotations

from slabactors.trace.formats.ftrace import TraceEvent
from slabactors.trace.workload import Attach, Mkdir, Release, Rmdir


class Cgroups:
    """Which cgroups there are, and which task is in which.

    Args:
        hierarchy: the ``root`` that counts; events of others are only counted.
    """

    def __init__(self, hierarchy: int) -> None:
        self.hierarchy = hierarchy
        self.paths: dict[str, None] = {}
        self.made: dict[str, int] = {}
        self.by_id: dict[str, str] = {}
        self.removed: dict[str, None] = {}
        self.members: dict[int, str] = {}
        self.attaches_refused = self.releases_before_trace = self.other_hierarchies = 0

    def add(self, event: TraceEvent) -> Mkdir | Rmdir | Release | Attach | None:
        """Take in one event; the action it is, if it is one."""
        fields, at = event.fields, (event.line, event.microseconds, event.cpu)
        root = root_of(event)
        if root is not None and root != self.hierarchy:
            self.other_hierarchies += 1
            return None
        match event.name:
            case "cgroup_mkdir":
                return Mkdir(*at, self._new(fields["id"], fields["path"]))
            case "cgroup_attach_task":
                return self._attach(event)
            case "cgroup_rmdir" if (path := self._known(fields["id"], fields["path"])) not in self.removed:
                self.removed[path] = None
                self._empty(path)
                return Rmdir(*at, path)
            case "cgroup_release":
                path = self.by_id.pop(fields["id"], "")
                if path in self.removed:
                    return Release(*at, path)
                self.releases_before_trace += 1
            case "cgroup_notify_populated" if fields["val"] == "0" and fields["id"] in self.by_id:
                self._empty(self.by_id[fields["id"]])  # its last task has gone: the pid is free for another
            case "sched_process_fork":
                self.members.pop(int(fields["child_pid"]), None)
                if (parent := self.members.get(int(fields["pid"]))) is not None:
                    self.members[int(fields["child_pid"])] = parent
            case _:
                pass
        return None

    def charged(self, event: TraceEvent) -> str | None:
        """The group that an allocation is charged to.

        Interrupts and pid 0 charge nobody, whatever task they meet.  Kernel threads are in no group: nobody moves them.
        """
        if not accounted(event) or event.pid == 0 or event.in_interrupt:
            return None
        return self.members.get(event.pid)

    def _attach(self, event: TraceEvent) -> Attach | None:
        fields, pid = event.fields, int(event.fields["pid"])
        path = fields["dst_path"]
        if path == "/":
            self.members.pop(pid, None)
        else:
            path = self._known(fields["dst_id"], path)
            if path in self.removed:
                self.attaches_refused += 1
                return None
            self.members[pid] = path
        return Attach(event.line, event.microseconds, event.cpu, path, pid)

    def _known(self, group: str, path: str) -> str:
        return self.by_id[group] if group in self.by_id else self._new(group, path)

    def _new(self, group: str, path: str) -> str:
        name, count = path, self.made.get(path, 1)
        while name in self.paths:
            count += 1
            name = f"{path}#{count}"
        self.made[path] = count  # stress tests make one path thousands of times
        self.paths[name] = None
        self.by_id[group] = name
        return name

    def _empty(self, path: str) -> None:
        self.members = {pid: group for pid, group in self.members.items() if group != path}


def root_of(event: TraceEvent) -> int | None:
    """The hierarchy that a cgroup event is about; None for other events."""
    root = event.fields.get("root", event.fields.get("dst_root"))
    return int(root) if root is not None and event.name.startswith("cgroup_") else None


def accounted(event: TraceEvent) -> bool:
    """Whether an allocation is charged, by the caller's wish or the cache's.

    Kernels that do not print ``accounted`` still print what the caller asked for.
    """
    printed = event.fields.get("accounted", "")
    return printed == "true" if printed else "ACCOUNT" in event.fields["gfp_flags"]
