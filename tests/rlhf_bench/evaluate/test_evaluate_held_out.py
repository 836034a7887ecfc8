"""The reward model of another seed scores along, where a run has several seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rlhf_bench import evaluate as evaluation
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.report import write_report
from rlhf_bench.report.contents import draw
from rlhf_bench.report.result import load_result
from rlhf_bench.report.screen import summary_text
from rlhf_bench.report.tables.summary import missing_lines, summary_table

from ..tiny import save_run

CONFIG = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 8}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held-out")
    for seed in (1, 2, 3):
        save_run(folder / "three" / f"seed-{seed}", seed=seed, config=CONFIG, samples=1, tokens=1, seconds=1.0)
    save_run(folder / "one", seed=1, config=CONFIG, samples=1, tokens=1, seconds=1.0)
    return folder


def test_each_seed_is_scored_by_the_next_ones_reward_model(checkpoints: Path, tmp_path: Path) -> None:
    folder = evaluation.evaluate(run="three", limit=3, samples=1, checkpoints=checkpoints, results=tmp_path).folder
    scores = pd.read_parquet(folder / "scores.parquet")
    responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    for seed, other in ((1, 2), (2, 3), (3, 1)):
        mine = [row for row in responses if row["seed"] == seed and row["model"] == "sft"]
        for column, of in (("reward", seed), ("reward_held_out", other)):
            reward = RewardModel.load(checkpoints / "three" / f"seed-{of}" / "reward", max_prompt=128, max_response=8)
            ended = [row["finish_reason"] != "length" for row in mine]
            expected = reward.score([r["prompt"] for r in mine], [r["response"] for r in mine], ended)
            found = scores[(scores["seed"] == seed) & (scores["model"] == "sft")][column]
            assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["models"]["chosen"]["reward_held_out_z"]["n_seeds"] == 3
    manifest = json.loads((folder / "manifest.json").read_text())["reward_model"]
    assert [(m["seed"], m.get("column", "reward")) for m in manifest[:2]] == [(1, "reward"), (1, "reward_held_out")]
    assert manifest[1]["hash"] == manifest[2]["hash"]  # seed 2's own
    write_report(folder, only=["tables"])
    assert "Other seed's RM (z)" in (folder / "tables" / "summary.md").read_text()
    assert draw(load_result(folder), "held_out_vs_reward") is not None


def test_one_seed_says_why_there_is_none(checkpoints: Path, tmp_path: Path) -> None:
    folder = evaluation.evaluate(run="one", limit=3, samples=1, checkpoints=checkpoints, results=tmp_path).folder
    assert "reward_held_out" not in pd.read_parquet(folder / "scores.parquet")
    (line,) = [line for line in missing_lines(load_result(folder)) if "reward_held_out_z" in line]
    assert line.startswith("all: reward_held_out_z: one seed has no reward model but the one that was optimised")
    assert "reward_held_out_z" not in [column.key for column in summary_table(load_result(folder)).columns]
    given = {"held": str(checkpoints / "three" / "seed-2" / "reward")}
    other = evaluation.evaluate(
        run="one", limit=3, samples=1, reward_models=given, checkpoints=checkpoints, results=tmp_path
    ).folder
    assert "reward_held_out_z" not in summary_text(other)
