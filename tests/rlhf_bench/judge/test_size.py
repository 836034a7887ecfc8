"""100,000 verdicts in one table."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.judge.agreement import agreement
from rlhf_bench.judge.audit import judge_rates
from rlhf_bench.judge.biases import check_biases
from rlhf_bench.judge.bradley_terry import bradley_terry
from rlhf_bench.judge.length import equal_length_win_rates
from rlhf_bench.judge.numbers import win_rates
from rlhf_bench.judge.verdicts import fold


def verdicts(models: int = 5, seeds: int = 2, prompts: int = 1_250, samples: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    m, s, p, k, order = (a.ravel() for a in np.indices((models, seeds, prompts, samples, 2)))
    n = len(m)
    return pd.DataFrame(
        {
            "model": np.array([f"m{i}" for i in range(models)])[m],
            "baseline": "base",
            "seed": s,
            "prompt_id": p.astype(str),
            "sample": k,
            "order": np.where(order == 0, "model_first", "baseline_first"),
            "status": rng.choice(["read", "unreadable"], n, p=[0.99, 0.01]),
            "winner": rng.choice(["first", "second", "tie"], n, p=[0.5, 0.4, 0.1]),
            "soft": np.nan,
            "model_length": np.repeat(rng.integers(20, 400, n // 2), 2),
            "baseline_length": np.repeat(rng.integers(20, 400, n // 2), 2),
            "gold": np.repeat(rng.integers(0, 2, n // 2).astype(float), 2),
        }
    )


@pytest.mark.slow
def test_the_statistics_of_100_000_verdicts_take_under_30_seconds() -> None:
    rows = verdicts()
    assert len(rows) == 100_000
    began = time.process_time()
    pairs = fold(rows)
    assert len(win_rates(pairs)) == 5
    assert judge_rates(rows)["unreadable"].value == pytest.approx(0.01, abs=0.002)
    assert len(check_biases(pairs)) == 3
    assert agreement(pairs)["cohen_kappa"].value == pytest.approx(0, abs=0.02)
    assert len(bradley_terry(pairs, baseline="base")) == 6
    assert len(equal_length_win_rates(pairs, baseline="base")) == 5
    assert time.process_time() - began < 30
