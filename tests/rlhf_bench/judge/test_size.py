"""100,000 verdicts in one ledger and in one table, and a ledger that is larger than what reading it may take."""

from __future__ import annotations

import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rlhf_bench.cli import cli
from rlhf_bench.judge.analysis import agreement, model_strengths
from rlhf_bench.judge.analysis.audit import check_biases, judge_rates
from rlhf_bench.judge.analysis.length import equal_length_win_rates
from rlhf_bench.judge.analysis.pairs import fold, win_rates
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import answer_digest, call_key
from rlhf_bench.judge.ledger.transfer import export_ledger, verify_ledger


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


def fill(path: Path, calls: int, text: str) -> None:
    """Make a ledger in which each call has one answer, which holds `text`, and one verdict."""
    Ledger(path).close()
    requests = [f'{{"messages":[],"model":"judge-{n}","text":"{text}"}}' for n in range(calls)]
    keys = [call_key(request) for request in requests]
    attempt = "uid, key, scope, outcome, reason, charged, cost, started, seconds, answer, digest"
    db = sqlite3.connect(path)
    with db:
        rows = zip(keys, requests, strict=True)
        db.executemany("INSERT INTO calls VALUES (?, 'j', 'u', ?, 't', 'h', 0)", rows)
        db.executemany(
            f"INSERT INTO attempts ({attempt}) VALUES (?, ?, 's', 'answered', '', 1, 1, 0, 0, ?, ?)",
            ((str(n), key, text, answer_digest(text)) for n, key in enumerate(keys)),
        )
        db.executemany("INSERT INTO verdicts VALUES (?, 'p', 'first', NULL, '', '{}')", ((key,) for key in keys))
    db.close()


def test_a_ledger_is_checked_and_exported_row_by_row(tmp_path: Path) -> None:
    """400 answers of 50 kB, and as much again in their requests: 40 MB, of which a few rows are held at a time."""
    path = tmp_path / "judge.sqlite"
    fill(path, 400, "x" * 50_000)
    tracemalloc.start()
    try:
        assert sum(len(line) for line in export_ledger(path)) > 40_000_000
        assert verify_ledger(path).faults == []
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        done = CliRunner().invoke(
            cli, ["judge", "ledger", "export", str(tmp_path / "out.jsonl"), "--ledger", str(path)]
        )
        assert done.stdout.startswith("1200 rows: ")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # of which the command's imports are the larger part
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.jsonl").stat().st_size > 40_000_000


@pytest.mark.kills
def test_the_statistics_of_100_000_verdicts() -> None:
    rows = verdicts()
    assert len(rows) == 100_000
    pairs = fold(rows)
    assert len(win_rates(pairs)) == 5
    assert judge_rates(rows)["unreadable"].value == pytest.approx(0.01, abs=0.002)
    assert len(check_biases(pairs)) == 3
    assert agreement(pairs)["cohen_kappa"].value == pytest.approx(0, abs=0.02)
    assert len(model_strengths(pairs, baseline="base")) == 6
    assert len(equal_length_win_rates(pairs, baseline="base")) == 5
