"""Prediction-powered inference: its numbers by hand, its coverage by simulation, what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.ppi import ppi_share


def test_worked_by_hand() -> None:
    """10 labels, 6 of them 1; the labeller says 1 for 5 of those and for 1 of the 4 others; of all 40 it says 1 for 20.

    Share: 20/40 + (5 misses and hits: (1 - 1) / 10) = .5: one miss and one false alarm cancel.
    With the added rows the labels are 8 of 14: variance 8/14 * 6/14 = .244898. The errors are +1, -1 and eight 0, then
    +1 and -1 added: mean 0, variance 4/12 = .333333. var = .244898/40 + (1/10 - 1/40) * .333333 = .0311224, its root
    .1764156; t of 9 degrees 2.2621572: half .399080.
    """
    labels = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    predictions = [1, 1, 1, 1, 1, 0, 1, 0, 0, 0]
    found = ppi_share(labels, predictions, [1] * 20 + [0] * 20)
    assert (found.value, found.n, found.method) == (0.5, 10, "prediction-powered")
    assert (found.low, found.high) == pytest.approx((0.5 - 0.399080, 0.5 + 0.399080), abs=1e-6)


def test_a_labeller_that_misses_half_is_corrected() -> None:
    """It sees 30 of 100 where 60 are: on the labelled, 12 of 20 are refusals and it finds 6: .3 + 6/20 = .6."""
    labels = [1] * 12 + [0] * 8
    predictions = [1] * 6 + [0] * 14
    assert ppi_share(labels, predictions, [1] * 30 + [0] * 70).value == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("share", "found", "false_alarms", "n", "total"),
    [(0.5, 0.42, 0.05, 100, 1000), (0.1, 0.9, 0.1, 100, 400), (0.5, 0.95, 0.03, 200, 200), (0.02, 1.0, 0.0, 50, 500)],
)
def test_coverage(share: float, found: float, false_alarms: float, n: int, total: int) -> None:
    """1,000 tables: 95 % less twice the simulation's own error, .007, and less one point where the share is plain."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        labels = (rng.random(total) < share).astype(float)
        predictions = (rng.random(total) < np.where(labels == 1, found, false_alarms)).astype(float)
        estimate = ppi_share(labels[:n], predictions[:n], predictions)
        covered += estimate.low <= share <= estimate.high
    assert covered >= 926


def test_it_is_narrower_than_the_labels_alone() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(2000) < 0.4).astype(float)
    predictions = np.where(rng.random(2000) < 0.05, 1 - labels, labels)
    estimate = ppi_share(labels[:100], predictions[:100], predictions)
    low, high = stats.binomtest(int(labels[:100].sum()), 100).proportion_ci(method="wilson")
    assert estimate.high - estimate.low < 0.8 * (high - low)


@pytest.mark.parametrize(
    ("labels", "labelled", "every", "message"),
    [
        ([1] * 9, [1] * 9, [1] * 50, "9 labels given"),
        ([1] * 10, [1] * 9, [1] * 50, "10 labels and 9 predictions"),
        ([1] * 10, [1] * 10, [1] * 9, "9 predictions of all rows"),
        ([2] * 10, [1] * 10, [1] * 50, "label 2.0"),
        ([1] * 10, [1] * 10, [math.nan] * 50, "prediction nan"),
    ],
)
def test_bad_input(labels: list[float], labelled: list[float], every: list[float], message: str) -> None:
    with pytest.raises(BadValue, match=message):
        ppi_share(labels, labelled, every)
