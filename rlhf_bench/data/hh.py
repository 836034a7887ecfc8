"""The HH form: a dialogue as one string of turns, `\\n\\nHuman: ...` and `\\n\\nAssistant: ...`.

Bai et al. 2022 (arXiv:2204.05862). The prompt is everything up to and including the last `\\n\\nAssistant:`, the
response what follows. Every source is brought to this form, so that one stop string and one template hold for all of
them; only a prompt that ends in its own cue, `TL;DR:`, is left as it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rlhf_bench.types import HUMAN_TURN

HUMAN = HUMAN_TURN
ASSISTANT = "\n\nAssistant:"
TLDR = "TL;DR:"
END_OF_TEXT = "<|endoftext|>"
_TURNS = {"user": HUMAN, "human": HUMAN, "assistant": ASSISTANT, "gpt": ASSISTANT}

_MARKS = re.compile(f"({re.escape(HUMAN)}|{re.escape(ASSISTANT)})")
_LINE_ENDS = re.compile(r"\r\n?")
_NARROW = re.compile(r"(?<!\n)\n[ \t]*(?=(?:Human|Assistant):)")  # one line end where the form has two
_NARROW_CUE = re.compile(r"(?<!\n)\n[ \t]*Assistant:\s*$")


class Message(NamedTuple):
    role: str
    content: str


def split_conversation(text: str) -> tuple[str, str] | None:
    """(prompt, response) of a whole conversation, cut after its last `\\n\\nAssistant:`; None without one.

    Where no cue has two line ends before it, one will do.
    """
    text = _LINE_ENDS.sub("\n", text)
    if ASSISTANT not in text:
        text = _NARROW.sub("\n\n", text)
    head, marker, response = text.rpartition(ASSISTANT)
    return (head + marker, response) if marker else None


def split_turns(prompt: str) -> list[Message]:
    """The turns of a prompt in the HH form, without the last, empty one of the assistant; the inverse of `render`.

    Text before the first turn is the system's. A prompt without turns is one user turn.
    """
    head, *parts = _MARKS.split(prompt.removesuffix(ASSISTANT))
    turns = [Message("system", head.strip())] if parts and head.strip() else []
    for mark, content in zip(parts[::2], parts[1::2], strict=True):
        turns.append(Message("user" if mark == HUMAN else "assistant", content.strip()))
    return turns or [Message("user", prompt.strip())]


def form_prompt(prompt: str) -> str:
    """A prompt in the HH form; "" if there is nothing in it. Applied twice it changes nothing.

    A prompt that ends with `\\n\\nAssistant:` or with `TL;DR:` is one already and loses only whitespace after the
    cue (a space there would make the response's own space a second one); any other text becomes a Human turn. Line
    ends are `\\n`, and two of them precede a turn.
    """
    text = _LINE_ENDS.sub("\n", prompt).rstrip()
    if _NARROW_CUE.search(text):
        text = _NARROW.sub("\n\n", text)
    if text.lstrip().startswith(HUMAN.strip()):
        text = f"\n\n{text.lstrip()}"
    if text.endswith((ASSISTANT, TLDR)):
        return text
    text = text.lstrip()
    if not text:
        return ""
    turn = f"\n\n{text}" if text.startswith(HUMAN.strip()) else f"{HUMAN} {text}"
    return turn + ASSISTANT


def render(messages: Sequence[Message]) -> str:
    """Messages as a prompt in the HH form. System text has no turn of its own there: it precedes the first one.

    Raises KeyError with the role if it is not system, user or assistant.
    """
    if len(messages) == 1 and messages[0].role == "user":
        return form_prompt(messages[0].content)
    parts: list[str] = []
    for message in messages:
        content = message.content.strip()
        parts.append(content if message.role == "system" else f"{_TURNS[message.role]} {content}")
    return "".join(parts) + ASSISTANT if parts else ""


def shorten(prompt: str, fits: Callable[[str], bool]) -> str:
    """A prompt in the HH form without as many of its oldest turns as it takes until it `fits`.

    What comes before the first turn, the system's text, is kept, and the first turn that is left is the user's. Where
    the last one is too long by itself, words are left out at its beginning. The prompt as it was where nothing fits.
    """
    starts = [match.start() for match in re.finditer(re.escape(HUMAN), prompt)] or [0]
    system = prompt[: starts[0]]
    for start in starts[1:]:
        if fits(shorter := system + prompt[start:]):
            return shorter
    last = prompt[starts[-1] :]
    front = f"{system}{HUMAN} " if last.startswith(HUMAN) else ""
    first = len(HUMAN) if front else 0
    words = [match.start() for match in re.finditer(r"\S+", last.removesuffix(ASSISTANT)) if match.start() > first]
    at = bisect_left(words, True, key=lambda start: fits(front + last[start:]))
    return front + last[words[at] :] if at < len(words) else prompt


def clean_response(text: str) -> str:
    """The response with exactly one leading space and nothing after its last word; "" if nothing is left. Line ends are
    `\\n`.

    It is cut at a literal end-of-text marker: what follows one is not part of the response, and a tokenizer would read
    the marker itself as the special token.
    """
    text = _LINE_ENDS.sub("\n", text).split(END_OF_TEXT, 1)[0].strip()
    return f" {text}" if text else ""
