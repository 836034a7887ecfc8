"""Which layers a stage's adapter is to go into, looked for in the model's configuration before anything is trained."""

from __future__ import annotations

from typing import cast

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, PreTrainedModel

from rlhf_bench.errors import CheckpointError, ModelError
from rlhf_bench.modeling.checkpoints import STAGES
from rlhf_bench.modeling.model_files import readable, root_config
from trainers.lora import LoraConfig, check_targets
from trainers.recipe import NewModel, Recipe

__all__ = ["check_layers"]


def check_layers(stage: str, recipe: Recipe) -> None:
    """That the stage's model has the layers that `<stage>.lora.target_modules` names. Raises BadValue where not."""
    lora: LoraConfig | None = getattr(getattr(recipe, stage), "lora", None)
    if lora is None or isinstance(lora.target_modules, str):
        return
    elsewhere = stage == "reward" and recipe.reward.backbone not in STAGES
    model = _outline(recipe.reward.backbone if elsewhere else recipe.model, scores=stage == "reward")
    if model is not None:
        check_targets(model, lora.target_modules, stage)


def _outline(model: NewModel | str, *, scores: bool) -> PreTrainedModel | None:
    """The model's layers without weights; None where its configuration cannot be read: said when it is loaded."""
    kind = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    try:
        if isinstance(model, str):
            config = root_config(model)
        else:
            config = GPT2Config(n_layer=model.n_layer, n_head=model.n_head, n_embd=model.n_embd)
        with readable(str(model)), torch.device("meta"):
            return cast(PreTrainedModel, kind.from_config(config))
    except (CheckpointError, ModelError):
        return None
