"""The audit of a judge: rates that describe it, and faults, which only labels can show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis.pairs import (
    PAIR_KEYS,
    blocks,
    first_answers,
    fold,
    model_scores,
    repeated,
    status_rates,
)
from rlhf_bench.stats import FloatArray, crossed, crossed_difference, holm
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.stats.estimates import clopper_pearson
from rlhf_bench.stats.permutation import sign_flip_p, two_group_p
from rlhf_bench.stats.resample import LEVEL, nanmean
from rlhf_bench.types import Estimate

_ALPHA = 1 - LEVEL  # of the family of checks


def judge_rates(rows: pd.DataFrame, *, seed: int = 0) -> dict[str, Estimate]:
    """Rates that describe a judge, from a row a question (as `pairs.fold` takes them); none is a fault in itself.

    consistency      pairs read in both orders that name the same side, or a tie, twice
    first_position   verdicts for a side that name the first
    longer           verdicts for a side that name the longer response (rows with model_length and baseline_length)
    tie              verdicts that are a tie
    unreadable, refused, failed   of the questions that were put
    """
    pairs, rows = fold(rows), first_answers(rows)
    read, winner = (rows["status"] == "read").to_numpy(), rows["winner"].to_numpy(dtype=object)
    sided = read & (winner != "tie")
    columns = {
        "first_position": np.where(sided, winner == "first", np.nan),
        "tie": np.where(read, winner == "tie", np.nan),
    }
    if {"model_length", "baseline_length"} <= set(rows.columns):
        lead = np.sign((rows["model_length"] - rows["baseline_length"]).to_numpy(dtype=np.float64, na_value=0.0))
        of_longer = np.where(lead > 0, model_scores(rows), 1 - model_scores(rows))
        columns["longer"] = np.where(sided & (lead != 0), of_longer, np.nan)
    by_place = pairs[["when_first", "when_second"]]
    same = (pairs["when_first"] == pairs["when_second"]).where(by_place.notna().all(axis=1))
    consistency = blocks(pairs.assign(same=same.astype(np.float64)), ["same"])[0]
    rates = dict(zip(columns, blocks(rows.assign(**columns), list(columns)), strict=True))
    ordered = {"consistency": consistency} | rates
    found = {name: bounded_mean(block, seed=seed) for name, block in ordered.items()}
    return found | status_rates(rows)


def repeatability(rows: pd.DataFrame, *, seed: int = 0) -> Estimate:
    """Share of repeated questions (`repeat` above 0) with the same verdict as the first time, of those read twice."""
    twice = repeated(rows, [*PAIR_KEYS, "order"], "winner")
    return bounded_mean(blocks(twice, ["same"])[0], seed=seed)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pairs with a known better side, each array (S, P, K), NaN where there is none."""

    when_first: FloatArray  # the judge's score of the model, 1, 0.5 or 0, when the model is first
    when_second: FloatArray
    gold: FloatArray  # 1 the model's response is better, 0 the baseline's; 0.5 does not count
    lead: FloatArray | None = None  # sign of the model's length less the baseline's; None where lengths are unknown


@dataclass(frozen=True, slots=True)
class BiasCheck:
    """A possible fault: its size, the share of verdicts that it would have given, and whether it was found."""

    name: str  # position, length, noise
    size: Estimate  # position: + the first, - the second place; length: + the longer, - the shorter
    p: float
    p_holm: float
    found: bool
    says: str


def check_biases(pairs: pd.DataFrame) -> list[BiasCheck]:
    """`bias_checks` of folded pairs with `gold`, and with both lengths where they are known."""
    first, second, gold = blocks(pairs, ["when_first", "when_second", "gold"])
    lead = None
    if {"model_length", "baseline_length"} <= set(pairs.columns):
        model, baseline = blocks(pairs, ["model_length", "baseline_length"])
        lead = np.sign(model - baseline)
    return bias_checks(Labelled(first, second, gold, lead))


def bias_checks(labelled: Labelled, *, label_noise: float = 0.01, seed: int = 0) -> list[BiasCheck]:
    """Position, length and noise, with Holm over the checks; exact tests over prompts.

    An error is a verdict for the worse side. A tie is none: a judge may say that two responses are equally good.

    position   the share of verdicts that always the first place would have given: mean over pairs, read in both orders,
               of (score of the first place in one order + in the other - 1)
    length     errors where the shorter response is better, less errors where the longer is. Wrong labels alone make
               such a difference where one of the two is better more often: only what is beyond it counts.
    noise      twice the error rate, the share of verdicts that a coin would have given: it errs half the time wherever
               the better response is, the other faults do not. Found only if each group of readings, by the place and
               the length of the better response, has a rate above `label_noise`, the share of labels that may be wrong.
               The size comes from all readings, without those in which a fault of place or length that was found makes
               errors of its own.
    """
    if not 0 <= label_noise < 0.5:
        raise BadValue(f"label noise {label_noise!r} given; expected a share of 0 or more, below 0.5")
    decided = np.where(np.isin(labelled.gold, (0.0, 1.0)), labelled.gold, np.nan)
    sizes = {"position": _position(labelled, decided, seed)}
    if labelled.lead is not None:
        sizes["length"] = _length(labelled, decided, label_noise, seed)
    ps = [*(p for _, p in sizes.values()), _noise_p(labelled, decided, label_noise, seed)]
    adjusted = holm(ps)
    faults = {name: size.value for (name, (size, _)), p in zip(sizes.items(), adjusted, strict=False) if p < _ALPHA}
    sizes["noise"] = _noise_size(labelled, decided, faults, seed), ps[-1]
    return [
        BiasCheck(name, size, p, p_holm, p_holm < _ALPHA, _says(name, size.value, p_holm < _ALPHA))
        for (name, (size, p)), p_holm in zip(sizes.items(), adjusted, strict=True)
    ]


def _position(labelled: Labelled, gold: FloatArray, seed: int) -> tuple[Estimate, float]:
    of_first = (labelled.when_first + 1 - labelled.when_second) / 2
    share = np.where(np.isnan(gold), np.nan, of_first)
    rate = bounded_mean(share, seed=seed)
    size = replace(rate, value=2 * rate.value - 1, low=2 * rate.low - 1, high=2 * rate.high - 1)
    cells = nanmean(share, axis=2)
    of_prompt = nanmean(cells, axis=0)
    of_prompt = of_prompt[np.isfinite(of_prompt)]
    return size, sign_flip_p(of_prompt - 0.5, seed=seed) if len(of_prompt) else math.nan


def _errors(labelled: Labelled, gold: FloatArray) -> FloatArray:
    """(S, P, K, 2): 1 where the reading names the worse side, the model first and second; a tie is no error."""
    errors = np.abs(np.stack([labelled.when_first, labelled.when_second], axis=3) - gold[..., None])
    return np.asarray(np.where(errors == 0.5, 0.0, errors))


def _length(labelled: Labelled, gold: FloatArray, label_noise: float, seed: int) -> tuple[Estimate, float]:
    """The difference of two ratios, each linearised over the cells as in `stats.crossed_ratio`."""
    error = nanmean(_errors(labelled, gold), axis=3)
    better = (2 * gold - 1) * np.asarray(labelled.lead)  # +1 the longer response is better, -1 the shorter
    cells = np.zeros(error.shape[:2])
    limits = []
    for sign in (-1, 1):
        counts = (better == sign) & np.isfinite(error)
        total, n = np.where(counts, error, 0.0).sum(axis=2), counts.sum(axis=2)
        if not n.any():
            return Estimate(math.nan, math.nan, math.nan, 0, method="none"), math.nan
        rate = total.sum() / n.sum()
        cells -= sign * (rate + (total - rate * n) / n.mean())
        limits.append(clopper_pearson(float(rate), int((n > 0).any(axis=0).sum()), level=LEVEL))
    size = crossed(cells, seed=seed)
    if size.method == "constant":  # no error at all, or every one that there could be
        shorter, longer = limits
        size = replace(size, low=shorter.low - longer.high, high=shorter.high - longer.low, method=shorter.method)
    by_prompt = [np.moveaxis(array, 1, 0).reshape(error.shape[1], -1) for array in (error, better)]
    p = two_group_p(by_prompt[0], by_prompt[1], seed=seed)
    by_labels = _length_by_wrong_labels(float((better == 1).sum() / np.isin(better, (-1, 1)).sum()), label_noise)
    if by_labels * size.value > 0:
        beyond = abs(size.value) > abs(by_labels)
        there = np.full_like(cells, by_labels)
        p = max(p, crossed_difference(cells, there, seed=seed).p_paired) if beyond else 1.0
    return size, p


def _length_by_wrong_labels(longer: float, label_noise: float) -> float:
    """The difference of error rates that a judge without a fault shows against labels of which a share is wrong.

    `longer`: the share of pairs with a label for the longer response, `t` the share in which it is the better one. Of
    the pairs with such a label (1 - t) label_noise are wrong, of the others t label_noise.
    """
    t = min(1.0, max(0.0, (longer - label_noise) / (1 - 2 * label_noise)))
    if not 0 < longer < 1:
        return 0.0
    return label_noise * t / (1 - longer) - label_noise * (1 - t) / longer


def _better_is(labelled: Labelled, gold: FloatArray) -> dict[str, FloatArray]:
    """(S, P, K, 2) by fault: +1 where the better response is first (or longer), -1 second (shorter), else 0 or NaN."""
    first = np.stack([2 * gold - 1, 1 - 2 * gold], axis=3)
    if labelled.lead is None:
        return {"position": first}
    longer = np.broadcast_to(((2 * gold - 1) * labelled.lead)[..., None], first.shape)
    return {"position": first, "length": longer}


def _error_rate(labelled: Labelled, gold: FloatArray, counts: np.ndarray, seed: int) -> Estimate:
    errors = _errors(labelled, gold)
    samples = np.where(counts, errors, np.nan).reshape(*errors.shape[:2], -1)
    return bounded_mean(samples[:, np.isfinite(samples).any(axis=(0, 2))], seed=seed)


def _noise_p(labelled: Labelled, gold: FloatArray, label_noise: float, seed: int) -> float:
    """The largest one-sided exact p of the groups: each of them has to err too often."""
    groups = [sides == sign for sides in _better_is(labelled, gold).values() for sign in (1, -1)]
    rates = [_error_rate(labelled, gold, group, seed) for group in groups]
    return max((_p_above(rate.value, rate.n, label_noise) for rate in rates if rate.n), default=math.nan)


def _noise_size(labelled: Labelled, gold: FloatArray, faults: Mapping[str, float], seed: int) -> Estimate:
    """Twice the error rate where the fault that was found, if any, names the better response."""
    sides = _better_is(labelled, gold)
    counts = np.broadcast_to(np.isfinite(gold)[..., None], (*gold.shape, 2))
    for name, size in faults.items():
        counts = counts & (sides[name] == np.sign(size))
    rate = _error_rate(labelled, gold, counts, seed)
    value, low, high = (min(1.0, 2 * share) for share in (rate.value, rate.low, rate.high))  # a coin errs no more
    return replace(rate, value=value, low=low, high=high)


def _p_above(share: float, n: int, null: float) -> float:
    """P(share or more | null) of n prompts, Clopper and Pearson's for any share of n."""
    k = share * n
    return float(special.betainc(k, n - k + 1, null)) if k > 0 else 1.0


def _says(name: str, size: float, found: bool) -> str:
    if not found:
        return f"no {name} fault found"
    if name == "position":
        return f"{abs(size):.0%} of verdicts follow the {'first' if size > 0 else 'second'} place"
    if name == "length":
        return f"{abs(size):.0%} of verdicts follow the {'longer' if size > 0 else 'shorter'} response"
    return f"{size:.0%} of verdicts are as good as drawn by chance"
