"""Eight responses to each of 32 prompts, ours against transformers' `generate`, in turn: seconds, medians, ratio."""

from __future__ import annotations

import statistics
import time

import torch

from rlhf_bench.data import load_preferences
from rlhf_bench.modeling.models import new_gpt2, train_tokenizer
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from trainers.config.loading import load_recipe

ROUNDS, PROMPTS, SAMPLES, TOKENS = 5, 32, 8, 48


def main() -> None:
    spec = load_recipe("mini").model
    assert not isinstance(spec, str)
    data = load_preferences("hh-mini", "validation")
    tokenizer = train_tokenizer([p.prompt + p.chosen for p in data.pairs], vocab_size=spec.vocab_size)
    tokenizer.padding_side = "left"
    model = new_gpt2(tokenizer, layers=spec.n_layer, heads=spec.n_head, width=spec.n_embd, positions=256, seed=0)
    prompts = data.prompts[:PROMPTS]
    config = SamplingConfig(max_new_tokens=TOKENS, max_prompt_tokens=128)

    def ours() -> None:
        sample(model, tokenizer, prompts, config, samples=SAMPLES, seed=0)

    def transformers() -> None:
        inputs = tokenizer([p.text for p in prompts], return_tensors="pt", padding=True)
        with torch.no_grad():
            model.generate(
                **inputs, do_sample=True, top_k=0, max_new_tokens=TOKENS, num_return_sequences=SAMPLES,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip

    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(ROUNDS + 1):
        for name, way in (("ours", ours), ("transformers", transformers)):
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    ours_s, theirs_s = (statistics.median(times[name][1:]) for name in ("ours", "transformers"))
    print(f"ours {ours_s:.2f} s, transformers {theirs_s:.2f} s: {theirs_s / ours_s:.1f} x")


if __name__ == "__main__":
    main()
