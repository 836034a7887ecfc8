"""The checks of a reward model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from rlhf_bench.modeling import tokens as text
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.progress import Progress
from rlhf_bench.selftest import common


def check_reward(model: RewardModel, path: str | Path, progress: Progress | None = None) -> Iterator[common.Check]:
    """All checks of a reward model."""
    yield from common.run_all(
        {
            "padding changes no reward": lambda: reward_padding(model),
            "plain transformers, batched, gives the same reward": lambda: plain_reward(model, path),
        },
        progress or Progress(quiet=True),
    )


def reward_padding(model: RewardModel) -> common.Result:
    """Rewards of each text alone, and in a batch padded right, left and further."""
    rows, pad = model.encode(*common.texts()), model.tokenizer.pad_token_id
    with torch.no_grad():
        alone = torch.cat([model.model(batch.to(model.model.model.device)) for batch in common.one_by_one(rows, pad)])
        worst = common.Worst()
        for name, batch in common.paddings(rows, pad).items():
            worst.see(model.model(batch.to(model.model.model.device)), alone, name)
    return worst.within(common.TOLERANCE * max(1.0, float(alone.abs().max())), "largest difference of a reward")


def plain_reward(model: RewardModel, path: str | Path) -> common.Result:
    """The stored checkpoint in transformers alone, padded on the right in one batch: the same rewards."""
    with common.plain_folder(path) as folder:
        plain: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    plain = plain.to(model.model.model.device).eval()
    batch = text.collate(model.encode(*common.texts()), pad_id=model.tokenizer.pad_token_id).to(plain.device)
    with torch.no_grad():
        scores = plain(input_ids=batch.ids, attention_mask=batch.attention_mask.long()).logits[:, 0].float().cpu()
    ours = model.score(*common.texts())
    worst = common.Worst()
    worst.see(scores, ours, "batched")
    return worst.within(common.TOLERANCE * max(1.0, float(ours.abs().max())), "largest difference of a reward")
