"""The form in which a reward model reads a prompt and a response.

A model that was trained here reads both tokenised separately, as in training. One from elsewhere reads them as the tool
that trained it wrote them: a conversation in its tokenizer's chat template, a pair of an encoder, or one running text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlhf_bench.data.hh import Message, shorten
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.special import as_text, prefix_ids
from rlhf_bench.modeling.templates import Template, marked_turns, write_chat
from rlhf_bench.modeling.tokens import Encoded, cut_left, prompt_ids, token_ids
from rlhf_bench.types import PAIR

Written = tuple[list[int], list[int]]  # ids of a prompt alone, and with its response


def reward_form(path: str | Path, tokenizer: Any) -> str:
    """The form that the reward model at `path` was trained on, as its training.json says; without one its own."""
    training = read_training(Path(path))
    if training is not None:
        return str(training.get("prompt_form", "hh"))
    if getattr(tokenizer, "chat_template", None):
        return "chat"
    is_encoder = tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None
    return PAIR if is_encoder else "hh"


class RewardForm(Protocol):
    """How prompts and responses of the data become tokens."""

    @property
    def name(self) -> str: ...

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        """Tokens of each; `ended[i]` False: response i was cut, so nothing that ends it is written."""

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]] | None:
        """The same tokens by plain calls of the tokenizer; None where no other tool writes this form."""


def make_form(template: str, tokenizer: Any, *, trained_here: bool, name: str = "the reward model") -> RewardForm:
    """The form called `template`. Raises UnknownName, and ModelError as `Template.of`."""
    if template == PAIR:
        return Pair(tokenizer)
    form = Template.of(template, tokenizer, name=name)
    if trained_here:
        return Separate(form)
    return Conversation(tokenizer, name) if template == "chat" else RunningText(form)


@dataclass(frozen=True)
class Separate:
    """Prompt and response tokenised separately and joined, as the trainers do it."""

    template: Template

    @property
    def name(self) -> str:
        return self.template.name

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        return self.template.encode(prompts, responses, ended=ended, max_prompt=max_prompt, max_response=max_response)

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> None:
        return None


class _WholeText(ABC):
    """Prompt and response written as one text; its tokens are divided where the response begins."""

    tokenizer: Any

    @abstractmethod
    def _written(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> list[Written]: ...

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        """A prompt that is too long loses whole turns."""
        kept = len(prefix_ids(self.tokenizer))
        rows = []
        for i, parts in enumerate(map(_divided, self._written(prompts, responses, ended))):
            prompt_cut = len(parts[0]) > max_prompt
            if prompt_cut:
                parts = self._shortened(prompts[i], responses[i], ended[i], max_prompt)
            rows.append(
                Encoded(
                    cut_left(parts[0], max_prompt, kept=kept), parts[1][:max_response], prompt_cut,
                    len(parts[1]) > max_response,
                )
            )  # fmt: skip
        return rows

    def _shortened(self, prompt: str, response: str, ended: bool, max_prompt: int) -> tuple[list[int], list[int]]:
        def divided(prompt: str) -> tuple[list[int], list[int]]:
            return _divided(self._written([prompt], [response], [ended])[0])

        return divided(shorten(prompt, lambda p: len(divided(p)[0]) <= max_prompt))


def _divided(written: Written) -> tuple[list[int], list[int]]:
    """The whole's tokens as far as it begins as the prompt alone does, and the others."""
    head, ids = written
    ends = (i for i, (a, b) in enumerate(zip(head, ids, strict=False)) if a != b)
    shared = next(ends, min(len(head), len(ids)))
    return ids[:shared], ids[shared:]


class RunningText(_WholeText):
    """Prompt and response as one text in a template, and end-of-text, as TRL's RewardTrainer reads plain text."""

    def __init__(self, template: Template) -> None:
        self.template, self.tokenizer, self.name = template, template.tokenizer, template.name

    def _written(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> list[Written]:
        heads = [self.template.prompt(prompt) for prompt in prompts]
        texts = [head + self.template.response(response) for head, response in zip(heads, responses, strict=True)]
        ids = prompt_ids(self.tokenizer, [*heads, *texts])
        end = [self.tokenizer.eos_token_id]
        wholes = [[*whole, *end] if over else whole for whole, over in zip(ids[len(heads) :], ended, strict=True)]
        return list(zip(ids[: len(heads)], wholes, strict=True))

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        texts = [
            self.template.prompt(prompt) + self.template.response(text) + self.tokenizer.eos_token
            for prompt, text in zip(prompts, responses, strict=True)
        ]
        rows = [list(self.tokenizer(text)["input_ids"]) for text in texts]
        twice = [self.tokenizer.eos_token_id] * 2  # of a tokenizer that ends a text by itself
        return [row[:-1] if row[-2:] == twice else row for row in rows]


@dataclass(frozen=True)
class Conversation(_WholeText):
    """The tokenizer's chat template over prompt and response together, all that it writes after them included."""

    tokenizer: Any
    owner: str
    name: str = "chat"

    def _written(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> list[Written]:
        texts = [self._texts(*row) for row in zip(prompts, responses, ended, strict=True)]
        ids = token_ids(self.tokenizer, [text for pair in texts for text in pair])
        return list(zip(ids[::2], ids[1::2], strict=True))

    def _texts(self, prompt: str, response: str, ended: bool) -> tuple[str, str]:
        """The prompt and the whole."""
        content = as_text(self.tokenizer, response.strip())
        turns = marked_turns(self.tokenizer, prompt)
        whole = [*turns, Message("assistant", content)]
        head = write_chat(self.tokenizer, turns, answer=True, name=self.owner)
        text = write_chat(self.tokenizer, whole, answer=False, name=self.owner)
        at = text.rfind(content)  # a response that never ended has nothing after its last word
        return head, text if ended or not content or at < 0 else text[: at + len(content)]

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        rows = []
        for prompt, response in zip(prompts, responses, strict=True):
            turns = marked_turns(self.tokenizer, prompt)
            messages = [turn._asdict() for turn in (*turns, Message("assistant", response.strip()))]
            found: Any = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
            rows.append(list(found["input_ids"]))
        return rows


@dataclass(frozen=True)
class Pair:
    """The prompt's turns and the response as the two texts of an encoder's pair."""

    tokenizer: Any
    name: str = PAIR

    def _prompt(self, prompt: str) -> str:
        return Template.of("plain", self.tokenizer).prompt(prompt).strip()

    def _response(self, response: str) -> str:
        return as_text(self.tokenizer, response.strip())

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        """Encode as the tokenizer builds a pair, [CLS] prompt [SEP] response [SEP], whether or not the response ended.

        What is too long is cut between these tokens.
        """
        (front, middle, end) = self._frame()
        room = max(0, max_prompt - len(front) - len(middle)), max(0, max_response - len(end))

        def ids(prompt: str) -> list[int]:
            return token_ids(self.tokenizer, [self._prompt(prompt)])[0]

        rows = []
        seconds = token_ids(self.tokenizer, [self._response(response) for response in responses])
        for prompt, second in zip(prompts, seconds, strict=True):
            whole = first = ids(prompt)
            if len(whole) > room[0]:
                first = cut_left(ids(shorten(prompt, lambda p: len(ids(p)) <= room[0])), room[0], kept=0)
            tail = second[: room[1]]
            rows.append(
                Encoded(
                    [*front, *first, *middle], [*tail, *end], len(whole) > room[0],
                    response_cut=len(tail) < len(second),
                )
            )  # fmt: skip
        return rows

    def _frame(self) -> tuple[list[int], list[int], list[int]]:
        """What the tokenizer writes before, between and after the two texts of a pair."""
        both = list(self.tokenizer("a", "b")["input_ids"])
        first, second = token_ids(self.tokenizer, ["a", "b"])
        start = _find(first, both, 0)
        after = start + len(first)
        then = _find(second, both, after)
        return both[:start], both[after:then], both[then + len(second) :]

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        pairs = zip(map(self._prompt, prompts), map(self._response, responses), strict=True)
        return [list(self.tokenizer(first, second)["input_ids"]) for first, second in pairs]


def _find(part: list[int], ids: list[int], start: int) -> int:
    return next(i for i in range(start, len(ids)) if ids[i : i + len(part)] == part)
