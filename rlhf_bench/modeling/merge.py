"""An adapter and its base as one plain model folder."""

from __future__ import annotations

from pathlib import Path

import torch

from rlhf_bench.errors import BadValue, CheckpointError
from rlhf_bench.files import atomic_write_text, json_text
from rlhf_bench.modeling.adapters import adapter_base, is_reward_adapter
from rlhf_bench.modeling.checkpoints import checkpoint_hash, model_hash, read_training, replacing
from rlhf_bench.modeling.models import load_policy, load_reward_model


def merge(adapter: Path, output: Path) -> None:
    """Write `adapter`, a policy's or a reward model's, merged into its base, to the new folder `output`.

    The weights are those that evaluation uses, in float32. training.json comes along and says what was merged.

    Raises:
        CheckpointError: `adapter` is no adapter's folder, or its base is missing or of another shape.
        StaleParent: the base has changed since the adapter was trained.
        BadValue: `output` exists.
    """
    base = adapter_base(adapter)
    if base is None:
        why = "is no adapter: it has no adapter_config.json" if adapter.exists() else "does not exist"
        raise CheckpointError(f"{adapter} {why}; expected an adapter's folder")
    if output.exists():
        raise BadValue(f"{output} exists; expected a folder that does not: choose another, or remove it first")
    merged_from = model_hash(adapter)
    load = load_reward_model if is_reward_adapter(adapter) else load_policy
    model, tokenizer = load(adapter, device=torch.device("cpu"))
    with replacing(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        training = read_training(adapter)
        if training is not None:
            training = {key: value for key, value in training.items() if key != "adapter"}
            training |= {"hash": checkpoint_hash(folder), "merged_from": {"adapter": merged_from, "base": base}}
            atomic_write_text(folder / "training.json", json_text(training, indent=2) + "\n")
