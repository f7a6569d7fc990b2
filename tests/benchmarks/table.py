"""Tables of what was measured, each row with its aim and whether it was met."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """How many aims were met and missed.

    Attributes:
        met: how many were.
        missed: what was missed, as its row says.
    """

    met: int = 0
    missed: list[str] = field(default_factory=list)

    def judge(self, what: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
        """``aim: at least 10: met``, and counted."""
        good = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        if good:
            self.met += 1
        else:
            self.missed.append(what)
        aim = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
        return f"aim {aim}: {'met' if good else 'MISSED'}"


def table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table; every column but the first and the last is flush right."""
    print(f"\n{title}")
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        last = len(row) - 1
        print(
            "  "
            + "  ".join(
                cell.ljust(width) if column in (0, last) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
