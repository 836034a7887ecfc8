"""What training.json says, as an evaluation repeats it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlhf_bench.evaluate.collect import training_alarms, training_costs
from rlhf_bench.evaluate.sources import ModelSource, RewardModelSource

ALARM = {"name": "first_ratio", "step": 7, "message": "the ratio is 2 and not 1"}


def source(name: str, seed: int, training: dict[str, Any] | None) -> ModelSource:
    return ModelSource(name, seed, Path(name), "hash", training)


def test_costs_are_a_row_a_seed_of_what_was_trained_here() -> None:
    cost = {"samples": 3, "tokens": 40, "seconds": 1.5}
    models = [source("sft", 0, {**cost, "steps": 2}), source("sft", 1, {**cost, "tokens": 50}), source("hub", 0, None)]
    whole = {"seconds_with_reward": 1.5}
    rows = [{"seed": 0, **cost, **whole}, {"seed": 1, **cost, "tokens": 50, **whole}]
    assert training_costs(models) == {"sft": rows}


def test_costs_count_the_reward_model_of_a_stage_that_was_trained_with_one(tmp_path: Path) -> None:
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "training.json").write_text(json.dumps({"seconds": 20.0}), encoding="utf-8")
    cost = {"samples": 3, "tokens": 40, "seconds": 1.5}
    parents = {"ppo": {"sft": {}, "reward": {}}, "dpo": {"sft": {}}}
    models = [ModelSource(name, 0, tmp_path / name, "h", {**cost, "parents": p}) for name, p in parents.items()]
    assert {name: rows[0]["seconds_with_reward"] for name, rows in training_costs(models).items()} == {
        "ppo": 21.5,
        "dpo": 1.5,
    }


def test_alarms_of_models_and_of_each_seeds_first_reward_model(tmp_path: Path) -> None:
    for name, alarms in (("own", [ALARM]), ("second", [ALARM | {"step": 9}])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text(json.dumps({"alarms": alarms}), encoding="utf-8")
    scorers = {
        4: [
            RewardModelSource("reward", tmp_path / "own", "h"),
            RewardModelSource("reward:second", tmp_path / "second", "h"),
        ],
        5: [],
    }
    models = [source("ppo", 4, {"alarms": [ALARM | {"step": 1}]}), source("sft", 4, {"alarms": []})]
    assert training_alarms(models, scorers) == [
        {"model": "ppo", "seed": 4, **ALARM, "step": 1},
        {"model": "reward", "seed": 4, **ALARM},
    ]


def test_no_record_is_not_no_alarm(tmp_path: Path) -> None:
    scorers = {0: [RewardModelSource("reward", tmp_path, "h")]}  # a folder without training.json
    assert training_alarms([source("hub", 0, None), source("sft", 0, {"seconds": 1.0})], scorers) is None
    assert training_alarms([source("sft", 0, {"alarms": []})], scorers) == []
