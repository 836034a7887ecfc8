"""Verdicts that another pipeline paid for, brought into the ledger as those of a named judge.

    alpaca    AlpacaEval's annotations.json: instruction, output_1, output_2, preference (1 output_1, 2 output_2)
    records   a list of objects with prompt, response_a, response_b (and model_a, model_b) and verdict
    cache     an object of hash -> verdict; what was hashed is told by a form such as "{prompt}{first}{second}"

A verdict is A, B or tie, in any case, or AlpacaEval's number. Each row that cannot be used is named. In the ledger an
imported verdict is a call of its own kind: its key is the hash of {"imported": ...}, which no request of ours can have,
its server is `imported:<format>`, and nothing was charged for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_bench.data.hh import split_turns
from rlhf_bench.data.tabular import BadRows
from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.files import json_text, sha256_file
from rlhf_bench.judge.asking import Item, Outcome
from rlhf_bench.judge.calls import Attempt, Call, call_key
from rlhf_bench.judge.types import Comparison, Order, Reading

__all__ = ["FORMATS", "HASHES", "Foreign", "ForeignVerdict", "match_foreign", "read_foreign"]

Format = Literal["alpaca", "records", "cache"]
FORMATS = ("alpaca", "records", "cache")
HASHES = ("md5", "sha1", "sha256")
_WINNERS: Mapping[str, Any] = {"a": "first", "b": "second", "tie": "tie", "draw": "tie", "c": "tie"}
_NAMES = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "first": ("response_a", "output_1", "completion_a", "answer_a", "a"),
    "second": ("response_b", "output_2", "completion_b", "answer_b", "b"),
    "first_model": ("model_a", "generator_1"),
    "second_model": ("model_b", "generator_2"),
    "verdict": ("verdict", "winner", "preference", "answer", "label"),
}


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """One row of a file: the texts, or the hash of them, and which of the two it prefers."""

    number: int
    reading: Reading
    raw: str  # the row as it stands in the file
    texts: tuple[str, str, str] | None = None  # prompt, first, second, without white space around them
    models: tuple[str, str] | None = None
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """The usable rows of a file; `left_out` says which others there were, or is None."""

    source: str  # name and SHA-256 of the file
    form: Format
    judge: str
    verdicts: tuple[ForeignVerdict, ...]
    left_out: str | None

    @property
    def base_url(self) -> str:
        """What stands in tables and in the ledger where a judge's server would."""
        return f"imported:{self.form}"

    def call(self, verdict: ForeignVerdict) -> Call:
        """The verdict as the ledger keys it: by judge, form and row, whatever file the row came in."""
        request = json.dumps(
            {"imported": {"form": self.form, "judge": self.judge, "row": json.loads(verdict.raw)}},
            sort_keys=True,
            separators=(",", ":"),
        )
        return Call(call_key(request), self.judge, self.base_url, request, self.base_url, "", 0, 0.0)

    def attempt(self, verdict: ForeignVerdict) -> Attempt:
        """Answered, by someone else: the row is the answer, and nothing is charged."""
        return Attempt("answered", f"imported from {self.source}", charged=False, answer=verdict.raw)


def read_foreign(path: Path, *, judge: str, form: Format, skip_bad: bool) -> Foreign:
    """The verdicts of a JSON file. Raises DataError that names each row that cannot be used, unless `skip_bad`."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); expected {_EXPECTED[form]}") from error
    bad = BadRows(path.name)
    if not isinstance(data, dict if form == "cache" else list):
        raise DataError(f"{path} holds a {type(data).__name__}; expected {_EXPECTED[form]}")
    rows: Any = data
    usable = list(_cached(rows, bad) if form == "cache" else _records(rows, bad, form))
    left_out = bad.settle(len(data), skip=skip_bad)
    if not usable:
        raise DataError(f"{path} is empty; expected {_EXPECTED[form]}")
    return Foreign(f"{path.name} (sha256 {sha256_file(path)[:16]})", form, judge, tuple(usable), left_out)


_EXPECTED = {
    "alpaca": "AlpacaEval's annotations.json, a list of objects",
    "records": "a list of objects with prompt, response_a, response_b and verdict",
    "cache": "an object of hash -> verdict",
}


def match_foreign(
    foreign: Foreign, comparisons: Sequence[Comparison], *, hashed: str = "{prompt}{first}{second}", method: str = "md5"
) -> dict[Item, Outcome]:
    """What the file says of each comparison in each order: "missing" where it says nothing.

    Texts are compared without the white space around them; a prompt of one human turn also by that turn's text alone,
    as other pipelines know it. Of a cache, `hashed` says what was hashed with `method`, with the places {prompt},
    {first} and {second}. Where several rows speak of one question, the first counts.

    Raises BadValue for a form without its places, or a method that is none.
    """
    known: dict[Any, ForeignVerdict] = {}
    for verdict in foreign.verdicts:
        known.setdefault(verdict.texts or verdict.hash, verdict)
    if foreign.form == "cache":
        _check_hashed(hashed, method)
    found = {}
    for number, comparison in enumerate(comparisons):
        both = comparison.model_response, comparison.baseline_response
        for order, (first, second) in (("model_first", both), ("baseline_first", both[::-1])):
            item = Item(number, _order(order), 0)
            asked = _questions(comparison.prompt, first, second)
            keys = [_hash(hashed, method, texts) for texts in asked] if foreign.form == "cache" else asked
            said = next((known[key] for key in keys if key in known), None)
            if said is None:
                found[item] = Outcome("", Reading("missing"))
            else:
                found[item] = Outcome(foreign.call(said).key, said.reading, 1)
    return _of_one_order(found)


def _of_one_order(found: Mapping[Item, Outcome]) -> dict[Item, Outcome]:
    """As given, unless no comparison was judged in both orders: then the question that was not put is left out."""
    numbers = {item.comparison for item in found}
    read: Mapping[int, list[Item]] = {number: [] for number in numbers}
    for item, outcome in found.items():
        if outcome.reading.status == "read":
            read[item.comparison].append(item)
    if any(len(items) == 2 for items in read.values()):
        return dict(found)
    chosen = [items[0] if items else Item(number, "model_first", 0) for number, items in read.items()]
    return {item: found[item] for item in chosen}


def _order(name: str) -> Order:
    return "model_first" if name == "model_first" else "baseline_first"


def _questions(prompt: str, first: str, second: str) -> list[tuple[str, str, str]]:
    """The texts as another pipeline may have them: stripped or not, the prompt whole or its human turn alone."""
    turns = split_turns(prompt)
    prompts = [prompt, prompt.strip(), *([turns[0].content] if len(turns) == 1 else [])]
    responses = [(first, second), (first.strip(), second.strip())]
    return [(one, *pair) for one in dict.fromkeys(prompts) for pair in dict.fromkeys(responses)]


def _check_hashed(hashed: str, method: str) -> None:
    if method not in HASHES:
        raise BadValue(f"--hash: given {method!r}, expected one of {', '.join(HASHES)}")
    for place in ("{prompt}", "{first}", "{second}"):
        if place not in hashed:
            raise BadValue(
                f"--hashed: given {hashed!r}, which lacks {place}; expected what the pipeline hashed, such as "
                "{prompt}{first}{second}"
            )


def _hash(hashed: str, method: str, texts: tuple[str, str, str]) -> str:
    parts = dict(zip(("{prompt}", "{first}", "{second}"), texts, strict=True))
    pieces = [hashed]
    for place in parts:  # in one pass: a text that says {second} stays one that says so
        pieces = [p for piece in pieces for p in (_cut(piece, place) if piece not in parts else [piece])]
    text = "".join(parts.get(piece, piece) for piece in pieces)
    return hashlib.new(method, text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _cut(text: str, place: str) -> list[str]:
    pieces: list[str] = []
    for piece in text.split(place):
        pieces += [place, piece] if pieces else [piece]
    return pieces


def _cached(data: Mapping[str, Any], bad: BadRows) -> Iterator[ForeignVerdict]:
    for number, (key, value) in enumerate(data.items(), 1):
        given = value.get("verdict", value.get("winner")) if isinstance(value, Mapping) else value
        reading = _reading(given)
        if reading is None:
            bad.add(number, f"({key[:16]}) has the verdict {_short(given)}, expected A, B or tie")
        else:
            yield ForeignVerdict(number, reading, json_text({key: value}), hash=key.lower())


def _records(data: Sequence[Any], bad: BadRows, form: Format) -> Iterator[ForeignVerdict]:
    for number, row in enumerate(data, 1):
        if not isinstance(row, dict):
            bad.add(number, f"is a {type(row).__name__}, expected an object")
            continue
        cells = {part: next((row[name] for name in names if name in row), None) for part, names in _NAMES.items()}
        lacking = [part for part in ("prompt", "first", "second") if not isinstance(cells[part], str)]
        if lacking:
            bad.add(number, f"has no text for {lacking[0]} ({', '.join(_NAMES[lacking[0]])})")
            continue
        reading = _preference(row.get("preference")) if form == "alpaca" else _reading(cells["verdict"], cells)
        if reading is None:
            given = row.get("preference") if form == "alpaca" else cells["verdict"]
            expected = "a preference in [1, 2], or 0" if form == "alpaca" else "A, B, tie or a model's name"
            bad.add(number, f"has the verdict {_short(given)}, expected {expected}")
            continue
        texts = (str(cells["prompt"]).strip(), str(cells["first"]).strip(), str(cells["second"]).strip())
        models = (str(cells["first_model"]), str(cells["second_model"])) if cells["first_model"] else None
        yield ForeignVerdict(number, reading, json_text(row), texts, models)


def _reading(given: object, cells: Mapping[str, Any] | None = None) -> Reading | None:
    """A, B or tie as text, or the name of one of two models; None for anything else."""
    if not isinstance(given, str):
        return None
    if cells is not None and cells["first_model"] != cells["second_model"]:
        for place in ("first", "second"):
            if given == cells[f"{place}_model"]:
                return Reading("read", "first" if place == "first" else "second")
    winner = _WINNERS.get(given.strip().strip("[]").strip().lower())
    return None if winner is None else Reading("read", winner)


def _preference(given: object) -> Reading | None:
    """AlpacaEval's number: 1 the first output, 2 the second, between them a soft preference; 0 is a draw."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not (given == 0 or 1 <= given <= 2):
        return None
    second = 0.5 if given == 0 else float(given) - 1
    winner: Any = "tie" if second == 0.5 else "second" if second > 0.5 else "first"
    return Reading("read", winner, soft=1 - second)


def _short(value: object) -> str:
    text = json_text(value)
    return text if len(text) <= 40 else text[:39] + "…"
