"""Names of models as plots can show them: short, distinct, and of characters that the font has."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"  # comes with matplotlib, so the same on every machine
_UNKNOWN = "□"  # for a character that the font lacks
_WIDTH = 14  # characters of a model's name, and the most that it is wide, in letters n


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Each model's name in at most 14 characters, fewer where they are wide, its beginning and its end; no two are the
    same."""
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
    """`text` as the font can print it, its middle left out where it is longer than `width` characters or wider than so
    many letters n."""
    text, most = printable(text), width * _advance("n")
    if len(text) <= width and sum(map(_advance, text)) <= most:
        return text
    for size in range(min(width, len(text) - 1), 3, -1):
        head = (size - 1) // 2 - 1
        cut = f"{text[:head]}…{text[len(text) - (size - 1 - head) :]}"
        if sum(map(_advance, cut)) <= most:
            return cut
    return text[:3]


def lines_of(text: str, width: int, *, most: int) -> str:
    """`text` in at most `most` lines of `width` characters, of fewer where they are wide: an average letter is narrower
    than an n."""
    fits = 0.93 * width * _advance("n")
    for size in range(width, 20, -4):
        lines = textwrap.wrap(text, size, max_lines=most, placeholder=" ...")
        if all(sum(map(_advance, line)) <= fits for line in lines):
            break
    return "\n".join(lines)


def printable(text: str) -> str:
    """`text` on one line, with □ for what the font lacks; a legend takes no name that begins with an underscore."""
    known = _characters()
    line = "".join(c if ord(c) in known and c.isprintable() else _UNKNOWN for c in unicodedata.normalize("NFC", text))
    return f" {line}" if line.startswith("_") else line


@cache
def _advance(character: str) -> float:
    """How wide a character is; the unit does not matter."""
    return float(_font().load_char(ord(character)).linearHoriAdvance)


@cache
def _font() -> FT2Font:
    font = FT2Font(findfont(FONT))
    font.set_size(10, 72)
    return font


@cache
def _characters() -> frozenset[int]:
    return frozenset(_font().get_charmap())
