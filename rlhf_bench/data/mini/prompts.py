"""Prompts of hh-mini: turns joined into the HH form, and a prompt read back to what its last turn asks."""

from __future__ import annotations

from functools import lru_cache

from rlhf_bench.data.hh import ASSISTANT
from rlhf_bench.data.mini.turns import TURNS, Intent, resolve
from rlhf_bench.errors import DataError
from rlhf_bench.types import HUMAN_TURN

HUMAN = f"{HUMAN_TURN} "

GREETINGS = ("Hello.", "Hi there.", "Good morning.", "Good evening.", "Good afternoon.")
FIRST_LEADS = (*GREETINGS, "Excuse me.", "Quick question.", "I have a question.", "Can you help me?", "I am curious.")
LATER_LEADS = ("Quick question.", "I have a question.", "Something else.", "Another thing.")
LEADS = tuple(dict.fromkeys((*FIRST_LEADS, *LATER_LEADS)))
TAILS = ("Thank you.", "Thanks a lot.", "I would like to know.")


def join_turns(human: list[str], assistant: list[str]) -> str:
    """A prompt in the HH form; `assistant` is one shorter than `human` and each of its texts begins with a space."""
    parts = []
    for index, text in enumerate(human):
        parts.append(f"{HUMAN}{text}{ASSISTANT}")
        if index < len(assistant):
            parts.append(assistant[index])
    return "".join(parts)


def split_turns(prompt: str) -> list[str]:
    """The human turns of an HH prompt. Raises DataError where the text is no HH prompt."""
    if not prompt.startswith(HUMAN) or not prompt.endswith(ASSISTANT):
        raise DataError(f"hh-mini: prompt {_short(prompt)} is not in the HH form ('\\n\\nHuman: ...\\n\\nAssistant:')")
    return [block.split(ASSISTANT, 1)[0] for block in prompt.split(HUMAN)[1:]]


def _read_turn(text: str) -> Intent | None:
    for lead in LEADS:
        if text.startswith(lead + " "):
            text = text[len(lead) + 1 :]
            break
    intent = TURNS.get(text)
    if intent is None:
        for tail in TAILS:
            if text.endswith(" " + tail):
                return TURNS.get(text[: -len(tail) - 1])
    return intent


@lru_cache(maxsize=8192)
def read_prompt(prompt: str) -> Intent:
    """What the last human turn of `prompt` asks, earlier turns taken into account.

    Raises DataError for a prompt that this grammar cannot have made (its assistant turns may say anything).
    """
    intents: list[Intent] = []
    for text in split_turns(prompt):
        turn = _read_turn(text)
        if turn is None:
            raise DataError(f"hh-mini: human turn {_short(text)} is not of its grammar; use prompts of hh-mini")
        intent = resolve(intents, turn)
        if intent is None:
            raise DataError(f"hh-mini: human turn {_short(text)} refers to nothing before it; use prompts of hh-mini")
        intents.append(intent)
    return intents[-1]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
