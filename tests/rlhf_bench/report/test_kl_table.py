"""KL by response and by token in a table of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlhf_bench.report.contents import tables
from rlhf_bench.report.files import write_tables
from rlhf_bench.report.render.flat import csv_text
from rlhf_bench.report.result import Result, load_result
from rlhf_bench.report.tables.in_full import kl_table
from rlhf_bench.types import Estimate

CELLS = {
    "kl_exact": 8.0, "kl_k1": 7.5, "kl_k3": 9.0, "kl_exact_token": 0.4, "kl_k1_token": 0.375, "kl_k3_token": 0.45,
    "kl_forward": 6.25,
}  # fmt: skip


def result(cells: dict[str, float], marks: dict[str, str]) -> Result:
    """sft and chosen without a number, ppo with `cells`, each with an interval of 1/8 on either side."""
    manifest = {"suite": "s", "run": "r", "models": {}, "seeds": [0], "reference": "sft", "data": {"source": "d"}}
    mine = {name: Estimate(value, value - 0.125, value + 0.125, 40).to_dict() for name, value in cells.items()}
    metrics = {"models": {"sft": {}, "ppo": mine, "chosen": {}}, "marks": marks}
    return Result(Path(), manifest, metrics, pd.DataFrame({"model": []}), {})


def test_every_estimate_by_response_and_by_token() -> None:
    table = kl_table(result(CELLS, {}))
    assert csv_text(table).splitlines() == [
        "model,kl_exact,kl_exact_low,kl_exact_high,kl_exact_n,kl_exact_token,kl_exact_token_low,kl_exact_token_high,"
        "kl_exact_token_n,kl_k1,kl_k1_low,kl_k1_high,kl_k1_n,kl_k1_token,kl_k1_token_low,kl_k1_token_high,kl_k1_token_n,"
        "kl_k3,kl_k3_low,kl_k3_high,kl_k3_n,kl_k3_token,kl_k3_token_low,kl_k3_token_high,kl_k3_token_n,"
        "kl_forward,kl_forward_low,kl_forward_high,kl_forward_n",
        "ppo,8.0,7.875,8.125,40,0.4,0.275,0.525,40,7.5,7.375,7.625,40,0.375,0.25,0.5,40,"
        "9.0,8.875,9.125,40,0.45,0.325,0.575,40,6.25,6.125,6.375,40",
    ]
    assert [column.digits for column in table.columns[1:]] == [2, 4, 2, 4, 2, 4, 2]
    assert "kl" in [found.name for found in tables(result(CELLS, {})) if found.is_written]


def test_a_mark_of_biased_sampling_is_kept() -> None:
    table = kl_table(result(CELLS, {"kl_k3": "biased: top-p 0.9", "kl_k3_token": "biased: top-p 0.9"}))
    assert [c.title for c in table.columns if c.title.endswith("†")] == ["KL k3 (nats) †", "KL k3/token (nats) †"]
    assert table.notes[-2:] == ["† KL k3: biased: top-p 0.9", "† KL k3/token: biased: top-p 0.9"]


def test_an_older_result_has_no_such_table(one_seed: Path) -> None:
    """It has KL by response alone, which the summary shows."""
    assert kl_table(result({"kl_exact": 8.0}, {})).rows == []
    folder = one_seed / "tables"
    folder.mkdir(exist_ok=True)
    (folder / "kl.md").write_text("of an evaluation before")
    write_tables(load_result(one_seed), folder)
    assert not (folder / "kl.md").exists()
