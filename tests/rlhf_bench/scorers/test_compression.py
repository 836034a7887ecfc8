"""Compression ratio: by zlib itself on texts joined by hand, with equal bytes, and in an evaluation."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from rlhf_bench.evaluate import evaluate
from rlhf_bench.scorers import describe, metrics_for
from rlhf_bench.scorers.base import Corpus, Missing
from rlhf_bench.scorers.compression import SCORER, compression_ratio

TEXTS = [f"the cat number {i * i} sat on mat {i % 7}" for i in range(60)]


def ratio(texts: list[str], n_bytes: int) -> float:
    data = b"\n".join(text.encode() for text in texts)[:n_bytes]
    return len(data) / len(zlib.compress(data, 9))


def test_the_mean_is_that_of_the_first_bytes() -> None:
    assert compression_ratio(TEXTS, 1200).mean() == pytest.approx(ratio(TEXTS, 1200), rel=1e-12)
    assert compression_ratio(["the same words again"] * 60, 1200).mean() > 20  # 1,200 bytes of one sentence


def test_the_spread_is_that_of_the_jackknife_over_20_groups_of_prompts() -> None:
    """Squared standard error of the mean: 19/20 of the sum of squares of the ratios without a group, with 19/20 of the
    bytes, about their mean. The groups are every 20th prompt."""
    without = np.array([ratio([t for i, t in enumerate(TEXTS) if i % 20 != g], 1200 * 19 // 20) for g in range(20)])
    expected = 19 / 20 * ((without - without.mean()) ** 2).sum()
    values = compression_ratio(TEXTS, 1200)
    assert values.var(ddof=0) / len(TEXTS) == pytest.approx(expected, rel=1e-9)
    assert values[0] == pytest.approx(values.mean() + math.sqrt(60 * 19) * (without.mean() - without[0]), rel=1e-9)


def test_few_or_empty_texts_have_none() -> None:
    for corpus in (Corpus(["x" * 2000], 2000), Corpus(["x", "y"], 2), Corpus(["", ""], 2000)):
        assert isinstance(SCORER.corpus(corpus)["compression_ratio"], Missing)


def test_an_evaluation_has_it_with_equal_bytes(tmp_path: Path) -> None:
    """b's responses are twice as long; both are compressed over the bytes of a's."""
    for name, times in (("a", 1), ("b", 2)):
        rows = [{"prompt": f"Say {i}.", "response": f" {text}" * times} for i, text in enumerate(TEXTS)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [(name, str(tmp_path / f"{name}.jsonl")) for name in "ab"]
    found = evaluate(responses=given, results=tmp_path / "results")
    order = found.responses[found.responses["model"] == "a"]["response"].tolist()
    n_bytes = sum(len(text.encode()) for text in order)
    metrics = json.loads((found.folder / "metrics.json").read_text("utf-8"))
    for name in "ab":
        texts = found.responses[found.responses["model"] == name]["response"].tolist()
        value = metrics["models"][name]["compression_ratio"]["value"]
        assert value == pytest.approx(ratio(texts, n_bytes), rel=1e-9)
    (pair,) = [row for row in metrics["pairwise"] if row["metric"] == "compression_ratio"]
    assert pair["difference"]["value"] > 0  # each of b's texts repeats itself
    assert describe("compression_ratio") in metrics_for("summary", metrics["models"]["a"])
