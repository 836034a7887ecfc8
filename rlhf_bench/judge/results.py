"""The files of a judged result: a table of rows for each form of judging, and judge/judge.json over all of them.

    judge/verdicts.parquet   pairs, a row a question: judge, base_url, template, baseline, model, prompt_id, seed,
                             sample, order, repeat, status, winner (first, second, tie), soft, note, model_length,
                             baseline_length (characters), key (of the call in the ledger); judge.json's "judgings"
    judge/<form>.parquet     the rows of another form, whose `Section` is in the form's file
    judge/judge.json         {"judgings": [...], "strengths": [...], ...}: what was asked, how it ended, what it cost,
                             and the numbers of `analysis` and of the forms

Each holds any number of runs; one that is made again replaces those of the same identity."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_parquet, atomic_write_text, exclusive, json_text
from rlhf_bench.judge.analysis import measured_people, measured_strengths
from rlhf_bench.judge.questions import Comparison, Outcome, ParsedAnswer, QuestionId
from rlhf_bench.store import ResultStore

__all__ = [
    "RESPONSE",
    "VERDICTS",
    "WHO",
    "ResponseKey",
    "Section",
    "count_statuses",
    "known_scores",
    "labelled",
    "read_section",
    "response_scores",
    "typed",
    "verdict_row",
    "verdict_rows",
    "with_gold",
    "write_section",
]

_LOCK_SECONDS = 30.0
_AGAIN = "remove it and run `rlhf-bench judge run` again: what was answered is in the ledger and costs nothing"
WHO = ("judge", "base_url", "template")
RESPONSE = ("model", "prompt_id", "seed", "sample")


class Section(NamedTuple):
    """One form's part of the folder."""

    key: str  # in judge.json
    file: str
    identity: tuple[str, ...]  # what a repeated run has in common with the run that it replaces
    columns: tuple[str, ...]
    sorted_by: tuple[str, ...]
    numbers: Mapping[str, str]  # columns that are no text, and their type


VERDICTS = Section(
    "judgings",
    "verdicts.parquet",
    (*WHO, "baseline"),
    (
        *(*WHO, "baseline", *RESPONSE, "order", "repeat", "status", "winner", "soft", "note"),
        *("model_length", "baseline_length", "key"),
    ),
    (*WHO, "baseline", *RESPONSE, "order", "repeat"),
    {
        **{"soft": "float64", "seed": "int64", "sample": "int64", "repeat": "int64"},
        **{"model_length": "int64", "baseline_length": "int64"},
    },
)


def read_section(result: Path, section: Section) -> pd.DataFrame | None:
    """All rows of a form, or None if nothing was judged in it. Raises StoreError where the file cannot be read."""
    path = result / "judge" / section.file
    if not path.exists():
        return None
    try:
        return typed(pd.read_parquet(path, engine="pyarrow"), section)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"cannot read {path} ({str(error).splitlines()[0]}); {_AGAIN}") from error


def typed(table: pd.DataFrame, section: Section) -> pd.DataFrame:
    """With the section's columns, types and order, so that the same rows make the same bytes."""
    types = {name: section.numbers.get(name, "object") for name in section.columns}
    return table[list(section.columns)].astype(types).sort_values(list(section.sorted_by), ignore_index=True)


def write_section(
    result: Path,
    section: Section,
    rows: pd.DataFrame,
    entries: Sequence[Mapping[str, Any]],
    *,
    same: Sequence[str] | None = None,
) -> None:
    """Put runs into the folder, each file at once, in place of earlier ones that agree with them in `same`.

    `same` is the section's identity unless given. The parts of judge.json about several runs together are computed
    from all verdicts. Rows are sorted, so that the same verdicts make the same bytes in whatever order they came.
    """
    keys = section.identity if same is None else tuple(same)
    folder = result / "judge"
    with _waiting(folder):
        path, summary = folder / section.file, folder / "judge.json"
        replaced = {tuple(str(entry[key]) for key in keys) for entry in entries}
        before = read_section(result, section)
        parts = [] if before is None else [before[[row not in replaced for row in _keys(before, keys)]]]
        table = typed(pd.concat([*(part for part in parts if len(part)), rows], ignore_index=True), section)
        atomic_write_parquet(path, table)
        stored = _read(summary)
        kept = [row for row in stored.get(section.key, []) if tuple(str(row.get(key)) for key in keys) not in replaced]
        kept = sorted([*kept, *map(dict, entries)], key=lambda row: [str(row.get(key)) for key in section.identity])
        verdicts = table if section is VERDICTS else read_section(result, VERDICTS)
        stored.pop("people", None)
        together = {"strengths": []} if verdicts is None else _together(verdicts)
        atomic_write_text(
            summary, json_text({VERDICTS.key: [], **stored, section.key: kept, **together}, indent=1) + "\n"
        )


def _together(verdicts: pd.DataFrame) -> dict[str, Any]:
    people = measured_people(verdicts)
    return {"strengths": measured_strengths(verdicts), **({"people": people} if people else {})}


def _keys(table: pd.DataFrame, keys: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(map(str, row)) for row in table[list(keys)].itertuples(index=False)]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_bytes())
        if not isinstance(stored["judgings"], list):
            raise TypeError("its judgings are no list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {path} ({error}); {_AGAIN}") from error
    return dict(stored)


def verdict_rows(
    comparisons: Sequence[Comparison], found: Mapping[QuestionId, Outcome], *, judge: str, base_url: str, template: str
) -> pd.DataFrame:
    """A row a question of a run of comparisons."""
    rows = [
        verdict_row(comparisons[item.subject], item, outcome.reading, outcome.key)
        for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
    ]
    table = pd.DataFrame(rows).assign(judge=judge, base_url=base_url, template=template)
    return typed(table, VERDICTS)


def verdict_row(comparison: Comparison, item: QuestionId, reading: ParsedAnswer, key: str) -> dict[str, Any]:
    return {
        "baseline": comparison.baseline,
        "model": comparison.model,
        "prompt_id": comparison.prompt_id,
        "seed": comparison.seed,
        "sample": comparison.sample,
        "order": item.order,
        "repeat": item.repeat,
        "status": reading.status,
        "winner": reading.winner,
        "soft": reading.soft,
        "note": reading.note,
        "model_length": len(comparison.model_response.strip()),
        "baseline_length": len(comparison.baseline_response.strip()),
        "key": key,
    }


def count_statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.reading.status] = counts.get(outcome.reading.status, 0) + 1
    return counts


ResponseKey: TypeAlias = tuple[str, int, str, int]  # model, seed, prompt id, sample


def response_scores(folder: Path, column: str) -> Mapping[ResponseKey, float]:
    """The column of scores.parquet, by response. Raises StoreError where the result has no such scores."""
    table = ResultStore(folder).read_scores()
    if column not in table.columns:
        raise StoreError(f"{folder} has no {column} scores, which this judge needs; use another judge, such as length")
    keys = zip(table["model"], table["seed"], table["prompt_id"], table["sample"], strict=True)
    return {
        (str(model), int(seed), str(prompt), int(sample)): float(value)
        for (model, seed, prompt, sample), value in zip(keys, table[column], strict=True)
    }


def known_scores(folder: Path, column: str) -> Mapping[ResponseKey, float]:
    """As `response_scores`; empty where the result has none."""
    try:
        return response_scores(folder, column)
    except StoreError:
        return {}


def labelled(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With the column `gold`, 1, 0.5 or 0 for the model by the gold reward, NaN without one; as given if none has."""
    scores = known_scores(folder, "gold")

    def lead(row: Any) -> float:
        of = [scores.get((name, row.seed, row.prompt_id, row.sample), math.nan) for name in (row.model, row.baseline)]
        return float(np.sign(of[0] - of[1]))

    keys = rows[["model", "baseline", "seed", "prompt_id", "sample"]]
    gold = [(1 + lead(row)) / 2 for row in keys.itertuples(index=False)] if scores else []
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


def with_gold(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With the column `gold`, the gold reward of the response; as given if none has one."""
    scores = known_scores(folder, "gold")
    keys = zip(rows["model"], rows["seed"], rows["prompt_id"], rows["sample"], strict=True)
    gold = [scores.get((str(model), int(seed), str(prompt), int(n)), math.nan) for model, seed, prompt, n in keys]
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


@contextmanager
def _waiting(folder: Path) -> Iterator[None]:
    """`exclusive`, but two runs that end together wait for each other: writing takes a moment."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(folder))
                break
            except StoreError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
