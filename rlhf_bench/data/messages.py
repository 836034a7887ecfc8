"""Chat messages as other tools write them, brought to one shape."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_bench.data.hh import Message
from rlhf_bench.data.tabular import Unusable

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant",
}  # fmt: skip
_KEYS = (("role", "content"), ("from", "value"), ("role", "text"), ("role", "value"), ("from", "content"))
_TEXT_PARTS = ("text", "input_text", "output_text")
_LOOKS_LIKE = re.compile(r"""^\s*\[?\s*\{\s*["'](?:role|content|from|value)["']\s*:""")


def as_messages(value: Any) -> list[Message] | None:
    """Messages of a list, of one object, or of either as text in a cell; None for anything else.

    Keys: role/content, ShareGPT's from/value. Raises Unusable where it is one and a message in it cannot be read.
    """
    if isinstance(value, str):
        if not _LOOKS_LIKE.match(value):
            return None
        value = parse_cell(value)
        if isinstance(value, str):
            raise Unusable("has a list of messages as text that cannot be read")
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    if not all(isinstance(item, Mapping) and ("role" in item or "from" in item) for item in value):
        return None
    return [_message(item) for item in value]


def _message(item: Mapping[str, Any]) -> Message:
    who, what = next(((w, c) for w, c in _KEYS if w in item and c in item), ("role", "content"))
    given = item.get(who)
    role = _ROLES.get(str(given).lower())
    if role is None:
        raise Unusable(f"has a message with the role {given!r}; expected system, user or assistant")
    text = content_text(item.get(what))
    if text is None:
        raise Unusable(f"has a message of {role} without a text as content")
    return Message(role, text)


def content_text(content: Any) -> str | None:
    """The text of a message's content: a text, a list of parts ({"type": "text", "text": ...}), or an object with one.

    Parts that are reasoning are left out. None where there is no text, or a part is an image or sound.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        found = next((content[key] for key in ("text", "answer", "parts", "content") if key in content), None)
        return content_text(found)
    if isinstance(content, Sequence) and content:
        texts = []
        for part in content:
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
            if kind in ("reasoning", "thinking"):
                continue
            text = content_text(part) if kind in _TEXT_PARTS else None
            if text is None:
                return None
            texts.append(text)
        return "".join(texts)
    return None


def parse_cell(value: Any) -> Any:
    """A cell that holds a list or an object as text, as JSON or as Python prints it; anything else as it is.

    pandas writes a list in a CSV as Python prints it, and NumPy's arrays without commas between their items.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    for text in (value, re.sub(r"\}\s*\{", "}, {", value)):
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value
