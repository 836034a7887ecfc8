from __future__ import annotations

import pytest

from rlhf_bench.errors import UnknownName
from rlhf_bench.metrics.registry import COMPARED, METRICS, describe


def test_every_metric_is_described():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert len(metric.title) <= 16  # a column header
        assert metric.description
        assert metric.digits >= 0
    assert set(COMPARED) <= set(METRICS)


@pytest.mark.parametrize(
    ("name", "better"),
    [("reward", True), ("gold", True), ("perplexity", False), ("repetition", False), ("kl_exact", None)],
)
def test_direction(name, better):
    assert describe(name).higher_is_better is better


def test_gold_components_are_known_by_their_prefix():
    metric = describe("gold_well_ended")
    assert (metric.title, metric.sources, metric.higher_is_better) == ("Gold: well ended", ("gold_well_ended",), True)


@pytest.mark.parametrize("name", ["rougel", "gold_", "golden", ""])
def test_unknown_names(name):
    with pytest.raises(UnknownName, match=f"unknown metric '{name}'"):
        describe(name)
