"""The reward stage: margins from the data, and the length baseline beside its accuracy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlhf_bench.errors import DataError
from rlhf_bench.types import make_pair
from trainers.reward import all_margins

from .conftest import PAIRS, FirstStep


def test_margins_stay_with_their_pairs_where_one_is_dropped(first_step: FirstStep) -> None:
    same = make_pair(PAIRS[0].prompt, " Blue.", " Blue.", margin=9.0)  # equal, so it is dropped with its margin
    kept = [replace(pair, margin=float(i)) for i, pair in enumerate(PAIRS)]
    first, _ = first_step("reward", pairs=kept, margin="data")
    second, _ = first_step("reward", pairs=[kept[0], same, *kept[1:]], margin="data", batch_size=len(kept))
    assert second.loss == pytest.approx(first.loss, abs=1e-6)
    without, _ = first_step("reward", pairs=kept)
    assert first.loss > without.loss + 0.1  # margins ask for more


def test_a_pair_without_margin_is_one_line_that_counts_them() -> None:
    assert all_margins([0.5, 2.0]).tolist() == [0.5, 2.0]
    with pytest.raises(DataError, match=r"^reward.margin=data: 1 of 3 training pairs have no margin, expected"):
        all_margins([0.5, None, 0.0])


def test_the_longer_response_is_a_baseline_beside_the_accuracy(first_step: FirstStep) -> None:
    _, result = first_step("reward", pairs=PAIRS)
    # by characters, which decide here: " Blue." < " I am happy to help.", ...; the last pair's rejected has four "!"
    longer = [len(pair.chosen) > len(pair.rejected) for pair in PAIRS]
    assert sorted(longer) == [False, False, False, True, True]
    assert result.metrics["eval_accuracy_longer"] == 0.4
