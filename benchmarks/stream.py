"""Evaluate 100,000 responses and draw the report: seconds of a processor and the most memory, by number of responses.

    python benchmarks/stream.py texts [RESPONSES...]     a response file, 4 samples a prompt: no model
    python benchmarks/stream.py model [RESPONSES...]     sampled by a random GPT-2 of 2 layers and width 32, 12 tokens,
                                                         scored by a reward model of that size, KL to itself

Each size runs in a process of its own, so that memory is its own; what it holds before the evaluation (libraries, and
for a model torch) is given beside it. Sizes by default: 25,000, 50,000, 100,000.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from rlhf_bench.evaluate import Evaluation, evaluate
from rlhf_bench.report import write_report

SAMPLES, TOKENS = 4, 12
WORDS = {"texts": 40, "model": 8}
SIZES = (25_000, 50_000, 100_000)


def write_prompts(path: Path, prompts: int, *, words: int, responses: int) -> None:
    """A JSON-lines file of prompts with a reference, and with so many responses each; none: preference pairs."""
    draw = random.Random(0)
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdlmnrst"]

    def text() -> str:
        return " ".join(draw.choices(vocabulary, k=words))

    with path.open("w", encoding="utf-8") as file:
        for p in range(prompts):
            asked, chosen = f"Say number {p}, {text()}", text()
            rows = [{"prompt": asked, "response": text(), "reference": chosen} for _ in range(responses)]
            for row in rows or [{"prompt": asked, "chosen": chosen, "rejected": text()}]:
                file.write(json.dumps(row) + "\n")


def save_models(policy: Path, reward: Path) -> None:
    from rlhf_bench.data import Reader
    from rlhf_bench.modeling.models import new_gpt2, to_reward_model
    from rlhf_bench.modeling.tokenizers import train_tokenizer

    data = Reader("hh-mini").load("validation")
    tokenizer = train_tokenizer([p.prompt + p.chosen for p in data.pairs], vocab_size=500)
    new_gpt2(tokenizer, layers=2, heads=2, width=32, positions=256, seed=0).save_pretrained(policy)
    tokenizer.save_pretrained(policy)
    for part in to_reward_model(policy, seed=0):
        part.save_pretrained(reward)


def measured(kind: str, responses: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, prompts = Path(name), responses // SAMPLES
        if kind == "texts":
            write_prompts(folder / "mine.jsonl", prompts, words=WORDS[kind], responses=SAMPLES)
            before, made = peak(), time.process_time()
            result = evaluate(responses=[("mine", str(folder / "mine.jsonl"))], results=folder / "results").folder
        else:
            (folder / "data").mkdir()
            write_prompts(folder / "data" / "test.jsonl", prompts, words=WORDS[kind], responses=0)
            save_models(folder / "model", folder / "reward")
            suite = folder / "suite.yaml"
            suite.write_text(f"version: 1\nprompts: {prompts}\nsamples: {SAMPLES}\nmax_new_tokens: {TOKENS}\n")
            before, made = peak(), time.process_time()
            result = evaluate(
                str(suite), models={"mine": str(folder / "model")}, data=str(folder / "data"),
                reward_models={"reward": str(folder / "reward")}, results=folder / "results",
            ).folder  # fmt: skip
        evaluated, most = time.process_time(), peak()
        rows = len(Evaluation(result).scores)
        write_report(result)
        drawn = time.process_time()
        what = f"{kind}, {responses:,} responses ({rows:,} rows with the data's own): {before:,.0f} MiB before"
        spent = f"evaluation {evaluated - made:.1f} s, {most:,.0f} MiB; report {drawn - evaluated:.1f} s"
        print(f"{what}; {spent}, {peak():,.0f} MiB", flush=True)


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(kind: str = "texts", *sizes: str) -> None:
    for responses in [int(size) for size in sizes] or SIZES:
        process = multiprocessing.get_context("spawn").Process(target=measured, args=(kind, responses))
        process.start()
        process.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
