"""The files of a judged result: a table of rows for each form of judging, and judge/judge.json over all of them.

    judge/verdicts.parquet   pairs, a row a question: judge, base_url, template, baseline, model, prompt_id, seed,
                             sample, order, repeat, status, winner (first, second, tie), soft, note, model_length,
                             baseline_length (characters), key (of the call in the ledger); judge.json's "judgings"
    judge/<form>.parquet     the rows of another form; its `FormSection` is in the form's file
    judge/judge.json         {"judgings": [...], "strengths": [...], ...}: the questions, how they ended, their cost,
                             and the numbers of `analysis` and of the forms

Each holds any number of runs; one that is made again replaces those of the same identity."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_parquet, atomic_write_text, exclusive, json_text
from rlhf_bench.judge.analysis import measure, measured_people, measured_strengths
from rlhf_bench.judge.analysis.pairs import first_answers, fold
from rlhf_bench.judge.analysis.rewards import verdict_forecast, verdict_gains
from rlhf_bench.judge.questions import RESPONSE, Outcome, PairComparison, QuestionId, QuestionSubject, another_sample
from rlhf_bench.stats import FloatArray
from rlhf_bench.store import ResultStore
from rlhf_bench.store.result import SCORE_KEYS

_LOCK_SECONDS = 30.0
_AGAIN = "remove it and run `rlhf-bench judge run` again: what was answered is in the ledger and costs nothing"
WHO = ("judge", "base_url", "template")


class FormSection(NamedTuple):
    """One form's part of the folder."""

    key: str  # in judge.json
    file: str
    identity: tuple[str, ...]  # what a repeated run has in common with the run that it replaces
    columns: tuple[str, ...]
    sorted_by: tuple[str, ...]
    numbers: Mapping[str, str]  # columns that are no text, and their type


VERDICTS = FormSection(
    "judgings",
    "verdicts.parquet",
    (*WHO, "baseline"),
    (
        *(*WHO, "baseline", *RESPONSE, "order", "repeat", "status", "winner", "soft", "note"),
        *("model_length", "baseline_length", "key"),
    ),
    (*WHO, "baseline", *RESPONSE, "order", "repeat"),
    {"soft": "float64", **dict.fromkeys(("seed", "sample", "repeat", "model_length", "baseline_length"), "int64")},
)


def read_section(result: Path, section: FormSection) -> pd.DataFrame | None:
    """All rows of a form, or None if nothing was judged in it. Raises StoreError where the file cannot be read."""
    path = result / "judge" / section.file
    if not path.exists():
        return None
    try:
        return typed(pd.read_parquet(path, engine="pyarrow"), section)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"cannot read {path} ({str(error).splitlines()[0]}); {_AGAIN}") from error


def typed(table: pd.DataFrame, section: FormSection) -> pd.DataFrame:
    """The table with the section's columns, types and order, so that the same rows make the same bytes."""
    types = {name: section.numbers.get(name, "object") for name in section.columns}
    return table[list(section.columns)].astype(types).sort_values(list(section.sorted_by), ignore_index=True)


def write_section(
    result: Path,
    section: FormSection,
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
    with exclusive(folder, wait=_LOCK_SECONDS):  # two runs that end together: writing takes a moment
        path, summary = folder / section.file, folder / "judge.json"
        replaced = {tuple(str(entry[key]) for key in keys) for entry in entries}
        before = read_section(result, section)
        parts = []
        if before is not None:
            made = before[list(keys)].astype(str).itertuples(index=False, name=None)
            parts = [before[[key not in replaced for key in made]]]
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
    comparisons: Sequence[PairComparison],
    found: Mapping[QuestionId, Outcome],
    *,
    judge: str,
    base_url: str,
    template: str,
) -> pd.DataFrame:
    """A row a question of a run of comparisons."""
    rows = [
        {
            **question_cells(comparison := comparisons[item.subject], item, outcome),
            "baseline": comparison.baseline,
            "model": comparison.model,
            "order": item.order,
            "winner": outcome.reading.winner,
            "soft": outcome.reading.soft,
            "model_length": len(comparison.model_response.strip()),
            "baseline_length": len(comparison.baseline_response.strip()),
        }
        for item, outcome in found.items()
    ]
    return typed(pd.DataFrame(rows).assign(judge=judge, base_url=base_url, template=template), VERDICTS)


def question_cells(subject: QuestionSubject, item: QuestionId, outcome: Outcome) -> dict[str, Any]:
    """The cells that the rows of every form have."""
    return {
        "prompt_id": subject.prompt_id,
        "seed": subject.seed,
        "sample": subject.sample,
        "repeat": item.repeat,
        "status": outcome.reading.status,
        "note": outcome.reading.note,
        "key": outcome.key,
    }


def count_statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.reading.status for outcome in outcomes))


ResponseKey: TypeAlias = tuple[str, int, str, int]  # model, seed, prompt id, sample


def response_scores(folder: Path, column: str) -> Mapping[ResponseKey, float]:
    """The column of scores.parquet, by response. Raises StoreError where the result has no such scores."""
    table = ResultStore(folder).read_scores()
    if column not in table.columns:
        raise StoreError(f"{folder} has no {column} scores, which this judge needs; use another judge, such as length")
    rows = table[[*SCORE_KEYS, column]].itertuples(index=False, name=None)
    own = {(str(model), int(seed), str(prompt), int(n)): float(value) for model, seed, prompt, n, value in rows}
    return own | {(another_sample(m), seed, prompt, n - 1): value for (m, seed, prompt, n), value in own.items()}


def write_verdicts(
    folder: Path, rows: pd.DataFrame, facts: Mapping[str, Any], *, alone: int = 0, same: Sequence[str] | None = None
) -> None:
    """Put the verdicts on pairs into the folder, with the numbers of those against each baseline; see `write_section`.

    `facts` are who judged, when and how; `alone` counts responses without a counterpart.
    """
    entries = [_judging(part, folder, str(baseline), facts, alone) for baseline, part in rows.groupby("baseline")]
    write_section(folder, VERDICTS, typed(rows, VERDICTS), entries, same=same)


def _judging(rows: pd.DataFrame, folder: Path, baseline: str, facts: Mapping[str, Any], alone: int) -> dict[str, Any]:
    """The numbers of verdicts against one baseline (`analysis.measure`), and what the result's scores say of them.

    once      whether each pair was shown once, and not in both orders
    gain      where each win rate came from (`analysis.rewards`)
    forecast  where the frontier's quality falls by verdicts on the reference's own samples (`analysis.rewards`); None
              for other verdicts, or without a pool
    """
    store, pairs, put = ResultStore(folder), fold(rows), first_answers(rows)
    scores, reference = store.read_scores(), str(store.read_manifest()["reference"])
    of_reference = baseline == another_sample(reference)
    pool = store.read_pool() if of_reference else None
    return {
        **facts,
        "baseline": baseline,
        "questions": {str(status): int(n) for status, n in rows["status"].value_counts().items()},
        "pairs": len(pairs),
        "alone": alone,
        "empty": int((pairs[["model_length", "baseline_length"]].min(axis=1) == 0).sum()),
        "once": len(pairs) == len(put),
        **measure(labelled(rows, folder), baseline=baseline),
        "gain": [] if of_reference else verdict_gains(pairs, scores),
        "forecast": None if pool is None else verdict_forecast(pairs, scores, pool, reference=reference),
    }


def labelled(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add the column `gold`, 1, 0.5 or 0 for the model by the gold reward, NaN without one; none if no row has one."""
    gold = (1 + np.sign(_gold(rows, folder, "model") - _gold(rows, folder, "baseline"))) / 2
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


def with_gold(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add the column `gold`, the gold reward of the response; none if no row has one."""
    gold = _gold(rows, folder, "model")
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


def _gold(rows: pd.DataFrame, folder: Path, model: str) -> FloatArray:
    """(N,) gold reward of the response by the model in that column; NaN where it is not known."""
    try:
        scores = response_scores(folder, "gold")
    except StoreError:
        scores = {}
    keys = rows[[model, "seed", "prompt_id", "sample"]].itertuples(index=False, name=None)
    return np.array([scores.get(key, math.nan) for key in keys], dtype=np.float64)
