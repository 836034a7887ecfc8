"""Linear layers of a model on a CPU with their weights laid out for few rows.

Decoding multiplies a handful of rows by every weight of the model. A plain product rearranges the weight for its kernel
each time, which costs more than the product; here that is done once for all tokens of a call, by oneDNN. For a large
model reading the weights is then most of the time, so that weights in bfloat16 take half of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_bench.runtime.pool import SMALL

ROWS = 32  # the number of rows that the layout is chosen for; it serves any number


@contextlib.contextmanager
def packed_weights(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Packed weights of `dtype` in the model's linear layers while the block lasts, on a CPU.

    Weights may not change meanwhile, and no gradient flows. A processor without bfloat16 packs in float32. Threads that
    share the model use the weights that are packed before they start: a block within another changes nothing.
    """
    layers = list(_layers(model)) if on_cpu(model) else []
    if layers and dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtype = torch.float32
    try:
        for layer in layers:
            layer.forward = _packed_forward(layer, dtype)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def on_cpu(model: PreTrainedModel) -> bool:
    return model.device.type == "cpu" and bool(torch.backends.mkldnn.is_available())


_sizes: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()  # model -> its parameters, which every pass asks


def is_large(model: PreTrainedModel) -> bool:
    """True for a model on a CPU with weights too large for its cache, which one thread at a time works on."""
    if not on_cpu(model):
        return False
    if model not in _sizes:
        _sizes[model] = sum(p.numel() for p in model.parameters())
    return _sizes[model] > SMALL


def _layers(model: PreTrainedModel) -> Iterator[nn.Module]:
    """The layers with a product that can be replaced: of exactly these classes, in float32, not compiled."""
    for module in model.modules():
        if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
            continue
        weight: Any = module.weight
        if type(weight) in (Tensor, nn.Parameter) and weight.dtype == torch.float32:
            yield module


def _packed_forward(layer: Any, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach().to(dtype)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    rows = weight if isinstance(layer, nn.Linear) else weight.T.contiguous()  # (out, in)
    packed = torch.ops.mkldnn._reorder_linear_weight(rows, ROWS)

    def forward(x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")
        return product.to(x.dtype)

    return forward
