"""Sampling against transformers' `generate`, in turn in one process: tokens a second, medians, ratio.

    python benchmarks/sampling.py [--rounds 3] [--tokens 24]

GPT-2 of 124M and a Llama of SmolLM2-135M's shape with random weights, and prompts of HH's lengths (15 to 249 tokens),
in batches of 8 and 32 responses: one response to each prompt, and eight. Both are given the same batch; no response
ends early, since end-of-text has a probability of 1 in 50,000. Beside it the tokens a second that memory allows where
each step reads every weight once, at the speed at which a large tensor is read here.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from sizes import MODELS, make_pairs, make_tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.modeling.kernels import use_fused_kernels
from rlhf_bench.modeling.models import default_device, seeded
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
    speed = reading_speed(device)
    print(f"memory is read at {speed / 1e9:.1f} GB/s")
    for name in given.models:
        config = MODELS[name]()
        with seeded(0):
            plain = AutoModelForCausalLM.from_config(config).eval().to(device)
        tokenizer = make_tokenizer(config.vocab_size)
        tokenizer.padding_side = "left"
        for rows, samples in CASES:
            prompts = [Prompt(pair.id, pair.prompt) for pair in make_pairs(rows // samples, name)]
            compare(name, plain, tokenizer, prompts, samples, given.tokens, given.rounds)
            weights = sum(p.numel() * p.element_size() for p in plain.parameters())
            print(f"    reading {weights / 1e6:.0f} MB of weights a step allows {rows * speed / weights:.0f} tokens/s")


def reading_speed(device: torch.device) -> float:
    """Bytes a second, on all threads, of a tensor that no cache holds: the fastest of several sums."""
    x, best = torch.ones(1 << 28, device=device), 0.0
    for _ in range(8):
        began = time.perf_counter()
        float(x.sum())
        best = max(best, x.numel() * x.element_size() / (time.perf_counter() - began))
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
