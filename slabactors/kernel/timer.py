"""Timer arithmetic."""

from __future__ import annotations


def apply_slack(now: int, delay: int) -> int:
    """The jiffy at which a timer set without an explicit CPU expires: a little late, so that expiries bunch.

    Models apply_slack() (kernel/timer.c, v3.8).

    Args:
        now: jiffies at which the timer is set.
        delay: jiffies asked for; below 256 there is no slack.
    """
    expires = now + delay
    if delay < 256:
        return expires
    limit = expires + delay // 256
    differing = expires ^ limit
    if differing == 0:
        return expires
    return limit & ~((1 << (differing.bit_length() - 1)) - 1)
