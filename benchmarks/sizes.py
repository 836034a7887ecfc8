"""Models with random weights and texts of known lengths, which the speed benchmarks share.

Each word of a text is one token, so that any library makes the same tokens of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from rlhf_bench.data.hh import END_OF_TEXT
from rlhf_bench.modeling.models import seeded, to_reward_model
from rlhf_bench.types import PreferencePair

__all__ = ["LEARNING_RATE", "MODELS", "lengths_of", "make_pairs", "make_tokenizer", "options", "peak", "write_inputs"]

LEARNING_RATE = 1e-5


def _gpt2(layers: int, heads: int, width: int, vocabulary: int, positions: int = 1024) -> Callable[[], GPT2Config]:
    return lambda: GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocabulary, n_positions=positions,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


MODELS: dict[str, Callable[[], PretrainedConfig]] = {
    "tiny": _gpt2(2, 2, 32, 300),
    "mini": _gpt2(2, 6, 192, 1463),  # the shape of the default recipe
    "gpt2-124M": _gpt2(12, 12, 768, 50257),
    "llama-135M": lambda: LlamaConfig(  # the shape of SmolLM2-135M
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ),
}  # fmt: skip

# Tokens of prompt, chosen and rejected response: every eighth of the pairs of HH's harmless-base test split, at some
# four characters a token; and the lengths of hh-mini's.
HH_LENGTHS = (
    (15, 30, 53), (24, 12, 15), (49, 87, 21), (73, 16, 40), (100, 57, 71), (128, 22, 30), (167, 40, 104), (249, 30, 8),
)  # fmt: skip
MINI_LENGTHS = (
    (18, 14, 17), (22, 20, 12), (26, 25, 24), (31, 13, 18), (35, 19, 26), (42, 24, 14), (52, 16, 21), (64, 22, 15),
)  # fmt: skip


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word: end-of-text, the two speakers, an unknown word, then w4, w5 and so on."""
    words = [END_OF_TEXT, "Human:", "Assistant:", "<unk>", *(f"w{i}" for i in range(4, vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT, pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def lengths_of(model: str) -> tuple[tuple[int, int, int], ...]:
    return MINI_LENGTHS if model in ("mini", "tiny") else HH_LENGTHS


def make_pairs(count: int, model: str) -> list[PreferencePair]:
    """Pairs of random words with the model's lengths in turn, the same at every call."""
    lengths, vocabulary = lengths_of(model), MODELS[model]().vocab_size
    rng = np.random.Generator(np.random.Philox(key=0))

    def words(n: int) -> str:
        return "".join(f" w{i}" for i in rng.integers(4, vocabulary, n))

    pairs = []
    for i in range(count):
        prompt, chosen, rejected = lengths[(3 * i) % len(lengths)]  # long and short ones in each batch
        text = f"\n\nHuman:{words(prompt - 2)}\n\nAssistant:"
        pairs.append(PreferencePair(text, words(chosen - 1), words(rejected - 1)))
    return pairs


def write_inputs(root: Path, model: str, pairs: int) -> None:
    """A policy, a reward model with the same backbone, and pairs to train on: root/policy, reward and data."""
    config = MODELS[model]()
    with seeded(0):
        AutoModelForCausalLM.from_config(config).save_pretrained(root / "policy")
    make_tokenizer(config.vocab_size).save_pretrained(root / "policy")
    reward, tokenizer = to_reward_model(root / "policy", seed=0, device=torch.device("cpu"))
    reward.save_pretrained(root / "reward")
    tokenizer.save_pretrained(root / "reward")
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in make_pairs(pairs + 2, model)]
    parts = {"train": rows[:pairs], "validation": rows[pairs : pairs + 1], "test": rows[pairs + 1 :]}
    DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()}).save_to_disk(root / "data")


def options(root: Path, stage: str, *, rows: int, steps: int, samples: int, tokens: int, precision: str) -> list[str]:
    """What `train` is to override to train `stage` from what `write_inputs` wrote, each of rows x steps pairs once.

    GRPO draws twice as many responses as `rows`, and PPO too, of `tokens` tokens each.
    """
    own: dict[str, object] = {
        "batch_size": rows, "micro_batch_size": 2 * rows, "eval_every": 0, "eval_size": 1, "lr": LEARNING_RATE,
        "warmup_ratio": 0.0, "adam_beta2": 0.999,
    }  # fmt: skip
    own |= {
        "sft": {"epochs": 1},
        "reward": {"epochs": 1, "head_lr": LEARNING_RATE},
        "dpo": {"epochs": 1, "beta": 0.1},
        "grpo": {"batch_size": max(1, 2 * rows // samples), "num_generations": samples, "steps": steps, "beta": 0.04,
                 "loss_type": "dapo", "max_response_tokens": tokens},
        "ppo": {"batch_size": 2 * rows, "steps": steps, "max_response_tokens": tokens, "critic": "policy"},
    }[stage]  # fmt: skip
    reward = [f"reward.function={root / 'reward'}"] if stage in ("grpo", "ppo") else []
    return [
        *(f"{stage}.{key}={value}" for key, value in own.items()), *reward, f"model={root / 'policy'}", "start=base",
        f"data.source={root / 'data'}", "data.max_prompt_tokens=512", "data.max_response_tokens=128",
        "reward.backbone=base", f"precision={precision}", "save_seconds=1e6",
    ]  # fmt: skip


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of the fastest of some large matrix products, on all threads."""
    best = 0.0
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
        for _ in range(6):
            began = time.perf_counter()
            product = a @ b
            float(product[0, 0])  # waits for a GPU
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
