"""The audit of a reward model: its numbers by hand, its files, what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from rlhf_bench.audit.calibration import calibration
from rlhf_bench.audit.pairs import PairScores, accuracies, accuracy, audit_pairs, score_pairs
from rlhf_bench.audit.run import run_audit
from rlhf_bench.cli import cli
from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue, BenchError, CheckpointError, ModelError, StaleParent, StoreError, UnknownName
from rlhf_bench.files import write_jsonl
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.progress import Progress
from rlhf_bench.report import write_report
from rlhf_bench.report.audit import Audit
from rlhf_bench.scorers.features import FEATURES
from rlhf_bench.store import ResultStore
from rlhf_bench.types import PreferencePair

from .report.make_result import make_result
from .tiny import save_policy, save_reward, save_run, write_training

N_PAIRS = 60


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of one split, with categories; a tenth of it is the test split."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "category": p.category}
        for p in mini.generate("test", n=10 * N_PAIRS)  # no prompt twice
    ]
    write_jsonl(path, rows)
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, pairs_file: Path) -> Path:
    """A run `mini` of one seed, trained (so it says) on `pairs_file`, with split seed 3."""
    root = tmp_path_factory.mktemp("checkpoints")
    save_run(root / "mini", data={"source": str(pairs_file), "seed": 3})
    return root


def pair(prompt: str, chosen: str, rejected: str, category: str | None = None, **meta: Any) -> PreferencePair:
    return PreferencePair(prompt, chosen, rejected, category=category, meta=meta)


class FakeModel:
    """Scores a response by the number that it is."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        return torch.tensor([float(response) for response in responses])


# accuracy


def test_accuracy_resamples_prompts_not_pairs() -> None:
    """Prompt a is right on one of two pairs, b and c on their only one: (0.5 + 1 + 1) / 3, over n = 3 prompts."""
    found = accuracy(np.array([[1.0, 0.0, 1.0, 1.0]]), ["a", "a", "b", "c"])
    assert found.value == pytest.approx(2.5 / 3)
    assert (found.n, found.method) == (3, "clopper-pearson")


def test_accuracy_of_one_pair_a_prompt_is_wilson() -> None:
    """8 of 10, z = 1.959964, z^2 = 3.841459: centre (.8 + z^2/20) / (1 + z^2/10) = .716740, half width
    z sqrt(.8 * .2 / 10 + z^2/400) / (1 + z^2/10) = .226576."""
    found = accuracy(np.array([[1.0] * 8 + [0.0] * 2]), [str(i) for i in range(10)])
    assert (found.value, found.method) == (0.8, "wilson")
    assert (found.low, found.high) == pytest.approx((0.490164, 0.943316), abs=2e-6)


def test_ties_count_half_and_the_interval_stays_a_share() -> None:
    """Mean of 1, .5, 0 with sd .5: -+ 4.302653 * .5 / sqrt(3) = 1.242 reaches beyond 0 and 1."""
    found = accuracy(np.array([[1.0, 0.5, 0.0]]), ["a", "b", "c"])
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 3)


def test_several_seeds_are_crossed_with_prompts() -> None:
    found = accuracy(np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]]), list("abcd"))
    assert (found.value, found.n, found.n_seeds, found.method) == (5 / 8, 4, 2, "crossed-t")


def test_rules_beside_the_model() -> None:
    """Chosen longer, shorter, as long, longer: "the longer one" is right on 1 + 0 + .5 + 1 of 4."""
    pairs = [pair("a", "xx", "x"), pair("b", "x", "xx"), pair("c", "xx", "yy"), pair("d", "xxx", "x")]
    scores = PairScores(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    found = audit_pairs(pairs, [scores])
    values = {name: found[name]["value"] for name in ("accuracy", "longer", "shorter")}
    assert values == {"accuracy": 0.75, "longer": 0.625, "shorter": 0.375}
    assert (found["untrained"], found["ceiling"], found["pairs"]) == (None, None, 4)


def test_ties_are_counted_and_there_is_an_accuracy_with_ties_wrong() -> None:
    """One of four right, two tied: a half with ties half, a quarter with ties wrong, as JudgeBench prints it."""
    scores = PairScores(np.array([1.0, 0.0, 0.5, 0.0]), np.array([0.0, 1.0, 0.5, 0.0]))
    found = audit_pairs([pair(name, "x", "y") for name in "abcd"], [scores])
    assert (found["accuracy"]["value"], found["ties"], found["ties_wrong"]["value"]) == (0.5, 2, 0.25)


def test_ceiling_is_the_mean_of_the_better_side() -> None:
    """max(p, 1 - p) of .9 and .3 is .9 and .7."""
    pairs = [pair("a", "x", "y", p_chosen=0.9), pair("b", "x", "y", p_chosen=0.3)]
    scores = PairScores(np.ones(2), np.zeros(2))
    assert audit_pairs(pairs, [scores])["ceiling"] == pytest.approx(0.8)


def test_score_pairs_keeps_the_order_over_chunks() -> None:
    pairs = [pair(str(i), str(i), str(-2 * i)) for i in range(1200)]
    scores = score_pairs(FakeModel(), pairs)
    assert scores.chosen.tolist() == list(range(1200))
    assert scores.rejected.tolist() == [-2 * i for i in range(1200)]
    assert scores.margins.tolist() == [3 * i for i in range(1200)]


# calibration


def test_calibration_worked_by_hand() -> None:
    """Four margins of +-ln(.72 / .28): the model gives .72 to the side it prefers, and that side is chosen in two of
    four, so the bin [.7, .75) is off by .22. The fifth pair ties: .5 against a half. (4 * .22 + 1 * 0) / 5 = .176."""
    margin = math.log(0.72 / 0.28)
    found = calibration(np.array([margin, -margin, margin, -margin, 0.0]), list("abcde"))
    assert found.ece.value == pytest.approx(0.176)
    filled = {(b.low, b.high): (b.n, b.mean_predicted, b.share.value) for b in found.bins if b.n}
    assert filled == {(0.5, 0.55): (1, 0.5, 0.5), (0.7, 0.75): (4, pytest.approx(0.72), 0.5)}
    assert [b.n for b in found.bins] == [1, 0, 0, 0, 4, 0, 0, 0, 0, 0]


def test_brier_score_and_its_parts_by_hand() -> None:
    """Four pairs at p = .72, two right, and two ties at .5. Score (2 * .28^2 + 2 * .72^2) / 6 = .1989333, ties add 0.
    Accuracy (2 + 1) / 6 = .5; reliability 4/6 * (.72 - .5)^2 = .0322667; both bins have a share of .5: resolution 0;
    uncertainty .25. Ties count half, so their variance of .25 * 2/6 and that of no other is missing from the score:
    .0322667 + .25 - .0833333 = .1989333."""
    margin = math.log(0.72 / 0.28)
    found = calibration(np.array([margin, -margin, margin, -margin, 0.0, 0.0]), list("abcdef"))
    assert found.brier.score == pytest.approx(0.1989333, abs=1e-6)
    assert (found.brier.reliability, found.brier.resolution) == pytest.approx((0.0322667, 0), abs=1e-6)
    assert found.brier.uncertainty == 0.25


def test_the_temperature_says_how_much_too_sure() -> None:
    """Right in three of four at margins of 2 ln 3: sigmoid(2 ln 3 / T) = 3/4 at T = 2."""
    margin = 2 * math.log(3)
    found = calibration(np.array([margin, margin, margin, -margin]), list("abcd"))
    assert found.temperature == pytest.approx(2, rel=1e-4)


def test_calibration_at_the_ends() -> None:
    """A margin of 1,000 gives p = 1, which belongs to the last bin; always right, so nothing is off."""
    found = calibration(np.array([1000.0, 1000.0]), ["a", "b"])
    assert (found.bins[-1].n, found.ece.value) == (2, 0.0)


def test_calibration_of_a_model_as_sure_as_right() -> None:
    """Labels drawn at the model's own probabilities: the error is what 4,000 pairs leave, far below a wrong sign's."""
    rng = np.random.default_rng(0)
    margins = np.abs(rng.normal(0, 2, 4000))
    signs = np.where(rng.random(4000) < 1 / (1 + np.exp(-margins)), 1, -1)
    prompts = [str(i) for i in range(4000)]
    assert calibration(margins * signs, prompts).ece.value < 0.03
    assert calibration(-margins * signs, prompts).ece.value > 0.3


def test_the_interval_of_the_calibration_error_by_hand() -> None:
    """Always sure by .75 and right in half of 200 pairs: off by .25 in one bin, with a standard error of .5 / sqrt(199)
    = .0354440. Below 2.241403 of them (the 97.5th percentile of |normal|): .1706; above 1.959964: .3195."""
    found = calibration(np.tile([1.0, -1.0], 100) * math.log(3), [str(i) for i in range(200)])
    assert found.ece.value == pytest.approx(0.25)
    assert (found.ece.low, found.ece.high) == (pytest.approx(0.1706, abs=2e-3), pytest.approx(0.31947, abs=1e-4))
    assert found.overconfidence.value == pytest.approx(0.25)


def test_chance_alone_leaves_an_interval_that_reaches_0() -> None:
    """100 draws of 200 pairs with labels at the model's own probabilities, whose true error is 0."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        margins = np.abs(rng.normal(0, 2, 200))
        signs = np.where(rng.random(200) < 1 / (1 + np.exp(-margins)), 1, -1)
        found.append(calibration(margins * signs, [str(i) for i in range(200)]).ece)
    assert np.mean([ece.value for ece in found]) > 0.04
    assert sum(ece.low > 0 for ece in found) <= 7


def test_pairs_by_the_agreement_of_annotators() -> None:
    """Of nine pairs with margins 1 ... 9 the least three are right, the most three wrong; without margins no rows."""
    pairs = [PreferencePair(str(i), "x", "y", margin=float(i + 1)) for i in range(9)]
    scores = PairScores(np.array([1.0] * 3 + [0.0] * 6), np.full(9, 0.5))
    found = accuracies(pairs, [scores])["by_agreement"]
    assert [(row["accuracy"]["value"], row["pairs"]) for row in found.values()] == [(1, 3), (0, 3)]
    first = PairScores(scores.chosen[:1], scores.rejected[:1])
    assert accuracies([pair("a", "x", "y")], [first])["by_agreement"] == {}


# files


def test_audit_of_a_run(checkpoints: Path, tmp_path: Path) -> None:
    folder = run_audit(run="mini", checkpoints=checkpoints, results=tmp_path)
    assert folder == tmp_path / "audit" / "mini" / "audit"
    report = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    part = report["models"]["seed 0"]
    assert report["data"]["seed"] == 3  # the split that was held out of training
    assert part["overall"]["pairs"] == report["data"]["pairs"] > 20
    assert sum(row["pairs"] for row in part["by_category"].values()) == report["data"]["pairs"]
    assert list(part["by_category"]) == sorted(part["by_category"])
    assert part["overall"]["untrained"] is not None
    assert part["unseen"] is None
    assert report["pooled"] is None

    mistakes = ResultStore(folder.parent).read_mistakes()
    margins = [row["margin"] for row in mistakes]
    assert margins == sorted(margins)
    assert margins[-1] <= 0
    wrong = sum(1.0 if margin < 0 else 0.5 for margin in margins)
    # one pair a prompt: shares of prompts are shares of pairs
    assert report["data"]["n_prompts"] == report["data"]["pairs"]
    assert part["overall"]["accuracy"]["value"] == pytest.approx(1 - wrong / report["data"]["pairs"])

    model = RewardModel.load(checkpoints / "mini" / "reward", max_prompt=192, max_response=96)
    first = mistakes[0]
    scores = model.score([first["prompt"]] * 2, [first["chosen"], first["rejected"]]).tolist()
    assert scores == pytest.approx([first["chosen_score"], first["rejected_score"]], abs=1e-5)

    bins = part["calibration"]["bins"]
    assert sum(found["n"] for found in bins) == report["data"]["pairs"]
    assert [found["low"] for found in bins] == [round(0.5 + 0.05 * i, 2) for i in range(10)]


def test_same_numbers_again_and_in_any_batch(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_audit(run="mini", checkpoints=checkpoints, results=tmp_path / "a")
    score = RewardModel.score
    monkeypatch.setattr(RewardModel, "score", lambda *args: score(*args, batch_size=7))
    after = run_audit(run="mini", checkpoints=checkpoints, results=tmp_path / "b")
    first, second = (ResultStore(folder.parent).read_audit() or {} for folder in (before, after))
    assert first["models"]["seed 0"]["by_category"] == second["models"]["seed 0"]["by_category"]
    errors = [found["models"]["seed 0"]["calibration"]["ece"]["value"] for found in (first, second)]
    assert errors[0] == pytest.approx(errors[1], abs=1e-6)


def test_untrained_is_the_parent_under_a_fresh_head(checkpoints: Path, tmp_path: Path) -> None:
    """The tiny reward model was never trained: it is that model."""
    folder = run_audit(run="mini", checkpoints=checkpoints, results=tmp_path)
    part = (ResultStore(folder.parent).read_audit() or {})["models"]["seed 0"]
    assert part["overall"]["untrained"] == part["overall"]["accuracy"]


def test_hh_mini_has_a_ceiling_and_unseen_categories(tmp_path: Path) -> None:
    save_run(tmp_path / "c" / "mini")
    folder = run_audit(run="mini", limit=200, checkpoints=tmp_path / "c", results=tmp_path / "r")
    part = (ResultStore(folder.parent).read_audit() or {})["models"]["seed 0"]
    assert set(part["by_category"]) == set(mini.CATEGORIES)
    assert set(part["unseen_by_category"]) == set(mini.UNSEEN_CATEGORIES)
    assert part["overall"]["pairs"] == part["unseen"]["pairs"] == 200
    groups = [part["overall"], part["unseen"], *part["by_category"].values()]
    assert all(0.7 < group["ceiling"] < 1 for group in groups)
    of_categories = [(g["ceiling"], g["pairs"]) for g in part["by_category"].values()]
    assert part["overall"]["ceiling"] == pytest.approx(sum(c * n for c, n in of_categories) / 200)
    text = Audit(folder).text()
    assert f"{part['overall']['ceiling']:.3f}" in text
    assert "unseen" in text


def test_several_seeds(tmp_path: Path, pairs_file: Path) -> None:
    """Each seed has its part, its mistakes stay together, and the pooled accuracy is over both."""
    data = {"source": str(pairs_file), "seed": 3}
    for seed in (1, 2):
        save_run(tmp_path / "c" / "three" / f"seed-{seed}", seed=seed, data=data)
    folder = run_audit(run="three", checkpoints=tmp_path / "c", results=tmp_path / "r")
    report = ResultStore(folder.parent).read_audit() or {}
    assert list(report["models"]) == ["seed 1", "seed 2"]
    values = [part["overall"]["accuracy"]["value"] for part in report["models"].values()]
    pooled = report["pooled"]["overall"]["accuracy"]
    assert (pooled["value"], pooled["n_seeds"]) == (pytest.approx(sum(values) / 2), 2)
    keys = [(row["model"], row["margin"]) for row in ResultStore(folder.parent).read_mistakes()]
    assert keys == sorted(keys)
    assert {model for model, _ in keys} == {"seed 1", "seed 2"}
    (versus,) = report["versus"]
    assert versus["difference"]["value"] == pytest.approx(values[0] - values[1])


def test_the_report_page_shows_it(checkpoints: Path, tmp_path: Path) -> None:
    """The audit goes beside the run's result, and the command draws the page again."""
    result = make_result(tmp_path / "hh-test" / "mini", models=("sft",), audit=False)
    manifest = ResultStore(result).read_manifest()
    hash_ = json.loads((checkpoints / "mini" / "reward" / "training.json").read_text())["hash"]
    ResultStore(result).write_manifest(manifest | {"reward_model": [{"seed": 0, "hash": hash_}]})
    pool = [
        {"model": "sft", "seed": 0, "prompt_id": str(p), "sample": k, "reward": float(k)}
        | {f"style_{name}": float(k) for name in FEATURES}
        for p in range(10) for k in range(2)
    ]  # fmt: skip
    ResultStore(result).write_pool(pd.DataFrame(pool))
    write_report(result, only=["page"])
    done = CliRunner().invoke(
        cli, ["audit", "--run", "mini", "--checkpoints", str(checkpoints), "--results", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    assert (result / "audit" / "audit.json").is_file()
    worst = ResultStore(result).read_mistakes()[0]
    page = (result / "report.html").read_text(encoding="utf-8")
    assert "Accuracy by category" in done.stdout
    assert "Accuracy by category" in page
    assert "Calibration" in page
    assert "What the reward model teaches" in page
    assert f"score {worst['rejected_score']:.2f}".replace("-", "−") in page
    assert f"mistakes: {result / 'audit' / 'mistakes.jsonl'}" in done.stdout


def test_a_result_that_has_lost_responses_is_seen_before_anything_is_scored(checkpoints: Path, tmp_path: Path) -> None:
    result = make_result(tmp_path / "hh-test" / "mini", models=("sft",), audit=False)
    (result / "responses.jsonl").write_bytes(b"")
    with pytest.raises(StoreError, match=r"responses\.jsonl holds 0 of \d+ rows"):
        run_audit(run="mini", checkpoints=checkpoints, results=tmp_path)


def test_beside_another_reward_models_result_it_does_not_go(checkpoints: Path, tmp_path: Path) -> None:
    result = make_result(tmp_path / "hh-test" / "mini", models=("sft",), audit=False)  # its reward model is "cd34"
    folder = run_audit(run="mini", checkpoints=checkpoints, results=tmp_path)
    assert folder == tmp_path / "audit" / "mini" / "audit"
    assert not (result / "audit").exists()


def test_another_model_data_or_limit_has_a_folder_of_its_own(
    checkpoints: Path, pairs_file: Path, tmp_path: Path
) -> None:
    reward = str(checkpoints / "mini" / "reward")
    given: list[dict[str, Any]] = [
        {"reward_models": {"mine": reward}},
        {"limit": 5},
        {"limit": 6},
        {"data": str(pairs_file)},
    ]
    folders = {run_audit(run="mini", checkpoints=checkpoints, results=tmp_path, **some) for some in given}
    assert len(folders) == 4
    assert tmp_path / "audit" / "mini" / "audit" not in folders


def test_a_foreign_reward_model_on_data_of_ones_own(pairs_file: Path, tmp_path: Path) -> None:
    """No run, no training.json: only what is given is needed, and there is no untrained model to show."""
    reward = save_reward(tmp_path / "mine", save_policy(tmp_path / "parent"))
    folder = run_audit(
        run="none",
        reward_models={"mine": str(reward)},
        data=str(pairs_file),
        checkpoints=tmp_path,
        results=tmp_path / "r",
    )
    part = (ResultStore(folder.parent).read_audit() or {})["models"]["mine"]
    assert part["overall"]["untrained"] is None
    head = Audit(folder).text()
    assert "Reward model" in head  # and no column without a number
    assert "Untrained" not in head


def test_all_pairs_of_data_that_the_model_was_not_trained_on(pairs_file: Path, tmp_path: Path) -> None:
    """An undivided file has no test split of its own to spare: a tenth of it would be one."""
    reward = save_reward(tmp_path / "mine", save_policy(tmp_path / "parent"))
    folder = run_audit(
        reward_models={"mine": str(reward)}, data=str(pairs_file), checkpoints=tmp_path, results=tmp_path / "r"
    )
    report = ResultStore(folder.parent).read_audit() or {}
    assert (report["data"]["split"], report["data"]["pairs"]) == ("all", 10 * N_PAIRS)
    assert report["models"]["mine"]["overall"]["words"]["value"] > 0.6


def test_every_checkpoint_of_a_training(checkpoints: Path, tmp_path: Path) -> None:
    """In the order of their steps; two that are one model agree on every pair. The one of a toy recipe is marked."""
    steps = tmp_path / "reward-steps"
    for step in (20, 100):
        shutil.copytree(checkpoints / "mini" / "reward", steps / f"checkpoint-{step}")
    training = steps / "checkpoint-20" / "training.json"
    training.write_text(json.dumps(json.loads(training.read_text(encoding="utf-8")) | {"toy": True}), encoding="utf-8")
    done = CliRunner().invoke(
        cli,
        [
            "audit",
            "--steps",
            f"{steps}/*",
            "--run",
            "mini",
            "--checkpoints",
            str(checkpoints),
            "--results",
            str(tmp_path),
        ],
    )
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.glob("audit/*/audit/audit.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert list(report["models"]) == ["checkpoint-20", "checkpoint-100"]
    assert report["versus"][0]["difference"]["value"] == 0
    mark = "Toy recipe, its numbers mean nothing: checkpoint-20"
    assert done.stdout.splitlines()[0] == mark
    for table in (file.parent.parent / "tables").glob("*.md"):
        assert mark in table.read_text(encoding="utf-8")
    missing = CliRunner().invoke(cli, ["audit", "--steps", f"{tmp_path}/none-*"])
    assert "no folder matches" in missing.stderr


# bad input: one line, and nothing written


def fails(kind: type[BenchError], tmp_path: Path, **arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        run_audit(results=tmp_path / "results", **arguments)
    assert not (tmp_path / "results").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_run_names_the_command(tmp_path: Path) -> None:
    message = fails(UnknownName, tmp_path, run="nope", checkpoints=tmp_path)
    assert message == "unknown run 'nope'; known: none; make it with: rlhf-bench train all --run nope"
    (tmp_path / "nope").mkdir()
    message = fails(CheckpointError, tmp_path, run="nope", checkpoints=tmp_path)
    assert message == f"{tmp_path / 'nope' / 'reward'} does not exist; make it with: rlhf-bench train reward --run nope"


def test_a_reward_model_with_two_outputs(pairs_file: Path, tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "two", save_policy(tmp_path / "parent"), labels=2)
    message = fails(
        ModelError, tmp_path, run="x", reward_models={"given": str(reward)}, data=str(pairs_file), checkpoints=tmp_path
    )
    assert message.startswith(f"{reward} has 2 outputs; a reward model has 1")


def test_a_policy_is_no_reward_model(checkpoints: Path, tmp_path: Path) -> None:
    policy = checkpoints / "mini" / "sft"
    message = fails(ModelError, tmp_path, run="mini", reward_models={"given": str(policy)}, checkpoints=checkpoints)
    assert message.startswith(f"{policy} is no reward model (GPT2LMHeadModel)")


@pytest.mark.parametrize("trained_here", [True, False])
def test_a_foreign_or_truncated_safetensors_file(checkpoints: Path, tmp_path: Path, trained_here: bool) -> None:
    for content, word in ((b"not a safetensors file at all", "no safetensors file"), (None, "is damaged")):
        run = tmp_path / word / "mini"
        shutil.copytree(checkpoints / "mini", run)
        weights = run / "reward" / "model.safetensors"
        weights.write_bytes(content if content is not None else weights.read_bytes()[:-100])
        given: dict[str, Any] = {}
        if not trained_here:
            (run / "reward" / "training.json").unlink()
            given = {"reward_models": {"given": str(run / "reward")}, "data": "hh-mini"}
        message = fails(CheckpointError, tmp_path, run="mini", checkpoints=run.parent, **given)
        assert str(weights) in message
        assert word in message


def test_a_parent_that_was_trained_again(checkpoints: Path, tmp_path: Path) -> None:
    run = tmp_path / "mini"
    shutil.copytree(checkpoints / "mini", run)
    shutil.rmtree(run / "sft")
    write_training(save_policy(run / "sft", seed=5))
    message = fails(StaleParent, tmp_path, run="mini", checkpoints=tmp_path)
    assert "train it again with: rlhf-bench train reward --run mini --force" in message


def test_a_foreign_reward_model_without_data(tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "mine", save_policy(tmp_path / "parent"))
    message = fails(BadValue, tmp_path, run="x", reward_models={"given": str(reward)}, checkpoints=tmp_path)
    assert message.endswith("--run NAME")


def test_a_reward_that_is_not_finite(checkpoints: Path, pairs_file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    reward = tmp_path / "nan"
    shutil.copytree(checkpoints / "mini" / "reward", reward)
    (reward / "training.json").unlink()
    weights = load_file(reward / "model.safetensors")
    weights["score.weight"][:] = math.nan
    save_file(weights, reward / "model.safetensors", metadata={"format": "pt"})
    message = fails(
        BenchError, tmp_path, run="x", reward_models={"given": str(reward)}, data=str(pairs_file), checkpoints=tmp_path
    )
    assert "gave nan for response 0" in message


def test_a_folder_that_cannot_be_written(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="choose a folder that can be written"):
        run_audit(run="mini", checkpoints=checkpoints, results=tmp_path / "results")


def test_progress_is_shown(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_audit(run="mini", checkpoints=checkpoints, results=tmp_path, progress=Progress())
    shown = capsys.readouterr().err
    assert "reward model, seed 0, test: " in shown
    assert "untrained model, seed 0, test: " in shown
