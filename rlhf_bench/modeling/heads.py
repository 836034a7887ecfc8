"""Makes logits of the backbone's last hidden state, as a model's own forward does it.

Most models end in one linear layer. Some scale or cap what it gives (Granite, Cohere, Gemma 2, Falcon-H1,
RecurrentGemma), or transform the hidden state first (encoders' heads). None of this is repeated here: where a model's
own forward gives other logits than its output layer alone, its forward is called with the hidden state in the place of
the backbone.
"""

from __future__ import annotations

import copy
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

PROBE_SCALES = (1.0, 1e3)  # a cap changes large logits alone
# Relative to the largest logit: rounding, in float32 and in half precision; far below any scale or cap.
TOLERANCE, HALF_TOLERANCE = 1e-3, 3e-2
_linear: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_first: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def backbone_of(model: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that gives hidden states; a model without a head is its own."""
    name = _backbone_name(model)
    return model if name is None else cast(PreTrainedModel, model._modules[name])


def _backbone_name(model: PreTrainedModel) -> str | None:
    """Llama 4 keeps its backbone under another name than `base_model_prefix`, which transformers looks for."""
    if model.base_model_prefix in model._modules:
        return str(model.base_model_prefix)
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), None)


def first_position(model: nn.Module) -> int:
    """The position of a text's first token: 0, but of RoBERTa and its kin one above the id of padding."""
    known = _first.get(model)
    if known is None:
        tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
        padding = [getattr(table, "padding_idx", None) for table in tables]
        known = _first[model] = next((index + 1 for index in padding if index is not None), 0)
    return known


def max_positions(model: nn.Module) -> int:
    """How many tokens the model can read at once; a large number where its configuration names no limit."""
    config: Any = model.config
    return int(getattr(config, "max_position_embeddings", None) or 1 << 20) - first_position(model)


def output_layer(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Weight (V, H) and bias (V,) of the layer that gives the logits."""
    layer: Any = model.get_output_embeddings()
    return layer.weight, getattr(layer, "bias", None)


def is_linear(model: PreTrainedModel) -> bool:
    """True if the model's own logits are those of its output layer and nothing else. Measured once a model."""
    known = _linear.get(model)
    if known is None:
        known = _linear[model] = _measure(model)
    return known


@torch.no_grad()
def _measure(model: PreTrainedModel) -> bool:
    if model.get_output_embeddings() is None or _has_further_parameters(model):
        return False
    weight, bias = output_layer(model)
    if weight.shape[1] != _width(model):  # a head that transforms the hidden state to another width (ELECTRA)
        return False
    generator = torch.Generator().manual_seed(0)
    for scale in PROBE_SCALES:
        hidden = (scale * torch.randn(4, _width(model), generator=generator)).to(weight.device, model.dtype)
        plain = nn.functional.linear(hidden, weight.to(hidden.dtype), bias if bias is None else bias.to(hidden.dtype))
        if not close(own_logits(model, hidden), plain):
            return False
    return True


def _has_further_parameters(model: PreTrainedModel) -> bool:
    """Whether something else beside backbone and output layer is learned, such as a scale that begins at 1."""
    layer: Any = model.get_output_embeddings()
    known = {id(p) for p in (*backbone_of(model).parameters(), layer.weight, getattr(layer, "bias", None))}
    return any(id(p) not in known for p in model.parameters())


def own_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits of the model's own forward where its backbone gives `hidden`, (N, H) -> (N, V).

    The forward runs on a shallow copy with the same weights, so that the model itself can be at work in other threads.
    """
    head = copy.copy(model)
    head.__dict__ = dict(model.__dict__)
    name = _backbone_name(model)
    assert name is not None
    head._modules = {**model._modules, name: _Given(model._modules[name], hidden[None])}
    ids = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
    logits: Tensor = type(model).forward(head, input_ids=ids, use_cache=False).logits
    return logits[0]


class _Output(BaseModelOutput):  # type: ignore[misc]
    """A backbone's output of which nothing but the last hidden state is known: all else is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _Given(nn.Module):
    """Replaces the backbone and gives a hidden state that is known already."""

    def __init__(self, backbone: nn.Module | None, hidden: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> _Output:
        return _Output(last_hidden_state=self.hidden)

    def __getattr__(self, name: str) -> Any:
        """A head may read a factor from the backbone (Falcon-H1), or call a part of it (OPT's decoder)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            found = getattr(object.__getattribute__(self, "backbone"), name)
            return self if isinstance(found, nn.Module) else found


def close(found: Tensor, expected: Tensor) -> bool:
    """Equal logits but for rounding."""
    if found.shape != expected.shape:
        return False
    half = torch.finfo(expected.dtype).bits < 32
    found, expected = found.float(), expected.float()
    largest = expected.abs().max().clamp(min=1e-6)
    return bool((found - expected).abs().max() <= (HALF_TOLERANCE if half else TOLERANCE) * largest)


def _width(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)
