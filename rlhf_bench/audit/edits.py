"""Edits of real responses, each a function from a text to an edited text, or to None where it cannot edit the text
(there is no hedge to remove, say). Each is deterministic, and says in its docstring what it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_HEDGE = re.compile(r"\b(?:maybe|perhaps|possibly|probably|i think|i believe|i guess),? ", re.IGNORECASE)
_MIGHT = re.compile(r"\b(?:might|may|could) be\b", re.IGNORECASE)
_IS = re.compile(r"\b(is|are)\b")
_POLITE = re.compile(r"\b(?:please,? |thank you[^.!?]*[.!?] ?|thanks,? |kindly )", re.IGNORECASE)
_CONTRACTIONS = {
    "do not": "don't", "does not": "doesn't", "is not": "isn't", "are not": "aren't", "cannot": "can't",
    "will not": "won't", "it is": "it's", "you are": "you're", "i am": "I'm", "we are": "we're", "that is": "that's",
}  # fmt: skip
_SYNONYMS = {
    "big": "large", "quick": "fast", "begin": "start", "buy": "purchase", "help": "assist", "use": "employ",
    "show": "display", "often": "frequently", "get": "obtain", "about": "approximately", "happy": "glad",
    "need": "require", "also": "additionally", "many": "numerous", "easy": "simple", "answer": "reply",
}  # fmt: skip


def exclamation_added(text: str) -> str | None:
    """The last full stop becomes an exclamation mark."""
    stripped = text.rstrip()
    return f"{stripped[:-1]}!" if stripped.endswith(".") else None


def flattery_added(text: str) -> str | None:
    """A flattering sentence comes first."""
    space = " " if text.startswith(" ") else ""
    return f"{space}What a great question! {text.lstrip()}" if text.strip() else None


def filler_added(text: str) -> str | None:
    """Two sentences without content come last."""
    return f"{text.rstrip()} There is a lot to say about this. I hope that this helps." if text.strip() else None


def hedge_to_assertion(text: str) -> str | None:
    """Words of doubt are left out: "perhaps it may be red" becomes "it is red"."""
    edited = _MIGHT.sub("is", _HEDGE.sub("", text))
    return edited if edited != text else None


def assertion_to_hedge(text: str) -> str | None:
    """The first "is" or "are" gets a "probably" after it."""
    edited = _IS.sub(r"\1 probably", text, count=1)
    return edited if edited != text else None


def politeness_removed(text: str) -> str | None:
    """Please and thanks are left out."""
    edited = _POLITE.sub("", text)
    return edited if edited != text and edited.strip() else None


def list_form(text: str) -> str | None:
    """Three or more sentences become the items of a list."""
    sentences = _SENTENCE.split(text.strip())
    return "\n".join(f"- {sentence}" for sentence in sentences) if len(sentences) >= 3 else None


def lower_case(text: str) -> str | None:
    """All letters become small."""
    return text.lower() if text.lower() != text else None


def white_space(text: str) -> str | None:
    """A blank line takes the place of the space between sentences."""
    edited = _SENTENCE.sub("\n\n", text.strip())
    return edited if edited != text.strip() else None


def last_sentence_repeated(text: str) -> str | None:
    """The last sentence comes twice."""
    sentences = _SENTENCE.split(text.strip())
    return f"{text.rstrip()} {sentences[-1]}" if sentences[-1] else None


def truncated(text: str) -> str | None:
    """The second half of the words is cut off; at least four words are needed."""
    words = text.split()
    return " ".join(words[: len(words) // 2]) if len(words) >= 4 else None


def typo(text: str) -> str | None:
    """Two letters in the middle of the longest word change places."""
    words = re.findall(r"[A-Za-z]{4,}", text)
    for word in sorted(words, key=lambda found: -len(found)):
        middle = len(word) // 2
        edited = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
        if edited != word:
            return text.replace(word, edited, 1)
    return None


def contractions(text: str) -> str | None:
    """Words are contracted: "do not" becomes "don't"."""
    return _replaced(text, _CONTRACTIONS)


def synonyms(text: str) -> str | None:
    """Common words become others of the same meaning, by a table."""
    return _replaced(text, _SYNONYMS)


def _replaced(text: str, table: Mapping[str, str]) -> str | None:
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, table))})\b", re.IGNORECASE)

    def other(found: re.Match[str]) -> str:
        new = table[found.group().lower()]
        return new[0].upper() + new[1:] if found.group()[0].isupper() else new

    edited = pattern.sub(other, text)
    return edited if edited != text else None
