"""The next token's logits of a GPT-2, without what transformers' modules do around its layers.

A step of decoding is a few short products for each layer. For a small model masks, views, arguments and calls within
calls take as long as they do.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel

from rlhf_bench.modeling.sampling_groups import GroupCache


def is_gpt2(model: PreTrainedModel) -> bool:
    """Whether `gpt2_logits` is the model's forward: of exactly this class, with dropout off."""
    return type(model) is GPT2LMHeadModel and not model.training


def gpt2_logits(model: Any, ids: Tensor, positions: Tensor, cache: GroupCache) -> Tensor:
    """Logits after one more token of each response, ids and positions (N,), whose keys and values enter the cache.
    (N, V)"""
    backbone = model.transformer
    x = backbone.wte(ids) + backbone.wpe(positions)
    for block, layer in zip(backbone.h, cache.layers, strict=True):
        attention = block.attn
        query, key, value = attention.c_attn(block.ln_1(x)).view(len(x), 3, -1, attention.head_dim).unbind(1)
        layer.add(key, value)
        x = x + attention.c_proj(layer.attend(query, attention.scaling))
        x = x + block.mlp(block.ln_2(x))
    logits: Tensor = model.lm_head(backbone.ln_f(x))
    return logits
