"""What a judge said, beside the result that it judged: judge/verdicts.parquet and judge/judge.json.

    verdicts.parquet   a row a question: judge, base_url, template, baseline, model, prompt_id, seed, sample, order,
                       repeat, status, winner (first, second, tie), soft, note, model_length, baseline_length
                       (characters), key (of the call in the ledger)
    judge.json         {"judgings": [...], "strengths": [...]}: what was asked, how it ended, what it cost, and the
                       numbers of `measures`

A folder holds any number of judgings, by judge, server, template and baseline; one that is made again replaces its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_parquet, atomic_write_text, exclusive, json_text
from rlhf_bench.judge.measures import measured_strengths
from rlhf_bench.judge.types import Comparison, Reading

if TYPE_CHECKING:  # openai, which it needs to ask, takes long to import
    from rlhf_bench.judge.run import Item, Outcome

__all__ = ["IDENTITY", "count_statuses", "read_judgings", "read_verdicts", "verdict_rows", "write_judging"]

IDENTITY = ("judge", "base_url", "template", "baseline")
_COLUMNS = (
    *IDENTITY,
    "model",
    "prompt_id",
    "seed",
    "sample",
    "order",
    "repeat",
    "status",
    "winner",
    "soft",
    "note",
    "model_length",
    "baseline_length",
    "key",
)
_LOCK_SECONDS = 30.0


def verdict_rows(
    comparisons: Sequence[Comparison], found: Mapping[Item, Outcome], *, judge: str, base_url: str, template: str
) -> pd.DataFrame:
    """A row a question, sorted, so that the same verdicts make the same bytes whatever order they came in."""
    rows = [
        _row(comparisons[item.comparison], item, outcome.reading, outcome.key)
        for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
    ]
    table = pd.DataFrame(rows).assign(judge=judge, base_url=base_url, template=template)
    return _typed(table)


def _row(comparison: Comparison, item: Item, reading: Reading, key: str) -> dict[str, Any]:
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


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numbers = {"soft": "float64", "seed": "int64", "sample": "int64", "repeat": "int64"}
    numbers |= {"model_length": "int64", "baseline_length": "int64"}
    table = table[list(_COLUMNS)].astype({name: numbers.get(name, "object") for name in _COLUMNS})
    return table.sort_values([*IDENTITY, "model", "prompt_id", "seed", "sample", "order", "repeat"], ignore_index=True)


def read_verdicts(result: Path) -> pd.DataFrame | None:
    """All judgings' rows, or None if nothing was judged. Raises StoreError where the file cannot be read."""
    path = result / "judge" / "verdicts.parquet"
    if not path.exists():
        return None
    try:
        return _typed(pd.read_parquet(path, engine="pyarrow"))
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"cannot read {path} ({str(error).splitlines()[0]}); {_AGAIN}") from error


def read_judgings(result: Path) -> list[dict[str, Any]]:
    """judge.json's judgings; none if nothing was judged. Raises StoreError where the file is broken."""
    path = result / "judge" / "judge.json"
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_bytes())["judgings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {path} ({error}); {_AGAIN}") from error


_AGAIN = "remove it and run `rlhf-bench judge run` again: what was answered is in the ledger and costs nothing"


def write_judging(result: Path, rows: pd.DataFrame, judging: Mapping[str, Any]) -> list[Path]:
    """Put one judging into the folder, each file at once, in place of an earlier one of the same IDENTITY."""
    folder = result / "judge"
    with _waiting(folder):
        verdicts, judgings = folder / "verdicts.parquet", folder / "judge.json"
        before = read_verdicts(result)
        others = [] if before is None else [before[~_same(before, judging)]]
        table = _typed(pd.concat([*(part for part in others if len(part)), rows], ignore_index=True))
        atomic_write_parquet(verdicts, table)
        kept = [row for row in read_judgings(result) if any(row.get(key) != judging[key] for key in IDENTITY)]
        kept = sorted([*kept, dict(judging)], key=lambda row: [str(row.get(key)) for key in IDENTITY])
        strengths = measured_strengths(table)
        atomic_write_text(judgings, json_text({"judgings": kept, "strengths": strengths}, indent=1) + "\n")
    return [verdicts, judgings]


def _same(table: pd.DataFrame, judging: Mapping[str, Any]) -> pd.Series[bool]:
    same = pd.Series(True, index=table.index)
    for key in IDENTITY:
        same &= table[key] == judging[key]
    return same


class _waiting:
    """`exclusive`, but two judgings that end together wait for each other: writing takes a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            self._lock = exclusive(self._folder)
            try:
                self._lock.__enter__()
            except StoreError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def count_statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.reading.status] = counts.get(outcome.reading.status, 0) + 1
    return counts
