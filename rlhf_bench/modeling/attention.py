"""Attention that can be replaced for the passes of one thread, where the architecture's own does needless work.

Transformers' architectures call their attention by a name in the configuration. A model that is extended here has a
name under which its own attention is called, unless the thread has set another with `attending`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from rlhf_bench.modeling.heads import backbone_of, first_position

EXTENDED = {"eager": "rlhf_bench", "sdpa": "rlhf_bench_sdpa"}  # names in transformers' registry
# Arguments of an attention that ask for nothing beyond plain attention.
PLAIN = {"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal", "output_hidden_states"}

Attention = Callable[..., tuple[Tensor, Any]]  # as transformers calls it
# Of a layer: module, query (N, heads, T, E), key and value (N, key heads, T', E), scale -> (N, T, heads, E).
Replacement = Callable[[Any, Tensor, Tensor, Tensor, float], Tensor]

# What models raise that are called in a way that they do not know.
REFUSALS = (ValueError, TypeError, RuntimeError, LookupError, AttributeError)

_replacement: ContextVar[Replacement | None] = ContextVar("_replacement", default=None)
_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # backbone -> whether it is extended
_lock = threading.Lock()


class OtherForm(TypeError):
    """The architecture does something that its replacement here does not know."""


def warn_of_own_fault(model: Any, error: Exception) -> None:
    """Warn where a trial has failed in a line of this project, and not in the model's: else nothing would show it but
    that the model is slow."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if str(frame.f_globals.get("__name__")).startswith("rlhf_bench.") and not isinstance(error, OtherForm):
        warnings.warn(
            f"{type(model).__name__}: {frame.f_code.co_name} has failed ({type(error).__name__}: {error}), so that the "
            "model is computed in its own way, which is slower; please report this",
            stacklevel=2,
        )


@contextlib.contextmanager
def attending(attention: Replacement | None) -> Iterator[None]:
    """Attention of this thread's passes of extended models while the block lasts; None: their own. It is called without
    a mask: the backbone is given `no_mask`."""
    token = _replacement.set(attention)
    try:
        yield
    finally:
        _replacement.reset(token)


def replacement() -> Replacement | None:
    """What `attending` has set in this thread."""
    return _replacement.get()


def no_mask(model: PreTrainedModel) -> Tensor:
    """A mask of four dimensions, which transformers passes on as it is; what reads it after all gives NaN."""
    return torch.full((1, 1, 1, 1), torch.nan, dtype=model.dtype, device=model.device)


def adds_mask(model: PreTrainedModel) -> bool:
    """Whether the model's attention adds its mask to the scores, in place of reading True and False."""
    return _attention_of(model) in ("eager", EXTENDED["eager"])


def _attention_of(model: PreTrainedModel) -> str | None:
    """The name of the model's attention in transformers' registry."""
    name: str | None = model.config.get_text_config()._attn_implementation
    return name


def can_replace_attention(model: PreTrainedModel) -> bool:
    """Whether the model's attention can be replaced, as it is from here on: tried once, on a short text.

    It cannot where the architecture does not attend through transformers' interface, or where its attention is more
    than products and a softmax, such as dropout in training. Nothing else changes for the model.
    """
    backbone = backbone_of(model)
    with _lock:
        if backbone not in _known:
            _known[backbone] = Context().run(_extend, backbone)
        known = _known[backbone] and _attention_of(backbone) in EXTENDED.values()  # it may be another since
    return known and not (model.training and _has_dropout(backbone))


def _has_dropout(backbone: Any) -> bool:
    """Some attentions have it as a number in the configuration."""
    in_modules = any(module.p for module in backbone.modules() if isinstance(module, nn.Dropout))
    return in_modules or bool(getattr(backbone.config.get_text_config(), "attention_dropout", 0.0))


@torch.no_grad()
def _extend(backbone: Any) -> bool:
    config = backbone.config.get_text_config()
    before = config._attn_implementation
    if before not in EXTENDED:
        return before in EXTENDED.values()  # of a copy
    ids = torch.tensor([[1, 2, 3, 3]], device=backbone.device)
    positions = torch.arange(4, device=backbone.device)[None] + first_position(backbone)
    without = no_mask(backbone)

    def states(mask: Tensor | None) -> Tensor:
        out = backbone(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)
        return cast(Tensor, out.last_hidden_state)

    with torch.autocast(backbone.device.type, enabled=False):
        try:
            expected = states(None)
            config._attn_implementation = EXTENDED[before]
            same = bool(torch.equal(states(None), expected))
            with attending(_causal):
                same = same and close_states(states(without), expected)
        except REFUSALS as error:
            same = False  # an attention that is more than that, or a backbone that takes no such mask or no positions
            warn_of_own_fault(backbone, error)
    if not same:
        config._attn_implementation = before
    return same


def close_states(found: Tensor, expected: Tensor) -> bool:
    """Equal hidden states or logits but for rounding."""
    tolerance = 1e-3 if expected.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def for_query_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values (..., key heads, T, E), each for all query heads that share it: (..., heads, T, E)."""
    shared = heads // x.shape[-3]
    return x.repeat_interleave(shared, dim=-3) if shared > 1 else x


def _causal(_: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    key, value = (for_query_heads(x, query.shape[1]) for x in (key, value))
    masked = torch.full(query.shape[-2:-1] * 2, -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    return ((query @ key.mT * scale + masked).softmax(-1) @ value).transpose(1, 2)


def _attend(
    base: str, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float | None = None, dropout: float = 0.0, **more: Any,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Raises OtherForm for what an architecture wants beyond plain attention, where that is replaced."""
    attention = None if torch.compiler.is_compiling() else replacement()
    if attention is None:
        return _own(base, module)(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )  # fmt: skip
    special = [name for name, given in more.items() if given is not None and name not in PLAIN]
    if special or dropout:
        raise OtherForm(f"this attention does not know {', '.join(special) or 'dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attention(module, query, key, value, scale), None


def _own(base: str, module: Any) -> Attention:
    """The architecture's own plain attention, or transformers' fused one."""
    if base == "eager":
        return cast(Attention, sys.modules[type(module).__module__].eager_attention_forward)
    return cast(Attention, AttentionInterface()[base])


for _base, _name in EXTENDED.items():
    AttentionInterface.register(_name, partial(_attend, _base))
    AttentionMaskInterface.register(_name, AttentionMaskInterface()[_base])
