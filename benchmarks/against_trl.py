"""The same training by TRL and by this project's trainers, in turn: seconds from pairs to weights, medians, ratios.

    pip install ".[peers]"
    python benchmarks/against_trl.py            # sft, reward and dpo: 640 pairs of hh-mini, batches of 64, one epoch

Both start from the same folder, read the same texts at the same lengths, in the same precision, and evaluate nothing on
the way; tokenising, DPO's reference pass and (here alone) saving are inside the time. Importing torch and TRL is not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from rlhf_bench.data import load_preferences
from rlhf_bench.modeling.models import best_precision, default_device, to_reward_model
from trainers.pipeline import train

PAIRS, BATCH, ROUNDS, LONGEST = 640, 64, 3, 192
STAGES = ("sft", "reward", "dpo")
PARENT = {"sft": "base", "reward": "sft", "dpo": "sft"}


def main(*stages: str) -> None:
    logging.disable(logging.WARNING)
    root = Path(tempfile.mkdtemp())
    pairs = load_preferences("hh-mini", "train").pairs[:PAIRS]
    held_out = {split: load_preferences("hh-mini", split).pairs[:2] for split in ("validation", "test")}
    splits = {
        split: Dataset.from_list([{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in rows])
        for split, rows in {"train": pairs, **held_out}.items()
    }
    DatasetDict(splits).save_to_disk(root / "data")
    overrides = [f"data.source={root / 'data'}", "base.max_steps=30"]
    overrides += [f"{name}.{key}" for name in STAGES for key in ("epochs=1", f"batch_size={BATCH}", "eval_size=1")]
    for parent in PARENT.values():  # nothing descends from the stage that is timed, or that would be trained again too
        train([parent], run=f"from-{parent}", overrides=overrides, root=root)
    columns = {
        "sft": {"prompt": [p.prompt for p in pairs], "completion": [p.chosen for p in pairs]},
        "reward": {"chosen": [p.prompt + p.chosen for p in pairs], "rejected": [p.prompt + p.rejected for p in pairs]},
    }
    print(f"{PAIRS} pairs, batches of {BATCH}, {best_precision(default_device())}, medians of {ROUNDS} rounds")
    for stage in stages or STAGES:
        data = Dataset.from_dict(columns[stage]) if stage in columns else splits["train"]
        ours = lambda stage=stage: by_us(root, stage, overrides)  # noqa: E731
        theirs = lambda stage=stage, data=data: by_trl(root, stage, data)  # noqa: E731
        times: dict[str, list[float]] = {"trl": [], "here": []}
        timed(ours), timed(theirs)  # what is loaded or compiled once
        for _ in range(ROUNDS):
            times["trl"].append(timed(theirs))
            times["here"].append(timed(ours))
        trl, here = (statistics.median(times[name]) for name in ("trl", "here"))
        print(f"{stage:7} TRL {trl:6.1f} s   here {here:6.1f} s   {trl / here:4.1f} x", flush=True)


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work()
    return time.perf_counter() - began


def by_us(root: Path, stage: str, overrides: list[str]) -> None:
    for file in (root / ".reference_logps").glob("*"):
        file.unlink()
    train([stage], run=f"from-{PARENT[stage]}", overrides=overrides, root=root, force=True)


def by_trl(root: Path, stage: str, data: Dataset) -> None:
    parent = root / f"from-{PARENT[stage]}" / PARENT[stage]
    tokenizer: Any = AutoTokenizer.from_pretrained(parent)
    common: dict[str, Any] = {
        "output_dir": str(root / "trl"), "num_train_epochs": 1, "per_device_train_batch_size": BATCH,
        "max_length": LONGEST, "bf16": best_precision(default_device()) == "bf16", "use_cpu": True,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "seed": 0,
        "gradient_checkpointing": False,
    }  # fmt: skip
    if stage == "sft":
        trainer: Any = SFTTrainer(str(parent), args=SFTConfig(**common), train_dataset=data, processing_class=tokenizer)
    elif stage == "dpo":
        config = DPOConfig(**common, precompute_ref_log_probs=True)
        trainer = DPOTrainer(str(parent), args=config, train_dataset=data, processing_class=tokenizer)
    else:
        model, tokenizer = to_reward_model(parent, seed=0)
        model.save_pretrained(root / "head")
        model = AutoModelForSequenceClassification.from_pretrained(root / "head")
        trainer = RewardTrainer(model, args=RewardConfig(**common), train_dataset=data, processing_class=tokenizer)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
