"""Reward at equal KL: planted curves are read off where they are, between their points and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.evaluate.analyses.equal_kl import equal_kl
from rlhf_bench.evaluate.summary import summarize
from rlhf_bench.store.score_table import score_table

PROMPTS = 20
# (KL, gold): up is gold = KL, flat is 1 throughout; ppo is a model of no curve
MODELS = {"sft": (0.0, 0.0), "ppo": (2.0, 4.0), "up@1": (1.0, 1.0), "up@2": (3.0, 3.0), "flat@a": (0.4, 1.0),
          "flat@b": (2.2, 1.0)}  # fmt: skip


def scores(noise: float = 0.0, *, seeds: tuple[int, ...] = (0,), generator: int = 0) -> pd.DataFrame:
    """Every prompt at a model's planted numbers, but for what each prompt adds to all models alike, and for noise."""
    random = np.random.default_rng(generator)
    rows = [
        {"model": m, "seed": s, "prompt_id": f"p{p:02d}", "sample": 0, "gold": gold + p + noise * random.normal(),
         "kl_exact": kl + (noise * random.normal() if m != "sft" else 0.0)}
        for m, (kl, gold) in MODELS.items() for s in seeds for p in range(PROMPTS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def found(table: pd.DataFrame) -> dict[str, Any]:
    (entry,) = equal_kl(score_table(table, ["gold", "kl_exact"]), reference="sft")
    assert entry["metric"] == "gold"
    return dict(entry)


def rows_at(entry: dict[str, Any], kl: float) -> list[dict[str, Any]]:
    return [row for row in entry["rows"] if row["kl"] == pytest.approx(kl) and "model" not in row]


MEAN = (PROMPTS - 1) / 2  # of what the prompts add


def test_curves_are_compared_where_both_are() -> None:
    """At 1.5 nats up has 1.5 and flat 1. flat ends at 2.2 and up begins at 1: beyond, only one of them is there."""
    entry = found(scores())
    (row,) = rows_at(entry, 1.5)
    assert {name: e["value"] for name, e in row["reward"].items()} == {
        "flat": pytest.approx(MEAN + 1.0), "up": pytest.approx(MEAN + 1.5),
    }  # fmt: skip
    (pair,) = row["differences"]
    assert (pair["a"], pair["b"], pair["difference"]["value"]) == ("flat", "up", pytest.approx(-0.5))
    # the same prompts on both sides: what they add is gone from the difference, and so is its interval
    assert pair["difference"]["high"] - pair["difference"]["low"] == pytest.approx(0.0, abs=1e-9)
    assert [sorted(r["reward"]) for r in rows_at(entry, 0.5)] == [["flat"]]
    assert [sorted(r["reward"]) for r in rows_at(entry, 3.0)] == [["up"]]
    assert {row["kl"] for row in entry["rows"] if "model" not in row} == {0.5, 0.7, 1.0, 1.5, 2.0, 3.0}


def test_a_single_model_is_held_against_the_curves_at_its_own_kl() -> None:
    """ppo has 4 at 2 nats, up 2 and flat 1."""
    (row,) = [row for row in found(scores())["rows"] if row.get("model") == "ppo"]
    differences = {(d["a"], d["b"]): d["difference"]["value"] for d in row["differences"]}
    assert row["kl"] == pytest.approx(2.0)
    assert differences == {
        ("ppo", "flat"): pytest.approx(3.0), ("ppo", "up"): pytest.approx(2.0), ("flat", "up"): pytest.approx(-1.0),
    }  # fmt: skip


def test_the_model_s_own_kl_is_in_the_interval() -> None:
    """ppo's KL runs from 1 to 3 over its prompts; up gains 1 a nat, and is read off wherever ppo turns out to be."""
    table = scores()
    mine = table["model"] == "ppo"
    table.loc[mine, "kl_exact"] = np.linspace(1.0, 3.0, PROMPTS)
    table["gold"] -= table["prompt_id"].str[1:].astype(float)  # what the prompts add is not what is tested here
    (row,) = [row for row in found(table)["rows"] if row.get("model") == "ppo"]
    (against_up,) = [d["difference"] for d in row["differences"] if (d["a"], d["b"]) == ("ppo", "up")]
    # sd of 20 equal steps from 1 to 3: 0.6228, its standard error 0.1393, times t(19) = 2.093: +-0.2915
    assert against_up["value"] == pytest.approx(2.0)
    assert against_up["high"] - against_up["low"] == pytest.approx(2 * 0.2915, rel=0.1)


def test_the_band_ends_where_the_curve_does() -> None:
    band = found(scores())["bands"]["up"]
    assert (len(band), band[0]["kl"], band[-1]["kl"]) == (25, 1.0, 3.0)
    assert [p["reward"]["value"] for p in band] == pytest.approx([MEAN + p["kl"] for p in band])


def test_nothing_without_a_curve_or_a_kl() -> None:
    table = scores()
    assert summarize(table.query("model in ('sft', 'ppo', 'up@1')"), reference="sft")["equal_kl"] == []
    assert summarize(table.drop(columns="kl_exact"), reference="sft")["equal_kl"] == []


def test_intervals_cover() -> None:
    """95 % intervals of the difference of two curves at 1.5 nats, true value -0.5, with noise in reward and KL."""
    hits = 0
    for draw in range(80):
        (row,) = rows_at(found(scores(0.5, generator=draw)), 1.5)
        (pair,) = row["differences"]
        hits += pair["difference"]["low"] <= -0.5 <= pair["difference"]["high"]
    assert 70 <= hits <= 79  # 76 expected, standard deviation 1.9


def test_table_and_plot(tmp_path: Path) -> None:
    from rlhf_bench.report.contents import draw
    from rlhf_bench.report.result import load_result
    from rlhf_bench.report.tables.tradeoff import equal_kl_table
    from tests.rlhf_bench.report.make_result import make_result

    models = ("sft", "ppo", "up@1", "up@2", "flat@a", "flat@b")
    path = make_result(tmp_path / "r", models=models, audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["equal_kl"] = summarize(scores(), reference="sft")["equal_kl"]
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    result = load_result(path)
    table = equal_kl_table(result)
    (row,) = [row for row in table.rows if row[1] == 1.5]
    assert (row[0], row[2], row[4]) == ("Gold", "flat", "up")
    assert [row[2] for row in table.rows if row[1] == 0.5] == ["flat"]
    figure = draw(result, "gold_vs_kl")
    assert figure is not None
    lines = {str(line.get_label()).partition(":")[0]: line for line in figure.axes[0].lines}
    x = np.asarray(lines["up"].get_xdata())
    assert (x[0], x[-1]) == (1.0, 3.0)
