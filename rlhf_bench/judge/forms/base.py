"""What the forms share: their protocol, the fields of a template, and how texts are shown.

Texts under judgement are fenced, so that the judge can distinguish them from its instructions. The fence is a hash of
the judged texts: a text would have to hold its own hash to close it, and the same texts give the same question. With a
random fence every look-up in the ledger would miss."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from rlhf_bench.config import Config, config_hash
from rlhf_bench.errors import BadValue
from rlhf_bench.judge.questions import (
    EVERY,
    AnswerFormat,
    ChatMessage,
    Order,
    Outcome,
    ParsedAnswer,
    Question,
    QuestionId,
    Selection,
)
from rlhf_bench.types import stable_hash

# Invisible to a person, though their Unicode category is neither format nor control: fillers,
# variation selectors (hidden text is smuggled in their bytes), the combining grapheme joiner, the blank of Braille.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
)
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Tokens that a chat template gives a meaning: a server that tokenises them as such would end the user's turn there.
_SPECIAL = re.compile(
    r"(?i)<(?=[|｜])"
    r"|<(?=/?(?:s|bos|eos|pad|unk|think|system|start_of_turn|end_of_turn)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?INST\])"
)
# The verdict that a template wants on a line of its own: a judge that quotes a text must not seem to give one.
_VERDICT = re.compile(r"(?i)\[(?=\[\s*(?:A|B|C|tie|\d{1,2})\s*\]\])")


class ShownText(NamedTuple):
    """A text as the judge sees it."""

    text: str
    cut: int  # characters cut because the text was too long


def neutralised(text: str) -> str:
    """Take out invisible and control characters, and break up special tokens and verdict marks by a space.

    Line ends of any kind become "\\n"; tabs and spaces stay. Zero-width joiners go too: a joined emoji falls into its
    parts, and what is left is what tokenises the same for all.
    """
    if not (text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()):
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _HIDDEN_CATEGORIES)
    if "<" in text or "[" in text:
        text = _VERDICT.sub("[ ", _SPECIAL.sub(lambda match: f"{match[0]} ", text))
    return text


# A text is shown in two orders, one after the other, and some texts against several others.
@lru_cache(maxsize=256)
def shown(text: str, *, limit: int, keep: str) -> ShownText:
    """`text` neutralised and cut to `limit` characters; `keep` says which end stays, "start" or "end"."""
    clean = neutralised(text)
    cut = max(0, len(clean) - limit)
    return ShownText(clean[:limit] if keep == "start" else clean[cut:], cut)


@lru_cache(maxsize=256)
def fence_token(*texts: str) -> str:
    """16 hex digits of the texts' hash, the same in either order, that none of them holds."""
    parts = sorted(texts)
    for salt in range(1_000):
        token = stable_hash(str(salt), *parts)
        if not any(token in text.lower() for text in parts):
            return token
    raise AssertionError("a thousand hashes of the texts are in the texts")


def fenced(name: str, text: ShownText, token: str) -> str:
    """The text between its two marks; what was cut is noted outside of them, where no text can claim it.

    [[3f9c2b7a10de4f58 BEGIN RESPONSE A]]
    ...
    [[3f9c2b7a10de4f58 END RESPONSE A]]
    (RESPONSE A: 1200 more characters are not shown)
    """
    lines = [f"[[{token} BEGIN {name}]]", text.text, f"[[{token} END {name}]]"]
    if text.cut:
        lines.append(f"({name}: {text.cut} more characters are not shown)")
    if not (text.cut or text.text.strip()):
        lines.append(f"({name}: empty)")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class FormRequest:
    """What of a result is judged. `built_in`: by a judge without API calls."""

    folder: Path
    responses: Sequence[Mapping[str, Any]]  # the rows of responses.jsonl
    built_in: bool
    baseline: str | None = None
    chosen: Selection = EVERY
    again: int = 0  # questions that are repeated, to measure repeatability
    order_seed: int = 0  # draws the orders of listwise comparisons


@dataclass(frozen=True)
class JudgeForm(ABC):
    """A form of judging, whole: the questions, how an answer is read, and what is stored."""

    template: BaseTemplate
    folder: Path
    subjects: Sequence[Any]  # what the questions are about
    items: Sequence[QuestionId]  # the questions

    version: ClassVar[str]  # of `read`: changes when a stored answer would be read differently

    @property
    def names(self) -> Mapping[str, str]:
        """What names the run in judge.json beside its judge and server."""
        return {"template": self.template.label}

    @property
    def parser(self) -> str:
        """Name of `read`, under which the ledger keeps what it read."""
        return f"{self.version}/{self.template.hash}"

    @abstractmethod
    def read(self, raw: Mapping[str, Any], /) -> ParsedAnswer:
        """What an answer says, from `client.http.raw_answer`."""

    @abstractmethod
    def about(self) -> str:
        """What the questions are about, in a line."""

    @abstractmethod
    def decide(self, judge: str) -> dict[QuestionId, Outcome]:
        """The answers of a built-in judge. Raises StoreError where the result lacks the scores that it needs."""

    @abstractmethod
    def write(self, found: Mapping[QuestionId, Outcome], facts: Mapping[str, Any]) -> None:
        """Store rows and numbers; `facts` are who judged, what it cost, and how the questions ended."""


PLACE = re.compile(r"\{([a-z_]+)\}")


class BaseTemplate(Config, ABC):
    """The fields of every template file, and the form of judging that it makes of a result."""

    places: ClassVar[tuple[str, ...]]  # texts under judgement: each has its place in `user`, once
    free: ClassVar[tuple[str, ...]] = ()  # other places that the file may use

    name: str = Field(min_length=1, description="name, as in tables and in the ledger")
    version: int = Field(ge=1, description="goes up when the words change")
    description: str = Field("", description="what the judge is to do, in one line")
    system: str = Field(min_length=1, description="the instructions; {fence} is the code of the marks")
    user: str = Field(min_length=1, description="the question, with a place for each text")
    max_tokens: int = Field(300, ge=1, description="longest answer of the judge, in tokens")
    max_prompt_chars: int = Field(12_000, ge=100, description="longest prompt shown; the end is kept")
    max_response_chars: int = Field(12_000, ge=100, description="longest response shown; the start is kept")

    @cached_property
    def hash(self) -> str:
        """Hash of all fields: two templates with the same hash give the same questions and readings."""
        return config_hash(self)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def fenced(self, prompt: str, responses: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """The texts of the places `fence`, `prompt` and those of `responses`: place -> name in the marks, text."""
        conversation = shown(prompt, limit=self.max_prompt_chars, keep="end")
        texts = {name: shown(text, limit=self.max_response_chars, keep="start") for name, text in responses.values()}
        token = fence_token(conversation.text, *(text.text for text in texts.values()))
        found = {place: fenced(name, texts[name], token) for place, (name, _) in responses.items()}
        return {"fence": token, "prompt": fenced("CONVERSATION", conversation, token), **found}

    @abstractmethod
    def render(self, subject: Any, order: Order, /, *, repeat: int = 0) -> Question:
        """The question about a subject of the template's form."""

    @abstractmethod
    def form(self, request: FormRequest) -> JudgeForm:
        """The questions about a result, and how they are read and counted."""

    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None where the answer is plain text."""
        return None

    @cached_property
    def answer_format(self) -> AnswerFormat:
        """What all questions of the template share."""
        return self.format_with(self.schema_of_answer())

    def format_with(self, schema: Mapping[str, Any] | None) -> AnswerFormat:
        return AnswerFormat(self.max_tokens, schema, self.label, self.hash)

    @cached_property
    def _words(self) -> tuple[list[str], list[str]]:
        """System and user text cut at their places: words, place, words, ..., words."""
        return PLACE.split(self.system), PLACE.split(self.user)

    def messages(self, places: Mapping[str, str]) -> tuple[ChatMessage, ChatMessage]:
        """Both messages with their places filled in one pass: a text that holds {second} keeps it."""
        system, user = self._words
        return ChatMessage("system", _filled(system, places)), ChatMessage("user", _filled(user, places))


def _filled(words: Sequence[str], places: Mapping[str, str]) -> str:
    filled = list(words)
    filled[1::2] = [places[name] for name in words[1::2]]
    return "".join(filled)


def no_baseline(request: FormRequest, template: BaseTemplate) -> None:
    if request.baseline is not None:
        raise BadValue(f"--baseline: given {request.baseline!r}, but {template.label} compares with none; leave it out")
