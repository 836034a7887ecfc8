"""The subjects of a judge's questions, taken from a result; the question; the answer as read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rlhf_bench.errors import BadValue, StoreError, check_known
from rlhf_bench.store import ANCHORS, order_models

RESPONSE = ("model", "prompt_id", "seed", "sample")  # what identifies a response of a result
# given: a question that has one order, its own
Order = Literal["model_first", "baseline_first", "given"]
# read: a verdict; the others are counted, and never scored. missing: no answer yet.
Status = Literal["read", "unreadable", "refused", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class QuestionSubject:
    """What a question is about."""

    prompt_id: str
    prompt: str
    seed: int
    sample: int


@dataclass(frozen=True, slots=True)
class PairComparison(QuestionSubject):
    """Two responses to one prompt."""

    model: str
    baseline: str
    model_response: str
    baseline_response: str


@dataclass(frozen=True, slots=True)
class Single(QuestionSubject):
    """One response to one prompt, rated for itself."""

    model: str
    response: str


@dataclass(frozen=True, slots=True)
class ListwiseComparison(QuestionSubject):
    """Several models' responses to one prompt, in the order in which a judge sees them."""

    draw: int  # which order: an even one was drawn, the odd one after it is its reverse
    models: tuple[str, ...]
    responses: tuple[str, ...]


Role = Literal["system", "user", "assistant"]


class ChatMessage(NamedTuple):
    """One message of the chat API."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, eq=False)
class AnswerFormat:
    """What all questions of a template share. Made once for them: what follows from it is kept by its identity."""

    max_tokens: int
    schema: Mapping[str, Any] | None  # JSON schema of the answer, where the server offers it
    template: str  # name@version
    template_hash: str


@dataclass(frozen=True, slots=True)
class Question:
    """One call. `repeat` distinguishes repeats of the same question, which measure repeatability."""

    messages: tuple[ChatMessage, ...]
    format: AnswerFormat
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a parser made of one raw answer. `first` and `second` are the places in the question, not the models.

    `meta` holds the numbers of a form that has no winner: ratings by criterion, or ranks (1 the best) by place.
    """

    status: Status
    winner: Literal["first", "second", "tie"] | None = None
    soft: float | None = None  # probability that the first wins, where log-probabilities were offered
    note: str = ""  # why an answer was unreadable
    meta: Mapping[str, Any] = field(default_factory=dict)


ORDERS: tuple[Order, Order] = ("model_first", "baseline_first")


class QuestionId(NamedTuple):
    """One question of a run: the index of what it is about, the order, and the repeat index."""

    subject: int
    order: Order
    repeat: int


class Outcome(NamedTuple):
    """What is known of one question. `key` is the call with the answer that was read, or its first call; `answers`
    counts the answered calls: more than one where it was repeated, none where it is missing."""

    key: str
    reading: ParsedAnswer
    answers: int = 0


def items_of(subjects: Sequence[object], again: int = 0, *, orders: Sequence[Order] = ORDERS) -> list[QuestionId]:
    """Each subject in its orders; the first `again` of them twice, to see whether the judge repeats itself."""
    return [
        QuestionId(number, order, repeat)
        for repeat, count in ((0, len(subjects)), (1, min(again, len(subjects))))
        for number in range(count)
        for order in orders
    ]


def another_sample(model: str) -> str:
    """What the baseline is called where a model's responses are compared with one another."""
    return f"{_ANOTHER}{model}"


def is_another_sample(name: str) -> bool:
    return name.startswith(_ANOTHER)


_ANOTHER = "another sample of "


class Selection(NamedTuple):
    """Which responses of a result are judged."""

    models: Sequence[str] = ()  # none: every one but the baseline and the data's own responses
    samples: int | None = None  # at most so many a prompt
    limit: int | None = None  # at most so many prompts


EVERY = Selection()


class ResultTexts(NamedTuple):
    """Responses by model and (prompt id, seed, sample), and the prompts' texts by id."""

    responses: dict[str, dict[tuple[str, int, int], str]]
    prompts: dict[str, str]

    def response(self, model: str, key: tuple[str, int, int]) -> str | None:
        """The text, None where there is none; of "another sample of" a model that of the sample after."""
        if model in self.responses:
            return self.responses[model].get(key)
        prompt, seed, sample = key
        return self.responses.get(model.removeprefix(_ANOTHER), {}).get((prompt, seed, sample + 1))

    def keys(self, model: str, chosen: Selection) -> list[tuple[str, int, int]]:
        """The keys of a model's responses that are chosen, sorted."""
        known = set(sorted(self.prompts)[: chosen.limit])
        keys = (key for key in sorted(self.responses[model]) if key[0] in known)
        return [key for key in keys if chosen.samples is None or key[2] < chosen.samples]

    def models(self, chosen: Selection, *, without: Sequence[str] = ()) -> list[str]:
        """Those named, else all but the data's own responses and `without`. Raises UnknownName."""
        check_known("model", (*without, *chosen.models), self.responses)
        known = order_models(self.responses)
        return list(dict.fromkeys(chosen.models)) or [name for name in known if name not in (*without, *ANCHORS)]


class ComparisonSet(NamedTuple):
    """`alone` counts responses without a counterpart, `empty` pairs with an empty response, judged as it is."""

    comparisons: list[PairComparison]
    alone: int
    empty: int


def pairs_of(responses: Iterable[Mapping[str, Any]], baseline: str, chosen: Selection = EVERY) -> ComparisonSet:
    """Each model's responses against the baseline's, sorted by model, prompt, seed and sample.

    The baseline chosen alone: each second of its samples against the one after it.

    Raises UnknownName for a model that is not there, BadValue for the baseline among other models, StoreError where two
    responses share a prompt's id but not its text, or no response has a counterpart.
    """
    texts, prompts = found = texts_of(responses)
    models = found.models(chosen, without=(baseline,))
    step = 1
    if baseline in models:
        if len(models) > 1:
            raise BadValue(f"--model: given the baseline {baseline} and others; expected it alone, or the others")
        baseline, step = another_sample(baseline), 2
    comparisons, alone = [], 0
    for name in models:
        for key in (key for key in found.keys(name, chosen) if key[2] % step == 0):
            other = found.response(baseline, key)
            if other is None:
                alone += 1
                continue
            prompt, seed, sample = key
            comparisons.append(
                PairComparison(prompt, prompts[prompt], seed, sample, name, baseline, texts[name][key], other)
            )
    if not comparisons:
        raise StoreError(
            f"no response of {', '.join(models) or 'any other model'} has a counterpart by {baseline}: the same "
            "prompt, seed and sample; a judge needs two models with responses to the same prompts"
        )
    empty = sum(not (c.model_response.strip() and c.baseline_response.strip()) for c in comparisons)
    return ComparisonSet(comparisons, alone, empty)


def texts_of(responses: Iterable[Mapping[str, Any]]) -> ResultTexts:
    """The rows of responses.jsonl by model. Raises StoreError where two rows share a prompt's id but not its text."""
    texts: dict[str, dict[tuple[str, int, int], str]] = {}
    prompts: dict[str, str] = {}
    for row in responses:
        key = (str(row["prompt_id"]), int(row["seed"]), int(row["sample"]))
        if prompts.setdefault(key[0], row["prompt"]) != row["prompt"]:
            raise StoreError(
                f"two responses to prompt {key[0]} have different prompts ({row['model']}, seed {key[1]}); expected "
                "one text an id: evaluate these models together with `rlhf-bench eval`"
            )
        texts.setdefault(str(row["model"]), {})[key] = str(row["response"])
    return ResultTexts(texts, prompts)


def singles_of(responses: Iterable[Mapping[str, Any]], chosen: Selection = EVERY) -> list[Single]:
    """Each response by itself, sorted by model, prompt, seed and sample; errors as in `pairs_of`."""
    texts, prompts = found = texts_of(responses)
    return [
        Single(prompt, prompts[prompt], seed, sample, name, texts[name][prompt, seed, sample])
        for name in found.models(chosen)
        for prompt, seed, sample in found.keys(name, chosen)
    ]
