"""Low-rank adapters in place of full fine-tuning: LoRA (arXiv:2106.09685) and QLoRA (arXiv:2305.14314), by peft.

    rlhf-bench train sft dpo --set sft.lora.r=16 --set dpo.lora.r=16

A stage's adapter stands on the stage's parent, merged where the parent is an adapter itself. B starts at 0, so before
the first step the model is its parent, bit for bit, and the parent is what the stage's reference is.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_bench.config import Config
from rlhf_bench.errors import BadValue, MissingExtra
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.models import seeded
from rlhf_bench.modeling.quantized import check_four_bit

__all__ = ["Adapter", "LoraConfig", "adapt", "check_lora", "check_targets", "save_adapter"]


class LoraConfig(Config):
    """An adapter: W x becomes W x + (alpha / r) B A x, with only A (r, in) and B (out, r) trained.

    Dropout is off in every model of this project, so there is no key for an adapter's.
    """

    r: int = Field(16, ge=1, description="rank of the update")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / r")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear",
        description="layers that get an adapter, by the ends of their names; all-linear: each but the head",
    )
    load_in_4bit: bool = Field(
        False, description="QLoRA: the frozen weights, the reference's and the critic's too, in 4 bits (extra quant)"
    )


class Adapter(NamedTuple):
    """A model with an adapter in its layers."""

    model: Any  # peft's wrapper; the model inside is the one that is trained
    base: str | Path  # what the adapter stands on


def check_lora(section: str, lora: LoraConfig | None, device: torch.device) -> None:
    """That an adapter can be trained here, before anything is; trainers/lora_layers.py looks for its layers.

    Raises:
        MissingExtra: peft, or bitsandbytes for 4 bits, is not installed.
        ModelError: 4 bits are asked for on a device that has none.
        BadValue: no layer is to get an adapter.
    """
    if lora is None:
        return
    if not lora.target_modules:
        raise BadValue(f"{section}.lora.target_modules: given an empty list, expected names of layers or all-linear")
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft")
    if lora.load_in_4bit:
        check_four_bit(device)


def adapt(
    model: PreTrainedModel, lora: LoraConfig | None, base: str | Path, *, seed: int, section: str = ""
) -> Adapter | None:
    """Freeze `model`, which was loaded from `base`, and put an adapter into its layers, in place; None: leave it.

    The head of a sequence classifier is trained beside the adapter and saved with it. `section`: of the recipe.

    Raises:
        BadValue: a name in target_modules that no layer has, or a layer that cannot have an adapter.
    """
    if lora is None:
        return None
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    check_targets(model, lora.target_modules, section)
    scores = "SequenceClassification" in type(model).__name__
    config = PeftConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
        task_type="SEQ_CLS" if scores else "CAUSAL_LM" if model.can_generate() else None,
        modules_to_save=["score"] if scores else None,
    )  # fmt: skip
    with seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # set by peft as each layer needs it
        warnings.simplefilter("ignore", FutureWarning)  # what peft and transformers have to tell each other
        adapted = get_peft_model(model, config)
    return Adapter(adapted.eval(), base)


def save_adapter(
    adapter: Adapter, folder: Path, target: Path, weights: dict[str, Tensor] | None = None
) -> dict[str, Any]:
    """Write peft's files into `folder`, which will be renamed to `target`; what training.json says of the base.

    `weights` are those of a divided model, gathered, by their names in the model that peft wraps. A base folder is
    named twice: by its whole path in adapter_config.json, so that transformers and peft find it from any working
    directory, and as seen from the adapter in training.json, so that a run can be moved as a whole.
    """
    here = Path(adapter.base).exists()
    base = os.path.relpath(adapter.base, target) if here else str(adapter.base)
    config = adapter.model.peft_config["default"]
    config.base_model_name_or_path = str(Path(adapter.base).resolve()) if here else base
    config.target_modules = sorted(config.target_modules)  # a set's order differs from process to process
    state = None if weights is None else {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
    adapter.model.save_pretrained(folder, save_embedding_layers=False, state_dict=state)
    return {"base": base, "base_hash": model_hash(adapter.base), "nested": adapter_base(adapter.base) is not None}


def check_targets(model: PreTrainedModel, targets: str | tuple[str, ...], section: str) -> None:
    """That each of `targets` names a layer that can have an adapter. Raises BadValue, which names those of `model`."""
    if isinstance(targets, str):
        return
    key = f"{section}.lora.target_modules".removeprefix(".")
    heads = [model.get_output_embeddings(), getattr(model, "score", None)]
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    for target in targets:
        named = [module for name, module in layers.items() if name == target or name.endswith(f".{target}")]
        if not named or any(module is head for module in named for head in heads):
            known = {n.rpartition(".")[2] for n, module in layers.items() if all(module is not head for head in heads)}
            raise BadValue(
                f"{key}: given {target!r}, expected the end of the name of a linear layer below the head "
                f"({', '.join(sorted(known))}), or all-linear"
            )
