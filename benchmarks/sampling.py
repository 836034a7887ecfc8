"""Sampling against transformers' `generate`, in turn in one process: tokens a second, medians, ratio.

    python benchmarks/sampling.py [--rounds 3] [--tokens 24]

GPT-2 of 124M and a Llama of SmolLM2-135M's shape with random weights, and prompts of HH's lengths (15 to 249 tokens),
in batches of 8 and 32 responses: one response to each prompt, and eight. Both are given the same batch; no response
ends early, since end-of-text has a probability of 1 in 50,000. Below it are the tokens a second that decoding's matrix
products alone would allow, without reading prompts, attention, drawing and packing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from sizes import MODELS, make_pairs, make_tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from rlhf_bench.modeling.kernels import use_fused_kernels
from rlhf_bench.modeling.models import default_device, seeded
from rlhf_bench.modeling.packed import packed_weights
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.types import Prompt

CASES = ((8, 1), (32, 1), (8, 8), (32, 8))  # responses in flight, samples of each prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24, help="of each response")
    parser.add_argument("--models", nargs="*", default=["gpt2-124M", "llama-135M"], choices=list(MODELS))
    given = parser.parse_args()
    device = default_device()
    print(
        f"{device}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, fp32, "
        f"{given.tokens} tokens a response"
    )
    for name in given.models:
        config = MODELS[name]()
        with seeded(0):
            plain = AutoModelForCausalLM.from_config(config).eval().to(device)
        tokenizer = make_tokenizer(config.vocab_size)
        tokenizer.padding_side = "left"
        for rows, samples in CASES:
            prompts = [Prompt(pair.id, pair.prompt) for pair in make_pairs(rows // samples, name)]
            compare(name, plain, tokenizer, prompts, samples, given.tokens, given.rounds)
            if device.type == "cpu":
                alone = product_seconds(plain, rows)
                print(f"    the products of a step alone take {1000 * alone:.1f} ms: {rows / alone:.0f} tokens/s")


def product_seconds(model: PreTrainedModel, rows: int) -> float:
    """Seconds that the linear layers' products take for so many rows, by themselves and with packed weights: the
    fastest of several passes."""
    layers: list[Any] = [module for module in model.modules() if type(module) in (nn.Linear, Conv1D)]
    sizes = [layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0] for layer in layers]
    inputs = {size: torch.randn(rows, size, device=model.device) for size in sizes}
    best = float("inf")
    with torch.no_grad(), packed_weights(model):
        for _ in range(12):
            began = time.perf_counter()
            for layer, size in zip(layers, sizes, strict=True):
                layer(inputs[size])
            best = min(best, time.perf_counter() - began)
    return best


def compare(
    name: str, plain: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], samples: int,
    tokens: int, rounds: int,
) -> None:  # fmt: skip
    """Print the medians of one case."""
    ours_model = copy.deepcopy(plain)
    use_fused_kernels(ours_model, plain.device)  # as `load_policy` does
    config = SamplingConfig(max_new_tokens=tokens, max_prompt_tokens=512)

    def ours() -> None:
        sample(ours_model, tokenizer, prompts, config, samples=samples, seed=0)

    def transformers() -> None:
        inputs = tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True).to(plain.device)
        with torch.no_grad():
            plain.generate(  # type: ignore[operator]
                **inputs, do_sample=True, top_k=0, max_new_tokens=tokens, min_new_tokens=tokens,
                num_return_sequences=samples, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip

    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(rounds + 1):  # the first warms up
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
