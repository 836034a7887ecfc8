"""The form in which a reward model reads a prompt and a response.

A model that was trained here reads both tokenised separately, as in training. One from elsewhere reads them as the tool
that trained it wrote them: a conversation in its tokenizer's chat template, a pair of an encoder, or one running text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlhf_bench.data.hh import Message
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.special import as_text, prefix_ids
from rlhf_bench.modeling.templates import Template, marked_turns, write_chat
from rlhf_bench.modeling.tokens import Encoded, cut_left, encode, token_ids

__all__ = ["PAIR", "RewardForm", "make_form", "reward_form"]

PAIR = "pair"  # a prompt and a response as an encoder's two segments


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
        return encode(
            self.template.tokenizer, [self.template.prompt(prompt) for prompt in prompts],
            [self.template.response(response) for response in responses],
            ended=ended, end_id=self.template.end_id, max_prompt=max_prompt, max_response=max_response,
        )  # fmt: skip

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> None:
        return None


@dataclass(frozen=True)
class RunningText:
    """Prompt and response as one text in a template, and end-of-text, as TRL's RewardTrainer reads plain text."""

    template: Template

    @property
    def name(self) -> str:
        return self.template.name

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        tokenizer = self.template.tokenizer
        heads = [self.template.prompt(prompt) for prompt in prompts]
        texts = [head + self.template.response(text) for head, text in zip(heads, responses, strict=True)]
        front, end = prefix_ids(tokenizer), tokenizer.eos_token_id
        return [
            _split(
                _with_front(front, head), [*_with_front(front, ids), *([end] if done else [])],
                len(front), max_prompt, max_response,
            )
            for head, ids, done in zip(token_ids(tokenizer, heads), token_ids(tokenizer, texts), ended, strict=True)
        ]  # fmt: skip

    def plain_ids(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        tokenizer = self.template.tokenizer
        texts = [
            self.template.prompt(prompt) + self.template.response(text) + tokenizer.eos_token
            for prompt, text in zip(prompts, responses, strict=True)
        ]
        rows = [list(tokenizer(text)["input_ids"]) for text in texts]
        twice = [tokenizer.eos_token_id] * 2  # of a tokenizer that ends a text by itself
        return [row[:-1] if row[-2:] == twice else row for row in rows]


@dataclass(frozen=True)
class Conversation:
    """The tokenizer's chat template over prompt and response together, all that it writes after them included."""

    tokenizer: Any
    owner: str
    name: str = "chat"

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        heads, texts = [], []
        for prompt, response, done in zip(prompts, responses, ended, strict=True):
            head, text, content = self._write(prompt, response)
            heads.append(head)
            at = text.rfind(content)  # a response that never ended has nothing after its last word
            texts.append(text if done or not content or at < 0 else text[: at + len(content)])
        rows = zip(token_ids(self.tokenizer, heads), token_ids(self.tokenizer, texts), strict=True)
        return [_split(head, ids, len(prefix_ids(self.tokenizer)), max_prompt, max_response) for head, ids in rows]

    def _write(self, prompt: str, response: str) -> tuple[str, str, str]:
        """The conversation up to the response, the whole of it, and the response within it."""
        content = as_text(self.tokenizer, response.strip())
        turns = marked_turns(self.tokenizer, prompt)
        whole = [*turns, Message("assistant", content)]
        return (
            write_chat(self.tokenizer, turns, answer=True, name=self.owner),
            write_chat(self.tokenizer, whole, answer=False, name=self.owner),
            content,
        )

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

    def _texts(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[list[str], list[str]]:
        plain = Template.of("plain", self.tokenizer)
        return [plain.prompt(prompt).strip() for prompt in prompts], [
            as_text(self.tokenizer, text.strip()) for text in responses
        ]

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool], *, max_prompt: int,
        max_response: int,
    ) -> list[Encoded]:  # fmt: skip
        """As the tokenizer builds a pair, [CLS] prompt [SEP] response [SEP], whether or not the response ended.

        What is too long is cut between these tokens.
        """
        firsts, seconds = (token_ids(self.tokenizer, texts) for texts in self._texts(prompts, responses))
        (front, middle, end) = self._frame()
        rows = []
        for first, second in zip(firsts, seconds, strict=True):
            room = max(0, max_prompt - len(front) - len(middle)), max(0, max_response - len(end))
            head, tail = first[max(0, len(first) - room[0]) :], second[: room[1]]
            rows.append(
                Encoded(
                    [*front, *head, *middle],
                    [*tail, *end],
                    len(head) < len(first),
                    response_cut=len(tail) < len(second),
                )
            )
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
        pairs = zip(*self._texts(prompts, responses), strict=True)
        return [list(self.tokenizer(first, second)["input_ids"]) for first, second in pairs]


def _find(part: list[int], ids: list[int], start: int) -> int:
    return next(i for i in range(start, len(ids)) if ids[i : i + len(part)] == part)


def _with_front(front: list[int], ids: list[int]) -> list[int]:
    return ids if ids[: len(front)] == front else [*front, *ids]


def _split(head: list[int], ids: list[int], kept: int, max_prompt: int, max_response: int) -> Encoded:
    """The tokens of a whole text, which begins as `head` does, as those of prompt and response, each cut."""
    shared = next((i for i, (a, b) in enumerate(zip(head, ids, strict=False)) if a != b), min(len(head), len(ids)))
    prompt, response = ids[:shared], ids[shared:]
    return Encoded(
        cut_left(prompt, max_prompt, kept=kept), response[:max_response], len(prompt) > max_prompt,
        len(response) > max_response,
    )  # fmt: skip
