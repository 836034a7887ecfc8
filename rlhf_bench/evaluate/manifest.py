"""A result's manifest.json: everything that decides its numbers, and everything needed to repeat it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from rlhf_bench.evaluate.measure_text import Texts
from rlhf_bench.evaluate.plan import Setup
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.suite import suite_name
from rlhf_bench.files import json_text
from rlhf_bench.scorers.rouge import SETTINGS as ROUGE_SETTINGS
from rlhf_bench.stats import RESAMPLES
from rlhf_bench.types import stable_hash

__all__ = ["make_manifest"]


def make_manifest(request: Request, setup: Setup) -> dict[str, Any]:
    """`key` is the hash of what decides the numbers; `request` what was asked for, for --from; `left_out` the number of
    rows of each response file that --skip-bad passed over."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for part in setup.parts:
        entry: dict[str, Any] = {"seed": part.seed, "path": str(part.path), "hash": part.hash}
        entry["kind"] = "responses" if isinstance(part, Texts) else "checkpoint"
        if not isinstance(part, Texts) and part.template != "hh":
            entry["template"] = part.template
        by_model.setdefault(part.name, []).append(entry)
    names = [*(model.name for model in setup.models), *(text.name for text in setup.texts)]
    asked = {
        "suite": suite_name(request.suite),
        "suite_version": setup.suite.version,
        "hypervolume_kl": setup.suite.hypervolume_kl,
        "best_of_n": setup.suite.best_of_n,
        **({"metrics": list(setup.suite.metrics)} if setup.suite.metrics else {}),
        "run": request.label,
        "data": {
            "source": setup.source,
            "seed": setup.prompts.seed,
            "split": setup.prompts.split,
            "fingerprint": setup.prompts.fingerprint,
            "n_prompts": len(setup.items),
        },
        "models": {name: by_model[name] for name in dict.fromkeys(names)},
        "reference": setup.reference,
        "reward_model": [
            {"seed": seed, "path": str(scorer.path), "hash": scorer.hash} | _column(scorer.column)
            for seed, scorers in setup.scorers.items()
            for scorer in scorers
        ],
        **_readers(setup),
        "sampling": _sampling(setup),
        "seed": setup.suite.seed,
        "seeds": setup.seeds,
        "rouge": ROUGE_SETTINGS,
    } | _resamples(setup)
    return {
        **asked,
        "key": stable_hash(json_text(_identity(asked))),
        "baseline": setup.suite.baseline or setup.reference,  # a judge's, which decides no number of the evaluation
        "request": request.to_dict(),
        "stamp": request.stamp(),
        **({"left_out": setup.left_out} if setup.left_out else {}),
        "versions": {name: version(name) for name in ("torch", "transformers", "pandas", "scipy", "rouge-score")},
        "python": platform.python_version(),
        **_hardware(setup),
        "command": " ".join(["rlhf-bench", *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _resamples(setup: Setup) -> dict[str, int]:
    """Said only where it is not what it always was, so that earlier results keep their key."""
    return {} if setup.suite.resamples == RESAMPLES else {"resamples": setup.suite.resamples}


def _readers(setup: Setup) -> dict[str, list[dict[str, str]]]:
    """The language models that read every response; likewise."""
    found = [reader._asdict() | {"path": str(reader.path)} for reader in setup.readers]
    return {"perplexity_models": found} if found else {}


def _column(column: str) -> dict[str, str]:
    return {} if column == "reward" else {"column": column}


def _sampling(setup: Setup) -> dict[str, Any]:
    """How models were sampled; for files alone how many responses a prompt they hold."""
    if setup.models and setup.sampling is not None:
        return {"samples": setup.suite.samples, **setup.sampling.model_dump(mode="json")}
    counts = {len(text.by_prompt[item.prompt]) for text in setup.texts for item in setup.items}
    least, most = min(counts, default=0), max(counts, default=0)
    return {"samples": most if least == most else f"{least} to {most}"}


def _hardware(setup: Setup) -> dict[str, Any]:
    if setup.sampling is None:  # nothing was computed that depends on more
        return {"hardware": platform.machine()}
    import torch

    from rlhf_bench.modeling.models import default_device

    return {"threads": torch.get_num_threads(), "hardware": f"{platform.machine()} {default_device()}"}


def _identity(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers: everything but where the folders lie."""
    models = {name: [_without_path(m) for m in entries] for name, entries in asked["models"].items()}
    others = {
        key: [_without_path(m) for m in asked[key]] for key in ("reward_model", "perplexity_models") if key in asked
    }
    return {**asked, "models": models, **others}


def _without_path(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "path"}
