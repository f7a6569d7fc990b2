"""The formats in which the log of a run can be written for other tools.

Each is a function of the log alone: the same log gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from slabactors.trace.formats.dot import happens_before
from slabactors.trace.formats.ftrace_write import ftrace_text
from slabactors.trace.formats.itf import informal_trace
from slabactors.trace.formats.mermaid import log_diagram
from slabactors.trace.formats.perfetto import trace_events
from slabactors.trace.formats.shiviz import vector_clocks
from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader


@dataclass(frozen=True, slots=True)
class Format:
    """One of them.

    Attributes:
        write: gives the text piece by piece.
        see: what to do with it.
    """

    write: Callable[[LogReader, Filter], Iterator[str]]
    see: str


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "perfetto": Format(trace_events, "Open it at https://ui.perfetto.dev or chrome://tracing"),
        "shiviz": Format(vector_clocks, "Load it at https://bestchai.bitbucket.io/shiviz/"),
        "itf": Format(informal_trace, "Open it with a viewer of ITF traces"),
        "dot": Format(happens_before, "Type: dot -Tsvg {path} -o FILE.svg"),
        "mermaid": Format(log_diagram, "Paste it into a fenced block of the language mermaid"),
        "ftrace": Format(ftrace_text, "Type: slabactors trace {path}"),
    }
)
"""By the name that the command line has for it."""
