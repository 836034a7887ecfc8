"""The next token's logits of known architectures, without what transformers' modules do around the layers.

A step of decoding is a few short products for each layer. For a small model masks, views, arguments and calls within
calls take as long as they do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.modeling.heads import backbone_of
from rlhf_bench.modeling.sampling_groups import GroupCache

# Model, ids and positions (N,) of one more token of each response, and the cache that its keys and values enter ->
# logits after it, (N, V).
Step = Callable[[Any, Tensor, Tensor, GroupCache], Tensor]


def decoding_step(model: PreTrainedModel) -> Step | None:
    """The step that does what the model's own forward does, for one of transformers' classes below with dropout off and
    no hooks that it would pass by.

    `can_group` compares the two when it tries a model.
    """
    kind = type(model)
    known = _STEPS.get(kind.__name__)
    if known is None or model.training or not kind.__module__.startswith("transformers.models."):
        return None
    step, layers, attention = known
    backbone = backbone_of(model)
    blocks = getattr(backbone, layers)
    passed_by = itertools.chain((model, backbone), blocks, (getattr(block, attention) for block in blocks))
    return None if any(module._forward_hooks or module._forward_pre_hooks for module in passed_by) else step


def _gpt2(model: Any, ids: Tensor, positions: Tensor, cache: GroupCache) -> Tensor:
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


def _llama(model: Any, ids: Tensor, positions: Tensor, cache: GroupCache) -> Tensor:
    backbone = model.model
    x = backbone.embed_tokens(ids)
    cos, sin = backbone.rotary_emb(x, positions[:, None])  # (N, 1, E), for all heads
    first, second = sin.chunk(2, dim=-1)
    sin = torch.cat((-first, second), dim=-1)  # for the halves of a head changed over

    def rotated(heads: Tensor) -> Tensor:
        changed_over = heads.roll(heads.shape[-1] // 2, -1)
        return torch.addcmul(heads * cos, changed_over, sin)

    for block, layer in zip(backbone.layers, cache.layers, strict=True):
        attention = block.self_attn
        normed = block.input_layernorm(x)
        query, key, value = (
            product(normed).view(len(x), -1, attention.head_dim)
            for product in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        layer.add(rotated(key), value)
        x = x + attention.o_proj(layer.attend(rotated(query), attention.scaling))
        x = x + block.mlp(block.post_attention_layernorm(x))
    logits: Tensor = model.lm_head(backbone.norm(x))
    return logits


# By name: most commands need no class of them loaded. The step, and what the backbone calls its layers and these their
# attention.
_STEPS: dict[str, tuple[Step, str, str]] = {
    "GPT2LMHeadModel": (_gpt2, "h", "attn"),
    "LlamaForCausalLM": (_llama, "layers", "self_attn"),
    "MistralForCausalLM": (_llama, "layers", "self_attn"),
    "Qwen2ForCausalLM": (_llama, "layers", "self_attn"),
}
