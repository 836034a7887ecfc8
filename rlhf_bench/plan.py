"""What an evaluation is made of, before anything is computed: which models, prompts, reward models and sampling."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rlhf_bench.checkpoints import Checkpoint, checkpoint_hash, open_checkpoint, read_training, run_seeds, stage_path
from rlhf_bench.data import load_preferences
from rlhf_bench.data.splits import order_key
from rlhf_bench.errors import BadValue, CheckpointError, UnknownName
from rlhf_bench.files import json_text
from rlhf_bench.measure import Source
from rlhf_bench.metrics.rouge import SETTINGS as ROUGE_SETTINGS
from rlhf_bench.models import default_device
from rlhf_bench.progress import Progress
from rlhf_bench.sampling import HUMAN_TURN, SamplingConfig
from rlhf_bench.suite import Suite
from rlhf_bench.types import PreferencePair, fingerprint, stable_hash

__all__ = ["Setup", "make_manifest", "prepare"]

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


def prepare(suite: Suite, run: Path, extra: dict[str, str], reward_model: list[str], progress: Progress) -> Setup:
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


def make_manifest(suite_name: str, run: str, setup: Setup) -> dict[str, Any]:
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
