"""The files of a judged result: a table of rows for each form of judging, and judge/judge.json over all of them.

    judge/verdicts.parquet   pairs, a row a question; judge.json's "judgings"
    judge/ratings.parquet    single responses, a row a question and criterion; "ratings"
    judge/rankings.parquet   line-ups, a row a question and response; "rankings"

Each holds any number of judgings; one that is made again replaces those of the same identity.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_parquet, atomic_write_text, exclusive, json_text
from rlhf_bench.judge.measures import measured_people, measured_strengths

__all__ = ["RANKINGS", "RATINGS", "VERDICTS", "Section", "read_entries", "read_section", "typed", "write_section"]

_LOCK_SECONDS = 30.0
_AGAIN = "remove it and run `rlhf-bench judge run` again: what was answered is in the ledger and costs nothing"
_WHO = ("judge", "base_url", "template")
_RESPONSE = ("model", "prompt_id", "seed", "sample")


class Section(NamedTuple):
    """One form's part of the folder."""

    key: str  # in judge.json
    file: str
    identity: tuple[str, ...]  # what a judging made again has in common with the one that it replaces
    columns: tuple[str, ...]
    sorted_by: tuple[str, ...]
    numbers: Mapping[str, str]  # columns that are no text, and their type


VERDICTS = Section(
    "judgings",
    "verdicts.parquet",
    (*_WHO, "baseline"),
    (
        *(*_WHO, "baseline", *_RESPONSE, "order", "repeat", "status", "winner", "soft", "note"),
        *("model_length", "baseline_length", "key"),
    ),
    (*_WHO, "baseline", *_RESPONSE, "order", "repeat"),
    {
        **{"soft": "float64", "seed": "int64", "sample": "int64", "repeat": "int64"},
        **{"model_length": "int64", "baseline_length": "int64"},
    },
)
RATINGS = Section(
    "ratings",
    "ratings.parquet",
    _WHO,
    (*_WHO, *_RESPONSE, "repeat", "status", "criterion", "rating", "note", "length", "key"),
    (*_WHO, "criterion", *_RESPONSE, "repeat"),
    {"rating": "float64", "seed": "int64", "sample": "int64", "repeat": "int64", "length": "int64"},
)
RANKINGS = Section(
    "rankings",
    "rankings.parquet",
    _WHO,
    (*_WHO, *_RESPONSE, "draw", "place", "repeat", "status", "rank", "note", "length", "key"),
    (*_WHO, "prompt_id", "seed", "sample", "draw", "repeat", "place"),
    {
        **{"rank": "float64", "draw": "int64", "place": "int64", "seed": "int64", "sample": "int64"},
        **{"repeat": "int64", "length": "int64"},
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


def read_entries(result: Path, section: Section) -> list[dict[str, Any]]:
    """judge.json's list of a form; empty if nothing was judged in it. Raises StoreError where the file is broken."""
    return list(_read(result / "judge" / "judge.json").get(section.key, []))


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
) -> list[Path]:
    """Put judgings into the folder, each file at once, in place of earlier ones that agree with them in `same`.

    `same` is the section's identity unless given. What judge.json says of several judgings together is made anew from
    all verdicts.
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
    return [path, summary]


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
