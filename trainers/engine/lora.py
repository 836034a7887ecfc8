"""Low-rank adapters in place of full fine-tuning: LoRA (arXiv:2106.09685) and QLoRA (arXiv:2305.14314), by peft.

    rlhf-bench train sft dpo --set sft.lora.r=16 --set dpo.lora.r=16

A stage's adapter is trained on the stage's parent, merged where the parent is an adapter itself. B starts at 0, so
before the first step the model is its parent, bit for bit, and the parent is what the stage's reference is. It is saved
as an adapter of a plain model (lora_chain.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_bench.errors import BadValue, CheckpointError, MissingExtra, ModelError
from rlhf_bench.files import atomic_write_text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.model_files import readable, root_config
from rlhf_bench.modeling.models import seeded
from rlhf_bench.modeling.quantized import check_four_bit
from rlhf_bench.types import STAGES
from trainers.config.optimizer import LoraConfig
from trainers.config.recipe import NewModel, Recipe
from trainers.engine.lora_chain import joined_with_base


class Adapter(NamedTuple):
    """A model with an adapter in its layers."""

    model: Any  # peft's wrapper; the model inside is the one that is trained
    base: str | Path  # the model that the adapter changes


def check_lora(section: str, lora: LoraConfig | None, device: torch.device) -> None:
    """Check that an adapter can be trained here, before anything is; peft looks for its layers later.

    Raises:
        MissingExtra: peft, or bitsandbytes for 4 bits, is not installed.
        ModelError: 4 bits are configured on a device that has none.
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
        warnings.simplefilter("ignore", FutureWarning)  # deprecations between peft and transformers
        adapted = get_peft_model(model, config)
    return Adapter(adapted.eval(), base)


def save_adapter(
    adapter: Adapter, folder: Path, target: Path, weights: dict[str, Tensor] | None = None
) -> dict[str, Any]:
    """Write peft's files into `folder`, which will be renamed to `target`; what training.json says of the base.

    Where the base is an adapter, the two are joined (lora_chain.py), and the base is the model under both.
    `weights` are those of a sharded model, gathered, by their names in the model that peft wraps. A base folder is
    named twice: by its whole path in adapter_config.json, so that transformers and peft find it from any working
    directory, and as seen from the adapter in training.json, so that a run can be moved as a whole.
    """
    config = adapter.model.peft_config["default"]
    config.target_modules = sorted(config.target_modules)  # a set's order differs from process to process
    state = None if weights is None else {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
    adapter.model.save_pretrained(folder, save_embedding_layers=False, state_dict=state)
    root = joined_with_base(folder, adapter.base, [name for name, _ in adapter.model.named_modules()])
    base = adapter.base if root is None else root
    here = Path(base).exists()
    named = os.path.relpath(base, target) if here else str(base)
    file = folder / "adapter_config.json"
    written = json.loads(file.read_bytes()) | {"base_model_name_or_path": str(Path(base).resolve()) if here else named}
    atomic_write_text(file, json.dumps(written, indent=2, sort_keys=True))
    return {"base": named, "base_hash": model_hash(base), "nested": adapter_base(base) is not None}


def check_targets(model: PreTrainedModel, targets: str | tuple[str, ...], section: str) -> None:
    """Check that each of `targets` can have an adapter. Raises BadValue, which names the layers of `model` that can."""
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


def check_layers(stage: str, recipe: Recipe) -> None:
    """Check that the stage's model has the layers of `<stage>.lora.target_modules`. Raises BadValue where not."""
    lora: LoraConfig | None = getattr(getattr(recipe, stage), "lora", None)
    if lora is None or isinstance(lora.target_modules, str):
        return
    elsewhere = stage == "reward" and recipe.reward.backbone not in STAGES
    model = _outline(recipe.reward.backbone if elsewhere else recipe.model, scores=stage == "reward")
    if model is not None:
        check_targets(model, lora.target_modules, stage)


def _outline(model: NewModel | str, *, scores: bool) -> PreTrainedModel | None:
    """The model's layers without weights; None where its configuration cannot be read: loading raises."""
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
