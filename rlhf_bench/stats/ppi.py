"""Prediction-powered inference: a share by a labeller that errs, corrected by people's labels of a random sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import LEVEL, FloatArray
from rlhf_bench.types import Estimate

MIN_LABELS = 10


def ppi_share(
    labels: Sequence[float] | FloatArray,
    predictions_labelled: Sequence[float] | FloatArray,
    predictions_all: Sequence[float] | FloatArray,
) -> Estimate:
    """Share of rows that people would label 1, from a labeller's predictions and the labels of a sample of the rows.

    Angelopoulos, Bates, Fannjiang, Jordan & Zrnic 2023 (Science 382, arXiv:2301.09633), the mean:

        share = mean over all rows of the prediction + mean over the labelled of (label - prediction)

    labels: 0 or 1, (n,), of rows that were drawn at random from all; predictions_labelled: of the same rows, (n,);
    predictions_all: of all rows, the labelled among them, (N,), 0 or 1 or a probability. A row is a prompt's only
    response: average several samples of a prompt, or keep one, before this.

    Since the labelled rows are among all, var = var(label) / N + (1/n - 1/N) var(label - prediction). Before the
    variances are taken, two labels of each kind, one miss and one false alarm are added to the sample, since a labeller
    without an error among n rows is not one without error. The interval is a t's with n - 1 degrees, clipped to [0, 1].
    `n` of the estimate is the number of labels.

    Raises BadValue for fewer than MIN_LABELS labels, lengths that differ, fewer rows than labels, labels that are not
    0 or 1 and predictions outside 0 to 1.
    """
    y, f, every = (np.asarray(given, dtype=np.float64) for given in (labels, predictions_labelled, predictions_all))
    _check(y, f, every)
    n, total = len(y), len(every)
    value = float(every.mean() + (y - f).mean())
    added_y, added_error = np.append(y, [1.0, 1.0, 0.0, 0.0]), np.append(y - f, [1.0, -1.0])
    variance = added_y.var() / total + (1 / n - 1 / total) * added_error.var()
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt(variance)
    bounded = min(1.0, max(0.0, value))
    return Estimate(bounded, max(0.0, bounded - half), min(1.0, bounded + half), n, LEVEL, "prediction-powered")


def _check(labels: FloatArray, labelled: FloatArray, every: FloatArray) -> None:
    if len(labels) < MIN_LABELS:
        raise BadValue(f"{len(labels)} labels given; expected {MIN_LABELS} or more: label more rows, drawn at random")
    if len(labels) != len(labelled):
        raise BadValue(
            f"{len(labels)} labels and {len(labelled)} predictions of the labelled rows given; expected one each"
        )
    if len(every) < len(labels):
        raise BadValue(
            f"{len(every)} predictions of all rows given, fewer than the {len(labels)} labels; expected all rows"
        )
    if not np.isin(labels, (0, 1)).all():
        raise BadValue(f"the label {float(labels[~np.isin(labels, (0, 1))][0])!r} was given; expected 0 or 1")
    for given in (labelled, every):
        if not ((given >= 0) & (given <= 1)).all():
            raise BadValue(
                f"the prediction {float(given[~((given >= 0) & (given <= 1))][0])!r} was given; expected 0 to 1"
            )
