"""What is read in a judge's raw answer. What fits nothing is unreadable; nothing is ever guessed.

A verdict is read only where the whole answer, or its last line where the template asks for that, is a verdict and
nothing else. An answer that quotes a response is therefore never read as what the response says, and "INCORRECT" is
no "CORRECT". The marks that `pairwise-line` looks for cannot be quoted: `fence.neutralised` breaks them up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_bench.judge.answers import Unreadable, after_thoughts, bare_answer, content_of, json_object, refused
from rlhf_bench.judge.templates import Template
from rlhf_bench.judge.types import Reading

__all__ = ["PARSER_VERSION", "read_verdict"]

PARSER_VERSION = "1"  # goes up when a stored answer would be read differently

_WINNERS = {"A": "first", "B": "second", "tie": "tie"}
# The whole of a short answer: A, "A", (A), **A**, [[A]], "Response A", "Winner: A", with a full stop or without.
_SHORT = re.compile(
    r"""(?:(?:the[ ])?(?:winner|verdict|answer|response)(?:[ ]is)?:?[ ])?
        (?:(?P<open>\*\*|\[\[|\(|")(?P<inner>A|B|[Tt]ie)(?:\*\*|\]\]|\)|")|(?P<bare>A|B|[Tt]ie))\.?""",
    re.VERBOSE | re.IGNORECASE,
)
_CLOSING = {"**": "**", "[[": "]]", "(": ")", '"': '"'}
_LINE = re.compile(r"(?:\*\*)?\[\[(A|B|[Tt]ie)\]\](?:\*\*)?")
_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_WINNER_VALUE = re.compile(r'"winner"\s*:\s*"(A|B|tie)"')


class _Found(NamedTuple):
    """A verdict and where it stands in the raw content, for the token that gave it."""

    label: str
    at: int


def read_verdict(raw: Mapping[str, Any], template: Template) -> Reading:
    """The verdict in one raw answer.

    `raw` has the keys content (str or None), refusal (str or None), finish_reason (str or None) and logprobs (a list of
    {"token", "logprob", "top_logprobs"}, one a token, or None), as the chat API gives them. Tried in this order: JSON
    of the template's shape, else the text form that the template asks for. `soft` is the probability that the first
    response wins, from the log-probabilities of the labels at the token that gave the verdict; a tie counts half.
    """
    held_back = refused(raw)
    if held_back is not None:
        return held_back
    try:
        content = content_of(raw, whole=template.parser == "pairwise-line")
        found = _find(content, template)
        if found.label not in template.labels:
            raise Unreadable(f"answered {found.label}, which was not offered")
    except Unreadable as why:
        return Reading("unreadable", note=str(why))
    soft = _soft(raw.get("logprobs"), content, found.at)
    winner = _WINNERS[found.label]
    return Reading("read", winner=winner, soft=soft)  # type: ignore[arg-type]  # one of the three


def _find(content: str, template: Template) -> _Found:
    start = after_thoughts(content)
    answer = content[start:]
    start += len(answer) - len(answer.lstrip())
    answer = answer.strip()
    if template.parser == "pairwise-line":
        return _last_line(answer, start)
    if template.parser == "pairwise-json":
        text, inside = bare_answer(answer)
        if text.startswith("{"):
            return _json_winner(text, start + inside)
    return _short(answer, start)


def _json_winner(text: str, offset: int) -> _Found:
    value = json_object(text)
    if not {"winner"} <= value.keys() <= {"winner", "reason"}:
        raise Unreadable("JSON of another shape")
    label = value["winner"]
    if not isinstance(label, str) or label not in _WINNERS:
        raise Unreadable("winner is none of A, B, tie")
    # Where the value stands, for its token; a reason that quotes `"winner": "A"` has its quotes escaped.
    match = _WINNER_VALUE.search(text)
    return _Found(label, offset + match.start(1) if match else -1)


def _last_line(answer: str, start: int) -> _Found:
    line = answer.rsplit("\n", 1)[-1].strip()
    match = _LINE.fullmatch(line)
    if match is None:
        raise Unreadable("the last line is no verdict")
    label = match[1] if match[1] in ("A", "B") else "tie"
    if {mark.lower() for mark in _MARK.findall(answer)} != {label.lower()}:
        raise Unreadable("several verdicts")
    return _Found(label, start + answer.rindex(match[1]))


def _short(answer: str, start: int) -> _Found:
    match = _SHORT.fullmatch(answer)
    label = (match["inner"] or match["bare"]) if match else ""
    if match is None or (label not in ("A", "B") and label.lower() != "tie"):
        raise Unreadable("not a verdict and nothing else")
    if match["open"] and not answer.rstrip(".").endswith(_CLOSING[match["open"]]):
        raise Unreadable("not a verdict and nothing else")
    at = match.start("inner" if match["inner"] else "bare")
    return _Found(label if label in ("A", "B") else "tie", start + at)


def _soft(logprobs: Sequence[Mapping[str, Any]] | None, content: str, at: int) -> float | None:
    """P(A) / (P(A) + P(B)), a tie counted half, at the token that begins at `at`; None where that is not to be had.

    A label outside of the alternatives that the server gave counts as improbable. None unless the tokens spell the
    content and the token there is a label and nothing else but quotes and spaces.
    """
    if not logprobs or at < 0:
        return None
    try:
        tokens = [str(entry["token"]) for entry in logprobs]
        if not "".join(tokens).startswith(content[: at + 1]):
            return None
        position = 0
        for entry, token in zip(logprobs, tokens, strict=True):
            if position <= at < position + len(token):
                return _share_of_first(entry) if _label_of(token) else None
            position += len(token)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None


def _share_of_first(entry: Mapping[str, Any]) -> float | None:
    """From one token's alternatives; the tokens "A" and " A" are the same label, and add up."""
    alternatives = {str(alternative["token"]): float(alternative["logprob"]) for alternative in entry["top_logprobs"]}
    alternatives.setdefault(str(entry["token"]), float(entry["logprob"]))
    mass = {"A": 0.0, "B": 0.0, "tie": 0.0}
    for token, logprob in alternatives.items():
        label = _label_of(token)
        if label:
            mass[label] += math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    return (mass["A"] + 0.5 * mass["tie"]) / total if total > 0 else None


def _label_of(token: str) -> str | None:
    bare = token.strip().strip('"').strip()
    return bare if bare in ("A", "B") else "tie" if bare.lower() == "tie" else None
