"""The sheet of pairs as one HTML file: it opens from disk, asks nothing of the network, and gives the labels as a csv.

The texts stand in it as data that a script shows as text. A policy in the page lets no other script run, and nothing be
loaded, whatever a response says.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import StrictUndefined, Template

from rlhf_bench.errors import BadValue
from rlhf_bench.files import atomic_write_text
from rlhf_bench.judge.labels import COLUMNS, draw_sheet
from rlhf_bench.judge.types import Comparison

__all__ = ["write_label_page"]

_PARTS = Path(__file__).with_name("page")
# Inside a script element only these could end it, or begin a comment.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write_label_page(result: Path, comparisons: Sequence[Comparison], out: Path, *, seed: int) -> str:
    """Write `out` (.html) and the key to it in the result's folder; returns the sheet's id. Raises BadValue.

    The pairs, their order and their places are those of the sheet by the same seed, and so is the key.
    """
    if out.suffix != ".html":
        raise BadValue(f"--out: given {str(out)!r}, expected a file that ends in .html")
    sheet, cells = draw_sheet(result, comparisons, seed=seed)
    page = json.dumps({"sheet": sheet, "columns": COLUMNS, "pairs": cells}).translate(_ESCAPES)
    html, style, script = (_read(name) for name in ("label.html.j2", "label.css", "label.js"))
    atomic_write_text(
        out,
        Template(html, undefined=StrictUndefined).render(
            page=page, style=style, script=script, style_hash=_digest(style), script_hash=_digest(script)
        ),
    )
    return sheet


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a Content-Security-Policy names what may run."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
