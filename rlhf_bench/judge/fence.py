"""Texts under judgement, fenced: the judge can tell them from its instructions, and they cannot speak to it.

The delimiter is a hash of the judged texts, so that a text would have to hold its own hash to close its fence, and so
that the same texts give the same question: a random delimiter would make every look-up in the ledger miss.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from rlhf_bench.types import stable_hash

__all__ = ["Shown", "fence_token", "fenced", "neutralised", "shown"]

# A person sees nothing of these, yet they are no format or control character by their Unicode category: fillers,
# variation selectors (hidden text is smuggled in their bytes), the combining grapheme joiner, the blank of Braille.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
)
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Tokens that a chat template gives a meaning: a server that tokenises them as such would end the user's turn there.
_SPECIAL = re.compile(
    r"(?i)<(?=[|｜])"
    r"|<(?=/?(?:s|bos|eos|pad|unk|think|system|start_of_turn|end_of_turn)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?INST\])"
)
# The verdict that a template asks for on a line of its own: a judge that quotes a text must not seem to give one.
_VERDICT = re.compile(r"(?i)\[(?=\[\s*(?:A|B|C|tie|\d{1,2})\s*\]\])")


class Shown(NamedTuple):
    """A text as the judge sees it, and what was done to it."""

    text: str
    hidden: int = 0  # characters taken out that nobody sees
    defused: int = 0  # special tokens and verdict marks that got a space
    cut: int = 0  # characters cut because the text was too long
    empty: bool = False  # nothing but white space


def neutralised(text: str) -> Shown:
    """Without invisible and control characters, with special tokens and verdict marks broken up by a space.

    Line ends of any kind become "\\n"; tabs and spaces stay. Zero-width joiners go too: a joined emoji falls into its
    parts, and what is left is what tokenises the same for all.
    """
    hidden = special = verdicts = 0
    defused = text
    if not (text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()):
        ended = _LINE_ENDS.sub("\n", text)
        seen = _INVISIBLE.sub("", ended)
        defused = "".join(c for c in seen if c in "\n\t" or unicodedata.category(c) not in _HIDDEN_CATEGORIES)
        hidden = len(ended) - len(defused)
    if "<" in defused or "[" in defused:
        defused, special = _SPECIAL.subn(lambda match: f"{match[0]} ", defused)
        defused, verdicts = _VERDICT.subn("[ ", defused)
    return Shown(defused, hidden=hidden, defused=special + verdicts, empty=not defused.strip())


# A text is asked about in two orders, one after the other, and some of them against several others.
@lru_cache(maxsize=256)
def shown(text: str, *, limit: int, keep: str) -> Shown:
    """`text` neutralised and cut to `limit` characters; `keep` says which end stays, "start" or "end"."""
    clean = neutralised(text)
    cut = max(0, len(clean.text) - limit)
    kept = clean.text[:limit] if keep == "start" else clean.text[len(clean.text) - limit :]
    return clean._replace(text=kept if cut else clean.text, cut=cut)


@lru_cache(maxsize=256)
def fence_token(*texts: str) -> str:
    """16 hex digits of the texts' hash, the same in either order, that stand in none of them."""
    parts = sorted(texts)
    for salt in range(1_000):
        token = stable_hash(str(salt), *parts)
        if not any(token in text.lower() for text in parts):
            return token
    raise AssertionError("a thousand hashes of the texts stand in the texts")


def fenced(name: str, text: Shown, token: str) -> str:
    """The text between its two marks; what was cut is said outside of them, where no text can say it.

    [[3f9c2b7a10de4f58 BEGIN RESPONSE A]]
    ...
    [[3f9c2b7a10de4f58 END RESPONSE A]]
    (RESPONSE A: 1200 more characters are not shown)
    """
    lines = [f"[[{token} BEGIN {name}]]", text.text, f"[[{token} END {name}]]"]
    if text.cut:
        lines.append(f"({name}: {text.cut} more characters are not shown)")
    if text.empty:
        lines.append(f"({name}: empty)")
    return "\n".join(lines)
