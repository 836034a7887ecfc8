"""What a judge of pairs said, beside the result that it judged: judge/verdicts.parquet and judge/judge.json.

    verdicts.parquet   a row a question: judge, base_url, template, baseline, model, prompt_id, seed, sample, order,
                       repeat, status, winner (first, second, tie), soft, note, model_length, baseline_length
                       (characters), key (of the call in the ledger)
    judge.json         {"judgings": [...], "strengths": [...], ...}: what was asked, how it ended, what it cost, and the
                       numbers of `measures`; the other forms' parts are in `sections`

A folder holds any number of judgings, by judge, server, template and baseline; one that is made again replaces its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.judge.asking import Item, Outcome
from rlhf_bench.judge.sections import VERDICTS, read_entries, read_section, typed, write_section
from rlhf_bench.judge.types import Comparison, Reading

__all__ = [
    "IDENTITY",
    "count_statuses",
    "read_judgings",
    "read_verdicts",
    "verdict_row",
    "verdict_rows",
    "write_judging",
]

IDENTITY = VERDICTS.identity


def verdict_rows(
    comparisons: Sequence[Comparison], found: Mapping[Item, Outcome], *, judge: str, base_url: str, template: str
) -> pd.DataFrame:
    """A row a question, sorted, so that the same verdicts make the same bytes whatever order they came in."""
    rows = [
        verdict_row(comparisons[item.comparison], item, outcome.reading, outcome.key)
        for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
    ]
    table = pd.DataFrame(rows).assign(judge=judge, base_url=base_url, template=template)
    return typed(table, VERDICTS)


def verdict_row(comparison: Comparison, item: Item, reading: Reading, key: str) -> dict[str, Any]:
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


def read_verdicts(result: Path) -> pd.DataFrame | None:
    """All judgings' rows, or None if nothing was judged. Raises StoreError where the file cannot be read."""
    return read_section(result, VERDICTS)


def read_judgings(result: Path) -> list[dict[str, Any]]:
    """judge.json's judgings; none if nothing was judged. Raises StoreError where the file is broken."""
    return read_entries(result, VERDICTS)


def write_judging(result: Path, rows: pd.DataFrame, judging: Mapping[str, Any]) -> list[Path]:
    """Put one judging into the folder, each file at once, in place of an earlier one of the same IDENTITY."""
    return write_section(result, VERDICTS, rows, [judging])


def count_statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.reading.status] = counts.get(outcome.reading.status, 0) + 1
    return counts
