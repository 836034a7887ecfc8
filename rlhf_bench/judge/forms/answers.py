"""Reading a judge's answer: thoughts cut off, code blocks opened, one JSON object or an error that names its fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rlhf_bench.judge.questions import ParsedAnswer

_CODE_BLOCK = re.compile(r"```(?:json)?(?P<inside>[^`].*?)```\.?", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHTS = "</think>"


def answer_schema(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an answer: a reason first, so that it can matter, then `fields`."""
    return {
        "type": "object",
        "properties": {"reason": {"type": "string"}, **fields},
        "required": ["reason", *fields],
        "additionalProperties": False,
    }


class Unreadable(Exception):
    """Why an answer cannot be read."""


def read_answer(
    raw: Mapping[str, Any], parse: Callable[[str, int], ParsedAnswer], *, end_decides: bool = True
) -> ParsedAnswer:
    """What `parse` reads in a raw answer: it is given the answer after the thoughts, and where that begins in the
    content, and raises Unreadable.

    `raw` has the keys content (str or None), refusal (str or None), finish_reason (str or None) and logprobs (a list of
    {"token", "logprob", "top_logprobs"}, one a token, or None), as the chat API gives them. With `end_decides` a text
    that was cut off cannot be read.
    """
    if raw.get("refusal"):
        return ParsedAnswer("refused", note="the judge refused")
    if raw.get("finish_reason") == "content_filter":
        return ParsedAnswer("refused", note="stopped by the content filter")
    try:
        content = raw.get("content")
        if not isinstance(content, str) or not content.strip():
            raise Unreadable("empty answer")
        if end_decides and raw.get("finish_reason") == "length":
            raise Unreadable("cut off by max_tokens")
        answer = content[_after_thoughts(content) :].lstrip()
        return parse(answer.rstrip(), len(content) - len(answer))
    except Unreadable as why:
        return ParsedAnswer("unreadable", note=str(why))


def _after_thoughts(content: str) -> int:
    """Where the answer begins after the thoughts; unreadable if their end is missing or duplicated.

    Many chat templates put the opening <think> into the prompt, so that the answer holds the closing one alone.
    """
    start = content.lstrip()
    ends = content.count(_END_OF_THOUGHTS)
    if start.startswith("{") or not (ends or start.startswith("<think>")):
        return 0
    if ends != 1:
        raise Unreadable("a <think> block without one clear end")
    return content.index(_END_OF_THOUGHTS) + len(_END_OF_THOUGHTS)


def bare_answer(answer: str) -> tuple[str, int]:
    """The inside of a code block that is the whole answer, else the answer without a dot after its JSON; and where it
    begins in `answer`."""
    block = _CODE_BLOCK.fullmatch(answer)
    inside = answer if block is None else block["inside"].strip()
    if inside.rstrip(". \t\n").endswith("}"):
        inside = inside.rstrip(". \t\n")
    return inside, answer.index(inside)


def json_object(text: str, keys: Iterable[str]) -> dict[str, Any]:
    """One JSON object with `keys`, in any case; other keys are allowed, duplicate ones are not. Raises Unreadable."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = {key.lower(): one for key, one in pairs}
        if len(value) < len(pairs):
            raise Unreadable("a JSON key is duplicated")
        return value

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Unreadable("not one JSON object") from None
    if not isinstance(value, dict) or not set(keys) <= value.keys():
        raise Unreadable("JSON of another shape")
    return value
