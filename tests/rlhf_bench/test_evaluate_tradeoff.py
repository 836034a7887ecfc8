"""Reward against KL in a real evaluation: the front, the alarms, and best-of-n of the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench import evaluate as evaluation
from rlhf_bench.data import mini
from rlhf_bench.report import write_report

from .tiny import save_policy, save_reward


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a and b of one tokenizer, a reward model, and a file of pairs."""
    folder = tmp_path_factory.mktemp("tradeoff")
    save_policy(folder / "a", positions=160)
    save_policy(folder / "b", seed=1, positions=160)
    save_reward(folder / "judge", folder / "a", seed=1)
    pairs = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in mini.generate("test", n=60)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "suite.yaml").write_text("version: 1\nprompts: 3\nsamples: 2\nmax_new_tokens: 12\nhypervolume_kl: 400\n")
    return folder


def run(work: Path, results: Path, **more: Any) -> Path:
    asked: dict[str, Any] = {
        "models": {"a": str(work / "a"), "b": str(work / "b")}, "data": str(work / "pairs.jsonl"), "reference": "a",
        "reward_models": {"judge": str(work / "judge")}, "results": results,
    }  # fmt: skip
    return evaluation.evaluate(str(work / "suite.yaml"), **{**asked, **more})


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    return found


def test_the_front_and_the_alarms_are_in_tables_and_page(work: Path, tmp_path: Path) -> None:
    folder = run(work, tmp_path)
    write_report(folder)
    (front,) = read(folder, "metrics.json")["tradeoff"]
    assert (front["metric"], front["kl_limit"]) == ("reward_z", 400.0)  # the suite's, not the default
    assert set(front["on_front"]) == {"a", "b"}
    assert read(folder, "manifest.json")["hypervolume_kl"] == 400.0
    table = (folder / "tables" / "pareto.md").read_text("utf-8")
    assert "above a and below 400 nats of KL" in table
    assert {f"pareto.{kind}" for kind in ("md", "csv", "tex")} <= {p.name for p in (folder / "tables").iterdir()}
    assert "## Alarms" in (folder / "tables" / "summary.md").read_text("utf-8")
    page = (folder / "report.html").read_text("utf-8")
    assert "<h2>Reward against KL</h2>" in page
    assert "<h2>Alarms</h2>" in page


def test_another_limit_of_the_hypervolume_is_another_result(work: Path, tmp_path: Path) -> None:
    first = run(work, tmp_path, limit=2)
    other = tmp_path / "suite.yaml"
    other.write_text((work / "suite.yaml").read_text().replace("400", "300"))
    second = evaluation.evaluate(
        str(other), models={"a": str(work / "a"), "b": str(work / "b")}, data=str(work / "pairs.jsonl"), reference="a",
        reward_models={"judge": str(work / "judge")}, results=tmp_path, limit=2,
    )  # fmt: skip
    assert second != first
    assert read(second, "metrics.json")["tradeoff"][0]["kl_limit"] == 300.0
