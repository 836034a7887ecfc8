"""Linear layers in 4 bits, as QLoRA has them (arXiv:2305.14314): NF4, quantised constants, products in bf16.

Such a model is frozen; what is trained is an adapter on it. A policy's reference, its critic and the policy itself are
all loaded this way, so that they are the same function before the first step.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from rlhf_bench.errors import MissingExtra, ModelError
from rlhf_bench.modeling.adapters import adapter_base


def check_four_bit(device: torch.device) -> None:
    """Check that a model can be loaded in 4 bits on this device.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: the device is no GPU.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes")
    if device.type != "cuda":
        raise ModelError(
            f"load_in_4bit: the device is {device.type}, expected a CUDA GPU, where bitsandbytes has its kernels; "
            "leave load_in_4bit out: LoRA without it runs everywhere"
        )


def four_bit_options(path: str | Path, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is given to load the model at `path` in 4 bits.

    Raises as `check_four_bit`, and ModelError where `path` is an adapter: merged into 4 bits, it would be rounded.
    """
    check_four_bit(device)
    if adapter_base(path) is not None:
        raise ModelError(
            f"{path} is an adapter, which cannot be merged into a base in 4 bits without rounding it; merge it first: "
            f"rlhf-bench merge {path} OUTPUT"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    return {"quantization_config": config, "device_map": {"": device}}
