"""Reward against KL in a real evaluation: the front, the alarms, and best-of-n of the reference."""

from __future__ import annotations

import json
import math
import statistics
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rlhf_bench import evaluate as evaluation
from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.phrases import CHECK
from rlhf_bench.evaluate.scoring import pool_of, scored
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling import sampling
from rlhf_bench.modeling.models import load_policy, to_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.report import write_report
from rlhf_bench.scorers.base import EvalContext
from rlhf_bench.types import ResponseRow

from ..tiny import save_elsewhere, scale_matrices


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a and b of one tokenizer, a reward model, and a file of pairs."""
    folder = save_elsewhere(tmp_path_factory.mktemp("tradeoff"))
    (folder / "suite.yaml").write_text("version: 1\nprompts: 3\nsamples: 2\nmax_new_tokens: 12\nhypervolume_kl: 400\n")
    return folder


def run(work: Path, results: Path, suite: Path | None = None, **more: Any) -> Path:
    asked: dict[str, Any] = {
        "models": {"a": str(work / "a"), "b": str(work / "b")}, "data": str(work / "pairs.jsonl"), "reference": "a",
        "reward_models": {"judge": str(work / "judge")}, "results": results,
    }  # fmt: skip
    return evaluation.evaluate(str(suite or work / "suite.yaml"), **{**asked, **more}).folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    return found


def test_the_front_and_the_alarms_are_in_tables_and_page(work: Path, tmp_path: Path) -> None:
    folder = run(work, tmp_path)
    write_report(folder)
    (front,) = read(folder, "metrics.json")["tradeoff"]
    assert (front["metric"], front["kl_limit"]) == ("reward_z", 400.0)  # the suite's, not the default
    assert set(front["on_front"]) == {"a", "b"}
    assert CHECK in read(folder, "metrics.json")["alarm_checks"]
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
    numbers = [name for name in pool.columns if not name.startswith("style_")]
    assert numbers == ["model", "seed", "prompt_id", "sample", "reward", "first", "logprob", "reward_z"]  # no gold
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
    assert "The true KL is not known: the pool's distinct responses to a prompt hold as little as 0.00% of" in (
        pooled / "tables" / "best_of_n.md"
    ).read_text("utf-8")
    assert "best of n = 1 ... 4 of a (KL: upper bound" in (pooled / "plots" / "reward_vs_kl.svg").read_text("utf-8")
    assert "<h2>Best of n</h2>" in (pooled / "report.html").read_text("utf-8")
    assert read(pooled, "manifest.json")["best_of_n"] == 4


CHANCES = {"": 0.5, "x": 0.3, "y": 0.2}  # of end-of-text and of two tokens, whatever is before


def save_toy(folder: Path, path: Path) -> None:
    """A reference of seven responses: two tokens at most, so "", x, y (ended), and xx, xy, yx, yy (cut)."""
    model, tokenizer = load_policy(folder)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.zero_()[0] = 1.0  # the last hidden state: a logit is the embedding's first number
        model.lm_head.weight[:, 0] = -60.0
        for text, chance in CHANCES.items():
            model.lm_head.weight[tokenizer.encode(text)[0] if text else tokenizer.eos_token_id, 0] = math.log(chance)
    for part in (model, tokenizer):
        part.save_pretrained(path)


def test_the_true_kl_of_a_reference_whose_responses_can_be_counted(work: Path, tmp_path: Path) -> None:
    """The best of n has a reward of r at most in F(r)^n of all cases; its reward and its KL are sums over seven.

    The KL has to agree to rounding. The reward is a mean over all choices of n from 256 drawn, whose variance is at
    most n / 256 of one choice's (Hoeffding 1948).
    """
    save_toy(work / "a", tmp_path / "toy")
    model, tokenizer = to_reward_model(work / "a", seed=1)
    scale_matrices(model, 0.5)  # at full scale its attention is so sharp that some rewards differ by rounding alone
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "mild")
    suite = tmp_path / "suite.yaml"
    suite.write_text("version: 1\nprompts: 3\nsamples: 2\nmax_new_tokens: 2\nbest_of_n: 256\n")
    folder = run(
        work, tmp_path, models={"toy": str(tmp_path / "toy")}, reference="toy", suite=suite,
        reward_models={"mild": str(tmp_path / "mild")},
    )  # fmt: skip
    write_report(folder)
    odds = {("", True): 0.5, ("x", True): 0.15, ("y", True): 0.1}
    odds |= {("xx", False): 0.09, ("xy", False): 0.06, ("yx", False): 0.06, ("yy", False): 0.04}  # 1 in all
    texts, ended = zip(*odds, strict=True)
    prompts = sorted({row["prompt"] for row in read_jsonl(folder / "responses.jsonl")})
    judge = RewardModel.load(tmp_path / "mild")
    rewards = np.stack([judge.score([prompt] * 7, texts, ended).double().numpy() for prompt in prompts])
    order = np.argsort(rewards, axis=1)
    rewards, p = np.sort(rewards, axis=1), np.array(list(odds.values()))[order]
    assert np.diff(rewards, axis=1).min() > 1e-4  # no two are the same
    upto = p.cumsum(axis=1)
    metrics = read(folder, "metrics.json")
    assert metrics["best_of_n_held"] == pytest.approx(1, abs=1e-6)
    for row in metrics["best_of_n"]:
        n, best = row["n"], upto ** row["n"] - (upto - p) ** row["n"]
        kl, mean = (best * np.log(best / p)).sum(axis=1), (best * rewards).sum(axis=1)
        spread = (best * (rewards - mean[:, None]) ** 2).sum(axis=1)
        assert row["kl_true"]["value"] == pytest.approx(kl.mean(), abs=1e-5)
        assert (row["kl_true"]["n"], row["kl_true"]["value"] <= row["kl_bound"] + 1e-9) == (3, True)
        assert abs(row["reward"]["value"] - mean.mean()) < 4 * (n / 256 * spread.sum()) ** 0.5 / 3
    last = metrics["best_of_n"][-1]
    assert (last["n"], last["kl_true"]["value"] < 0.9 * last["kl_bound"]) == (64, True)  # few responses: far below it
    rows = (folder / "tables" / "best_of_n.csv").read_text("utf-8").splitlines()
    assert rows[0].startswith("n,kl_bound,kl_true,kl_true_low,kl_true_high,kl_true_n,reward,")
    assert "The true KL is summed over all" in (folder / "tables" / "best_of_n.md").read_text("utf-8")
    assert "KL, true (nats)" in (folder / "report.html").read_text("utf-8")


def test_no_true_kl_of_a_pool_from_the_likeliest_tokens(work: Path, tmp_path: Path) -> None:
    save_toy(work / "a", tmp_path / "toy")
    suite = tmp_path / "suite.yaml"
    suite.write_text("version: 1\nprompts: 3\nsamples: 2\nmax_new_tokens: 2\nbest_of_n: 64\ntop_k: 2\n")
    folder = run(work, tmp_path, models={"toy": str(tmp_path / "toy")}, reference="toy", suite=suite)
    write_report(folder, only=["tables"])
    assert read(folder, "metrics.json")["best_of_n_held"] is None
    text = (folder / "tables" / "best_of_n.md").read_text("utf-8")
    assert "The true KL is not known: the probabilities of its responses are not known (drawn at another" in text


def test_the_first_sample_of_the_same_tokens_is_known_by_them_and_no_text() -> None:
    """A stop string's tokens count, so that what they ended is another response than its text alone."""
    drawn = [array("i", tokens) for tokens in ([5, 6], [5, 6, 7], [5, 6])]
    rows = [ResponseRow("a", 0, "p", k, "p", "a b", token_ids=t, logprob=-1.5) for k, t in enumerate(drawn)]
    context = EvalContext("model", "file", sampling=sampling.SamplingConfig())
    assert pool_of(rows, context).rows["first"].tolist() == [0, 1, 0]
    warmer = replace(context, sampling=sampling.SamplingConfig(temperature=2.0))
    assert pool_of(rows, context).rows["logprob"].tolist() == [-1.5] * 3
    assert pool_of(rows, warmer).rows["logprob"].isna().all()  # drawn from another distribution than the model's


def test_an_interrupted_evaluation_keeps_its_pool(
    pooled: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the pool, it goes on without a sample drawn, to the same bytes."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rlhf_bench.evaluate.run.collect", stop)
        with pytest.raises(KeyboardInterrupt):
            run(work, tmp_path, best_of_n=4)
    (part,) = tmp_path.glob("*/*/.parts/best_of_n/0.parquet")
    assert len(pd.read_parquet(part)) == 12
    monkeypatch.setattr(sampling, "sample_as", stop)
    folder = run(work, tmp_path, best_of_n=4)
    for name in ("best_of_n.parquet", "metrics.json", "scores.parquet"):
        assert (folder / name).read_bytes() == (pooled / name).read_bytes(), name
    assert not (folder / ".parts").exists()


def test_why_there_is_no_pool_is_reported(work: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="best_of_n: given 1, expected at least 2"):
        run(work, tmp_path, best_of_n=1)
    folder = run(work, tmp_path, models={"a": str(work / "a")}, reward_models={}, best_of_n=4, limit=2)
    missing = {(row["model"], row["metric"]): row["reason"] for row in read(folder, "metrics.json")["missing"]}
    assert missing["a", "best_of_n"] == "no reward model under every seed to choose by"
    assert "best_of_n" not in read(folder, "metrics.json")
    assert not (folder / "best_of_n.parquet").exists()


def test_the_gold_of_a_pool_is_that_of_the_table() -> None:
    pairs = mini.generate("test", n=3)
    rows = [ResponseRow("a", 0, p.id, 0, p.prompt, p.chosen, finish_reason="eos", n_tokens=3.0) for p in pairs]
    config = sampling.SamplingConfig()
    context = EvalContext("file", "hh-mini", sampling=config)
    assert pool_of(rows, context).rows["gold"].tolist() == scored(rows, context).rows["gold"].tolist()
    assert "gold" not in pool_of(rows, EvalContext("file", "a file", sampling=config)).rows
