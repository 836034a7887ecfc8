"""Sampling against transformers' `generate`, in turn in one process: tokens a second, medians, ratio.

    python benchmarks/sampling.py [--rounds 5] [--tokens 24]

GPT-2 of 124M and a Llama of SmolLM2-135M's shape, random weights, prompts of 32 to 160 tokens, with one sample a prompt
and with eight.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.data import load_preferences
from rlhf_bench.modeling.models import seeded, train_tokenizer
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.types import Prompt

SHAPES: dict[str, Any] = {
    "gpt2 124M": lambda: GPT2Config(),
    "llama 135M": lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True,
    ),
}  # fmt: skip
CASES = ((8, 1), (32, 1), (8, 8), (32, 8))  # responses in flight, samples of each prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--models", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    given = parser.parse_args()
    pairs = load_preferences("hh-mini", "validation").pairs
    tokenizer = train_tokenizer([pair.prompt for pair in pairs], vocab_size=500)
    tokenizer.padding_side = "left"
    prompts = make_prompts("".join(pair.prompt for pair in pairs), tokenizer)
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {given.tokens} tokens")
    for name in given.models:
        with seeded(0):
            plain = AutoModelForCausalLM.from_config(SHAPES[name]())
        plain.eval()
        for rows, samples in CASES:
            compare(name, plain, tokenizer, prompts[: rows // samples], samples, given.tokens, given.rounds)


def make_prompts(text: str, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Pieces of running text, from 32 to 160 tokens long."""
    ids = tokenizer(text[:50_000], verbose=False)["input_ids"]
    lengths = [32 + (i * 53) % 129 for i in range(32)]
    return [Prompt(str(i), tokenizer.decode(ids[i * 160 : i * 160 + length])) for i, length in enumerate(lengths)]


def compare(
    name: str, plain: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], samples: int,
    tokens: int, rounds: int,
) -> None:  # fmt: skip
    """Print the medians of one case. No response ends early: its end-of-text is drawn with probability 1 in 50,000."""
    ours_model = copy.deepcopy(plain)
    ours_model.set_attn_implementation("eager")  # as models are loaded on a CPU
    config = SamplingConfig(max_new_tokens=tokens, max_prompt_tokens=256, stop=("\n\nHuman:",))

    def ours() -> None:
        sample(ours_model, tokenizer, prompts, config, samples=samples, seed=0)

    def transformers() -> None:
        inputs = tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True)
        with torch.no_grad():
            plain.generate(  # type: ignore[operator]
                **inputs, do_sample=True, top_k=0, max_new_tokens=tokens, min_new_tokens=tokens,
                num_return_sequences=samples, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip

    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(rounds + 1):
        for way, run in (("ours", ours), ("transformers", transformers)):
            began = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - began)
    ours_s, theirs_s = (statistics.median(times[way][1:]) for way in ("ours", "transformers"))
    drawn = len(prompts) * samples * tokens
    print(
        f"{name}, {len(prompts)} prompts x {samples}: {drawn / ours_s:.0f} tokens/s, transformers "
        f"{drawn / theirs_s:.0f}: {theirs_s / ours_s:.2f} x",
        flush=True,
    )


if __name__ == "__main__":
    main()
