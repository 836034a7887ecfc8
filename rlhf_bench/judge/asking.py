"""What is asked of a judge, question by question, and what the ledger knows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from rlhf_bench.judge.answers import raw_answer
from rlhf_bench.judge.calls import Cap, call_key
from rlhf_bench.judge.endpoint import Endpoint
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.types import Order, Question, Reading

__all__ = ["Asking", "Item", "Outcome", "Render", "items_of", "look_up", "stored_readings"]

ORDERS: tuple[Order, Order] = ("model_first", "baseline_first")

Subject = TypeVar("Subject")  # what a question is about: a Comparison, a Single or a Lineup
Asked = TypeVar("Asked", contravariant=True)


class Render(Protocol[Asked]):
    """A template's render."""

    def __call__(self, subject: Asked, order: Order, /, *, repeat: int = 0) -> Question: ...


class Item(NamedTuple):
    """One question of a run: about which comparison, single or line-up, in which order, for the how-manieth time."""

    comparison: int
    order: Order
    repeat: int


class Outcome(NamedTuple):
    """What is known of one question. `key` is the call whose answer was read, or that of its first call; `answers` how
    many calls were answered: more than one where it was put again, none where it is missing."""

    key: str
    reading: Reading
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Asking(Generic[Subject]):
    """What is asked, of whom, on whose account, and how it is read."""

    comparisons: Sequence[Subject]
    endpoint: Endpoint
    render: Render[Subject]
    read: Callable[[Mapping[str, Any]], Reading]  # of content, refusal, finish_reason, logprobs
    parser: str  # changes whenever `read` would read an answer differently
    ledger: Ledger
    scope: str  # whose money: a result and a judge
    cap: Cap = field(default=Cap(0, None))

    def question(self, item: Item) -> Question:
        return self.render(self.comparisons[item.comparison], item.order, repeat=item.repeat)

    def key(self, item: Item, retry: int = 0) -> str:
        return call_key(self.endpoint.request(self.question(item), retry))

    def without_schema(self) -> Asking[Subject]:
        """The same questions, put as text alone."""
        return replace(self, endpoint=replace(self.endpoint, structured=False))


def items_of(subjects: Sequence[object], again: int = 0, *, orders: Sequence[Order] = ORDERS) -> list[Item]:
    """Each subject in its orders; the first `again` of them twice, to see whether the judge repeats itself."""
    return [
        Item(number, order, repeat)
        for repeat, count in ((0, len(subjects)), (1, min(again, len(subjects))))
        for number in range(count)
        for order in orders
    ]


def look_up(asking: Asking[Any], items: Sequence[Item]) -> dict[Item, Outcome]:
    """What the ledger knows of `items`; "missing" where it knows nothing. Asks nobody.

    Stored answers are read anew where the parser has changed. Where an answer could not be read and the question was
    put again, the last answer counts.
    """
    found: dict[Item, Outcome] = {}
    open_items, retry = list(items), 0
    while open_items:
        keys = {item: asking.key(item, retry) for item in open_items}
        readings = stored_readings(asking, keys.values())
        open_items = []
        for item, key in keys.items():
            reading = readings.get(key)
            if reading is not None:
                found[item] = Outcome(key, reading, retry + 1)
                if reading.status == "unreadable":
                    open_items.append(item)
            elif retry == 0:
                found[item] = Outcome(key, Reading("missing"))
        retry += 1
    return found


def stored_readings(asking: Asking[Any], keys: Iterable[str]) -> dict[str, Reading]:
    """What is read in the stored answers to `keys`; new readings are stored."""
    keys = dict.fromkeys(keys)
    readings = asking.ledger.verdicts(keys, asking.parser)
    bodies = asking.ledger.answers(key for key in keys if key not in readings)
    new = {key: asking.read(raw_answer(body)) for key, body in bodies}
    asking.ledger.add_verdicts(new, asking.parser)
    return readings | new
