"""Reward against KL in a real evaluation: the front, the alarms, and best-of-n of the reference."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlhf_bench import evaluate as evaluation
from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate import measure
from rlhf_bench.evaluate.measure_text import Answered, pool_rows, text_rows
from rlhf_bench.evaluate.missing import missing_pool
from rlhf_bench.report import write_report
from rlhf_bench.suite import Suite
from rlhf_bench.types import Item

from ..tiny import save_elsewhere


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a and b of one tokenizer, a reward model, and a file of pairs."""
    folder = save_elsewhere(tmp_path_factory.mktemp("tradeoff"))
    (folder / "suite.yaml").write_text("version: 1\nprompts: 3\nsamples: 2\nmax_new_tokens: 12\nhypervolume_kl: 400\n")
    return folder


def run(work: Path, results: Path, **more: Any) -> Path:
    asked: dict[str, Any] = {
        "models": {"a": str(work / "a"), "b": str(work / "b")}, "data": str(work / "pairs.jsonl"), "reference": "a",
        "reward_models": {"judge": str(work / "judge")}, "results": results,
    }  # fmt: skip
    return evaluation.evaluate(str(work / "suite.yaml"), **{**asked, **more}).folder


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
    ).folder  # fmt: skip
    assert second != first
    assert read(second, "metrics.json")["tradeoff"][0]["kl_limit"] == 300.0


# --- best-of-n of the reference --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with a pool of 4 samples a prompt."""
    folder = run(work, tmp_path_factory.mktemp("pooled"), best_of_n=4)
    write_report(folder)
    return folder


def test_the_pool_goes_on_where_the_suites_samples_stop(pooled: Path) -> None:
    """3 prompts x 4 samples of a; sample 0 and 1 are those of the table. z by the table's 6 responses of a."""
    pool, scores = pd.read_parquet(pooled / "best_of_n.parquet"), pd.read_parquet(pooled / "scores.parquet")
    assert list(pool.columns) == ["model", "seed", "prompt_id", "sample", "reward", "reward_z"]  # no gold for a file
    assert (set(pool["model"]), len(pool)) == ({"a"}, 12)
    assert set(pool.groupby("prompt_id")["sample"].apply(tuple)) == {(0, 1, 2, 3)}
    table = scores[scores["model"] == "a"].set_index(["prompt_id", "sample"])["reward"]
    same = pool.set_index(["prompt_id", "sample"])["reward"].reindex(table.index)
    assert same.tolist() == pytest.approx(table.tolist(), abs=1e-5)
    assert pool["reward"].nunique() > table.nunique()
    expected = (pool["reward"] - statistics.mean(table)) / statistics.stdev(table)
    assert pool["reward_z"].tolist() == pytest.approx(expected.tolist())


def test_the_curve_is_in_metrics_table_plot_and_page(pooled: Path) -> None:
    """n = 4 of 4 is the mean over prompts of the largest reward, n = 1 the mean of all."""
    curve = read(pooled, "metrics.json")["best_of_n"]
    assert [row["n"] for row in curve] == [1, 2, 4]
    pool = pd.read_parquet(pooled / "best_of_n.parquet")
    assert curve[0]["reward"]["value"] == pytest.approx(pool["reward"].mean())
    assert curve[2]["reward_z"]["value"] == pytest.approx(pool.groupby("prompt_id")["reward_z"].max().mean())
    assert curve[2]["kl_bound"] == pytest.approx(math.log(4) - 0.75)
    rows = (pooled / "tables" / "best_of_n.csv").read_text("utf-8").splitlines()
    assert rows[0].startswith("n,kl_bound,reward,reward_low,reward_high,reward_n,reward_z,")
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "4"]
    assert "KL: the upper bound log n - (n - 1) / n" in (pooled / "tables" / "best_of_n.md").read_text("utf-8")
    assert "best of n = 1 ... 4 of a (KL: upper bound" in (pooled / "plots" / "reward_vs_kl.svg").read_text("utf-8")
    assert "<h2>Best of n</h2>" in (pooled / "report.html").read_text("utf-8")
    assert read(pooled, "manifest.json")["best_of_n"] == 4


def test_an_interrupted_evaluation_keeps_its_pool(
    pooled: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the pool, it goes on without a sample drawn, to the same bytes."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rlhf_bench.evaluate.run.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run(work, tmp_path, best_of_n=4)
    (part,) = tmp_path.glob("*/*/.parts/best_of_n/0.parquet")
    assert len(pd.read_parquet(part)) == 12
    monkeypatch.setattr(measure, "sample_as", stop)
    folder = run(work, tmp_path, best_of_n=4)
    for name in ("best_of_n.parquet", "metrics.json", "scores.parquet"):
        assert (folder / name).read_bytes() == (pooled / name).read_bytes(), name
    assert not (folder / ".parts").exists()


def test_a_pool_that_cannot_be_had_is_said(work: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="best_of_n: given 1, expected at least 2 responses a prompt, such as 64, or 0"):
        run(work, tmp_path, best_of_n=1)
    folder = run(work, tmp_path, models={"a": str(work / "a")}, reward_models={}, best_of_n=4, limit=2)
    missing = {(row["model"], row["metric"]): row["reason"] for row in read(folder, "metrics.json")["missing"]}
    assert missing["a", "best_of_n"] == "no reward model under every seed to choose by"
    assert "best_of_n" not in read(folder, "metrics.json")
    assert not (folder / "best_of_n.parquet").exists()


def test_a_response_file_cannot_be_sampled() -> None:
    suite = Suite(version=1, best_of_n=64)
    why = "the reference is not here under every seed to be sampled"
    assert missing_pool(suite, "file", [("a", 0)], {0: ["judge"]}) == {("file", "best_of_n"): why}
    assert missing_pool(suite, "a", [("a", 0)], {0: ["judge"], 1: ["judge"]}) == {("a", "best_of_n"): why}
    assert missing_pool(suite, "a", [("a", 0)], {0: ["judge"]}) == {}
    assert missing_pool(Suite(version=1), "file", [], {0: []}) == {}


def test_the_gold_of_a_pool_is_that_of_the_table() -> None:
    items = [Item(p.prompt, p.chosen, p.rejected, p.category) for p in mini.generate("test", n=3)]
    rows = [Answered(item, 0, item.chosen or "", "eos", 3.0) for item in items]
    gold = pool_rows("a", 0, rows, source="hh-mini")["gold"]
    assert gold.tolist() == text_rows("a", 0, rows, source="hh-mini")["gold"].tolist()
    assert "gold" not in pool_rows("a", 0, rows, source="a file")
