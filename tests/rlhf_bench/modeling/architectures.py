"""Models of many architectures, as small as they can be, with random weights that are large enough to matter."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlhf_bench.modeling.models import seeded

from ..tiny import scale_matrices

VOCABULARY = 120
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
# Of each: its type in transformers, and what makes its logits its own.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "llama": _SMALL,
    "qwen2": _SMALL,
    "mistral": _SMALL,
    "gemma": _SMALL,
    "gemma2": _SMALL | {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "gpt_neox": _SMALL,
    "granite": _SMALL | {"logits_scaling": 8.0},
    "cohere": _SMALL | {"logit_scale": 0.0625},
    "phi3": _SMALL,
    "falcon_h1": _SMALL
    | {"lm_head_multiplier": 0.25, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    "recurrent_gemma": _SMALL
    | {"num_hidden_layers": 3, "logits_soft_cap": 3.0, "lru_width": 32, "attention_window_size": 64},
    "mamba": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    # a backbone under another name than transformers looks for; heads of another width than the backbone
    "llama4_text": _SMALL | {"num_local_experts": 2, "intermediate_size_mlp": 48, "num_experts_per_tok": 1},
    "electra": _SMALL | {"is_decoder": True, "embedding_size": 16},
    # positions that begin above that of padding, and a head with a transform
    "roberta": _SMALL | {"is_decoder": True, "pad_token_id": 1, "bos_token_id": 0},
    "opt": {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32},
}


def tiny_model(kind: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A causal language model of this architecture in evaluation mode."""
    config = AutoConfig.for_model(kind, **{**CONFIGS[kind], **changes})
    with seeded(seed):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    scale_matrices(model, 4.0)
    return model.eval()  # type: ignore[no-any-return]


def rows_of_tokens(*lengths: int) -> list[list[int]]:
    """Token ids that no special token is among."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
