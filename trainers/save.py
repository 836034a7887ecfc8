"""Writing a finished stage: a plain Hugging Face folder, training.json, log, curve and model card."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rlhf_bench.files import atomic_write_text, json_text, read_jsonl
from rlhf_bench.modeling.checkpoints import checkpoint_hash, replacing
from rlhf_bench.report.model_card import model_card
from rlhf_bench.report.plots.curves import plot_training_curve
from trainers.alarms import find_alarms
from trainers.stage import Stage, StageResult
from trainers.step_checkpoints import write_model

__all__ = ["save_stage"]


def save_stage(
    stage: Stage, result: StageResult, target: Path, config: dict[str, Any], parents: dict[str, dict[str, str]]
) -> None:
    """Write everything beside `target`, flush it, and rename: a folder that exists is complete."""
    with replacing(target) as folder:
        adapter = write_model(result.model, result.tokenizer, folder, target, result.adapter, result.weights)
        rows: list[dict[str, Any]] = []
        if (stage.work / "log.jsonl").exists():
            shutil.copyfile(stage.work / "log.jsonl", folder / "log.jsonl")
            rows = read_jsonl(folder / "log.jsonl")
        if rows:
            plot_training_curve(rows, stage.name, folder / "training_curve.png")
        training = {
            "stage": stage.name,
            "seed": stage.seed,
            "hash": checkpoint_hash(folder),
            "config": config,
            "recipe": stage.recipe.description,
            "parents": parents,
            "data": _data(stage),
            "prompt_form": stage.recipe.data.prompt_template,
            "metrics": result.metrics,
            "samples": result.samples,
            "tokens": result.tokens,
            "steps": result.steps,
            "seconds": round(result.seconds, 2),
            "counts": result.counts,
            "alarms": [alarm._asdict() for alarm in find_alarms(rows)],
            **result.record,
            **adapter,
            "precision": stage.precision,
            "threads": torch.get_num_threads(),
            "processes": stage.processes.size,
            "fsdp": stage.fsdp,
            "versions": versions(),
            "git_commit": git_commit(),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        atomic_write_text(folder / "training.json", json_text(training, indent=2) + "\n")
        atomic_write_text(folder / "README.md", model_card(training, name=stage.name))


def _data(stage: Stage) -> dict[str, Any]:
    data = stage.data("train")
    return {
        "source": data.source,
        "seed": stage.recipe.data.seed,
        "fingerprint": data.fingerprint,
        "pairs": len(data.pairs),
        "counts": data.counts,
    }


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "tokenizers", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def git_commit() -> str | None:
    """The commit of the code that runs; None outside a checkout."""
    run = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}, check=False,
    )  # fmt: skip
    return run.stdout.strip() or None
