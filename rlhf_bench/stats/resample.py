"""The bootstrap over prompts that every interval shares, and the studentised interval made from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from rlhf_bench.errors import BadValue

FloatArray: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.uint8]
Values: TypeAlias = FloatArray | Sequence[float] | Sequence[Sequence[float]] | Sequence[FloatArray]

RESAMPLES = 2_000
LEVEL = 0.95  # of every interval that takes no other
TAILS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]  # the quantiles at its ends
MIN_PROMPTS = 10  # fewer than this and a resample repeats itself too often to say more than a plain t
CHUNK = 1_000_000  # entries of a matrix of counts that are drawn at once, and multiplied at once if these are all
PIECE = 262_144  # entries of a larger one that are multiplied at once: 2 MB, which a processor's cache can hold
STORED = 256_000_000  # bytes of counts that are kept between calls; a larger matrix is drawn again by each
MAX_DEGENERATE = 0.01  # share of resamples without any spread above which a bootstrap-t is not to be had


_RESAMPLES: ContextVar[int] = ContextVar("resamples", default=RESAMPLES)


@contextmanager
def resampling(resamples: int) -> Iterator[None]:
    """Every bootstrap made inside takes so many resamples, as `decimal.localcontext` sets the digits of what is inside.

    Raises BadValue for fewer than 100, of which no 95 % limit could be read.
    """
    if resamples < 100:
        raise BadValue(f"{resamples} resamples given; expected at least 100, such as {RESAMPLES:,}")
    token = _RESAMPLES.set(resamples)
    try:
        yield
    finally:
        _RESAMPLES.reset(token)
        _large_counts.cache_clear()  # as large as the numbers of all responses


class Interval(NamedTuple):
    low: float
    high: float
    p: float  # two-sided, against the null value
    method: str


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise BadValue(f"confidence level {level!r} given; expected a number between 0 and 1, such as 0.95")


def ragged(values: Values) -> FloatArray:
    """(n, K): a row a prompt, padded with NaN to the largest number of samples; not-finite values become NaN."""
    if isinstance(values, np.ndarray):
        table = np.array(values, dtype=np.float64)
        if table.ndim == 1:
            table = table[:, None]
    else:
        rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in values]
        table = np.full((len(rows), max((row.size for row in rows), default=1)), np.nan)
        for i, row in enumerate(rows):
            table[i, : row.size] = row
    if table.ndim != 2:
        raise BadValue(f"values of shape {table.shape} given; expected (prompts,) or (prompts, samples)")
    table[~np.isfinite(table)] = np.nan
    return table


def nanmean(table: FloatArray, axis: int) -> FloatArray:
    """Mean of the finite values along `axis`, NaN (and no warning) where there are none."""
    there = np.isfinite(table)
    count = there.sum(axis=axis)
    total = np.where(there, table, 0.0).sum(axis=axis)
    mean: FloatArray = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


def prompt_means(values: Values) -> FloatArray:
    """(n,): the mean of each prompt's finite values, NaN for a prompt that has none.

    `values` holds a number a prompt, or a list of numbers (one a sample) a prompt, not necessarily of equal lengths.
    """
    return nanmean(ragged(values), axis=1)


def _draw_counts(n: int, seed: int, resamples: int) -> Iterator[Counts]:
    """Chunks (b, n) of how often each of n prompts occurs in each resample; the chunks hold `resamples` rows in all."""
    generator = np.random.Generator(np.random.PCG64(seed))
    for start, stop in _parts(n, resamples, CHUNK):
        b = stop - start
        drawn = generator.integers(0, n, size=(b, n))
        drawn += n * np.arange(b)[:, None]
        # a byte holds every count: of 256 prompts or more, one is drawn 256 times with a chance below 1e-500
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.uint8)


def _parts(n: int, resamples: int, entries: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of resamples with at most so many entries of counts."""
    rows = max(1, entries // n)
    return ((start, min(start + rows, resamples)) for start in range(0, resamples, rows))


def _all_counts(n: int, seed: int, resamples: int) -> Counts:
    counts = np.empty((resamples, n), dtype=np.uint8)
    for (start, stop), drawn in zip(_parts(n, resamples, CHUNK), _draw_counts(n, seed, resamples), strict=True):
        counts[start:stop] = drawn
    counts.setflags(write=False)
    return counts


# prompts that are missing here and there make matrices of several n; of large ones a single one is kept
_small_counts = lru_cache(maxsize=8)(_all_counts)
_large_counts = lru_cache(maxsize=1)(_all_counts)


def resampled_sums(features: FloatArray, *, seed: int, resamples: int | None = None) -> FloatArray:
    """(n, k) per-prompt features -> (resamples, k): their sums over each resample of n prompts.

    The resamples are a function of (n, seed, resamples) alone, so all metrics of a table share them; the matrix of
    counts is kept between calls, unless it is so large that each call draws it again. None: as many as `resampling`
    says.
    """
    if seed < 0:
        raise BadValue(f"seed {seed!r} given; expected an integer of 0 or more")
    n, b = len(features), resamples or _RESAMPLES.get()
    if n * b <= CHUNK:
        drawn: Iterable[Counts] = [_small_counts(n, seed, b)]
    else:
        drawn = [_large_counts(n, seed, b)] if n * b <= STORED else _draw_counts(n, seed, b)
    entries = CHUNK if n * b <= CHUNK else PIECE
    pieces = (counts[i:j].astype(np.float64) for counts in drawn for i, j in _parts(n, len(counts), entries))
    sums: FloatArray = np.concatenate([piece @ features for piece in pieces])
    return sums


def is_constant(x: FloatArray) -> bool:
    """True if the values differ by no more than rounding does."""
    return bool(np.ptp(x) <= 1e-12 * np.abs(x).max())


def excess_kurtosis(x: FloatArray) -> float | None:
    """m4 / m2^2 - 3 of the values (n,), 0 for a normal distribution; None where they do not vary."""
    if len(x) < 2 or is_constant(x):
        return None
    squares = (x - x.mean()) ** 2
    return float((squares**2).mean() / squares.mean() ** 2) - 3.0


def constant_interval(value: float, n: int) -> Interval:
    """All n prompts gave the same value: zero width, and the p value of the sign-flip test, 2^(1-n)."""
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, "none")
    return Interval(value, value, 1.0 if value == 0 else 2.0 ** (1 - n), "constant")


def t_interval(value: float, se: float, df: float, *, level: float) -> Interval:
    """value -+ t quantile * se, and the two-sided p value of value = 0."""
    half = float(stats.t.ppf(0.5 + level / 2, df)) * se
    p = 2 * float(stats.t.sf(abs(value) / se, df))
    return Interval(value - half, value + half, p, "t")


class Pivots:
    """Quantiles and tails of a studentised statistic: of its bootstrap, or of Student's t where there is none.

    `drawn` are the pivots t* = (value* - value) / se* of the resamples. Beyond their resolution, 1 / (B + 1) on a side,
    the quantiles are those of Student's t, if these lie farther out.
    """

    def __init__(self, df: float, drawn: FloatArray | None = None) -> None:
        self.df = df
        self.drawn = drawn  # (B,), ascending; None: Student's t alone

    @property
    def method(self) -> str:
        return "t" if self.drawn is None else "bootstrap-t"

    def limits(self, tail: float) -> tuple[float, float]:
        """How many standard errors below and above the value the limits lie, with this probability on each side."""
        plain = float(-special.stdtrit(self.df, tail))
        if self.drawn is None:
            return plain, plain
        b = len(self.drawn)
        rank = math.floor((b + 1) * tail + 1e-9)  # rounded up, p and interval could disagree
        if rank < 1:
            return max(plain, float(self.drawn[-1])), max(plain, -float(self.drawn[0]))
        return float(self.drawn[b - rank]), -float(self.drawn[rank - 1])

    def p_value(self, t: float) -> float:
        """Two-sided p of a statistic that lies t standard errors above its null value: the inverse of `limits`."""
        plain = 2 * float(special.stdtr(self.df, -abs(t)))
        if self.drawn is None:
            return plain
        b = len(self.drawn)
        above = (float((self.drawn >= t).sum()) + 1) / (b + 1)
        below = (float((self.drawn <= t).sum()) + 1) / (b + 1)
        p = min(1.0, 2 * min(above, below))
        return min(p, plain) if p <= 2 / (b + 1) else p


def drawn_pivots(value: float, se: float, values_b: FloatArray, ses_b: FloatArray) -> FloatArray | None:
    """The pivots (value* - value) / se* of B resamples, ascending, from their statistics and standard errors (B,).

    None where more than 1 % of the resamples have no spread (a handful of prompts differ from the rest).
    """
    degenerate = ses_b <= 1e-7 * se
    if degenerate.mean() > MAX_DEGENERATE:
        return None
    pivots = np.divide(values_b - value, ses_b, out=np.zeros_like(ses_b), where=~degenerate)
    with np.errstate(invalid="ignore"):  # inf * 0: no spread and no shift
        pivots[degenerate] = np.inf * np.sign(np.round((values_b[degenerate] - value) / se, 7))
    pivots[np.isnan(pivots)] = 0.0
    pivots.sort()
    return pivots


def bootstrap_t_interval(
    value: float, se: float, df: float, values_b: FloatArray, ses_b: FloatArray, *, level: float
) -> Interval:
    """The equal-tailed studentised interval (Efron & Tibshirani 1993, section 12.5), its inversion as a p value.

    `values_b`, `ses_b` (B,): statistic and standard error of each resample. With t* = (value* - value) / se*, the
    limits are value - q * se at the quantiles q of t*. p < 1 - level exactly where the interval leaves out 0;
    beyond the resolution of B resamples, 2 / (B + 1), the tail of Student's t replaces it. The interval is a plain t
    where more than 1 % of the resamples have no spread, and where so few have no quantile so far out: 95 % takes 39 of
    them, 99.99 % takes 19,999.
    """
    return _studentised(value, se, Pivots(df, drawn_pivots(value, se, values_b, ses_b)), level=level)


def _studentised(value: float, se: float, pivots: Pivots, *, level: float) -> Interval:
    plain = t_interval(value, se, pivots.df, level=level)
    if pivots.drawn is None or math.floor((len(pivots.drawn) + 1) * (1 - level) / 2 + 1e-9) < 1:
        return plain
    below, above = pivots.limits((1 - level) / 2)
    if not (math.isfinite(below) and math.isfinite(above)):
        return plain
    return Interval(value - below * se, value + above * se, pivots.p_value(value / se), pivots.method)


def mean_pivots(x: FloatArray, *, seed: int) -> Pivots:
    """The pivots of the mean of x (n,), n at least 2, all finite and not all alike; Student's t below 10 prompts."""
    n = len(x)
    if n < MIN_PROMPTS:
        return Pivots(n - 1)
    value, se = float(x.mean()), float(x.std(ddof=1)) / math.sqrt(n)
    centred = x - value  # sums of squares lose no digits to a large offset
    sums = resampled_sums(np.column_stack([centred, centred**2]), seed=seed)  # (B, 2)
    means = sums[:, 0] / n
    variances = np.maximum(sums[:, 1] / n - means**2, 0) * n / (n - 1)
    return Pivots(n - 1, drawn_pivots(value, se, value + means, np.sqrt(variances / n)))


def mean_interval(x: FloatArray, *, level: float, seed: int) -> Interval:
    """Interval of the mean of x (n,), all finite: bootstrap-t, or t below 10 prompts, or zero width."""
    n = len(x)
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, "none")
    value = float(x.mean())
    if is_constant(x):
        return constant_interval(value, n)
    se = float(x.std(ddof=1)) / math.sqrt(n)
    return _studentised(value, se, mean_pivots(x, seed=seed), level=level)
