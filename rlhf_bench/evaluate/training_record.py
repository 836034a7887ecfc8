"""What an evaluation repeats of the training.json of what it evaluates, so that a report needs no checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlhf_bench.evaluate.sources import ModelSource, RewardModelSource
from rlhf_bench.modeling.checkpoints import read_training


def training_costs(models: Iterable[ModelSource]) -> dict[str, list[dict[str, Any]]]:
    """What each model cost to train: a row a seed. Models that were not trained here have none.

    `seconds` are of its own stage, `seconds_with_reward` of the reward model that it was trained with as well.
    """
    costs: dict[str, list[dict[str, Any]]] = {}
    for source in models:
        if source.training is not None:
            cost = {key: source.training[key] for key in ("samples", "tokens", "seconds")}
            whole = {"seconds_with_reward": cost["seconds"] + _reward_seconds(source)}
            costs.setdefault(source.name, []).append({"seed": source.seed, **cost, **whole})
    return costs


def _reward_seconds(source: ModelSource) -> float:
    """What the reward model that a stage was trained with took; 0 for a stage without one, or where it is gone."""
    if "reward" not in ((source.training or {}).get("parents") or {}):
        return 0.0
    return float((read_training(source.path.parent / "reward") or {}).get("seconds", 0.0))


def training_alarms(
    models: Iterable[ModelSource], reward_models: Mapping[int, Sequence[RewardModelSource]]
) -> list[dict[str, Any]] | None:
    """Alarms that were raised while the models and each seed's own reward model were trained; None where no record
    has an entry of alarms. A row has model, seed, name, step and message."""
    records = [(source.name, source.seed, source.training) for source in models]
    records += [("reward", seed, read_training(own[0].path)) for seed, own in reward_models.items() if own]
    recorded = [
        (name, seed, training["alarms"]) for name, seed, training in records if training and "alarms" in training
    ]
    if not recorded:
        return None
    return [{"model": name, "seed": seed, **alarm} for name, seed, alarms in recorded for alarm in alarms]
