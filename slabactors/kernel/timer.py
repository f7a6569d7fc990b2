"""Timer arithmetic."""

from __future__ import annotations

from slabactors.kernel.jiffies import HZ


def round_jiffies_relative(now: int, delay: int, cpu: int) -> int:
    """A delay that ends at a whole second, a little apart from those of other CPUs: down by less than a quarter, or up.

    Models round_jiffies_relative() and __round_jiffies() (kernel/timer.c, v3.8).

    Args:
        now: jiffies at which the timer is set.
        delay: jiffies asked for.
        cpu: number of the CPU; each is three jiffies from the next.
    """
    skewed = now + delay + 3 * cpu
    past = skewed % HZ
    rounded = skewed - past if past < HZ // 4 else skewed - past + HZ
    rounded -= 3 * cpu
    return delay if rounded <= now else rounded - now


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
