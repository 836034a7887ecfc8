"""The results folder, made of the parts that are stored.

The numbers of all responses are held together, for the statistics; their texts and the terms of their tokens, which are
most of the bytes, pass through a shard at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rlhf_bench.evaluate.missing import missing_of_readers, unread
from rlhf_bench.evaluate.parts import Part
from rlhf_bench.evaluate.plan import Setup
from rlhf_bench.evaluate.training_record import training_alarms, training_costs
from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.metrics.best_of_n import best_of_n_curve, best_of_n_fit, probability_held
from rlhf_bench.metrics.registry import KL_COLUMNS
from rlhf_bench.metrics.summary import summarize
from rlhf_bench.metrics.table import reward_scales, with_reward_z
from rlhf_bench.scorers.self_bleu import self_bleu
from rlhf_bench.store import ResultStore

__all__ = ["finish", "read_part"]

RESPONSE_COLUMNS = ["model", "seed", "prompt_id", "sample", "prompt", "response", "reference", "finish_reason",
                    "n_prompt_tokens", "n_tokens"]  # fmt: skip
TEXT_COLUMNS = ["prompt", "response", "reference", "finish_reason", "n_prompt_tokens"]
TEXTS = 500  # texts at most: the number grows with them, so all models of a table have the same
WIDE = ("prompt", "response", "reference", "token_kl")  # left on disk while the numbers are counted
AT_ONCE = 20_000  # rows whose token_kl is held together: beyond them the scores are written a shard at a time


def finish(store: ResultStore, setup: Setup, parts: Sequence[Part], pools: Sequence[Part]) -> None:
    """Write responses, scores, pool, training logs and, last of all, metrics; the parts are removed then."""
    numbers = [read_part(part) for part in parts]
    rows = pd.concat(numbers, ignore_index=True)
    paired = any(item.chosen is not None and item.rejected is not None for item in setup.items)
    reasons = dict(setup.missing) | missing_of_readers(rows, [reader.name for reader in setup.readers])
    for part in numbers:
        model = str(part["model"].iloc[0])
        reasons.update({(model, column): why for column, why in part.attrs.get("reasons", {}).items()})
    gone = {(name, metric): why for (name, metric), why in setup.missing.items() if name not in set(rows["model"])}
    store.write_responses(_responses(parts))
    # without a reward column nothing can be standardised; an all-NaN one is worse than none
    scores = rows.drop(columns=TEXT_COLUMNS, errors="ignore").dropna(axis=1, how="all")
    summary = summarize(
        scores, reference=setup.reference, seed=setup.suite.seed, reasons=reasons,
        hypervolume_kl=setup.suite.hypervolume_kl,
    )  # fmt: skip
    _write_scores(store, scores, parts)
    for source in setup.models:
        log = source.path / "log.jsonl"
        if log.exists():
            store.copy_log(source.name, source.seed, log)
    for seed, scorers in setup.scorers.items():
        if scorers and (scorers[0].path / "log.jsonl").exists():
            store.copy_log("reward", seed, scorers[0].path / "log.jsonl")
    best: dict[str, Any] = {}
    if pools:
        drawn = pd.concat([_read(pool) for pool in pools], ignore_index=True)
        pool = with_reward_z(drawn, reward_scales(scores, setup.reference))
        store.write_pool(pool.dropna(axis=1, how="all"))
        best = {
            "best_of_n": best_of_n_curve(pool, seed=setup.suite.seed),
            "best_of_n_held": probability_held(pool),
        }
        summary["over_optimisation"] += best_of_n_fit(pool, seed=setup.suite.seed)
    store.write_metrics(
        {
            **summary,
            **best,
            "missing": [*summary["missing"], *_rows_of(gone)],
            "training": training_costs(setup.models),
            "training_alarms": training_alarms(setup.models, setup.scorers),
            "reward_model": [_reward_accuracy(rows, seed, setup) for seed, s in setup.scorers.items() if s and paired],
            "marks": _marks(setup, rows),
        }
    )
    shutil.rmtree(store.path / ".parts", ignore_errors=True)


def read_part(part: Part) -> pd.DataFrame:
    """The numbers of one model's responses, with self-BLEU, which compares them with each other.

    It is of the first responses to the first prompts, which are in the order of a hash; NaN elsewhere.
    """
    rows = _read(part)
    first = np.flatnonzero(rows["sample"] == 0)[:TEXTS]
    values = np.full(len(rows), np.nan)
    values[first] = self_bleu(list(islice(_first_responses(part), TEXTS)))
    found = rows.assign(self_bleu=values)
    found.attrs = rows.attrs
    return found


def _columns(file: Path) -> list[str]:
    names: list[str] = pq.read_schema(file).names
    return names


def _read(part: Part) -> pd.DataFrame:
    """The rows of a part, in the order of the prompts, without their WIDE columns; `attrs` are those of each shard."""
    frames = [pd.read_parquet(file, columns=[name for name in _columns(file) if name not in WIDE]) for file in part]
    rows = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    if "category" in rows:  # as it was written: whether a shard has any must not decide the type of the result's
        rows["category"] = rows["category"].astype(object)
    rows.attrs = frames[0].attrs
    return rows


def _first_responses(part: Part) -> Iterator[str]:
    """Each prompt's response number 0."""
    for file in part:
        rows = pd.read_parquet(file, columns=["sample", "response"])
        yield from rows.loc[rows["sample"] == 0, "response"]


def _responses(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    for file in chain.from_iterable(parts):
        rows = pd.read_parquet(file, columns=RESPONSE_COLUMNS)
        for row in rows.itertuples(index=False, name=None):
            yield dict(zip(RESPONSE_COLUMNS, row, strict=True))


def _write_scores(store: ResultStore, scores: pd.DataFrame, parts: Sequence[Part]) -> None:
    """`scores` with the exact KL of each token where it was measured, in its place among the columns."""
    files = list(chain.from_iterable(parts))
    # as if all columns of one part stood before those that only a later one has
    order = dict.fromkeys(
        name for part in parts for name in [*(n for file in part for n in _columns(file)), "self_bleu"]
    )
    columns = [name for name in order if name in scores.columns or name == "token_kl"]
    groups = _groups(scores, files, columns)
    if len(scores) <= AT_ONCE:
        store.write_scores(pd.concat(list(groups), ignore_index=True))
    else:
        store.write_wide_scores(scores, columns, groups)


def _groups(scores: pd.DataFrame, files: Sequence[Path], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows of each file, with `columns`."""
    start = 0
    for file in files:
        end = start + pq.read_metadata(file).num_rows
        group = scores.iloc[start:end]
        if "token_kl" in columns:
            measured = "token_kl" in _columns(file)
            terms = pd.read_parquet(file, columns=["token_kl"])["token_kl"].to_numpy() if measured else None
            group = group.assign(token_kl=terms)
        yield group[list(columns)]
        start = end


def _rows_of(missing: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    return [{"model": model, "metric": metric, "reason": reason} for (model, metric), reason in missing.items()]


def _reward_accuracy(rows: pd.DataFrame, seed: int, setup: Setup) -> dict[str, Any]:
    """Accuracy of one seed's reward model on the evaluation's own pairs, a tie one half."""
    mine = rows[rows["seed"] == seed].set_index("prompt_id")
    chosen = mine.loc[mine["model"] == "chosen", "reward"]
    rejected = mine.loc[mine["model"] == "rejected", "reward"].reindex(chosen.index)
    right = (chosen > rejected).astype(float) + 0.5 * (chosen == rejected).astype(float)
    samples = np.asarray(right, dtype=np.float64)[None, :, None]  # (S, P, K)
    accuracy = bounded_mean(samples, seed=setup.suite.seed)
    return {"seed": seed, "accuracy": accuracy.to_dict(), "ceiling": setup.prompts.ceiling}


def _marks(setup: Setup, rows: pd.DataFrame) -> dict[str, str]:
    """Columns whose numbers need a word of caution, and the word."""
    kl = [column for column in rows.columns if column in KL_COLUMNS]
    marks = unread(rows, [reader.name for reader in setup.readers])
    if setup.sampling is not None and not setup.sampling.exact:
        s = setup.sampling
        why = f"biased: sampled at temperature {s.temperature:g}, top-p {s.top_p:g}, top-k {s.top_k}"
        marks |= dict.fromkeys(kl, why)
    return marks
