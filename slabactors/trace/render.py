"""How values look in logs: the same in every run, whatever the hash seed or the memory address."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Any

from slabactors.actors import Actor


def plain(value: Any) -> Any:
    """A value as JSON can hold it: actors by name, functions by qualified name, sequences element by element."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case Actor():
            return value.name
        case list() | tuple():
            return [plain(one) for one in value]
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, partial):
        return value.func.__qualname__.strip("_")
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    text = repr(value)
    # A default repr holds an address, which no two runs share.
    return type(value).__qualname__ if " at 0x" in text else text
