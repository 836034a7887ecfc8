"""Prompts for models that were not trained in the HH form.

A prompt of the data is a dialogue in the HH form. A template writes the same turns as another model expects them, and
knows which strings end its answer and how the answer begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_bench.data.hh import Message, shorten, split_turns
from rlhf_bench.errors import ModelError, UnknownName
from rlhf_bench.modeling.special import as_text, first_special, line_end_ids, prefix_ids
from rlhf_bench.modeling.tokens import Encoded, cut_left, join, prompt_ids
from rlhf_bench.types import TEMPLATES, Prompt

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
)
_IM_END = "<|im_end|>"
_PROBE = "rlhf-bench-probe"


def check_template(name: str) -> str:
    """`name`, if it is one of TEMPLATES. Raises UnknownName."""
    if name not in TEMPLATES:
        raise UnknownName("prompt template", name, TEMPLATES)
    return name


@dataclass(frozen=True)
class Template:
    """The form in which one model reads prompts, and what ends its answers beside the stop strings of the data."""

    name: str
    write: Callable[[Sequence[Message]], str]
    stop: tuple[str, ...] = ()
    tokenizer: Any = None
    end_id: int | None = None  # the token that ends an answer; None: the tokenizer's end-of-text
    space: str = ""  # what is between the end of a prompt and an answer (Llama 2's and Mistral's space)

    @classmethod
    def of(cls, template: str, tokenizer: Any, *, name: str = "the model") -> Template:
        """The template called `template` for a model with this tokenizer.

        Raises UnknownName for another name than TEMPLATES has, ModelError for `chat` where the tokenizer has no chat
        template or one that cannot write a plain question.
        """
        check_template(template)
        if template == "alpaca":
            return cls(template, _alpaca, ("\n\n### Instruction:",), tokenizer)
        if template == "chatml":
            return cls(template, _chatml, (_IM_END,), tokenizer, first_special(tokenizer, _IM_END))
        if template == "llama2":
            return cls(template, lambda turns: _llama2(turns, tokenizer), ("[INST]", "</s>"), tokenizer, space=" ")
        if template == "chat":
            return _chat(tokenizer, name)
        return cls(template, _plain, (), tokenizer)

    def prompt(self, text: str) -> str:
        """A prompt in the HH form as this template has it. A prompt that is no dialogue (TL;DR) is one user turn.

        What spells a special token in the prompt is marked as text (special.py).
        """
        if self.name == "hh":
            return as_text(self.tokenizer, text)
        return self.write(marked_turns(self.tokenizer, text))

    def response(self, text: str) -> str:
        """A response of the data as this model would write it: in the HH form it has its own space before it."""
        return as_text(self.tokenizer, text if self.name == "hh" else f"{self.space}{text.lstrip()}")

    def read(self, text: str) -> str:
        """What this model wrote, as a response of the data: the inverse of `response`."""
        return text if self.name == "hh" or not text.strip() else f" {text.lstrip()}"

    def encode_prompts(self, prompts: Sequence[str], *, max_prompt: int) -> list[tuple[list[int], bool]]:
        """Ids of each prompt of the data in this form, and whether it had more than `max_prompt` and was cut.

        A prompt that is too long loses whole turns (`shorten`); what the template writes before and after the turns is
        kept. Where not even its last word fits beside that, its tokens are cut from the left.
        """
        rows = prompt_ids(self.tokenizer, [self.prompt(prompt) for prompt in prompts])
        return [
            (self._cut(prompt, max_prompt), True) if len(ids) > max_prompt else (ids, False)
            for prompt, ids in zip(prompts, rows, strict=True)
        ]

    def encoded(self, prompts: Sequence[Prompt], *, max_prompt: int) -> list[Prompt]:
        """Prompts of the data with their ids in this form."""
        rows = self.encode_prompts([prompt.text for prompt in prompts], max_prompt=max_prompt)
        return [prompt._replace(ids=tuple(ids)) for prompt, (ids, _) in zip(prompts, rows, strict=True)]

    def _cut(self, prompt: str, max_prompt: int) -> list[int]:
        shorter = shorten(prompt, lambda fewer: len(self._ids(fewer)) <= max_prompt)
        return cut_left(self._ids(shorter), max_prompt, kept=len(prefix_ids(self.tokenizer)))

    def _ids(self, prompt: str) -> list[int]:
        return prompt_ids(self.tokenizer, [self.prompt(prompt)])[0]

    def encode(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        *,
        max_prompt: int,
        max_response: int,
        ended: Sequence[bool] | None = None,
    ) -> list[Encoded]:
        """Prompts and responses of the data in this form, cut to their limits, as `join` joins them."""
        return join(
            self.tokenizer, self.encode_prompts(prompts, max_prompt=max_prompt), [self.response(r) for r in responses],
            max_response=max_response, ended=ended, end_id=self.end_id,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """What a manifest says of the form: its name, the tokens in front of a prompt and the one that ends an
        answer; `after_line_end` where an answer is tokenised after one (`line_end_ids`)."""
        tokenizer = self.tokenizer
        end = tokenizer.eos_token_id if self.end_id is None else self.end_id
        front = tokenizer.convert_ids_to_tokens(prefix_ids(tokenizer))
        described = {"template": self.name, "front": front, "end": tokenizer.convert_ids_to_tokens(end)}
        return described | ({"after_line_end": True} if line_end_ids(tokenizer) else {})


def marked_turns(tokenizer: Any, prompt: str) -> list[Message]:
    """The turns of a prompt in the HH form; what spells a special token in them is marked as text."""
    return [Message(turn.role, as_text(tokenizer, turn.content)) for turn in split_turns(prompt)]


def _plain(turns: Sequence[Message]) -> str:
    return "\n\n".join(turn.content for turn in turns) + "\n\n"


def _alpaca(turns: Sequence[Message]) -> str:
    """Taori et al. 2023, "Alpaca"; further turns repeat the two headings, as FastChat writes them."""
    heading = {"user": "### Instruction:\n", "assistant": "### Response:\n", "system": ""}
    body = "\n\n".join(f"{heading[turn.role]}{turn.content}" for turn in turns)
    return f"{_ALPACA}{body}\n\n### Response:\n"


def _chatml(turns: Sequence[Message]) -> str:
    body = "".join(f"<|im_start|>{turn.role}\n{turn.content}{_IM_END}\n" for turn in turns)
    return f"{body}<|im_start|>assistant\n"


def _llama2(turns: Sequence[Message], tokenizer: Any) -> str:
    """arXiv 2307.09288, appendix A.3.3: each user turn in [INST], a system text before the first in <<SYS>>."""
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token or ""
    text, system = "", ""
    for turn in turns:
        if turn.role == "system":
            system = f"<<SYS>>\n{turn.content}\n<</SYS>>\n\n"
        elif turn.role == "user":
            text += f"{bos}[INST] {system}{turn.content} [/INST]"
            system = ""
        else:
            text += f" {turn.content} {eos}"
    return text


def write_chat(tokenizer: Any, turns: Sequence[Message], *, answer: bool, name: str) -> str:
    """The turns in the tokenizer's own chat template, with the head of an answer where `answer` says so.

    A template that refuses them is given them joined (`_joined`). Raises ModelError where it refuses these as well.
    """
    reasons = []
    for tried in dict.fromkeys((tuple(turns), tuple(_joined(turns)))):
        messages = [turn._asdict() for turn in tried]
        try:
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
        except Exception as error:  # jinja's, and whatever a template raises on purpose
            reasons += str(error).strip().splitlines()[:1] or [type(error).__name__]
        else:
            return text
    raise ModelError(f"{name}: its chat template refuses a prompt ({reasons[0][:200]}); choose another")


def _joined(turns: Sequence[Message]) -> list[Message]:
    """The turns with the system's text before that of the user's first turn, and two turns of one side as one.

    Some templates know no system (Gemma's), and want the sides to alternate.
    """
    joined: list[Message] = []
    for turn in turns:
        role = "user" if turn.role == "system" else turn.role
        if joined and joined[-1].role == role:
            joined[-1] = Message(role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(Message(role, turn.content))
    return joined


def _chat(tokenizer: Any, name: str) -> Template:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{name}: the prompt template is chat, but its tokenizer has no chat template; "
            f"choose another: {', '.join(t for t in TEMPLATES if t != 'chat')}"
        )
    # What the template writes after an answer is what ends one; it need not be the end-of-text token.
    turns = [Message("user", "Hello"), Message("assistant", _PROBE)]
    whole, _, rest = write_chat(tokenizer, turns, answer=False, name=name).partition(_PROBE)
    end = rest.strip()
    end_id = first_special(tokenizer, end)
    if end_id is not None:  # a template may write more tokens after it
        end = tokenizer.convert_ids_to_tokens(end_id)
    head = write_chat(tokenizer, turns[:1], answer=True, name=name)
    space = whole.removeprefix(head) if whole.startswith(head) else ""
    return Template(
        "chat", lambda turns: write_chat(tokenizer, turns, answer=True, name=name), (end,) if end else (), tokenizer,
        end_id, space if space.isspace() else "",
    )  # fmt: skip
