"""What the events of kernels 3.8 to 6.x print after their name, and how a payload that does not fit is classified."""

from __future__ import annotations

import re
from enum import StrEnum


class SkipReason(StrEnum):
    """Why a line gave no event."""

    TRUNCATED = "truncated"
    NOT_AN_EVENT = "not an event line"
    UNKNOWN_EVENT = "unknown event"
    MALFORMED = "malformed payload"
    HIDDEN_POINTER = "hidden pointer"
    LOST_EVENTS = "lost events"
    STACK_TRACE = "stack trace"


# What each event prints, in the kernel's own order.  <key:kind> is a value, {...} is there in some kernels only.
_SITE = "call_site=<call_site:text> ptr=<ptr:pointer>"
_ALLOC = f"{_SITE} bytes_req=<bytes_req:number> bytes_alloc=<bytes_alloc:number> gfp_flags=<gfp_flags:flags>"
_ALLOC += "{ node=<node:int>}{ accounted=<accounted:bool>}"
_PAGE = "page=<page:pointer> pfn=<pfn:pfn> order=<order:number>"
_GROUP = "root=<root:int> id=<id:number> level=<level:number> path=<path:"
_TIMER = "timer=<timer:pointer>"
_TEMPLATES = {
    "kmem_cache_alloc": _ALLOC,
    "kmem_cache_alloc_node": _ALLOC,
    "kmalloc": _ALLOC,
    "kmalloc_node": _ALLOC,
    "kmem_cache_free": _SITE + "{ name=<name:tail>}",
    "kfree": _SITE,
    "mm_page_alloc": _PAGE + " migratetype=<migratetype:int> gfp_flags=<gfp_flags:flags>",
    "mm_page_free": _PAGE,
    "mm_page_free_batched": _PAGE + "{ cold=<cold:number>}",
    "cgroup_mkdir": _GROUP + "tail>",
    "cgroup_rmdir": _GROUP + "tail>",
    "cgroup_release": _GROUP + "tail>",
    "cgroup_notify_populated": _GROUP + "text> val=<val:int>",
    "cgroup_attach_task": "dst_root=<dst_root:int> dst_id=<dst_id:number> dst_level=<dst_level:number> "
    "dst_path=<dst_path:text> pid=<pid:int> comm=<comm:tail>",
    "sched_process_fork": "comm=<comm:text> pid=<pid:int> child_comm=<child_comm:text> child_pid=<child_pid:int>",
    "workqueue_queue_work": "work struct=<work:pointer> function=<function:text> workqueue=<workqueue:text> "
    "req_cpu=<req_cpu:number> cpu=<cpu:int>",
    "workqueue_activate_work": "work struct <work:pointer>{ function=<function:tail>}",
    "workqueue_execute_start": "work struct <work:pointer>: function <function:tail>",
    "workqueue_execute_end": "work struct <work:pointer>{: function <function:tail>}",
    "timer_init": _TIMER,
    "timer_cancel": _TIMER,
    "timer_expire_exit": _TIMER,
    "timer_start": _TIMER + " function=<function:text> expires=<expires:number>{ [timeout=<timeout:int>]}"
    "{ bucket_expiry=<bucket_expiry:number>}{ cpu=<cpu:int>}{ idx=<idx:number>}{ flags=<flags:flags>}",
    "timer_expire_entry": _TIMER + " function=<function:text> now=<now:number>{ baseclk=<baseclk:number>}",
    "tracing_mark_write": "<text:tail>",
}

EVENTS_KNOWN = tuple(_TEMPLATES)
"""Names of the events that are understood; all others are counted as unknown."""

_KINDS = {
    "pointer": r"[0-9a-f]{16}|[0-9a-f]{8}|0x[0-9a-f]{1,16}|\(\w{1,32}\)",
    "number": r"\d{1,20}",
    "int": r"-?\d{1,20}",
    "pfn": r"0x[0-9a-f]{1,16}|-?\d{1,20}",
    "bool": r"true|false|",  # the trace option nohash-ptr empties every %s
    "flags": r"[^\s=]*",
    "text": r"\S.*?",
    "tail": r".*?",
}
_PLACE = re.compile(r"(?P<optional>\{?)(?P<literal>[^<>{}]*)<(?P<key>\w+):(?P<kind>\w+)>(?P<after>[^\s<>{}]*)\}?")


class Payload:
    """The grammar of one event's payload, compiled from its template."""

    def __init__(self, template: str) -> None:
        self.required: list[tuple[str, re.Pattern[str]]] = []
        self.optional: list[str] = []
        self.pointers: list[str] = []
        kind = ""
        # perf may print where the probe sat before the payload; the text of a marker is left as it is
        whole = "" if template.startswith("<") else r"(?:\(\S{1,200}\)\s{1,24})?"
        for place in _PLACE.finditer(template):
            key, kind = place["key"], place["kind"]
            # Runs of blanks are bounded, so that a damaged line cannot make the match quadratic.
            literal = r"\s{1,24}".join(re.escape(word) for word in place["literal"].split(" "))
            piece = f"{literal}({_KINDS[kind]}){re.escape(place['after'])}"
            whole += f"(?:{piece})?" if place["optional"] else piece
            if place["optional"]:
                self.optional.append(key)
            else:
                self.required.append((place["literal"], re.compile(f"{piece}(?=[\\s:]|$)", re.ASCII)))
            if kind == "pointer":
                self.pointers.append(key)
        self.keys = [place["key"] for place in _PLACE.finditer(template)]
        if kind not in {"text", "tail"}:  # later kernels append keys
            known = "|".join(self.keys)
            whole += rf"(?:\s{{1,24}}(?!(?:{known})=)[a-z_]{{1,32}}=\S*)*"
        self.whole = re.compile(whole + r"\s*", re.ASCII)

    def parse(self, payload: str) -> dict[str, str] | None:
        """Key to value; None when the payload does not fit."""
        found = self.whole.fullmatch(payload)
        if found is None:
            return None
        fields: dict[str, str] = {
            key: value for key, value in zip(self.keys, found.groups(), strict=True) if value is not None
        }
        for key in self.pointers:
            if fields[key].startswith("0x"):
                fields[key] = fields[key][2:].rjust(16, "0")
        return fields

    def blame(self, payload: str) -> SkipReason:
        """Why the payload does not fit: it ends in the middle of what would fit, or it is something else."""
        at = 0
        for literal, pattern in self.required:
            found = pattern.match(payload, at)
            if found is None:
                rest = payload[at:]
                cut = literal.startswith(rest) or (rest.startswith(literal) and " " not in rest[len(literal) :].strip())
                return SkipReason.TRUNCATED if cut else SkipReason.MALFORMED
            at = found.end()
        optional = payload[at:].split()[:-1]
        cut = all(word.lstrip("[").partition("=")[0] in self.optional for word in optional)
        return SkipReason.TRUNCATED if cut else SkipReason.MALFORMED


PAYLOADS = {name: Payload(template) for name, template in _TEMPLATES.items()}
"""Grammar by name of the event."""
