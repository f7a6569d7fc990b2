"""Units of virtual time."""

from typing import Final

__all__ = ["HZ", "seconds"]

HZ: Final = 1000
"""Jiffies in a second of virtual time."""


def seconds(jiffies: int) -> float:
    """Jiffies as seconds."""
    return jiffies / HZ
