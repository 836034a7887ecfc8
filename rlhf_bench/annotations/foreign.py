"""Verdicts of another pipeline, imported into the ledger and a result as those of a named judge.

    alpaca    AlpacaEval's annotations.json: instruction, output_1, output_2, preference (1 output_1, 2 output_2)
    records   a table with prompt, response_a, response_b (and model_a, model_b), verdict, and, where people judged the
              same pairs, label

A verdict, like a label, is A, B or tie, in any case; model_a, model_b or the model's name; or 1, 2 or 0 (a tie). The
column `label` is a person's, never the judge's: it is stored as the label of a rater, so that judge.json holds how far
the judge agrees with it. Each row that cannot be used is named. In the ledger an imported verdict is a call of its own
kind: its key is the hash of {"imported": ...}, which no request of ours can have, its server is `imported:<format>`,
and nothing was charged for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_bench.annotations.cells import preference_of, zero_one_note
from rlhf_bench.data.hh import split_turns
from rlhf_bench.data.tabular import Unusable, is_nothing, read_table
from rlhf_bench.errors import DataError
from rlhf_bench.files import json_text, sha256_file, timestamp
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Attempt, Call, call_key
from rlhf_bench.judge.people import PersonLabel, store_labels
from rlhf_bench.judge.questions import Order, Outcome, PairComparison, ParsedAnswer, QuestionId, Selection, pairs_of
from rlhf_bench.judge.results import verdict_rows, write_verdicts
from rlhf_bench.store import ResultStore

Format = Literal["alpaca", "records"]
# A number is AlpacaEval's: 1 the first, 2 the second, 0 a tie.
_WINNERS: Mapping[str, Any] = {
    **dict.fromkeys(("a", "1", "model_a", "response_a", "output_1", "first"), "first"),
    **dict.fromkeys(("b", "2", "model_b", "response_b", "output_2", "second"), "second"),
    **dict.fromkeys(("c", "0", "tie", "draw", "both", "neither", "tie (bothbad)"), "tie"),
}
_NAMES = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "first": ("response_a", "output_1", "completion_a", "answer_a", "a"),
    "second": ("response_b", "output_2", "completion_b", "answer_b", "b"),
    "first_model": ("model_a", "generator_1"),
    "second_model": ("model_b", "generator_2"),
    "verdict": ("verdict", "winner", "judge_verdict", "preference", "answer"),
    "label": ("label", "human", "human_verdict", "human_label", "gold"),
}


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """One row of a file: the texts, and which of the two responses it prefers."""

    reading: ParsedAnswer
    raw: str  # the row as in the file
    texts: tuple[str, str, str]  # prompt, first, second, without white space around them
    label: ParsedAnswer | None = None  # a person's verdict on the same two responses, where the row has one


@dataclass(frozen=True, slots=True)
class Foreign:
    """The usable rows of a file; `left_out` says which others there were, or is None."""

    source: str  # name and SHA-256 of the file
    form: Format
    judge: str
    verdicts: tuple[ForeignVerdict, ...]
    left_out: str | None
    note: str | None = None  # how its verdicts were understood, where that is not plain

    @property
    def base_url(self) -> str:
        """The server of the judge in tables and in the ledger."""
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
        """The attempt of another pipeline: the row is the answer, and nothing is charged."""
        return Attempt("answered", f"imported from {self.source}", charged=False, answer=verdict.raw)


def read_foreign(path: Path, *, judge: str, form: Format, skip_bad: bool) -> Foreign:
    """The verdicts in a table (`read_table`). Raises DataError that names each unusable row, unless `skip_bad`."""
    table = read_table(path)
    usable = tuple(verdict for _, verdict in table.read(lambda _, row: _verdict(row, form)))
    left_out = table.settle(skip=skip_bad)
    note = zero_one_note(row.get("preference") for _, row in table.rows) if form == "alpaca" else None
    return Foreign(f"{path.name} (sha256 {sha256_file(path)[:16]})", form, judge, usable, left_out, note)


_EXPECTED_VERDICT = "A, B, tie, 1, 2, 0, model_a, model_b or a model's name"


def match_foreign(foreign: Foreign, comparisons: Sequence[PairComparison]) -> dict[QuestionId, Outcome]:
    """The file's verdict on each comparison in each order: "missing" where it has none.

    Texts are compared without the white space around them; a prompt of one human turn also by that turn's text alone,
    as other pipelines know it. Where several rows are about one question, the first counts.
    """
    found = {
        item: Outcome("", ParsedAnswer("missing")) if row is None else Outcome(foreign.call(row).key, row.reading, 1)
        for item, row in _rows_of(foreign, comparisons)
    }
    return _of_one_order(found)


def _rows_of(
    foreign: Foreign, comparisons: Sequence[PairComparison]
) -> Iterator[tuple[QuestionId, ForeignVerdict | None]]:
    """The row of the file about each comparison in each order; None where there is none."""
    known: dict[tuple[str, str, str], ForeignVerdict] = {}
    for verdict in foreign.verdicts:
        known.setdefault(verdict.texts, verdict)
    orders: tuple[Order, Order] = ("model_first", "baseline_first")
    for number, comparison in enumerate(comparisons):
        both = comparison.model_response.strip(), comparison.baseline_response.strip()
        for order, responses in zip(orders, (both, both[::-1]), strict=True):
            keys = [(prompt, *responses) for prompt in _prompts(comparison.prompt)]
            yield QuestionId(number, order, 0), next((known[key] for key in keys if key in known), None)


def _labels(foreign: Foreign, comparisons: Sequence[PairComparison]) -> list[PersonLabel]:
    """People's labels in the file; of a pair with a label in both orders the first."""
    found: dict[int, PersonLabel] = {}
    for item, row in _rows_of(foreign, comparisons):
        if row is not None and row.label is not None:
            found.setdefault(item.subject, PersonLabel(comparisons[item.subject], item.order, row.label))
    return list(found.values())


def _of_one_order(found: Mapping[QuestionId, Outcome]) -> dict[QuestionId, Outcome]:
    """Leave out the other order where no comparison was judged in both."""
    read = [item for item, outcome in found.items() if outcome.reading.status == "read"]
    of_subject = {item.subject: item for item in found if item.order == "model_first"}
    of_subject |= {item.subject: item for item in read}
    in_both = len({item.subject for item in read}) < len(read)
    return dict(found) if in_both else {item: found[item] for item in of_subject.values()}


def _prompts(prompt: str) -> list[str]:
    """The prompt as another pipeline may have it: whole, or its only human turn."""
    turns = split_turns(prompt)
    return [prompt.strip(), *([turns[0].content.strip()] if len(turns) == 1 else [])]


def _verdict(row: Mapping[str, Any], form: Format) -> ForeignVerdict:
    row = {name: None if is_nothing(value) else value for name, value in row.items()}
    cells = {part: next((row[name] for name in names if name in row), None) for part, names in _NAMES.items()}
    lacking = [part for part in ("prompt", "first", "second") if not isinstance(cells[part], str)]
    if lacking:
        raise Unusable(f"has no text for {lacking[0]} ({', '.join(_NAMES[lacking[0]])})")
    given = row.get("preference") if form == "alpaca" else cells["verdict"]
    reading = _preference(given) if form == "alpaca" else _reading(given, cells)
    if reading is None:
        expected = "a preference in [1, 2], or 0" if form == "alpaca" else _EXPECTED_VERDICT
        note = "; its label counts as a person's" if given is None and cells["label"] is not None else ""
        raise Unusable(f"has the verdict {_short(given)}, expected {expected}{note}")
    label = None
    if form == "records" and cells["label"] is not None:
        label = _reading(cells["label"], cells)
        if label is None:
            raise Unusable(f"has the label {_short(cells['label'])}, expected {_EXPECTED_VERDICT}")
    prompt, first, second = (str(cells[part]).strip() for part in ("prompt", "first", "second"))
    return ForeignVerdict(reading, json_text(row), (prompt, first, second), label)


def _reading(given: object, cells: Mapping[str, Any]) -> ParsedAnswer | None:
    """A, B or tie, in one of the words or numbers of `_WINNERS`, or the name of one of two models; None for others."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = f"{given:g}"
    if not isinstance(given, str):
        return None
    models = [cells["first_model"], cells["second_model"]]
    if models.count(given) == 1:
        return ParsedAnswer("read", "first" if given == models[0] else "second")
    winner = _WINNERS.get(given.strip().strip("[]").strip().lower())
    return None if winner is None else ParsedAnswer("read", winner)


def _preference(given: object) -> ParsedAnswer | None:
    """AlpacaEval's number: 1 the first output, 2 the second, between them a soft preference; 0 is a draw."""
    preference = preference_of(given)
    if preference is None:
        return None
    winner: Any = "tie" if preference == 1.5 else "second" if preference > 1.5 else "first"
    return ParsedAnswer("read", winner, soft=2 - preference)


def _short(value: object) -> str:
    text = json_text(value)
    return text if len(text) <= 40 else text[:39] + "…"


FOREIGN_PARSER = "imported-1"  # changes when a row would be read differently
SCOPE = "imported"  # an account of its own, which nothing is charged to


def import_foreign(
    result: Path,
    foreign: Foreign,
    ledger: Ledger,
    *,
    baseline: str,
    chosen: Selection,
    rater: str,
) -> int:
    """Put the file's verdicts into the ledger, and those on the result's pairs into the result; returns how many.

    The labels of the file become those of `rater`. Pairs that are not in the file are missing; each counts once where
    no pair was judged in both orders. Raises DataError where none of the pairs is in the file.
    """
    pairs = pairs_of(ResultStore(result).read_responses(), baseline, chosen)
    baseline = pairs.comparisons[0].baseline
    found = match_foreign(foreign, pairs.comparisons)
    read = sum(outcome.reading.status == "read" for outcome in found.values())
    if not read:
        raise DataError(
            f"none of {len(foreign.verdicts)} verdicts in {foreign.source} is on a pair of {result} against "
            f"{baseline}: the same prompt and both texts; check --baseline and --model"
        )
    ledger.add_foreign([(foreign.call(verdict), foreign.attempt(verdict)) for verdict in foreign.verdicts], SCOPE)
    ledger.add_verdicts({foreign.call(verdict).key: verdict.reading for verdict in foreign.verdicts}, FOREIGN_PARSER)
    who = {"judge": foreign.judge, "base_url": foreign.base_url, "template": foreign.base_url}
    rows = verdict_rows(pairs.comparisons, found, **who)
    facts = {**who, "source": foreign.source, "parser": FOREIGN_PARSER, "time": timestamp()}
    write_verdicts(result, rows, facts, alone=pairs.alone)
    if labels := _labels(foreign, pairs.comparisons):
        store_labels(result, rater, labels)
    return read
