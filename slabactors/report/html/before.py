"""What the first change of something tells about how it was before.

A log has what steps change, and not what was there when the run began.  Many operations say it all the same: one that
subtracts three pages and leaves four found seven.  Where none does, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slabactors.trace.reader import StepLine


def first_values(steps: Iterable[StepLine]) -> dict[str, dict[str, Any]]:
    """The values before the first step of all that some step changes, as far as they can be told.

    Args:
        steps: of a log.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, str]] = set()
    for step in steps:
        before = _before(step)
        for cell, value in step.changed.items():
            if (step.actor, cell) in seen:
                continue
            seen.add((step.actor, cell))
            if cell in before:
                found.setdefault(step.actor, {})[cell] = before[cell]
            elif isinstance(value, bool):
                found.setdefault(step.actor, {})[cell] = not value
    return found


def _before(step: StepLine) -> dict[str, Any]:
    """What a step's actor held before it."""
    changed, reply = step.changed, step.reply
    match step.operation, step.args:
        case "sub_and_test", [int(pages), *_]:
            return _shifted(changed, pages=pages)
        case "add_pages", [int(pages), *_]:
            return _shifted(changed, pages=-pages, bound=-pages)
        case "get_pages", [int(order), *_]:
            return _shifted(changed, free=1 << order, slabs_made=-1)
        case "free_pages", [int(order), *_]:
            return _shifted(changed, free=-(1 << order), frees=-1)
        case "inc_slabs", [int(objects), *_]:
            return _shifted(changed, nr_slabs=-1, total_objects=-objects)
        case "dec_slabs", [int(objects), *_]:
            return _shifted(changed, nr_slabs=1, total_objects=objects)
        case "promote_and_unlock", _ if isinstance(reply, list):
            return _shifted(changed, nr_slabs=len(reply))
        case "drop_name", _:
            return _shifted(changed, refcount=1)
        case "publish", _:
            return _shifted(changed, published=-1)
        case "free_object", _:
            return _shifted(changed, inuse=1)
        case "put_objects", [list(places), *_]:
            return _shifted(changed, inuse=len(places))
        case "deactivate", [[int(inuse), int()], *_]:
            return {"inuse": inuse}
    match step.operation, reply:
        case "begin_flush", [page, freelist, partial]:
            return {"page": page, "freelist": freelist, "partial": partial}
        case "flush_page", [page, freelist]:
            return {"page": page, "freelist": freelist}
    return {}


def _shifted(changed: dict[str, Any], **by: int) -> dict[str, Any]:
    """Numbers as they were, from what they are and by how much they went down."""
    return {cell: changed[cell] + amount for cell, amount in by.items() if type(changed.get(cell)) is int}
