"""Faster code for what a model computes, chosen once it is loaded."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import GELUTanh, NewGELUActivation

from rlhf_bench.runtime.memory import keep_freed_memory
from rlhf_bench.runtime.pool import SMALL

AT_ONCE = 1 << 19  # elements


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of matrix products of `dtype` here: autocast's where it is on."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype


def remembers_shapes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether matrix products here are faster in shapes that came before: not in float32 on a CPU."""
    return device.type != "cpu" or product_dtype(dtype, device) != torch.float32


def use_fused_kernels(model: Any, device: torch.device) -> None:
    """Fused attention where it pays, and GPT-2's GELU by `TanhGELU`; beside a large model on a CPU
    the process keeps its freed memory.

    The backward of fused attention is slower than plain attention for a small model on a CPU. It knows no cap on
    attention scores (Gemma 2) and would leave it out.
    """
    on_cpu, large = device.type == "cpu", sum(p.numel() for p in model.parameters()) > SMALL
    if on_cpu and large:
        keep_freed_memory()
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if (large or not on_cpu) and model._supports_sdpa and not capped:
        model.set_attn_implementation("sdpa")
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) in (NewGELUActivation, GELUTanh):
                setattr(module, name, TanhGELU())


class TanhGELU(nn.Module):
    """GPT-2's GELU: x (1 + tanh(u)) / 2 = x sigmoid(2u), with u = sqrt(2 / pi) (x + 0.044715 x^3)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.gelu(x, approximate="tanh")
        out: Tensor = _BySigmoid.apply(x)  # type: ignore[no-untyped-call]
        return out


class _BySigmoid(torch.autograd.Function):
    """torch's sigmoid is several times faster than its tanh on a CPU: two to three times for the whole, both ways.

    With s the sigmoid and v = 2 x du/dx the derivative is s + x s (1 - s) 2 du/dx = s (1 + v (1 - s)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.square(x).mul_(_CUBIC).add_(_LINEAR).mul_(x).sigmoid_().mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        # a part at a time: what is computed in between stays in the processor's cache
        for part, grad, found in zip(*(t.reshape(-1).split(AT_ONCE) for t in (x, grads[0], out)), strict=True):
            v = torch.square(part)
            s = v.mul(_CUBIC).add_(_LINEAR).mul_(part).sigmoid_()
            v.mul_(3 * _CUBIC).add_(_LINEAR).mul_(part)
            torch.mul(v.addcmul_(v, s, value=-1).add_(1).mul_(s), grad, out=found)
        return out


_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR
