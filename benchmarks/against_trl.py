"""The same training by TRL and by this project's trainers, in turn: seconds and memory, medians and ratios.

    pip install ".[peers]"
    python benchmarks/against_trl.py --model gpt2-124M --rows 4 --steps 4      # add --precision bf16
    python benchmarks/against_trl.py --model mini --rows 64 --steps 20 --rounds 3

Both start from the same random weights and train on the same rows, each row once. A training is a process of its own.
Its time is that of all its optimiser steps, DPO's reference pass and GRPO's rollouts among them, without loading,
tokenising and saving; its memory is how much the process's peak is above what it held before it loaded the model.
`--rows` are texts, pairs, or, in GRPO, responses: half as many prompts as `--samples` fit into.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sizes import LEARNING_RATE, MODELS, options, write_inputs

STAGES = ("sft", "reward", "dpo", "grpo")
WAYS = ("TRL", "here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=list(STAGES), help="default: all")
    parser.add_argument("--model", default="gpt2-124M", choices=list(MODELS))
    parser.add_argument("--rows", type=int, default=4, help="of an optimiser step")
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of a training")
    parser.add_argument("--samples", type=int, default=4, help="responses to each prompt of GRPO")
    parser.add_argument("--tokens", type=int, default=48, help="of each of GRPO's responses")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)  # of a training's own process, as --way
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(train(given)))
        return
    print(f"{given.model}, {given.precision}, {given.rows} rows x {given.steps} steps", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), given.model, given.rows * given.steps)
        for stage in given.stages:
            compare(given, stage, Path(folder))


def compare(given: argparse.Namespace, stage: str, root: Path) -> None:
    """Print the medians of one stage's trainings."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    memory: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way in WAYS:
            arguments = [sys.executable, __file__, *sys.argv[1:], "--root", str(root), "--way", way]
            if given.stages != [stage]:
                arguments = [word for word in arguments if word not in STAGES] + [stage]
            found = json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            seconds[way].append(found["seconds"] / given.steps)
            memory[way].append(found["memory"])
    (trl_s, here_s), (trl_m, here_m) = (
        [statistics.median(numbers[way]) for way in WAYS] for numbers in (seconds, memory)
    )
    print(
        f"{stage:7} TRL {trl_s:7.3f} s a step, here {here_s:7.3f}: {trl_s / here_s:5.2f} x; "
        f"memory {trl_m:5.2f} GiB, here {here_m:5.2f}: {here_m / trl_m:.2f}",
        flush=True,
    )


def train(given: argparse.Namespace) -> dict[str, float]:
    """Seconds and GiB of one training, in this process."""
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "1"
    run = by_trl if given.way == "TRL" else by_us
    take_steps = run(given, given.stages[-1], given.root)
    before = most_memory()
    seconds = take_steps()
    return {"seconds": seconds, "memory": most_memory() - before}


def most_memory() -> float:
    """GiB that this process has held at most; of the GPU's memory where there is one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts it in KiB


def by_us(given: argparse.Namespace, stage: str, root: Path) -> Callable[[], float]:
    from trainers.pipeline import train

    overrides = options(
        root, stage, rows=given.rows, steps=given.steps, samples=given.samples, tokens=given.tokens,
        precision=given.precision,
    )  # fmt: skip
    train(["base"], run=stage, overrides=overrides, root=root)  # a copy of the policy

    def take_steps() -> float:
        train([stage], run=stage, overrides=overrides, root=root, force=True)
        log = (root / stage / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return float(json.loads(log[-1])["seconds"])

    return take_steps


def by_trl(given: argparse.Namespace, stage: str, root: Path) -> Callable[[], float]:
    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    class Watch(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter()

    common: dict[str, Any] = {
        "output_dir": str(root / "trl"), "num_train_epochs": 1, "per_device_train_batch_size": given.rows,
        "bf16": given.precision == "bf16", "use_cpu": not torch.cuda.is_available(), "report_to": "none",
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "seed": 0,
        "learning_rate": LEARNING_RATE, "gradient_checkpointing": False, "dataloader_pin_memory": False,
    }  # fmt: skip
    rows = load_from_disk(str(root / "data"))["train"]
    tokenizer = AutoTokenizer.from_pretrained(root / "policy")
    policy = str(root / "policy")

    def reward_model() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(root / "reward")

    def trainer() -> Any:
        if stage == "sft":
            data = rows.remove_columns("rejected").rename_column("chosen", "completion")
            return SFTTrainer(policy, args=SFTConfig(**common), train_dataset=data, processing_class=tokenizer)
        if stage == "dpo":
            return DPOTrainer(policy, args=DPOConfig(**common), train_dataset=rows, processing_class=tokenizer)
        own = AutoTokenizer.from_pretrained(root / "reward")
        if stage == "reward":
            return RewardTrainer(reward_model(), args=RewardConfig(**common), train_dataset=rows, processing_class=own)
        responses = max(1, 2 * given.rows // given.samples) * given.samples
        config = GRPOConfig(
            **{**common, "per_device_train_batch_size": responses, "max_steps": given.steps}, beta=0.04,
            num_generations=given.samples, max_completion_length=given.tokens,
        )  # fmt: skip
        return GRPOTrainer(
            policy, args=config, train_dataset=rows.select_columns("prompt"), processing_class=tokenizer,
            reward_funcs=reward_model(), reward_processing_classes=own,
        )  # fmt: skip

    def take_steps() -> float:
        watch, made = Watch(), trainer()
        made.add_callback(watch)
        made.train()
        return watch.ended - watch.began

    return take_steps


if __name__ == "__main__":
    main()
