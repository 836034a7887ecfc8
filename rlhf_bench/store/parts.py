"""What an evaluation has finished so far, in `.parts` of its results folder.

A part is a model's scored responses under one seed, or the pool that best-of-n chooses from. It is stored a shard of
the prompts at a time: a Parquet file, and beside it a JSON file with the reasons of what could not be computed. The
Parquet file is written last, so that a shard which is there is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_parquet, atomic_write_text, json_text

LISTS = ("token_ids", "token_kl", "token_ends")  # a list a response
WIDE = ("prompt", "response", "reference", *LISTS)  # most of the bytes: read a shard at a time
RESPONSE_COLUMNS = ("model", "seed", "prompt_id", "sample", "prompt", "response", "reference", "finish_reason",
                    "n_prompt_tokens", "n_tokens")  # fmt: skip

Part = Sequence[str]  # the names of its shards


class PartStore:
    """The shards in a results folder, each by its name."""

    def __init__(self, result: Path) -> None:
        self.folder = result / ".parts"

    def create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder.parent} cannot be written ({error.strerror}); give --results a folder that can"
            ) from error

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, shard: str) -> Path:
        return self.folder / f"{shard}.parquet"

    def stored(self, part: Part) -> set[str]:
        """The shards of a part that are finished."""
        return {shard for shard in part if self._file(shard).exists()}

    def write(self, shard: str, rows: pd.DataFrame, missing: Mapping[str, str]) -> None:
        """`missing`: column -> why it is not there."""
        file = self._file(shard)
        if missing:
            atomic_write_text(file.with_suffix(".json"), json_text(missing))
        atomic_write_parquet(file, rows)

    def missing(self, part: Part) -> dict[str, str]:
        """Column -> why a shard of the part does not have it."""
        files = [self._file(shard).with_suffix(".json") for shard in part]
        return {k: v for file in reversed(files) if file.exists() for k, v in json.loads(file.read_bytes()).items()}

    def numbers(self, part: Part) -> pd.DataFrame:
        """The rows of a part, in the order of the prompts, without their WIDE columns."""
        frames = [pd.read_parquet(self._file(s), columns=[c for c in self.columns([s]) if c not in WIDE]) for s in part]
        rows = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
        if "category" in rows:  # whether a shard has any must not decide the type of the result's
            rows["category"] = rows["category"].astype(object)
        return rows

    def columns(self, part: Part) -> list[str]:
        """Every column that a shard of the part has."""
        import pyarrow.parquet as pq

        return list(dict.fromkeys(name for shard in part for name in pq.read_schema(self._file(shard)).names))

    def first_responses(self, part: Part) -> Iterator[str]:
        """Each prompt's response of sample 0."""
        for shard in part:
            rows = pd.read_parquet(self._file(shard), columns=["sample", "response"])
            yield from rows.loc[rows["sample"] == 0, "response"]

    def responses(self, part: Part) -> Iterator[dict[str, Any]]:
        """The rows of responses.jsonl."""
        for shard in part:
            rows = pd.read_parquet(self._file(shard), columns=list(RESPONSE_COLUMNS))
            for row in rows.itertuples(index=False, name=None):
                yield dict(zip(RESPONSE_COLUMNS, row, strict=True))

    def column(self, shard: str, name: str) -> pd.Series[Any]:
        """A column of one shard; None in every row where the shard does not have it."""
        if name in self.columns([shard]):
            return pd.read_parquet(self._file(shard), columns=[name])[name]
        return pd.Series([None] * self.count(shard), dtype=object)

    def count(self, shard: str) -> int:
        """How many responses a shard has."""
        import pyarrow.parquet as pq

        return int(pq.read_metadata(self._file(shard)).num_rows)
