"""Checkpoints on the way: plain Hugging Face folders `<stage>-steps/checkpoint-<step>` beside the stage.

    rlhf-bench train grpo --set grpo.save_steps=10 --set grpo.save_total_limit=4
    rlhf-bench eval --curve grpo='checkpoints/default/grpo-steps/*'

They are for looking at, not for continuing: an interrupted stage goes on from its own state.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.files import atomic_write_text, json_text
from rlhf_bench.modeling.checkpoints import checkpoint_hash, replacing
from rlhf_bench.modeling.special import generation_config
from trainers.lora import Adapter, save_adapter

__all__ = ["StepCheckpoints", "steps_folder", "write_model"]

PREFIX = "checkpoint-"


def steps_folder(stage: Path) -> Path:
    """Where the checkpoints of a stage's folder on the way to it are."""
    return stage.with_name(f"{stage.name}-steps")


def write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    target: Path,
    adapter: Adapter | None,
    weights: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Weights or adapter, configuration, tokenizer and how to sample, as transformers and peft themselves write them.

    `folder` will be renamed to `target`. A divided model's `weights` have been gathered. What training.json says of an
    adapter's base is returned.
    """
    if model.can_generate():
        model.generation_config = generation_config(model, tokenizer)
    tokenizer.save_pretrained(folder)
    if adapter is not None:
        return {"adapter": save_adapter(adapter, folder, target, weights)}
    model.save_pretrained(folder, state_dict=weights)
    return {}


@dataclass(frozen=True)
class StepCheckpoints:
    """Every `every` steps, and at the last one, a checkpoint of `model`; at most the `limit` newest are kept."""

    stage: Path  # the finished stage's folder; not there yet
    seed: int
    every: int  # 0: none
    limit: int | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: Adapter | None
    prompt_form: str

    def begin(self) -> None:
        """Removes what an earlier training left: its steps are not this one's."""
        shutil.rmtree(steps_folder(self.stage), ignore_errors=True)

    def due(self, step: int, *, of: int) -> bool:
        """Whether a checkpoint is to be kept after `step` of `of` steps, counted from 1."""
        return self.every > 0 and (step % self.every == 0 or step == of)

    def path(self, step: int) -> Path:
        return steps_folder(self.stage) / f"{PREFIX}{step}"

    def keep(self, step: int, *, of: int, weights: dict[str, Tensor] | None = None) -> None:
        """Saves the model after `step`; see `write_model`. A step that was saved before is replaced."""
        target = self.path(step)
        with replacing(target) as folder:
            adapter = write_model(self.model, self.tokenizer, folder, target, self.adapter, weights)
            training = {
                "stage": self.stage.name, "seed": self.seed, "step": step, "steps": of,
                "hash": checkpoint_hash(folder), "prompt_form": self.prompt_form, **adapter,
            }  # fmt: skip
            atomic_write_text(folder / "training.json", json_text(training, indent=2) + "\n")
        for old in self._saved()[: -self.limit] if self.limit else []:
            shutil.rmtree(old)

    def _saved(self) -> list[Path]:
        """The checkpoints that are there, by step."""
        found = [p for p in steps_folder(self.stage).iterdir() if re.fullmatch(rf"{PREFIX}\d+", p.name)]
        return sorted(found, key=lambda p: int(p.name.removeprefix(PREFIX)))
