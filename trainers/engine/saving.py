"""What a stage saves: a plain Hugging Face folder with training.json, log, curve and card; checkpoints on the way.

    rlhf-bench train grpo --set grpo.save_steps=10 --set grpo.save_total_limit=4
    rlhf-bench eval --curve grpo='checkpoints/default/grpo-steps/*'

Checkpoints on the way lie in `<stage>-steps/checkpoint-<step>` beside the stage. They are for evaluation, not for
continuing: an interrupted stage continues from its own state.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_bench.files import atomic_write_text, json_text, read_jsonl, timestamp
from rlhf_bench.modeling.checkpoints import checkpoint_hash, replacing
from rlhf_bench.modeling.special import generation_config
from rlhf_bench.modeling.templates import Template
from rlhf_bench.runtime.writer import Writer
from trainers.engine.alarms import find_alarms
from trainers.engine.batches import template_of
from trainers.engine.lora import save_adapter
from trainers.engine.stage import Stage, StageResult, Trained, step_checkpoint, steps_folder

PREFIX = "checkpoint-"
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy")  # training.json has their versions


def save_stage(
    stage: Stage, result: StageResult, target: Path, config: Mapping[str, Any], parents: Mapping[str, Mapping[str, str]]
) -> None:
    """Write everything beside `target`, flush it, and rename: a folder that exists is complete."""
    # here, since the drawing libraries that they import take seconds
    from rlhf_bench.report.model_card import model_card
    from rlhf_bench.report.plots.curves import plot_training_curve

    with replacing(target) as folder:
        adapter = write_model(result.trained, folder, target, stage.recipe.data.prompt_template, result.weights)
        rows: list[dict[str, Any]] = []
        if (stage.folders.work / "log.jsonl").exists():
            shutil.copyfile(stage.folders.work / "log.jsonl", folder / "log.jsonl")
            rows = read_jsonl(folder / "log.jsonl")
        if rows:
            plot_training_curve(rows, stage.name, folder / "training_curve.png")
        training = {
            "stage": stage.name,
            "seed": stage.seed,
            "hash": checkpoint_hash(folder),
            "config": config,
            "recipe": stage.recipe.description,
            "toy": stage.recipe.toy,
            "parents": parents,
            "data": _data(stage),
            "prompt_form": stage.recipe.data.prompt_template,
            "form": template_of(stage.recipe, result.trained.tokenizer).describe(),
            "metrics": result.metrics,
            "samples": result.samples,
            "tokens": result.tokens,
            "steps": result.steps,
            "seconds": round(result.seconds, 2),
            "counts": result.counts,
            "alarms": [alarm._asdict() for alarm in find_alarms(rows)],
            **result.record,
            **adapter,
            "precision": stage.machine.precision,
            "threads": torch.get_num_threads(),
            "processes": stage.machine.processes.size,
            "fsdp": stage.machine.pool.shards,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "git_commit": _git_commit(),
            "finished": timestamp(),
        }
        atomic_write_text(folder / "training.json", json_text(training, indent=2) + "\n")
        atomic_write_text(folder / "README.md", model_card(training, name=stage.name))


@dataclass(frozen=True)
class StepCheckpoints:
    """Every `every` steps, and at the last one, a checkpoint of a model; at most the `limit` newest are kept."""

    stage: Path  # the finished stage's folder; not there yet
    seed: int
    every: int  # 0: none
    limit: int | None
    trained: Trained
    prompt_form: str
    toy: bool
    writer: Writer

    @classmethod
    def of(cls, stage: Stage, trained: Trained) -> StepCheckpoints:
        config = stage.config
        return cls(
            stage.folders.run / stage.name, stage.seed, config.save_steps, config.save_total_limit, trained,
            stage.recipe.data.prompt_template, stage.recipe.toy, stage.writer,
        )  # fmt: skip

    def clear(self) -> None:
        """Remove what an earlier training left: its steps are not this one's."""
        self.writer.write_and_wait(shutil.rmtree, steps_folder(self.stage), ignore_errors=True)

    def due(self, step: int, *, of: int) -> bool:
        """Whether a checkpoint is to be kept after `step` of `of` steps, counted from 1."""
        return self.every > 0 and (step % self.every == 0 or step == of)

    def path(self, step: int) -> Path:
        return step_checkpoint(self.stage, step)

    def keep(self, step: int, *, of: int, weights: dict[str, Tensor] | None = None) -> None:
        """Save the model after `step`; see `write_model`. A checkpoint of that step that is there is replaced."""
        self.writer.write_and_wait(self._keep, step, of, weights)

    def _keep(self, step: int, of: int, weights: dict[str, Tensor] | None) -> None:
        target = self.path(step)
        with replacing(target) as folder:
            adapter = write_model(self.trained, folder, target, self.prompt_form, weights)
            training = {
                "stage": self.stage.name, "seed": self.seed, "step": step, "steps": of,
                "hash": checkpoint_hash(folder), "prompt_form": self.prompt_form, "toy": self.toy, **adapter,
            }  # fmt: skip
            atomic_write_text(folder / "training.json", json_text(training, indent=2) + "\n")
        saved = [p for p in steps_folder(self.stage).iterdir() if re.fullmatch(rf"{PREFIX}\d+", p.name)]
        saved.sort(key=lambda p: int(p.name.removeprefix(PREFIX)))
        for old in saved[: -self.limit] if self.limit else []:
            shutil.rmtree(old)


def write_model(
    trained: Trained, folder: Path, target: Path, prompt_form: str, weights: dict[str, Tensor] | None = None
) -> dict[str, Any]:
    """Weights or adapter, configuration, tokenizer and how to sample, as transformers and peft themselves write them.

    `folder` will be renamed to `target`. What ends a response in `prompt_form`, which the model has learned, joins the
    ends in generation_config.json. `weights` are a sharded model's, gathered. Returns what training.json records
    of an adapter's base.
    """
    model, tokenizer, adapter = trained
    if model.can_generate():
        model.generation_config = generation_config(model, tokenizer, Template.of(prompt_form, tokenizer).end_id)
    tokenizer.save_pretrained(folder)
    if adapter is not None:
        return {"adapter": save_adapter(adapter, folder, target, weights)}
    model.save_pretrained(folder, state_dict=weights)
    return {}


def _data(stage: Stage) -> dict[str, Any]:
    data = stage.data("train")
    return {
        "source": data.source,
        "seed": stage.recipe.data.seed,
        "fingerprint": data.fingerprint,
        "pairs": len(data.pairs),
        "counts": data.counts,
    }


def _git_commit() -> str | None:
    """The commit of the code that runs; None outside a checkout."""
    run = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}, check=False,
    )  # fmt: skip
    return run.stdout.strip() or None
