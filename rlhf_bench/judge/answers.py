"""What the parsers of all forms share: which part of a raw answer is the answer, and when there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rlhf_bench.judge.types import Reading

__all__ = ["Unreadable", "after_thoughts", "bare_answer", "content_of", "json_object", "raw_answer", "refused"]

_JSON_BLOCK = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)


class Unreadable(Exception):
    """Why an answer cannot be read."""


def raw_answer(body: str) -> dict[str, Any]:
    """What a parser reads, from a stored body: content, refusal, finish_reason, and logprobs as a list, one a token."""
    data = json.loads(body)
    if "choices" not in data:  # stored for a question that a filter stopped
        return {
            "content": None,
            "refusal": data["error"]["message"],
            "finish_reason": "content_filter",
            "logprobs": None,
        }
    choice = data["choices"][0]
    message = choice.get("message") or {}
    logprobs = choice.get("logprobs")
    return {
        "content": message.get("content"),
        "refusal": message.get("refusal"),
        "finish_reason": choice.get("finish_reason"),
        "logprobs": logprobs.get("content") if isinstance(logprobs, dict) else None,
    }


def refused(raw: Mapping[str, Any]) -> Reading | None:
    """The reading of an answer that the judge or a filter held back; None where there is something to read."""
    if raw.get("refusal"):
        return Reading("refused", note="the judge refused")
    if raw.get("finish_reason") == "content_filter":
        return Reading("refused", note="stopped by the content filter")
    return None


def content_of(raw: Mapping[str, Any], *, whole: bool) -> str:
    """The answer's text. `whole`: the end decides, so a text that was cut off cannot be read. Raises Unreadable."""
    content = raw.get("content")
    if not isinstance(content, str) or not content.strip():
        raise Unreadable("empty answer")
    if whole and raw.get("finish_reason") == "length":
        raise Unreadable("cut off by max_tokens")
    return content


def after_thoughts(content: str) -> int:
    """Where the answer begins after a leading <think> block; unreadable if its end is missing or stands twice."""
    if not content.lstrip().startswith("<think>"):
        return 0
    if content.count("</think>") != 1:
        raise Unreadable("a <think> block without one clear end")
    return content.index("</think>") + len("</think>")


def bare_answer(answer: str) -> tuple[str, int]:
    """The inside of a code block that is the whole answer, else the answer; and where it begins in `answer`."""
    block = _JSON_BLOCK.fullmatch(answer)
    if block is None:
        return answer, 0
    inside = block[1].strip()
    return inside, answer.index(inside)


def json_object(text: str) -> dict[str, Any]:
    """One JSON object, no key of it twice. Raises Unreadable."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise Unreadable("a JSON key stands twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Unreadable("not one JSON object") from None
    if not isinstance(value, dict):
        raise Unreadable("JSON of another shape")
    return value
