"""A result's manifest.json: everything that decides its numbers, and everything needed to repeat it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from rlhf_bench.evaluate.plan import Plan
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.sources import ModelSource, ResponseSet, ServerModel
from rlhf_bench.evaluate.suite import suite_name
from rlhf_bench.files import json_text, timestamp
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.scorers.rouge import rouge_settings
from rlhf_bench.types import stable_hash

_KINDS: dict[type, str] = {ModelSource: "checkpoint", ServerModel: "server", ResponseSet: "responses"}


def make_manifest(request: Request, plan: Plan) -> dict[str, Any]:
    """`key` is the hash of what decides the numbers; `request` what --from repeats; `left_out` the number of
    rows of each response file that --skip-bad passed over."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for part in sorted(plan.evaluated, key=lambda one: one.seed):
        entry: dict[str, Any] = {"seed": part.seed, "path": str(part.path), "hash": part.hash}
        entry["kind"] = _KINDS[type(part)]
        if isinstance(part, ServerModel):
            entry["base_url"] = part.base_url
        if not isinstance(part, ResponseSet) and part.template != "hh":
            entry["template"] = part.template
        if not isinstance(part, ResponseSet) and part.prompt:
            entry["prompt"] = dict(part.prompt)
        if _is_toy(part):
            entry["toy"] = True
        by_model.setdefault(part.name, []).append(entry)
    names = [part.name for part in plan.evaluated]
    identity = {
        "suite": suite_name(request.suite),
        "suite_version": plan.suite.version,
        "hypervolume_kl": plan.suite.hypervolume_kl,
        "best_of_n": plan.suite.best_of_n,
        "frontier": plan.suite.frontier,
        "pool_prompts": plan.suite.pool_prompts,
        "metrics": list(plan.suite.metrics),
        "strip": list(request.strip),
        "run": request.label,
        "data": {
            "source": plan.prompts.source,
            "seed": plan.prompts.seed,
            "split": plan.prompts.split,
            "fingerprint": plan.prompts.fingerprint,
            "n_prompts": len(plan.items),
        },
        "models": {name: by_model[name] for name in dict.fromkeys(names)},
        "reference": plan.reference,
        "reward_model": [
            {"seed": seed, "path": str(source.path), "hash": source.hash, "form": source.form}
            | ({} if source.column == "reward" else {"column": source.column})
            for seed, sources in plan.reward_models.items()
            for source in sources
        ],
        "perplexity_models": [source._asdict() | {"path": str(source.path)} for source in plan.language_models],
        "sampling": _sampling(plan),
        "seed": plan.suite.seed,
        "seeds": plan.seeds,
        "rouge": rouge_settings(plan.suite.rouge_tokenizer),
        "resamples": plan.suite.resamples,
    }
    return {
        **identity,
        "key": stable_hash(json_text(_without_paths(identity))),
        "baseline": plan.suite.baseline or plan.reference,  # a judge's, which decides no number of the evaluation
        "request": request.to_dict(),
        "stamp": request.stamp(),
        **({"left_out": plan.left_out} if plan.left_out else {}),
        **({"carried": plan.carried} if plan.carried else {}),
        "versions": {name: version(name) for name in ("torch", "transformers", "pandas", "scipy", "rouge-score")},
        "python": platform.python_version(),
        **_hardware(plan),
        "command": " ".join(["rlhf-bench", *sys.argv[1:]]),
        "time": timestamp(),
    }


def _is_toy(part: ModelSource | ServerModel | ResponseSet) -> bool:
    """True for a checkpoint of a recipe with numbers that mean nothing, wherever it is."""
    weights = part.weights if isinstance(part, ServerModel) else part
    return isinstance(weights, ModelSource) and bool((read_training(weights.path) or {}).get("toy"))


def _sampling(plan: Plan) -> dict[str, Any]:
    """How models were sampled; for files alone how many responses a prompt they hold."""
    if (plan.models or plan.served) and plan.sampling is not None:
        return {"samples": plan.suite.samples, **plan.sampling.model_dump(mode="json")}
    counts = {len(text.by_prompt[item.prompt]) for text in plan.response_sets for item in plan.items}
    least, most = min(counts, default=0), max(counts, default=0)
    return {"samples": most if least == most else f"{least} to {most}"}


def _hardware(plan: Plan) -> dict[str, Any]:
    if plan.sampling is None:  # nothing was computed that depends on more
        return {"hardware": platform.machine()}
    import torch

    from rlhf_bench.modeling.models import default_device

    return {"threads": torch.get_num_threads(), "hardware": f"{platform.machine()} {default_device()}"}


def _without_paths(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers: everything but where the folders lie."""
    models = {name: [_without_path(m) for m in entries] for name, entries in identity["models"].items()}
    others = {key: [_without_path(m) for m in identity[key]] for key in ("reward_model", "perplexity_models")}
    return {**identity, "models": models, **others}


def _without_path(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "path"}
