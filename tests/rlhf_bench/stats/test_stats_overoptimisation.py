"""The forms of arXiv 2210.10760 recover what was planted, and say nothing beyond the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.overoptimisation import Form, curve_at, fit_overoptimisation, gold_gain, turning_point

KL = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


def planted(form: Form, alpha: float, beta: float, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """(7, 1, 200) cells whose means scatter around the form."""
    generator = np.random.default_rng(5)
    shape = (len(KL), 1, 200)
    gain = gold_gain(KL, alpha, beta, form=form)[:, None, None] + noise * generator.standard_normal(shape)
    return np.broadcast_to(KL[:, None, None], shape) * generator.uniform(0.9, 1.1, shape), gain


def test_forms_by_hand() -> None:
    # d = 2: 2 (3 - 0.5 * 2) = 4;  2 (3 - 0.5 log 2) = 6 - log 2
    assert gold_gain(np.array([4.0, 0.0]), 3.0, 0.5, form="best-of-n").tolist() == [4.0, 0.0]
    assert gold_gain(np.array([4.0, 0.0]), 3.0, 0.5, form="rl") == pytest.approx([6 - math.log(2), 0.0])


@pytest.mark.parametrize("form", ["rl", "best-of-n"])
def test_turning_point_is_the_maximum(form: Form) -> None:
    found = optimize.minimize_scalar(
        lambda kl: -float(gold_gain(np.array([kl]), 1.0, 0.4, form=form)[0]), bounds=(0.01, 80), method="bounded"
    )
    assert turning_point(1.0, 0.4, form=form) == pytest.approx(found.x, rel=1e-4)
    assert turning_point(1.0, 0.0, form=form) is None
    assert turning_point(1.0, -0.1, form=form) is None


@pytest.mark.parametrize(
    ("form", "alpha", "beta"), [("rl", 1.0, 0.5), ("best-of-n", 1.0, 0.15), ("best-of-n", 2.0, 0.3)]
)
def test_recovers_what_was_planted(form: Form, alpha: float, beta: float) -> None:
    fit = fit_overoptimisation(*planted(form, alpha, beta), form=form)
    assert fit.alpha.value == pytest.approx(alpha, abs=0.05)
    assert fit.beta.value == pytest.approx(beta, abs=0.02)
    assert not fit.beta.excludes(beta)
    assert fit.alpha.high - fit.alpha.low < 0.2
    assert fit.turning_kl is not None
    assert fit.turning_kl.low < turning_point(alpha, beta, form=form) < fit.turning_kl.high  # type: ignore[operator]
    assert fit.turns_share > 0.95
    # an independent fit of the same means: scipy's nonlinear least squares
    kl, gain = planted(form, alpha, beta)
    by_scipy, _ = optimize.curve_fit(
        lambda x, a, b: gold_gain(x, a, b, form=form), kl.mean(axis=(1, 2)), gain.mean(axis=(1, 2)), p0=(0.5, 0.1)
    )
    assert (fit.alpha.value, fit.beta.value) == (pytest.approx(by_scipy[0]), pytest.approx(by_scipy[1]))


def test_no_turning_point_where_it_never_turns_or_only_beyond_the_data() -> None:
    rising = fit_overoptimisation(*planted("best-of-n", 1.0, -0.05), form="best-of-n")
    assert (rising.turning_kl, rising.turns_share) == (None, 0.0)
    late = fit_overoptimisation(*planted("best-of-n", 1.0, 0.05), form="best-of-n")  # turns at 100 nats, data to 32
    assert late.beta.value == pytest.approx(0.05, abs=0.02)
    assert late.turning_kl is None
    assert late.largest_kl == pytest.approx(32, rel=0.02)


def test_reward_at_equal_kl_by_hand() -> None:
    """Between (1, 2) and (3, 6), at 1.5: a quarter of the way, 3. The slope is 2 a nat."""
    kl = np.array([[[2.0, 4.0, 3.0]], [[1.0, 1.0, 1.0]]])
    reward = np.array([[[5.0, 6.0, 7.0]], [[1.0, 2.0, 3.0]]])
    found = curve_at(kl, reward, 1.5)
    assert found is not None
    # cells: 3/4 (reward_i) + 1/4 (reward_j - 2 (kl_j - 3)) = 0.75 1.5 2.25 + (7 4 7) / 4
    assert found.cells.tolist() == [[0.75 + 7 / 4, 1.5 + 1.0, 2.25 + 7 / 4]]
    assert (found.cells.mean(), found.slope) == (pytest.approx(3.0), 2.0)
    edge = curve_at(kl, reward, 3.0)
    assert edge is not None
    assert edge.cells.mean() == 6.0


@pytest.mark.parametrize("at", [0.99, 3.01])
def test_reward_at_equal_kl_is_never_extrapolated(at: float) -> None:
    kl = np.array([[[1.0, 1.0]], [[3.0, 3.0]]])
    assert curve_at(kl, kl, at) is None
    assert curve_at(kl[:1], kl[:1], at) is None


def test_bad_input_is_one_line() -> None:
    kl, gain = planted("rl", 1.0, 0.2)
    with pytest.raises(BadValue, match=r"expected \(points, seeds, prompts\), 3 or more"):
        fit_overoptimisation(kl[:2], gain[:2], form="rl")
    with pytest.raises(BadValue, match="expected at least two different ones above 0"):
        fit_overoptimisation(0 * kl, gain, form="rl")
