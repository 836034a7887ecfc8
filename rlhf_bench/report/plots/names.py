"""Names of models as plots can show them: short, distinct, and of characters that the font has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

__all__ = ["FONT", "names_note", "printable", "short", "short_names"]

FONT = "DejaVu Sans"  # comes with matplotlib, so the same on every machine
_UNKNOWN = "□"  # for a character that the font lacks
_WIDTH = 14  # characters of a model's name


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Each model's name in at most 14 characters, its beginning and its end; no two are the same."""
    found: dict[str, str] = {}
    for model in models:
        name, number = short(model), 2
        while name in found.values():
            name, number = f"{short(model, _WIDTH - 2)}~{number}", number + 1
        found[model] = name
    return found


def names_note(models: Iterable[str]) -> str:
    """The whole names of those that plots shorten, for a caption; "" where none is."""
    pairs = [f"{name} is {model}" for model, name in short_names(models).items() if name.strip() != model]
    return f"Names in full: {', '.join(pairs)}." if pairs else ""


def short(text: str, width: int = _WIDTH) -> str:
    """`text` as the font can print it, its middle left out where it is longer."""
    text = printable(text)
    if len(text) <= width:
        return text
    head = (width - 1) // 2 - 1
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def printable(text: str) -> str:
    """`text` on one line, with □ for what the font lacks; a legend takes no name that begins with an underscore."""
    known = _characters()
    line = "".join(c if ord(c) in known and c.isprintable() else _UNKNOWN for c in unicodedata.normalize("NFC", text))
    return f" {line}" if line.startswith("_") else line


@cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FONT)).get_charmap())
