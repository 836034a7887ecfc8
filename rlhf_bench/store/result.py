"""The files of a results folder, `results/<suite>/<run>/`.

    manifest.json      everything needed to repeat the evaluation
    responses.jsonl    a row a (model, seed, prompt, sample)
    scores.parquet     a row a response: every per-response number, and as lists the token ids as the model drew them,
                       a stop string's included, and the KL of each
    best_of_n.parquet  where it was requested: a row a response of the reference's pool, with reward, reward_z, gold,
                       style_*, its log-probability, and the first sample of the prompt with the same tokens
    metrics.json       every Estimate; NaN is written as null and read back as NaN
    training/          <model>-<seed>.jsonl, copies of the stages' log.jsonl
    audit/             written by `rlhf-bench audit`
    judge/             written by `rlhf-bench judge run`

Files are written atomically.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from rlhf_bench.errors import DataError, StoreError
from rlhf_bench.files import (
    atomic_write_bytes,
    atomic_write_parquet,
    atomic_write_row_groups,
    atomic_write_text,
    iter_jsonl,
    json_text,
    read_jsonl,
    write_jsonl,
    writing,
)
from rlhf_bench.store.parts import LISTS
from rlhf_bench.types import ANCHORS, POLICIES

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

MANIFEST_KEYS = ("suite", "run", "data", "models", "reference", "seeds")
SCORE_KEYS = ("model", "seed", "prompt_id", "sample")  # what identifies a response of a result
# Numbers outside Estimates that are NaN, not None, where they could not be computed.
_NAN_KEYS = frozenset({"p_paired", "p_holm", "effect", "detectable"})


def order_models(names: Iterable[str]) -> list[str]:
    """base, sft, ppo, grpo, dpo, then others in the given order; the data's own responses last."""
    given = list(dict.fromkeys(names))
    others = [name for name in given if name not in POLICIES and name not in ANCHORS]
    return [*(s for s in POLICIES if s in given), *others, *(a for a in ANCHORS if a in given)]


def find_results(root: Path) -> list[Path]:
    """Every results folder at or below `root` (suite/run), sorted by path; none that is hidden, being made."""
    names = {name for depth in ("", "*/", "*/*/") for name in glob(f"{depth}manifest.json", root_dir=root)}
    return sorted((root / name).parent for name in names)


class ResultStore:
    """One results folder. Reading raises StoreError where a file is missing or broken, writing where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    # manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._write_json("manifest.json", manifest)

    def read_manifest(self) -> dict[str, Any]:
        manifest = self._read_json("manifest.json")
        lacking = [key for key in MANIFEST_KEYS if key not in manifest]
        if lacking:
            raise StoreError(f"{self.path / 'manifest.json'} lacks {', '.join(lacking)}; {_AGAIN}")
        if not manifest["seeds"]:
            raise StoreError(f"{self.path / 'manifest.json'} names no seed; {_AGAIN}")
        return manifest

    # responses

    def write_responses(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with writing(self.path / "responses.jsonl") as path:
            write_jsonl(path, rows)

    def read_responses(self) -> list[dict[str, Any]]:
        """Every complete row; see `pick_responses`."""
        return self.pick_responses(lambda row: row)

    def pick_responses(self, pick: Callable[[dict[str, Any]], T | None]) -> list[T]:
        """What `pick` makes of each complete row, where that is not None: in a large result whole rows would take most
        of the memory. A last line that an interrupted write left unfinished is passed over.

        Raises StoreError where the rows are not those of scores.parquet, if that is there.
        """
        picked, there = list[T](), set[int]()
        with self._reading("responses.jsonl") as path:
            for row in iter_jsonl(path, drop_partial=True):
                there.add(hash(tuple(row.get(key) for key in SCORE_KEYS)))
                if (made := pick(row)) is not None:
                    picked.append(made)
        self.check_responses()
        if (self.path / "scores.parquet").exists():
            with self._reading("scores.parquet") as path:
                scores = pd.read_parquet(path, engine="pyarrow", columns=list(SCORE_KEYS))
            lost = [key for key in scores.itertuples(index=False, name=None) if hash(key) not in there]
            if lost:
                key = ", ".join(str(part) for part in min(lost))
                name = self.path / "responses.jsonl"
                raise StoreError(f"{name} lacks the row ({key}) of scores.parquet; {_AGAIN}")
        return picked

    def check_responses(self) -> None:
        """That responses.jsonl holds as many rows as scores.parquet, which is written after it. Raises StoreError.

        Rows are counted, not read: a file that was emptied or cut, or lost lines, is noticed at once.
        """
        import pyarrow.parquet as pq

        if not (self.path / "scores.parquet").exists():
            return  # of an evaluation that is not finished
        with self._reading("responses.jsonl") as path, open(path, "rb") as file:
            found = sum(line.endswith(b"\n") and not line.isspace() for line in file)
        with self._reading("scores.parquet") as scores:
            expected = pq.read_metadata(scores).num_rows
        if found != expected:
            holds = f"{found:,} of {expected:,} rows"
            if found > expected:
                holds = f"{found:,} rows, and scores.parquet beside it {expected:,}"
            raise StoreError(f"{path} holds {holds}; {_AGAIN}")

    # scores

    def write_scores(
        self, scores: pd.DataFrame, *, columns: Sequence[str] = (), groups: Iterable[pd.DataFrame] | None = None
    ) -> None:
        """A row a response, keyed by model, seed, prompt_id and sample, which together must be unique.

        `groups`: the same rows in their order, in parts, where they are too large for memory together. Their `columns`
        may be more than those of `scores`: lists of numbers.
        """
        check_rows("scores", scores)
        with writing(self.path / "scores.parquet") as path:
            schema = _schema(scores, columns or list(scores.columns))
            atomic_write_row_groups(path, [scores] if groups is None else groups, schema)

    def read_scores(self) -> pd.DataFrame:
        with self._reading("scores.parquet") as path:
            return pd.read_parquet(path, engine="pyarrow")

    def write_pool(self, pool: pd.DataFrame) -> None:
        """The responses that best-of-n chooses from, keyed as the scores are."""
        check_rows("best_of_n", pool)
        with writing(self.path / "best_of_n.parquet") as path:
            atomic_write_parquet(path, pool)

    def read_pool(self) -> pd.DataFrame | None:
        """best_of_n.parquet; None where the result has no pool."""
        if not (self.path / "best_of_n.parquet").exists():
            return None
        with self._reading("best_of_n.parquet") as path:
            return pd.read_parquet(path, engine="pyarrow")

    # metrics

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """`metrics` may hold Estimates or their dicts."""
        self._write_json("metrics.json", metrics)

    def read_metrics(self) -> dict[str, Any]:
        """The metrics with every Estimate as a dict, NaN where the file has null."""
        metrics = self._read_json("metrics.json")
        if not isinstance(metrics.get("models"), dict):
            raise StoreError(f"{self.path / 'metrics.json'} has no 'models' table; {_AGAIN}")
        return dict(restore_numbers(metrics))

    # training logs

    def copy_log(self, model: str, seed: int, source: Path) -> None:
        """Keep a stage's log.jsonl beside the results, so that a report needs no checkpoint."""
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read the training log {source} ({_why(error)}); check the path") from error
        with writing(self.path / "training" / f"{model}-{seed}.jsonl") as path:
            atomic_write_bytes(path, data)

    def read_logs(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """(model, seed) -> log rows, sorted by name."""
        logs = {}
        for path in sorted((self.path / "training").glob("*-*.jsonl")):
            model, _, seed = path.stem.rpartition("-")
            if seed.isdigit():
                with self._reading(f"training/{path.name}"):
                    logs[model, int(seed)] = read_jsonl(path, drop_partial=True)
        return logs

    # audit

    def read_audit(self) -> dict[str, Any] | None:
        """audit/audit.json, or None if no audit was made."""
        return self._read_numbers("audit/audit.json")

    def read_mistakes(self) -> list[dict[str, Any]]:
        if not (self.path / "audit" / "mistakes.jsonl").exists():
            return []
        with self._reading("audit/mistakes.jsonl") as path:
            return read_jsonl(path)

    # judge

    def read_judge(self) -> dict[str, Any]:
        """judge/judge.json; empty if nothing was judged."""
        return self._read_numbers("judge/judge.json") or {}

    # shared

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        with writing(self.path / name) as path:
            atomic_write_text(path, json_text(value, indent=1) + "\n")

    def _read_json(self, name: str) -> dict[str, Any]:
        with self._reading(name) as path:
            try:
                value = json.loads(path.read_bytes())
            except ValueError as error:
                raise StoreError(f"{path} is not valid JSON ({error}); {_AGAIN}") from error
        if not isinstance(value, dict):
            raise StoreError(f"{path} holds a {type(value).__name__}; expected a JSON object; {_AGAIN}")
        return value

    def _read_numbers(self, name: str) -> dict[str, Any] | None:
        """A JSON file with numbers that JSON cannot hold restored; None where there is none."""
        return dict(restore_numbers(self._read_json(name))) if (self.path / name).exists() else None

    @contextmanager
    def _reading(self, name: str) -> Iterator[Path]:
        path = self.path / name
        try:
            yield path
        except FileNotFoundError as error:
            raise StoreError(f"{path} does not exist; {self._why_missing()}") from error
        except DataError as error:
            raise StoreError(f"{error}; {_AGAIN}") from error
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise StoreError(f"cannot read {path} ({_why(error)}); {_AGAIN}") from error

    def _why_missing(self) -> str:
        if not (self.path / "manifest.json").is_file():
            return "expected a results folder made by `rlhf-bench eval`"
        if (self.path / "metrics.json").is_file():
            return _AGAIN
        return "the evaluation has not ended; `rlhf-bench list results` prints the command that continues it"


_AGAIN = "restore the file, or run `rlhf-bench eval` again with the same options and --force"


def _why(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.split("\n")[0]


def _schema(scores: pd.DataFrame, columns: Sequence[str]) -> pa.Schema:
    """Types of `columns` for all groups: those of `scores`, where a group may have nothing to tell them by."""
    import pyarrow as pa

    known = pa.Schema.from_pandas(scores, preserve_index=False)
    lists = {name: pa.list_(pa.float64() if name == "token_kl" else pa.int32()) for name in LISTS}
    fields = [known.field(name) if name in known.names else pa.field(name, lists[name]) for name in columns]
    return pa.schema(fields, metadata=known.metadata)


def check_rows(name: str, rows: pd.DataFrame) -> None:
    """Raise StoreError unless every row has the keys of a response, and no two the same."""
    lacking = [key for key in SCORE_KEYS if key not in rows.columns]
    if lacking:
        raise StoreError(f"{name} have no column {', '.join(lacking)}; expected {', '.join(SCORE_KEYS)}")
    twice = rows.duplicated(list(SCORE_KEYS))
    if twice.any():
        key = ", ".join(str(part) for part in rows.loc[twice, list(SCORE_KEYS)].iloc[0])
        raise StoreError(f"{name} hold ({key}) twice; expected one row a (model, seed, prompt_id, sample)")


def restore_numbers(value: Any) -> Any:
    """Undo what JSON cannot hold: null and "Infinity" become floats again inside Estimates and p-values."""
    if isinstance(value, list):
        return [restore_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    numbers = {"value", "low", "high"} if {"value", "low", "high", "n"} <= value.keys() else _NAN_KEYS
    return {key: _number(item) if key in numbers else restore_numbers(item) for key, item in value.items()}


def _number(item: Any) -> float:
    return math.nan if item is None else float(item)
