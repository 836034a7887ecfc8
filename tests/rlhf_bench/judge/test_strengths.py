"""Bradley-Terry and the win rate at equal length: planted truths, and fits by scipy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from scipy.stats import spearmanr

from rlhf_bench.errors import DataError
from rlhf_bench.judge.analysis import model_strengths
from rlhf_bench.judge.analysis.length import (
    LENGTH_ALONE,
    RIDGE,
    RIDGE_DIFFICULTY,
    LengthDesign,
    equal_length_win_rates,
    fit_equal_length,
)
from rlhf_bench.judge.analysis.pairs import win_rates
from rlhf_bench.stats.bradley_terry import ELO, fit_strengths

from .make_verdicts import pairs_frame


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Bradley-Terry

PLANTED = {"base": 1000.0, "dpo": 1150.0, "ppo": 1080.0, "sft": 940.0}


def tournament(n=400, seed=0, seeds=1):
    rng = np.random.default_rng(seed)
    frames = []
    for a, b in combinations(PLANTED, 2):
        chance = sigmoid((PLANTED[a] - PLANTED[b]) / ELO)
        outcome = (rng.random((seeds, n, 1)) < chance).astype(float)
        outcome[rng.random(outcome.shape) < 0.1] = 0.5
        frames.append(pairs_frame(outcome, model=a, baseline=b))
    return pd.concat(frames)


def test_two_models_worked_by_hand():
    # 3 wins of 4: log odds ln 3, and 400 log10(3) = 190.85 Elo; a prior that weighs nothing
    pairs = pairs_frame(np.array([1.0, 1.0, 0.5, 0.5]).reshape(1, 4, 1))
    strengths = model_strengths(pairs, baseline="base", prior=1e-9)
    assert [(s.model, s.rank) for s in strengths] == [("ppo", 1), ("base", 2)]
    assert strengths[0].elo.value == pytest.approx(1190.85, abs=0.01)
    assert (strengths[1].elo.value, strengths[1].elo.method) == (1000.0, "fixed")


def test_strengths_agree_with_scipy():
    wins = np.random.default_rng(1).integers(0, 30, size=(2, 5, 5)).astype(float)
    wins[:, np.arange(5), np.arange(5)] = 0
    for table, found in zip(wins, fit_strengths(wins, prior=0.3), strict=True):

        def loss(theta, table=table):
            return float((table * np.logaddexp(0, theta[None, :] - theta[:, None])).sum() + 0.15 * (theta**2).sum())

        assert found == pytest.approx(optimize.minimize(loss, np.zeros(5), method="BFGS").x, abs=1e-4)
        assert found.sum() == pytest.approx(0, abs=1e-9)


def test_planted_strengths_are_recovered():
    strengths = {s.model: s for s in model_strengths(tournament(), baseline="base")}
    assert [s.model for s in sorted(strengths.values(), key=lambda s: s.rank)] == ["dpo", "ppo", "base", "sft"]
    for model in ("dpo", "ppo", "sft"):
        estimate = strengths[model].elo
        # ties of a tenth of the verdicts shrink the log odds by about a tenth
        assert estimate.low <= 1000 + 0.92 * (PLANTED[model] - 1000) <= estimate.high
        assert 20 < estimate.high - estimate.low < 80
        assert estimate.n == 400
    assert (strengths["dpo"].rank_low, strengths["dpo"].rank_high) == (1, 1)


def test_the_baseline_shifts_the_scale_alone():
    pairs = tournament(60)
    one, other = ({s.model: s.elo.value for s in model_strengths(pairs, baseline=b)} for b in ("base", "dpo"))
    assert {m: one[m] - one["dpo"] for m in one} == pytest.approx({m: other[m] - 1000 for m in other}, abs=1e-6)


def test_more_seeds_do_not_count_as_more_prompts():
    """Three copies of a seed: the same strengths, and an interval that is no narrower."""
    pairs = tournament(60)
    copies = pd.concat([pairs.assign(seed=s) for s in range(3)])
    one, three = ({s.model: s.elo for s in model_strengths(p, baseline="base")} for p in (pairs, copies))
    assert three["dpo"].n == one["dpo"].n == 60
    assert three["dpo"].high - three["dpo"].low > 0.9 * (one["dpo"].high - one["dpo"].low)


def test_separation_stays_finite_and_claims_no_interval():
    pairs = pd.concat([tournament(30), pairs_frame(np.ones((1, 30, 1)), model="god", baseline="base")])
    strengths = model_strengths(pairs, baseline="base")
    assert (strengths[0].model, strengths[0].rank, strengths[0].elo.method) == ("god", 1, "separated")
    assert 1500 < strengths[0].elo.value < 4000
    assert math.isnan(strengths[0].elo.low)


def test_a_model_that_never_met_the_others_has_no_strength():
    pairs = pd.concat([tournament(10), pairs_frame(np.full((1, 10, 1), 0.5), model="x", baseline="y")])
    strengths = model_strengths(pairs, baseline="base")
    assert [(s.model, s.rank) for s in strengths[-2:]] == [("x", 0), ("y", 0)]
    assert math.isnan(strengths[-1].elo.value)


def test_equal_strengths_share_a_rank():
    strengths = model_strengths(pairs_frame(np.full((1, 12, 1), 0.5)), baseline="base")
    assert [(s.rank, s.rank_low, s.rank_high) for s in strengths] == [(1, 1, 1), (1, 1, 1)]
    assert strengths[1].elo.value == pytest.approx(1000.0)


# equal length


def lengthy(n=400, *, theta=0.3, phi=2.0, shift=30.0, seed=0, model="ppo", gamma=0.0):
    """Outcomes drawn from the model itself; lengths differ by `shift` characters on average, sd 50."""
    rng = np.random.default_rng(seed)
    lead = rng.normal(shift, 50, size=(1, n, 1)).round()
    chance = sigmoid(theta + phi * np.tanh(lead / lead.std()) + gamma)
    outcome = (rng.random(lead.shape) < chance).astype(float)
    return pairs_frame(outcome, model=model, model_length=300 + lead, baseline_length=300.0)


def test_a_planted_length_bias_is_taken_out():
    pairs = lengthy(1_500, phi=0.8)
    (found,) = equal_length_win_rates(pairs, baseline="base", resamples=200)
    raw = win_rates(pairs)[0].estimate
    assert found.win_rate.low <= sigmoid(0.3) <= found.win_rate.high
    assert found.win_rate.value == pytest.approx(sigmoid(0.3), abs=0.04)
    assert not raw.low <= sigmoid(0.3) <= raw.high
    assert found.length_effect == pytest.approx(0.8, abs=0.25)
    assert "comes mostly from published judges" in found.warning
    assert found.win_rate.n == 1_500


def test_it_agrees_with_scipy_for_one_model_and_with_difficulties():
    rng = np.random.default_rng(3)
    n, m, p = 90, 3, 30
    model, prompt = np.repeat(np.arange(m), p), np.tile(np.arange(p), m)
    y, z, weight = rng.choice([0, 0.5, 1], n), np.tanh(rng.normal(size=n)), rng.integers(1, 4, p)[prompt].astype(float)
    design = LengthDesign(y, z, model, prompt, np.zeros(n, dtype=np.int64), np.ones(n))
    for difficulty in (False, True):

        def loss(beta, difficulty=difficulty):
            eta = beta[model] + beta[m + model] * z + beta[2 * m + prompt] * difficulty
            nll = (weight * (np.logaddexp(0, eta) - y * eta)).sum() + RIDGE / 2 * (beta[: 2 * m] ** 2).sum()
            return float(nll + RIDGE_DIFFICULTY / 2 * (weight[:p] * beta[2 * m :] ** 2).sum())

        best = optimize.minimize(loss, np.zeros(2 * m + p), method="BFGS", options={"gtol": 1e-6}).x
        fit = fit_equal_length(design, weight, difficulty=difficulty)
        assert np.r_[fit.theta, fit.phi] == pytest.approx(best[: 2 * m], abs=1e-4)
        assert fit.gamma == pytest.approx(best[2 * m :] * difficulty, abs=1e-4)


def test_equal_lengths_give_the_win_rate_itself():
    outcome = np.random.default_rng(4).choice([0.0, 0.5, 1.0], size=(1, 80, 2))
    pairs = pairs_frame(outcome, model_length=10.0, baseline_length=10.0)
    (found,) = equal_length_win_rates(pairs, baseline="base", resamples=50)
    # theta's penalty of .01 moves 80 prompts by less than .01 * theta / 80
    assert found.win_rate.value == pytest.approx(outcome.mean(), abs=1e-4)
    assert found.warning == ""


def test_three_models_share_the_difficulties_of_the_prompts():
    hard = np.random.default_rng(5).normal(0, 1.5, size=(1, 300, 1))
    pairs = pd.concat(
        [
            lengthy(300, theta=0.5, phi=1.0, seed=6, gamma=hard),
            lengthy(300, theta=-0.5, seed=7, model="dpo", gamma=hard),
        ]
    )
    found = {e.model: e for e in equal_length_win_rates(pairs, baseline="base", resamples=100)}
    for model, theta in (("ppo", 0.5), ("dpo", -0.5)):
        truth = sigmoid(theta + hard).mean()
        assert found[model].win_rate.low <= truth <= found[model].win_rate.high
        assert found[model].win_rate.value == pytest.approx(truth, abs=0.06)


def test_all_won_is_exact_and_finite():
    pairs = lengthy(40).assign(outcome=1.0)
    (found,) = equal_length_win_rates(pairs, baseline="base", resamples=20)
    assert (found.win_rate.value, found.win_rate.high, found.win_rate.method) == (1.0, 1.0, "clopper-pearson")
    assert found.win_rate.low < 0.95


@pytest.mark.parametrize(
    ("shift", "side"), [(400.0, "longer"), (-400.0, "shorter")], ids=["always longer", "always shorter"]
)
def test_a_warning_where_length_and_model_are_confounded(shift, side):
    (found,) = equal_length_win_rates(lengthy(100, shift=shift), baseline="base", resamples=20)
    assert re.match(rf"\d+% of its responses are {side} than the baseline's: equal length is outside", found.warning)


@pytest.mark.parametrize("sign", [1, -1], ids=["the longer one wins", "the shorter one wins"])
def test_a_warning_where_length_decides_everything(sign):
    pairs = lengthy(100)
    lead = sign * (pairs["model_length"] - pairs["baseline_length"])
    pairs = pairs[lead != 0].assign(outcome=(lead > 0).astype(float))
    (found,) = equal_length_win_rates(pairs, baseline="base", resamples=20)
    assert found.warning.startswith("length alone decides every verdict")
    one_else = pairs.assign(outcome=pairs["outcome"].mask(pairs.index == pairs.index[0], 1 - pairs["outcome"]))
    assert equal_length_win_rates(one_else, baseline="base", resamples=20)[0].warning != LENGTH_ALONE


def test_lengths_that_never_vary_are_warned_about():
    pairs = lengthy(50).assign(model_length=20.0, baseline_length=10.0)
    (found,) = equal_length_win_rates(pairs, baseline="base", resamples=20)
    assert found.warning.endswith("the effects of length and model cannot be separated")
    assert 0 < found.win_rate.value < 1


def test_equal_length_needs_the_baseline():
    with pytest.raises(DataError, match="no pair with an outcome against 'sft' given"):
        equal_length_win_rates(lengthy(5), baseline="sft")


def files_of_one_model(mean_bias: float, n_files: int = 57, n: int = 805) -> Iterator[tuple[float, pd.DataFrame]]:
    """(rate of the same verdicts without the bias, pairs) of models that a biased judge compares with a baseline.

    Lengths are log-normal around 1,600 characters. Instructions differ in difficulty, and each model is better or worse
    on those with long answers (the slope `own`), which is no length bias: a file alone cannot tell the two apart.
    """
    rng = np.random.default_rng(0)
    difficulty, base = rng.normal(0, 1.5, n), np.exp(rng.normal(7.4, 0.6, n)).round()
    for _ in range(n_files):
        length = (base * np.exp(rng.normal(rng.normal(-0.4, 0.4), 0.5, n))).round()
        lead = np.tanh((length - base) / (length - base).std())
        bias, own = rng.normal(mean_bias, 0.25), rng.normal(0, 0.6)
        quality, chance = rng.normal(-1, 1) + difficulty + own * (lead - lead.mean()), rng.random(n)
        won = (chance < sigmoid(quality + bias * lead)).astype(float)
        lengths = {"model_length": length.reshape(1, n, 1), "baseline_length": base.reshape(1, n, 1)}
        yield float((chance < sigmoid(quality)).mean()), pairs_frame(won.reshape(1, n, 1), **lengths)


@pytest.mark.parametrize(("mean_bias", "share", "farther"), [(0.45, 0.75, 11), (0.9, 0.4, 3)])
def test_one_model_alone_is_nearer_to_the_truth_at_equal_length_than_by_its_raw_rate(mean_bias, share, farther):
    """At a bias of .9 the raw rates are as far off as those of AlpacaEval's files, 4.8 points."""
    rows, unwarned = [], []
    for truth, pairs in files_of_one_model(mean_bias):
        (found,) = equal_length_win_rates(pairs, baseline="base", resamples=5)
        rows.append((truth, float(pairs["outcome"].mean()), found.win_rate.value))
        if abs(found.win_rate.value - truth) > 0.05 and not found.warning:
            unwarned.append((truth, found))
    truth, raw, equal = np.array(rows).T
    off, off_raw = np.abs(equal - truth), np.abs(raw - truth)
    assert off.mean() < share * off_raw.mean()
    assert spearmanr(truth, equal)[0] > spearmanr(truth, raw)[0]
    assert np.sum(off > off_raw + 0.01) <= farther
    assert unwarned == []


def test_the_interval_widens_where_equal_length_is_outside_the_data():
    # all verdicts are the same draw; with the longer way to equal length the prior's spread is a larger part
    widths = []
    for shift in (0.0, 80.0):
        (found,) = equal_length_win_rates(lengthy(400, shift=shift, phi=1.0, theta=0.0), baseline="base", resamples=100)
        widths.append(found.win_rate.high - found.win_rate.low)
    assert widths[1] > 1.5 * widths[0]
