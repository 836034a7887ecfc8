"""What responses of other tools carry besides the answer: the prompt again, thoughts, and special tokens as text."""

from __future__ import annotations

import re
from collections.abc import Collection

from rlhf_bench.data.hh import ASSISTANT, END_OF_TEXT, HUMAN, split_turns

STRIPPED = {
    "prompt": "begin with their prompt",
    "think": "hold thoughts (<think>)",
    "special": "hold special tokens as text (<|im_end|>, </s>)",
}
_LEAST = 8  # characters of a prompt that is looked for: an answer to "Hello" may begin with it

_THINK = r"think|thinking|thought|thoughts|reasoning|reflection"
_THOUGHTS = re.compile(
    rf"\s*(?:<(?P<tag>{_THINK})>.*?</(?P=tag)>"  # a whole block
    rf"|<(?:{_THINK})>(?!.*</).*$"  # one that was cut before its end: all of it is thought
    rf"|(?:(?!<(?:{_THINK})>).)*?</(?:{_THINK})>"  # the template wrote the opening tag
    r"|<\|channel\|>analysis<\|message\|>.*?(?:<\|channel\|>final<\|message\|>|$))\s*",
    re.DOTALL | re.IGNORECASE,
)
_BEGINNING = re.compile(r"\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<｜begin▁of▁sentence｜>)\s*)+")
_TURN = re.compile(
    r"<\|im_start\|>\s*\w+|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>|<start_of_turn>\s*\w+"
    r"|<\|(?:user|assistant|system)\|>|<｜(?:User|Assistant)｜>"
)
_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|end_of_text|end_of_turn|endofturn|eos|return)\|>|</s>|<end_of_turn>|<eos>|<pad>"
    r"|<｜end▁of▁sentence｜>|\[/?INST\]"
)


def carried(text: str, prompt: str) -> list[str]:
    """Keys of STRIPPED: what the response `text` carries besides its answer. `prompt` is in the HH form."""
    return [kind for kind in STRIPPED if strip(text, prompt, (kind,)).strip() != text.split(END_OF_TEXT)[0].strip()]


def strip(text: str, prompt: str, kinds: Collection[str]) -> str:
    """The response without what `kinds` (keys of STRIPPED) name; where thoughts never end, nothing is left."""
    marked = "<" in text or "[" in text  # else a regular expression would read every text for nothing
    if "think" in kinds and marked:
        text = _without_thoughts(text)
    if "special" in kinds and marked:
        text = _without_special(text)
    if "prompt" in kinds:
        text = _without_prompt(text, prompt)
    return _without_thoughts(text) if "think" in kinds and marked else text


def _without_thoughts(text: str) -> str:
    while (found := _THOUGHTS.match(text)) and found.end():
        text = text[found.end() :]
    return text


def _without_special(text: str) -> str:
    beginning = _BEGINNING.match(text)
    text = text[beginning.end() :] if beginning else text
    turns = list(_TURN.finditer(text))
    if turns and not text[: turns[0].start()].strip():  # a rendered conversation: the answer is the assistant's turn
        own = next((turn for turn in turns if re.search(r"assistant|model", turn.group(), re.IGNORECASE)), turns[-1])
        text = text[own.end() :]
    ends = [found.start() for pattern in (_END, _TURN) if (found := pattern.search(text))]
    return text[: min(ends)] if ends else text


def _without_prompt(text: str, prompt: str) -> str:
    turn = split_turns(prompt)[-1].content
    for start in (prompt.strip(), prompt.removesuffix(ASSISTANT).strip(), f"{HUMAN.strip()} {turn}", turn):
        rest = _after(text, start)
        if rest is not None and len(start) >= _LEAST:
            return rest.lstrip().removeprefix(ASSISTANT.strip())
    return text


def _after(text: str, start: str) -> str | None:
    """What follows `start` at the beginning of `text`, in any white space; None where it does not begin so."""
    text = text.lstrip()
    if text.startswith(start):
        return text[len(start) :]
    words = start.split()
    given = text.split(maxsplit=len(words))
    if given[: len(words)] != words:
        return None
    return given[len(words)] if len(given) > len(words) else ""
