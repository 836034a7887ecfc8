"""What travels between the judge's parts: a comparison, the question put to a judge, what was read in its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["Comparison", "Form", "Lineup", "Message", "Order", "Question", "Reading", "Side", "Single", "Status"]

# given: a question that has one order, its own
Order = Literal["model_first", "baseline_first", "given"]
Side = Literal["model", "baseline", "tie"]
# read: a verdict; the others are counted, and never scored. missing: not asked yet.
Status = Literal["read", "unreadable", "refused", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt."""

    prompt_id: str
    prompt: str
    seed: int
    sample: int
    model: str
    baseline: str
    model_response: str
    baseline_response: str


@dataclass(frozen=True, slots=True)
class Single:
    """One response to one prompt, rated for itself."""

    prompt_id: str
    prompt: str
    seed: int
    sample: int
    model: str
    response: str


@dataclass(frozen=True, slots=True)
class Lineup:
    """Several models' responses to one prompt in the order in which a judge sees them."""

    prompt_id: str
    prompt: str
    seed: int
    sample: int
    draw: int  # which order: an even one was drawn, the odd one after it is its reverse
    models: tuple[str, ...]
    responses: tuple[str, ...]


class Message(NamedTuple):
    """One message of the chat API."""

    role: Literal["system", "user"]
    content: str


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What all questions of a template share. Made once for them: what follows from it is kept by its identity."""

    max_tokens: int
    schema: Mapping[str, Any] | None  # JSON schema of the answer, where the server offers it
    template: str  # name@version
    template_hash: str


@dataclass(frozen=True, slots=True)
class Question:
    """One call: what the judge is sent. `repeat` tells apart the same question asked again to measure repeatability."""

    messages: tuple[Message, ...]
    form: Form
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a parser made of one raw answer. `first` and `second` are the places in the question, not the models.

    `meta` holds the numbers of a form that has no winner: ratings by criterion, or ranks (1 the best) by place.
    """

    status: Status
    winner: Literal["first", "second", "tie"] | None = None
    soft: float | None = None  # probability that the first wins, where log-probabilities were offered
    note: str = ""  # why an answer was unreadable
    meta: Mapping[str, Any] = field(default_factory=dict)
