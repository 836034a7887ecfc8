"""Evaluate models side by side: same prompts, same sampling, one definition of every number.

Work is done a (seed, model) at a time and each finished part is stored, so an evaluation that was interrupted goes on
where it stopped. When all parts are there, they become the results folder (DESIGN, "Results").
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from rlhf_bench.checkpoints import Checkpoint, checkpoint_hash, open_checkpoint, read_training, run_seeds, stage_path
from rlhf_bench.data import load_preferences
from rlhf_bench.data.splits import order_key
from rlhf_bench.errors import BadValue, CheckpointError, StoreError, UnknownName
from rlhf_bench.files import exclusive, json_text
from rlhf_bench.measure import Measure, Source, measure_anchors, measure_model
from rlhf_bench.metrics.rouge import SETTINGS as ROUGE_SETTINGS
from rlhf_bench.metrics.summary import summarize
from rlhf_bench.models import default_device
from rlhf_bench.progress import Progress
from rlhf_bench.sampling import HUMAN_TURN, SamplingConfig
from rlhf_bench.stats import mean_estimate
from rlhf_bench.store import ResultStore
from rlhf_bench.suite import Suite, load_suite
from rlhf_bench.types import PreferencePair, fingerprint, stable_hash

__all__ = ["evaluate"]

POLICIES = ("base", "sft", "ppo", "grpo", "dpo")


@dataclass(frozen=True)
class Setup:
    """What one evaluation is made of, before anything is computed."""

    suite: Suite
    pairs: list[PreferencePair]  # one a prompt
    source: str
    data_seed: int
    sources: list[Source]  # a model under a seed
    reward_models: dict[int, tuple[Path, str]]  # seed -> folder, hash
    reference: str
    sampling: SamplingConfig
    missing: dict[tuple[str, str], str]


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
    setup = _prepare(spec, checkpoints / run, dict(models or {}), list(reward_model), progress)
    manifest = _manifest(suite, run, setup)
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


def _prepare(suite: Suite, run: Path, extra: dict[str, str], reward_model: list[str], progress: Progress) -> Setup:
    seeds = run_seeds(run)
    found = {
        (stage, seed): open_checkpoint(stage_path(run, stage, seed))
        for seed in seeds
        for stage in (*POLICIES, "reward")
        if read_training(stage_path(run, stage, seed)) is not None
    }
    trained = [stage for stage in POLICIES if any(name == stage for name, _ in found)]
    clash = sorted(set(extra) & {*trained, "chosen", "rejected"})
    if clash:
        raise BadValue(f"--model {clash[0]}=...: the run has a model of that name; choose another")
    if not found:
        named = "" if run.name == "default" else f" --run {run.name}"
        raise CheckpointError(f"{run} holds no checkpoint; make them with: rlhf-bench train all{named}")
    names = [*trained, *extra]
    if suite.reference not in names:
        raise UnknownName("reference model", suite.reference, names)

    shared = next(iter(found.values())).training["config"]
    source = suite.data or str(shared["data"]["source"])
    data_seed = int(shared["data"]["seed"])
    loaded = load_preferences(source, suite.split, seed=data_seed)
    progress.log(f"data: {loaded.summary()}")
    pairs = _choose(loaded.pairs, suite)

    reward_models, missing = _reward_models(found, seeds, run, reward_model)
    for stage in POLICIES:
        if stage not in trained:
            missing[stage, "everything"] = f"not trained; make it with: rlhf-bench train {stage} --run {run.name}"
    sources = []
    for seed in seeds:
        for name in names:
            checkpoint = found.get((name, seed))
            path = Path(extra[name]) if name in extra else checkpoint.path if checkpoint else None
            if path is None:
                missing[name, f"seed {seed}"] = "not trained under this seed"
                continue
            digest = checkpoint.hash if checkpoint else _hash(path)
            sources.append(
                Source(name, _seed_number(found, seed), path, digest, checkpoint.training if checkpoint else None)
            )
    sampling = SamplingConfig(
        max_new_tokens=suite.max_new_tokens or int(shared["data"]["max_response_tokens"]),
        max_prompt_tokens=int(shared["data"]["max_prompt_tokens"]),
        temperature=suite.temperature, top_k=suite.top_k, top_p=suite.top_p,
        stop=tuple(suite.stop if suite.stop is not None else shared.get("stop", (HUMAN_TURN,))),
    )  # fmt: skip
    return Setup(suite, pairs, source, data_seed, sources, reward_models, suite.reference, sampling, missing)


def _seed_number(found: Mapping[tuple[str, int | None], Checkpoint], seed: int | None) -> int:
    """The seed of a run without seed folders is what its checkpoints say."""
    return seed if seed is not None else next(iter(found.values())).seed


def _reward_models(
    found: Mapping[tuple[str, int | None], Checkpoint],
    seeds: Sequence[int | None],
    run: Path,
    given: Sequence[str],
) -> tuple[dict[int, tuple[Path, str]], dict[tuple[str, str], str]]:
    if len(given) > 1:
        raise BadValue(f"--reward-model: given {len(given)}, expected one; run an evaluation for each")
    models: dict[int, tuple[Path, str]] = {}
    for seed in seeds:
        number = _seed_number(found, seed)
        if given:
            models[number] = (Path(given[0]), _hash(Path(given[0])))
        elif ("reward", seed) in found:
            checkpoint = found["reward", seed]
            models[number] = (checkpoint.path, checkpoint.hash)
    if models:
        return models, {}
    why = f"no reward model; make it with: rlhf-bench train reward --run {run.name}, or give --reward-model PATH"
    return {}, {("all", "reward"): why}


def _hash(path: Path) -> str:
    """Hash of a local folder; a hub name stands for itself."""
    return checkpoint_hash(path) if path.is_dir() else str(path)


def _choose(pairs: Sequence[PreferencePair], suite: Suite) -> list[PreferencePair]:
    """One pair a prompt, `suite.prompts` of them, by a hash that nothing else depends on."""
    by_prompt: dict[str, PreferencePair] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt, pair)
    ordered = sorted(by_prompt.values(), key=lambda pair: order_key(suite.seed, pair.prompt))
    return ordered[: suite.prompts]


def _manifest(suite_name: str, run: str, setup: Setup) -> dict[str, Any]:
    by_model: dict[str, list[dict[str, Any]]] = {}
    for source in setup.sources:
        entry = {"seed": source.seed, "path": str(source.path), "hash": source.hash, "kind": "checkpoint"}
        by_model.setdefault(source.name, []).append(entry)
    asked = {
        "suite": Path(suite_name).stem,
        "suite_version": setup.suite.version,
        "run": run,
        "data": {
            "source": setup.source,
            "seed": setup.data_seed,
            "split": setup.suite.split,
            "fingerprint": fingerprint(setup.pairs),
            "n_prompts": len(setup.pairs),
        },
        "models": by_model,
        "reference": setup.reference,
        "reward_model": [
            {"seed": seed, "path": str(path), "hash": digest} for seed, (path, digest) in setup.reward_models.items()
        ],
        "sampling": {"samples": setup.suite.samples, **setup.sampling.model_dump(mode="json")},
        "seed": setup.suite.seed,
        "seeds": sorted({source.seed for source in setup.sources}),
        "rouge": ROUGE_SETTINGS,
    }
    return {
        **asked,
        "key": stable_hash(json_text(_identity(asked))),
        "versions": {name: version(name) for name in ("torch", "transformers", "pandas", "scipy", "rouge-score")},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "hardware": f"{platform.machine()} {default_device()}",
        "command": " ".join(["rlhf-bench", *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _identity(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers: everything but where the folders lie."""
    models = {name: [(m["seed"], m["hash"]) for m in entries] for name, entries in asked["models"].items()}
    rewards = [(m["seed"], m["hash"]) for m in asked["reward_model"]]
    return {**asked, "models": models, "reward_model": rewards}


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
