from __future__ import annotations

import pytest

from rlhf_bench.errors import UnknownName
from rlhf_bench.scorers import METRICS, describe, metrics_for


def test_every_metric_is_described():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert len(metric.title) <= 20  # a column header
        assert metric.description
        assert metric.digits >= 0
        assert metric.bounds is None or metric.bounds[0] < metric.bounds[1]


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


def names(table, available, **options):
    return [metric.name for metric in metrics_for(table, available, **options)]


def test_the_summary_has_raw_rewards_of_one_seed_and_standardised_ones_of_several():
    available = ["reward", "reward_std", "reward_z", "reward_z_std"]
    assert names("summary", available)[:2] == ["reward", "reward_std"]
    assert names("summary", available, seeds=2)[:2] == ["reward_z", "reward_z_std"]
    assert names("summary", [], seeds=2)[:2] == ["reward", "reward_std"]  # no reward at all: its column says so


def test_metrics_of_any_name_have_their_place_in_the_tables():
    made = ["perplexity:gpt2", "reward:other", "refused:rude", "gold_safe"]
    there = names("summary", made)
    # what a suite names for its prompts comes first, further rewards beside the first, perplexities last
    assert (there[0], there.index("reward:other"), there[-1]) == ("refused:rude", 2, "perplexity:gpt2")
    assert names("gold", ["gold", *made]) == ["gold", "gold_safe"]


def test_rouge_has_precision_and_recall_before_its_f():
    assert names("rouge", METRICS)[:3] == ["rouge1_precision", "rouge1_recall", "rouge1"]
