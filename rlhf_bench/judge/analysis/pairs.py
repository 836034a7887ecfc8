"""From the answers to single questions to one outcome a pair, and win rates (docs/judge.md).

A pair is shown in both orders. Only if both name the same side has that side won; two ties, a win and a tie, and two
different sides are ties. A pair of which an order could not be read has no outcome: it is counted, and bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from rlhf_bench.errors import DataError
from rlhf_bench.judge.questions import ORDERS
from rlhf_bench.stats import FloatArray, crossed, crossed_difference, holm
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.stats.resample import LEVEL, nanmean
from rlhf_bench.types import Estimate

PAIR_KEYS = ("model", "baseline", "seed", "prompt_id", "sample")
ROW_COLUMNS = (*PAIR_KEYS, "order", "status", "winner", "soft")
# Facts of a pair that its rows may carry: length of each response in characters, and the outcome by gold or human
# labels (1 the model's is better, 0 the baseline's, 0.5 neither).
FACTS = ("model_length", "baseline_length", "gold")
# Why a pair counts as it does; the first four have an outcome.
WHY = ("agree", "tie", "win_tie", "disagree", "refused", "unreadable", "failed", "missing")
_STATUS_RATES = ("unreadable", "refused", "failed")


def fold(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a pair, from a row a question with ROW_COLUMNS; sorted by PAIR_KEYS.

    Columns: PAIR_KEYS; `outcome` for the model, 1 win, 0.5 tie, 0 loss, NaN if an order could not be read; `why`, of
    WHY; `least` and `most`, the outcome that the unread orders could have led to; `soft`, the mean over both orders of
    the probability that the model wins, NaN unless both have one; `when_first` and `when_second`, the model's score (1,
    0.5, 0, NaN) by its place; and the FACTS that the rows carry. Rows with a `repeat` above 0 are left out: they
    measure repeatability.

    People, and other pipelines, see a pair once: where no pair has both orders, the only reading of each decides, and
    `why` is "agree" for a win or a loss, though there is nothing to agree with.

    Raises DataError for missing columns, a duplicate question, an unknown order or winner, and a status
    "read" without a winner.
    """
    rows = _checked(rows)
    groups = rows.groupby(list(PAIR_KEYS), sort=True)
    pairs = groups.size().reset_index()[list(PAIR_KEYS)]
    at = groups.ngroup().to_numpy(dtype=np.int64)  # each row's pair
    place = (rows["order"] == "baseline_first").to_numpy().astype(np.int64)
    by_place = np.full((len(pairs), 2), np.nan)
    by_place[at, place] = model_scores(rows)
    soft = np.full((len(pairs), 2), np.nan)
    of_first = rows["soft"].to_numpy(dtype=np.float64, na_value=np.nan)
    soft[at, place] = np.where(place == 0, of_first, 1 - of_first)
    status = np.full((len(pairs), 2), "missing", dtype=object)
    status[at, place] = rows["status"].to_numpy(dtype=object)
    scores = by_place.copy()
    if len(pairs) == len(rows):  # each pair was shown once
        for cells in (scores, soft, status):
            cells[at, 1 - place] = cells[at, place]
    folded = pairs.assign(
        outcome=_outcome(scores),
        why=_why(scores, status),
        least=_outcome(np.where(np.isnan(scores), 0.0, scores)),
        most=_outcome(np.where(np.isnan(scores), 1.0, scores)),
        soft=soft.mean(axis=1),
        when_first=by_place[:, 0],
        when_second=by_place[:, 1],
    )
    for fact in (fact for fact in FACTS if fact in rows.columns):
        values = np.full(len(pairs), np.nan)
        values[at] = rows[fact].to_numpy(dtype=np.float64, na_value=np.nan)
        folded[fact] = values
    return folded


def model_scores(rows: pd.DataFrame) -> FloatArray:
    """(N,): what each reading gives to the model, 1, 0.5 or 0, and NaN where nothing was read."""
    winner = rows["winner"].to_numpy(dtype=object)
    first_won = np.where(winner == "tie", 0.5, (winner == "first").astype(np.float64))
    of_model = np.where((rows["order"] == "model_first").to_numpy(), first_won, 1 - first_won)
    scores: FloatArray = np.where((rows["status"] == "read").to_numpy(), of_model, np.nan)
    return scores


def matchups(pairs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(model, baseline, its pairs), in the order of their first rows."""
    for (model, baseline), group in pairs.groupby(["model", "baseline"], sort=False):
        yield str(model), str(baseline), group


def blocks(pairs: pd.DataFrame, columns: Sequence[str]) -> list[FloatArray]:
    """(S, P, K) of each column, seeds and prompts sorted, NaN where there is no pair.

    K counts the pairs of a seed and prompt, whatever their models: give the pairs of one matchup to keep them separate.
    """
    at_seed, seeds = pd.factorize(pairs["seed"], sort=True)
    at_prompt, prompts = pd.factorize(pairs["prompt_id"], sort=True)
    cell = at_seed.astype(np.int64) * max(1, len(prompts)) + at_prompt
    k = pd.Series(cell).groupby(cell).cumcount().to_numpy()
    found = []
    for column in columns:
        block = np.full((len(seeds), len(prompts), int(k.max(initial=0)) + 1), np.nan)
        block[at_seed, at_prompt, k] = pairs[column].to_numpy(dtype=np.float64, na_value=np.nan)
        found.append(block)
    return found


def _outcome(scores: FloatArray) -> FloatArray:
    """(N, 2) by place -> (N,): 1 or 0 where both places agree on it, NaN where one is NaN, else 0.5."""
    low, high = scores.min(axis=1), scores.max(axis=1)  # NaN goes through
    outcome: FloatArray = np.where(low == 1, 1.0, np.where(high == 0, 0.0, np.where(np.isnan(low), np.nan, 0.5)))
    return outcome


def _why(scores: FloatArray, status: np.ndarray) -> np.ndarray:
    alike, has_tie = scores[:, 0] == scores[:, 1], (scores == 0.5).any(axis=1)
    read = np.where(alike, np.where(has_tie, "tie", "agree"), np.where(has_tie, "win_tie", "disagree")).astype(object)
    conditions = [(status == name).any(axis=1) for name in WHY[4:]]
    return np.asarray(np.select(conditions, list(WHY[4:]), default=read), dtype=object)


def first_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without answers to repeated questions, which measure repeatability alone."""
    return rows[rows["repeat"] == 0] if "repeat" in rows.columns else rows


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The first answers, each question in one row. Raises DataError."""
    lacking = [column for column in ROW_COLUMNS if column not in rows.columns]
    if lacking:
        raise DataError(f"verdicts without the column {', '.join(lacking)} given; expected a row a question with them")
    rows = first_answers(rows).reset_index(drop=True)
    for column, known in (("order", ORDERS), ("status", ("read", *WHY[4:])), ("winner", ("first", "second", "tie"))):
        given = rows[column] if column != "winner" else rows.loc[rows["status"] == "read", "winner"]
        wrong = given[~given.isin(known)]
        if len(wrong):
            raise DataError(f"verdicts with the {column} {wrong.iloc[0]!r} given; expected one of {', '.join(known)}")
    key = [*PAIR_KEYS, "order"]
    twice = rows.duplicated(key)
    if twice.any():
        question = ", ".join(str(part) for part in rows.loc[twice, key].iloc[0])
        raise DataError(f"verdicts hold ({question}) twice; expected one row a question")
    return rows


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often `model` beats `baseline`: share of prompts won, a tie 0.5."""

    model: str
    baseline: str
    estimate: Estimate
    per_seed: Mapping[str, Estimate]
    soft: Estimate | None  # mean probability that the model wins, where log-probabilities were offered
    lowest: float  # the win rate if every unread answer had spoken against the model
    highest: float  # ... and for it
    p_paired: float  # against 0.5
    p_wilcoxon: float | None
    p_holm: float  # Holm over the rows of the same table
    detectable: float  # smallest true distance from 0.5 that so many prompts find with 80 % power
    counts: Mapping[str, int]  # pairs, wins, losses, and each of WHY


def win_rates(pairs: pd.DataFrame, *, seed: int = 0) -> list[WinRate]:
    """A row a (model, baseline) of folded pairs (`pairs.fold`), in the order of their first rows.

    Prompts are crossed with training seeds; a prompt's samples are averaged first. The interval is exact where all is
    won or lost (`bounded_mean`). What the read order of a pair settles counts: an unread order bounds the rate by
    `lowest` and `highest`, the value is between them, and the interval covers them. Pairs without a call are left out.
    `seed` sets the resampling alone.
    """
    rows = [_win_rate(model, baseline, group, seed=seed) for model, baseline, group in matchups(pairs)]
    adjusted = holm([row.p_paired for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def _win_rate(model: str, baseline: str, pairs: pd.DataFrame, *, seed: int) -> WinRate:
    put = pairs[~((pairs["why"] == "missing") & (pairs["least"] == 0) & (pairs["most"] == 1))]  # both orders missing
    outcome, least, most, soft = blocks(
        put.assign(outcome=_filled_in(put)) if len(put) else pairs, ["outcome", "least", "most", "soft"]
    )
    seeds = sorted({int(s) for s in (put if len(put) else pairs)["seed"]})
    within = {
        str(s): _bounded_rate(outcome[i : i + 1], least[i : i + 1], most[i : i + 1], seed=seed)
        for i, s in enumerate(seeds)
    }
    soft_rate = bounded_mean(soft, seed=seed)
    lowest, highest = (crossed(nanmean(bound, axis=2)).value for bound in (least, most))
    p, p_wilcoxon = _p_against_even(outcome, least, most, (lowest, highest), seed=seed)
    cells = nanmean(outcome, axis=2)
    return WinRate(
        model=model,
        baseline=baseline,
        estimate=_bounded_rate(outcome, least, most, seed=seed),
        per_seed={name: estimate for name, estimate in within.items() if estimate.n},
        soft=soft_rate if soft_rate.n else None,
        lowest=lowest,
        highest=highest,
        p_paired=p,
        p_wilcoxon=p_wilcoxon,
        p_holm=p,
        detectable=crossed_difference(cells, np.full_like(cells, 0.5), seed=seed).detectable,
        counts=_counts(pairs),
    )


def _filled_in(pairs: pd.DataFrame) -> FloatArray:
    """(N,) outcomes, where an unread order is filled in with its mean given what was read, so within [least, most].

    A read tie settles the outcome. After a read win (or loss) it is the mean outcome of the read pairs with such an
    order; a pair without any read order has the mean outcome of the others. NaN where nothing was read.
    """
    outcome, least, most = (pairs[name].to_numpy(dtype=np.float64) for name in ("outcome", "least", "most"))
    read = ~np.isnan(outcome)
    orders = pairs[["when_first", "when_second"]].to_numpy(dtype=np.float64)
    filled = outcome.copy()
    for score in (0.0, 0.5, 1.0):
        times = (orders == score).sum(axis=1)
        known, half = np.where(read, times, 0), ~read & (times > 0)
        share = float(known @ np.nan_to_num(outcome) / known.sum()) if known.any() else (score + 0.5) / 2
        filled[half] = np.clip(share, least[half], most[half])
    if not np.isnan(filled).all():
        filled[np.isnan(filled)] = np.nanmean(filled)
    return filled


def _bounded_rate(outcome: FloatArray, least: FloatArray, most: FloatArray, *, seed: int) -> Estimate:
    """The mean outcome; where orders are unread, with an interval that covers their bounds and the sampling error.

    Imbens & Manski (2004), eq. 6 and 7: a level of 95 % for the true rate, wherever between the bounds it is, needs
    one-sided limits of the bounds: c standard errors with Phi(c + (most - least) / se) - Phi(-c) = level. Here the
    limits are those of `bounded_mean` at the level that belongs to c, so that they stay exact at 0 and 1.
    """
    estimate = bounded_mean(outcome, seed=seed)
    if estimate.n == 0 or np.array_equal(least, most, equal_nan=True):
        return estimate
    low, high = (bounded_mean(bound, seed=seed) for bound in (least, most))
    gap, z = high.value - low.value, float(norm.ppf((1 + LEVEL) / 2))
    se = max(bound.high - bound.low for bound in (low, high)) / (2 * z)
    c = brentq(lambda c: norm.cdf(c + gap / max(se, 1e-12)) - norm.cdf(-c) - LEVEL, 0, z + 1)
    one_sided = float(2 * norm.cdf(c) - 1)
    low, high = (bounded_mean(bound, level=one_sided, seed=seed) for bound in (least, most))
    value = min(max(estimate.value, low.value), high.value)  # prompts may have seeds of their own
    return replace(estimate, value=value, low=low.low, high=high.high, method="imbens-manski")


def _p_against_even(
    outcome: FloatArray, least: FloatArray, most: FloatArray, bounds: tuple[float, float], *, seed: int
) -> tuple[float, float | None]:
    """Paired and Wilcoxon p against a rate of 0.5: those of the nearer bound, 1 where 0.5 is between the bounds."""
    lowest, highest = bounds
    if lowest < 0.5 < highest:
        return 1.0, None
    cells = nanmean(least if lowest >= 0.5 else most, axis=2)
    if np.isnan(nanmean(outcome, axis=2)).all():
        cells = np.full_like(cells, np.nan)
    found = crossed_difference(cells, np.full_like(cells, 0.5), seed=seed)
    return found.p_paired, found.p_wilcoxon


def _counts(pairs: pd.DataFrame) -> dict[str, int]:
    outcome, why = pairs["outcome"], pairs["why"]
    return {
        "pairs": len(pairs),
        "wins": int((outcome == 1).sum()),
        "losses": int((outcome == 0).sum()),
        **{name: int((why == name).sum()) for name in WHY},
    }


def status_rates(questions: pd.DataFrame) -> dict[str, Estimate]:
    """Shares of unreadable, refused and failed answers among the questions that were put; a row a question."""
    put = (questions["status"] != "missing").to_numpy()
    columns = {name: np.where(put, questions["status"] == name, np.nan) for name in _STATUS_RATES}
    found = blocks(questions.assign(**columns), list(columns))
    return {name: bounded_mean(block) for name, block in zip(columns, found, strict=True)}


def repeated(rows: pd.DataFrame, key: Sequence[str], column: str) -> pd.DataFrame:
    """Answers to repeated questions (`repeat` above 0) that were read both times, with `same`: 1 where `column` is as
    it was the first time, else 0."""
    read = rows[rows["status"] == "read"]
    first = read.loc[read["repeat"] == 0, [*key, column]]
    twice = read[read["repeat"] > 0].merge(first, on=list(key), suffixes=("", "_before"))
    return twice.assign(same=(twice[column] == twice[f"{column}_before"]).astype(np.float64))
