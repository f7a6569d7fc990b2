"""The page: the template with its style, its script and the document inside; nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from string import Template
from typing import Any, Final

PLACE: Final = "slabactors.report.html"
POLICY: Final = "default-src 'none'; img-src data:; script-src '{script}'; style-src '{style}'; base-uri 'none'"
"""What the browser may do: run this script, use this style, and nothing else."""


def page_of(document: dict[str, Any]) -> str:
    """One HTML file that needs no other.

    What comes from the run is in the document only, and the title; the browser is told to run no other script than
    this one, and to load nothing.

    Args:
        document: see `slabactors.report.html.document`.
    """
    script, style = _script(), _read("page.css")
    return Template(_read("page.html")).substitute(
        title=html.escape(str(document["title"])),
        version=html.escape(str(document["version"])),
        policy=POLICY.format(script=_digest(script), style=_digest(style)),
        style=style,
        script=script,
        document=as_script(document),
    )


def as_script(document: dict[str, Any]) -> str:
    """JSON that can stand in a ``script`` element: without a ``<``, nothing in it can end the element; all of ASCII."""
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script() -> str:
    """The parts of the script, in the order of their names."""
    parts = [part for part in (files(PLACE) / "script").iterdir() if part.name.endswith(".js")]
    return "\n".join(part.read_text(encoding="utf-8") for part in sorted(parts, key=lambda part: part.name))


def _read(name: str) -> str:
    return (files(PLACE) / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
