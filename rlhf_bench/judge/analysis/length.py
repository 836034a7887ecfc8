"""Win rate at equal length: what is left of a win rate once the judge's length bias is taken out.

A logistic regression in the manner of Dubois et al. (arXiv:2404.04475), made to work on any data set here; its numbers
are not AlpacaEval's, which takes instruction difficulties from a separate fit over many models.

    logit P(model i wins on prompt x) = theta_i + phi_i tanh(z) + gamma_x,   z = (length_i - length_baseline) / sd_i
    win rate at equal length of i = mean over x of sigmoid(theta_i + gamma_x)

gamma, the difficulty of the instruction, enters only with three or more models (the baseline among them). theta and
phi have a weak L2 penalty against separation, gamma a stronger one, since it rests on few verdicts.

One model alone has no gamma, so its phi also takes up that the instructions with long answers are easier or harder for
it, which is no length bias and which more verdicts do not remove. There phi is shrunk to a prior,

    phi = w phi_data + (1 - w) 0.5,   w = .4^2 / (.4^2 + se^2 + .6^2)

The prior is an assumption about judges: that nothing is known of one but that its bias lies between none and 1.0, that
of published judges. A uniform distribution of that range has mean .5 and standard deviation .29; models differ around
their judge by .25; together .4. So is .6, the standard deviation of the part of a model's own slope that differs
between instructions. The interval includes both, and a warning names the range that they leave open where it is wide.

The 1.0 is read off leaderboards in tatsu-lab/alpaca_eval (data_AlpacaEval_2, with the columns win_rate,
length_controlled_winrate and avg_length). There the log odds of the win rate less those of the length-controlled one,
over tanh of the mean length difference to the baseline in units of L characters, estimate phi. The files lack the
spread of the differences, so L is assumed. Medians over the models with a mean length 400 characters or more from the
baseline's 2,049, with the standard deviation between models:

    judge             models    L = 700       L = 900       L = 1,200
    GPT-4 Turbo           43    .72 (.20)     .82 (.21)      .97 (.25)
    GPT-5 nano             8    .64 (.26)     .74 (.25)      .91 (.27)
    Mistral Large          4    .97 (.08)    1.12 (.09)     1.37 (.11)
    Claude 3 Opus          5   1.15 (.14)    1.26 (.14)     1.42 (.16)

All are above the prior's mean, and that is on purpose: a correction by more than twice the bias is farther from the
truth than none, while one by too little never is. What this costs at each bias is in docs/coverage-judges.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from rlhf_bench.errors import DataError
from rlhf_bench.judge.analysis.pairs import blocks
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.stats.pigeonhole import percentile, seed_counts
from rlhf_bench.types import Estimate

LENGTH_ALONE = "length alone decides every verdict: at equal length there is nothing to go by"
RIDGE = 0.01  # on theta and phi
PRIOR_EFFECT, PRIOR_SD, OWN_SD = 0.5, 0.4, 0.6  # of phi of one model alone, see above
OPEN_SD = PRIOR_SD * OWN_SD / math.hypot(PRIOR_SD, OWN_SD)  # of that phi, given any number of verdicts
CENTRAL = 0.9  # of the length differences: where equal length is outside, the rate is an extrapolation
MOST_OPEN = 0.05  # by which the rate of one model alone may be off, by what is open of its phi, without a warning
RIDGE_DIFFICULTY = 1.0  # on gamma: a standard normal prior, in log odds
RESAMPLES = 500
STEPS = 50
MAX_INFLATION = 10.0  # variance inflation of theta above which length and model are not identifiable


@dataclass(frozen=True, slots=True)
class EqualLength:
    """One model against the baseline."""

    model: str
    win_rate: Estimate
    length_effect: float  # phi: log odds at tanh(z) = 1 less those at equal length
    warning: str  # why the number cannot be trusted; "" where it can


class LengthDesign(NamedTuple):
    """A row a pair with an outcome."""

    y: FloatArray  # (N,) outcome, 0 to 1
    z: FloatArray  # (N,) tanh of the standardised length difference
    model: npt.NDArray[np.int64]  # (N,)
    prompt: npt.NDArray[np.int64]  # (N,)
    seed: npt.NDArray[np.int64]  # (N,)
    weight: FloatArray  # (N,) so that every prompt of a model weighs the same


class EqualLengthFit(NamedTuple):
    theta: FloatArray  # (M,)
    phi: FloatArray  # (M,)
    gamma: FloatArray  # (P,) zeros with fewer than three models


class EffectPrior(NamedTuple):
    """Normal prior of each phi."""

    mean: float
    precision: float


WEAK = EffectPrior(0.0, RIDGE)


def equal_length_win_rates(
    pairs: pd.DataFrame, *, baseline: str, seed: int = 0, resamples: int = RESAMPLES
) -> list[EqualLength]:
    """A row a model against `baseline`, from folded pairs with model_length and baseline_length, sorted by model.

    Prompts and seeds are resampled and the regression is repeated in each resample; where everything was won or lost
    the interval is that of the win rate. Raises DataError without a pair against the baseline.
    """
    pairs = pairs[(pairs["baseline"] == baseline) & pairs["outcome"].notna()]
    if pairs.empty:
        raise DataError(f"no pair with an outcome against {baseline!r} given; run the judge with --baseline {baseline}")
    models = sorted(set(pairs["model"].astype(str)))
    design = _design(pairs, models)
    alone = len(models) == 1
    prior = published_prior(design) if alone else WEAK
    fit = fit_equal_length(design, design.weight, difficulty=not alone, prior=prior)
    rates = _rates(design, design.weight, fit)
    rates_b = np.stack(
        [
            _rates(design, weight, fit_equal_length(design, weight, difficulty=not alone, prior=prior, start=fit))
            for weight in _drawn_weights(design, seed, resamples)
        ]
    )
    if alone:
        way = float(np.average(design.z, weights=design.weight))
        # what the data leave open of phi: the more, the farther equal length is from the mean
        draws = np.random.Generator(np.random.PCG64(seed + 1)).standard_normal(rates_b.shape)
        rates_b = _moved(rates_b, OPEN_SD * way * draws)
    found = []
    for i, model in enumerate(models):
        mine = pairs[pairs["model"].astype(str) == model]
        n, n_seeds = mine["prompt_id"].nunique(), mine["seed"].nunique()
        estimate = percentile(float(rates[i]), rates_b[:, i], n=n, n_seeds=n_seeds)
        if mine["outcome"].nunique() == 1 and mine["outcome"].iloc[0] in (0, 1):
            exact = bounded_mean(blocks(mine, ["outcome"])[0], seed=seed)
            estimate = replace(exact, n=n, n_seeds=n_seeds)
        warning = _warning(design, i)
        if alone and not warning:
            warning = _prior_warning(float(rates[i]), way)
        found.append(EqualLength(model, estimate, float(fit.phi[i]), warning))
    return found


def published_prior(design: LengthDesign) -> EffectPrior:
    """The prior of one model's phi, so precise that the fit weighs the data by w, see the module's docstring.

    w = I / (I + precision), where I = 1 / se^2 is the information of the verdicts on phi, at the prior's mean.
    """
    centred = fit_equal_length(design, design.weight, difficulty=False, prior=EffectPrior(PRIOR_EFFECT, 1e6))
    chance = 1 / (1 + np.exp(-(centred.theta[0] + PRIOR_EFFECT * design.z)))
    curve = design.weight * chance * (1 - chance)
    information = float(curve @ (design.z - np.average(design.z, weights=curve)) ** 2)
    return EffectPrior(PRIOR_EFFECT, (1 + information * OWN_SD**2) / PRIOR_SD**2)


def _moved(rates: FloatArray, by: FloatArray) -> FloatArray:
    """Rates moved down by so many log odds."""
    odds = np.log(np.clip(rates, 1e-9, 1 - 1e-9) / np.clip(1 - rates, 1e-9, 1))
    return np.asarray(1 / (1 + np.exp(by - odds)))


def _prior_warning(rate: float, way: float) -> str:
    most = float(norm.ppf(0.975)) * OPEN_SD * abs(way)
    ends = _moved(np.full(2, rate), np.array([most, -most]))
    if np.abs(ends - rate).max() <= MOST_OPEN:
        return ""
    return (
        "for one model alone the length effect comes mostly from published judges, and what they leave open is a rate "
        f"from {ends[0]:.0%} to {ends[1]:.0%}: judge several models together"
    )


def fit_equal_length(
    design: LengthDesign,
    weight: FloatArray,
    *,
    difficulty: bool,
    prior: EffectPrior = WEAK,
    start: EqualLengthFit | None = None,
) -> EqualLengthFit:
    """Penalised maximum likelihood by Newton's method; the difficulties are eliminated, since their block is diagonal.

    `weight` (N,) replaces the design's. A prompt drawn k times carries k times its penalty, as k prompts would.
    """
    m, p = int(design.model.max()) + 1, int(design.prompt.max()) + 1
    n_of_prompt = np.bincount(design.prompt, weights=weight, minlength=p)
    ridge_gamma = RIDGE_DIFFICULTY * n_of_prompt / np.bincount(design.prompt, weights=design.weight, minlength=p)
    centre = np.repeat([0.0, prior.mean], m)
    precision = np.repeat([RIDGE, prior.precision], m)
    beta = np.zeros(2 * m) if start is None else np.r_[start.theta, start.phi]
    gamma = np.zeros(p) if start is None else start.gamma.copy()
    for _ in range(STEPS):
        eta = beta[design.model] + beta[m + design.model] * design.z + gamma[design.prompt]
        chance = 1 / (1 + np.exp(-eta))
        slope, curve = weight * (design.y - chance), weight * chance * (1 - chance)
        gradient = np.r_[_by(design.model, slope, m), _by(design.model, slope * design.z, m)] - precision * (
            beta - centre
        )
        hessian = _blocks(
            _by(design.model, curve, m),
            _by(design.model, curve * design.z, m),
            _by(design.model, curve * design.z**2, m),
        ) + np.diag(precision)
        if difficulty:
            of_gamma = _by(design.prompt, slope, p) - ridge_gamma * gamma
            diagonal = _by(design.prompt, curve, p) + ridge_gamma
            diagonal[diagonal == 0] = 1.0  # a prompt that was not drawn
            cell = design.model * p + design.prompt
            cross = np.concatenate(
                [_by(cell, curve, m * p).reshape(m, p), _by(cell, curve * design.z, m * p).reshape(m, p)]
            )
            hessian -= (cross / diagonal) @ cross.T
            gradient -= cross @ (of_gamma / diagonal)
        step = np.linalg.solve(hessian, gradient)
        step /= max(1.0, float(np.abs(step).max()) / 2)
        beta += step
        if difficulty:
            gamma += np.clip((of_gamma - cross.T @ step) / diagonal, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return EqualLengthFit(beta[:m], beta[m:], gamma)


def _by(at: npt.NDArray[np.int64], values: FloatArray, n: int) -> FloatArray:
    return np.asarray(np.bincount(at, weights=values, minlength=n), dtype=np.float64)


def _blocks(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    return np.asarray(np.block([[np.diag(a), np.diag(b)], [np.diag(b), np.diag(c)]]))


def _design(pairs: pd.DataFrame, models: list[str]) -> LengthDesign:
    at = {model: i for i, model in enumerate(models)}
    model = pairs["model"].astype(str).map(at).to_numpy(dtype=np.int64).astype(np.int64)
    prompt = pd.factorize(pairs["prompt_id"], sort=True)[0].astype(np.int64)
    seed = pd.factorize(pairs["seed"], sort=True)[0].astype(np.int64)
    lead = (pairs["model_length"] - pairs["baseline_length"]).to_numpy(dtype=np.float64)
    sd = np.array([lead[model == i].std() for i in range(len(models))])[model]
    # lengths that never vary: only their sign is left, and the warning says so
    z = np.tanh(np.divide(lead, sd, out=np.sign(lead) * 20, where=sd > 0))
    cell = model * (int(prompt.max()) + 1) + prompt
    weight = 1 / np.bincount(cell)[cell].astype(np.float64)
    return LengthDesign(pairs["outcome"].to_numpy(dtype=np.float64), z, model, prompt, seed, weight)


def _drawn_weights(design: LengthDesign, seed: int, resamples: int) -> Iterator[FloatArray]:
    """The rows' weights in each resample of prompts and of seeds, one after another: memory stays flat."""
    p, s = int(design.prompt.max()) + 1, int(design.seed.max()) + 1
    generator = np.random.Generator(np.random.PCG64(seed))
    for of_seed in seed_counts(s, seed=seed, resamples=resamples):
        of_prompt = np.bincount(generator.integers(0, p, size=p), minlength=p)
        yield design.weight * of_prompt[design.prompt] * of_seed[design.seed]


def _rates(design: LengthDesign, weight: FloatArray, fit: EqualLengthFit) -> FloatArray:
    """(M,): the weighted mean over each model's rows at length difference 0; NaN for a model that was not drawn."""
    chance = 1 / (1 + np.exp(-(fit.theta[design.model] + fit.gamma[design.prompt])))
    m = len(fit.theta)
    total = _by(design.model, weight, m)
    won = _by(design.model, weight * chance, m)
    return np.asarray(np.divide(won, total, out=np.full(m, np.nan), where=total > 0), dtype=np.float64)


def _warning(design: LengthDesign, model: int) -> str:
    """Why the rate cannot be trusted; "" where it can.

    Equal length has to be within the central 90 % of the length differences, and theta's variance must not be inflated
    by phi, as it is where the difference hardly varies around anything but its mean.
    """
    rows = design.model == model
    z, weight = design.z[rows], design.weight[rows]
    square = float(np.average(z**2, weights=weight))
    if square == 0:
        return ""  # all lengths equal: nothing to take out
    if _separated(design.y[rows], z):
        return LENGTH_ALONE
    explained = float(np.average(z, weights=weight)) ** 2 / square
    inflation = 1 / (1 - explained) if explained < 1 else math.inf
    longer, shorter = (float(np.average(side, weights=weight)) for side in (z > 0, z < 0))
    share, side = (longer, "longer") if longer > shorter else (shorter, "shorter")
    if share <= (1 + CENTRAL) / 2 and inflation <= MAX_INFLATION:
        return ""
    return (
        f"{share:.0%} of its responses are {side} than the baseline's: equal length is outside the central "
        f"{CENTRAL:.0%} of the data, and the effects of length and model cannot be separated"
    )


def _separated(y: FloatArray, z: FloatArray) -> bool:
    """Every win is at a greater length difference than every loss, or the other way round: no slope fits best."""
    won, lost = z[y > 0.5], z[y < 0.5]
    if not (len(won) and len(lost)):
        return False
    return bool(won.min() > lost.max() or won.max() < lost.min())
