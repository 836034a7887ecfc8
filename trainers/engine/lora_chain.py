"""An adapter that was trained on an adapter, as one adapter of the model under both.

peft and transformers load no adapter of an adapter. The two add up to one of the joint rank: with the
updates s B A and s' B' A' of a layer, scaled by alpha over r, the sum is [s B, s' B'] times A over A'.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf_bench.files import atomic_write_text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.folders import model_folder

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What peft can do beside plain LoRA; an adapter that does any of it is left on its base.
_OTHER = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices")
Pair = tuple[Tensor, Tensor]  # A (r, in), B (out, r), which is scaled


def joined_with_base(folder: Path, base: str | Path, layers: Collection[str]) -> str | None:
    """Join the adapter in `folder` with `base`, an adapter that it was trained on, in place. `layers`: the names of the
    adapted model's modules.

    Returns the model under both, as `base` names it; None where the two stay as they are.
    """
    root, under = adapter_base(base), Path(model_folder(base))
    if root is None or adapter_base(root) is not None or not (under / _WEIGHTS).is_file():
        return None
    config, lower = (json.loads((place / _CONFIG).read_bytes()) for place in (folder, under))
    plain = lower.get("peft_type") == "LORA" and lower.get("bias") == "none" and not any(map(lower.get, _OTHER))
    if not plain or not isinstance(lower["target_modules"], list):
        return None
    weights = load_file(folder / _WEIGHTS)
    first, second = _layers(load_file(under / _WEIGHTS), lower), _layers(weights, config)
    if not first.keys() <= set(layers):  # of a class that calls its layers otherwise
        return None
    others = {name: tensor for name, tensor in weights.items() if ".lora_" not in name}
    ranks = lower["r"], config["r"]
    joined = {}
    for name in sorted(first | second):
        halves = [layers.get(name) for layers in (first, second)]
        a, b = next(half for half in halves if half is not None)
        blank = [(a.new_zeros(r, a.shape[1]), b.new_zeros(b.shape[0], r)) for r in ranks]
        parts = [half or empty for half, empty in zip(halves, blank, strict=True)]
        joined[f"{name}.lora_A.weight"] = torch.cat([a for a, _ in parts])
        joined[f"{name}.lora_B.weight"] = torch.cat([b for _, b in parts], dim=1).contiguous()
    config |= {
        "r": sum(ranks), "lora_alpha": sum(ranks),
        "target_modules": sorted({*config["target_modules"], *lower["target_modules"]}),
    }  # fmt: skip
    save_file({**joined, **others}, folder / _WEIGHTS, metadata={"format": "pt"})
    atomic_write_text(folder / _CONFIG, json.dumps(config, indent=2, sort_keys=True))
    return root


def _layers(weights: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Pair]:
    """The pairs of an adapter's layers, by the layer's name."""
    scale, ending = config["lora_alpha"] / config["r"], ".lora_A.weight"
    names = [name.removesuffix(ending) for name in weights if name.endswith(ending)]
    return {name: (weights[f"{name}{ending}"], scale * weights[f"{name}.lora_B.weight"]) for name in names}
