"""Evaluate models side by side: same prompts, same sampling, one definition of every number.

Work is done a (seed, model) at a time and each finished part is stored, so an evaluation that was interrupted goes on
where it stopped. When all parts are there, they become the results folder (DESIGN, "Results").
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import exclusive
from rlhf_bench.measure import Measure, Source, measure_anchors, measure_model
from rlhf_bench.metrics.summary import summarize
from rlhf_bench.models import default_device
from rlhf_bench.plan import Setup, make_manifest, prepare
from rlhf_bench.progress import Progress
from rlhf_bench.stats import mean_estimate
from rlhf_bench.store import ResultStore
from rlhf_bench.suite import load_suite

__all__ = ["evaluate"]


def evaluate(
    suite: str = "hh-test",
    *,
    run: str = "default",
    models: Mapping[str, str] | None = None,
    reference: str | None = None,
    reward_model: Sequence[str] = (),
    data: str | None = None,
    limit: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
    force: bool = False,
    checkpoints: Path = Path("checkpoints"),
    results: Path = Path("results"),
    progress: Progress | None = None,
) -> Path:
    """Run a suite over a run's checkpoints and `models` (name -> path); returns the results folder.

    What is stored already is reused; another configuration gets a folder of its own.

    Raises:
        UsageError: an unknown suite, model or value.
        CheckpointError: a checkpoint that is missing, damaged or stale.
        StoreError: the results folder cannot be written.
    """
    progress = progress or Progress(quiet=True)
    changes = {"prompts": limit, "samples": samples, "seed": seed, "reference": reference, "data": data}
    spec = load_suite(suite).model_copy(update={k: v for k, v in changes.items() if v is not None})
    setup = prepare(spec, checkpoints / run, dict(models or {}), list(reward_model), progress)
    manifest = make_manifest(suite, run, setup)
    folder = _folder(results / Path(suite).stem, run, manifest["key"], force=force)
    store = ResultStore(folder)
    if _complete(store):
        progress.log(f"{folder}: everything is stored; nothing to compute")
        return folder
    try:
        (folder / ".parts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}); give --results a folder that can") from error
    with exclusive(folder):
        store.write_manifest(manifest)
        parts = [_part(folder / ".parts", setup, source, progress) for source in setup.sources]
        anchors = [_anchors(setup, seed, progress) for seed in sorted({source.seed for source in setup.sources})]
        _finish(store, setup, [*parts, *anchors])
        shutil.rmtree(folder / ".parts", ignore_errors=True)
    return folder


def _folder(parent: Path, run: str, key: str, *, force: bool) -> Path:
    """results/<suite>/<run>, or with a short hash where that holds another configuration."""
    folder = parent / run
    for candidate in (folder, parent / f"{run}-{key[:6]}"):
        stored = _stored_key(candidate)
        if force and (stored == key or candidate == folder):
            shutil.rmtree(candidate, ignore_errors=True)
            return candidate
        if stored in (None, key):
            return candidate
    raise StoreError(f"{candidate} holds another evaluation; remove it or use --force")


def _stored_key(folder: Path) -> str | None:
    if not (folder / "manifest.json").exists():
        return None
    return str(ResultStore(folder).read_manifest().get("key"))


def _complete(store: ResultStore) -> bool:
    return (store.path / "metrics.json").exists()


def _measure(setup: Setup, seed: int) -> Measure:
    reward = setup.reward_models.get(seed)
    reference = next(s for s in setup.sources if s.name == setup.reference and s.seed == seed)
    return Measure(
        pairs=setup.pairs, source=setup.source, sampling=setup.sampling, samples=setup.suite.samples,
        seed=setup.suite.seed * 1_000_003 + seed, reference=reference, reward_model=reward[0] if reward else None,
        device=default_device(),
    )  # fmt: skip


def _part(folder: Path, setup: Setup, source: Source, progress: Progress) -> pd.DataFrame:
    """All rows of one model under one seed, from the store or computed and stored."""
    file = folder / f"{source.name}-{source.seed}.parquet"
    if file.exists():
        return pd.read_parquet(file)
    total = len(setup.pairs) * setup.suite.samples
    with progress.task(f"{source.name}, seed {source.seed}", total=total) as task:
        rows = measure_model(_measure(setup, source.seed), source, on_batch=lambda n: task.advance(n))
    temporary = file.with_suffix(".tmp")
    rows.to_parquet(temporary, index=False)
    temporary.replace(file)
    return rows


def _anchors(setup: Setup, seed: int, progress: Progress) -> pd.DataFrame:
    with progress.task(f"chosen and rejected, seed {seed}", total=2 * len(setup.pairs)) as task:
        rows = measure_anchors(_measure(setup, seed), seed)
        task.advance(len(rows))
    return rows


RESPONSE_COLUMNS = ["model", "seed", "prompt_id", "sample", "prompt", "response", "reference", "finish_reason",
                    "n_prompt_tokens", "n_tokens"]  # fmt: skip
TEXT_COLUMNS = ["prompt", "response", "reference", "finish_reason", "n_prompt_tokens"]


def _finish(store: ResultStore, setup: Setup, parts: Sequence[pd.DataFrame]) -> None:
    rows = pd.concat(parts, ignore_index=True)
    reasons = dict(setup.missing)
    for part in parts:
        model = str(part["model"].iloc[0])
        reasons.update({(model, column): why for column, why in part.attrs.get("reasons", {}).items()})
    store.write_responses(
        [dict(zip(RESPONSE_COLUMNS, row, strict=True)) for row in rows[RESPONSE_COLUMNS].itertuples(index=False)]
    )
    scores = rows.drop(columns=TEXT_COLUMNS)
    # without a reward column nothing can be standardised; an all-NaN one is worse than none
    scores = scores.dropna(axis=1, how="all")
    summary = summarize(scores, reference=setup.reference, seed=setup.suite.seed, reasons=reasons)
    store.write_scores(scores)
    for source in setup.sources:
        log = source.path / "log.jsonl"
        if log.exists():
            store.copy_log(source.name, source.seed, log)
    for seed, (path, _) in setup.reward_models.items():
        if (path / "log.jsonl").exists():
            store.copy_log("reward", seed, path / "log.jsonl")
    store.write_metrics(
        {
            **summary,
            "missing": [*summary["missing"], *_not_run(setup.missing, summary["missing"])],
            "training": _training(setup),
            "reward_model": [_reward_accuracy(rows, seed, setup) for seed in setup.reward_models],
            "marks": _marks(setup, rows),
        }
    )


def _not_run(missing: Mapping[tuple[str, str], str], listed: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    there = {(row["model"], row["metric"]) for row in listed}
    return [
        {"model": model, "metric": metric, "reason": reason}
        for (model, metric), reason in missing.items()
        if (model, metric) not in there
    ]


def _training(setup: Setup) -> dict[str, list[dict[str, Any]]]:
    """What each model cost to train, from its training.json."""
    costs: dict[str, list[dict[str, Any]]] = {}
    for source in setup.sources:
        if source.training is not None:
            cost = {key: source.training[key] for key in ("samples", "tokens", "seconds")}
            costs.setdefault(source.name, []).append({"seed": source.seed, **cost})
    return costs


def _reward_accuracy(rows: pd.DataFrame, seed: int, setup: Setup) -> dict[str, Any]:
    """Accuracy of one seed's reward model on the evaluation's own pairs, a tie one half."""
    mine = rows[rows["seed"] == seed].set_index("prompt_id")
    chosen = mine.loc[mine["model"] == "chosen", "reward"]
    rejected = mine.loc[mine["model"] == "rejected", "reward"].reindex(chosen.index)
    right = (chosen > rejected).astype(float) + 0.5 * (chosen == rejected).astype(float)
    accuracy = mean_estimate([float(x) for x in right], seed=setup.suite.seed)
    ceiling = None
    if setup.source == "hh-mini":
        from rlhf_bench.data import mini

        ceiling = mini.ceiling(setup.pairs)
    return {"seed": seed, "accuracy": accuracy.to_dict(), "ceiling": ceiling}


def _marks(setup: Setup, rows: pd.DataFrame) -> dict[str, str]:
    """Columns whose numbers need a word of caution, and the word."""
    kl = [column for column in rows.columns if column.startswith("kl_")]
    if not setup.sampling.exact:
        s = setup.sampling
        why = f"biased: sampled at temperature {s.temperature:g}, top-p {s.top_p:g}, top-k {s.top_k}"
        return dict.fromkeys(kl, why)
    return {}
