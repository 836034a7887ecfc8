"""Faster code for what a model computes, chosen once it is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.activations import NewGELUActivation

from rlhf_bench.runtime.pool import SMALL


def use_fused_kernels(model: Any, device: torch.device) -> None:
    """Fused attention where it pays, and GPT-2's GELU in one pass instead of eight, in place.

    The backward of fused attention is slower than plain attention for a small model on a CPU. It knows no cap on
    attention scores (Gemma 2) and would leave it out.
    """
    large = device.type != "cpu" or sum(p.numel() for p in model.parameters()) > SMALL
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if large and model._supports_sdpa and not capped:
        model.set_attn_implementation("sdpa")
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))
