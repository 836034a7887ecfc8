"""Checkpoints of one method as a curve: from their names to the fit and the plot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.cli.eval_given import curve_models
from rlhf_bench.errors import BadValue, CheckpointError
from rlhf_bench.evaluate.analyses.over_optimisation import curve_names
from rlhf_bench.evaluate.summary import summarize

KL = {"grpo@1": 0.25, "grpo@2": 1.0, "grpo@3": 4.0, "grpo@4": 16.0}


def scores() -> pd.DataFrame:
    """gold of sft + d (2 - 1.5 log d), the same on 20 prompts but for what each prompt adds to all models alike."""
    gain = {name: math.sqrt(kl) * (2 - 1.5 * math.log(math.sqrt(kl))) for name, kl in KL.items()}
    rows = [
        {
            "model": m,
            "seed": 0,
            "prompt_id": f"p{p:02d}",
            "sample": 0,
            "gold": 3.0 + p + gain.get(m, 0.0),
            "kl_exact": k,
        }
        for m, k in {"sft": 0.0, **KL}.items()
        for p in range(20)
    ]
    return pd.DataFrame(rows)


def test_a_curve_has_three_members() -> None:
    assert curve_names(["sft", "a@1", "a@2", "b@1", "a@3", "@4"]) == {"a": ["a@1", "a@2", "a@3"]}


def test_the_form_is_recovered_from_the_table() -> None:
    """Planted alpha 2, beta 1.5: it turns at KL = exp(2 (2 / 1.5 - 1)) = exp(2 / 3) = 1.947734."""
    (curve,) = summarize(scores(), reference="sft")["over_optimisation"]
    assert curve["curve"] == "grpo"
    assert [(p["model"], p["kl"]) for p in curve["points"]] == list(KL.items())
    # d = 1: 1 (2 - 0) = 2;  d = 4: 4 (2 - 1.5 * 1.386294) = -0.317766
    assert curve["points"][1]["gain"]["value"] == pytest.approx(2.0)
    assert curve["points"][3]["gain"]["value"] == pytest.approx(-0.317766, abs=1e-6)
    fit = curve["fit"]
    assert (fit["alpha"]["value"], fit["beta"]["value"]) == (pytest.approx(2.0), pytest.approx(1.5))
    assert fit["turning_kl"]["value"] == pytest.approx(1.947734, abs=1e-5)
    assert (fit["largest_kl"], fit["turns_share"]) == (16.0, 1.0)


def test_no_curve_without_gold_or_with_two_members() -> None:
    assert summarize(scores().drop(columns="gold"), reference="sft")["over_optimisation"] == []
    few = scores().query("model in ('sft', 'grpo@1', 'grpo@2')")
    assert summarize(few, reference="sft")["over_optimisation"] == []


def test_the_plot_has_the_fit_and_its_turning_point(tmp_path: Path) -> None:
    from rlhf_bench.report.contents import draw
    from rlhf_bench.report.result import load_result
    from rlhf_bench.report.tables.tradeoff import overoptimisation_table
    from tests.rlhf_bench.report.make_result import make_result

    path = make_result(tmp_path / "r", models=("sft", "ppo"), audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["over_optimisation"] = summarize(scores(), reference="sft")["over_optimisation"]
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    figure = draw(load_result(path), "gold_vs_sqrt_kl")
    assert figure is not None
    table = overoptimisation_table(load_result(path))
    assert [table.text(0, column).partition(" [")[0] for column in range(3)] == ["grpo", "d (α − β log d)", "2.00"]
    assert table.text(0, 4).startswith("1.9 [")
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("grpo")]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert (x[0], x[-1]) == (0.0, 4.0)  # nothing beyond the data
    assert y[-1] == pytest.approx(-0.317766, abs=1e-6)


def test_curve_option_names_checkpoints_by_what_differs(tmp_path: Path) -> None:
    for folder in ("steps/10", "steps/20", "beta-1/dpo", "beta-2/dpo"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "steps" / "notes").mkdir()
    found = curve_models((f"g={tmp_path}/steps/*", f"d={tmp_path}/beta-*/dpo"))
    assert {name: Path(path).relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "g@10": "steps/10", "g@20": "steps/20", "d@beta-1": "beta-1/dpo", "d@beta-2": "beta-2/dpo",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="--curve g: no checkpoint matches 'gone/\\*'; expected NAME=GLOB"):
        curve_models(("g=gone/*",))
    for run in ("x", "y"):
        (tmp_path / run / "beta-1" / "dpo").mkdir(parents=True)
        (tmp_path / run / "beta-1" / "dpo" / "config.json").write_text("{}")
    found = curve_models((f"d={tmp_path}/[xy]/beta-1/dpo",))  # they differ in the run alone
    assert list(found) == ["d@x", "d@y"]
    checkpoint(tmp_path / "x" / "beta-2" / "dpo")
    with pytest.raises(BadValue, match="--curve d: several checkpoints are called 'dpo'"):
        curve_models((f"d={tmp_path}/[xy]/beta-[12]/dpo",))


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")


def test_runs_of_a_sweep_are_called_by_their_value(tmp_path: Path) -> None:
    for beta in ("0.05", "0.1"):
        checkpoint(tmp_path / f"default.dpo.beta={beta}" / "dpo")
    assert list(curve_models((f"dpo={tmp_path}/default.dpo.beta=*/dpo",))) == ["dpo@0.05", "dpo@0.1"]


def test_a_curve_under_several_seeds(tmp_path: Path) -> None:
    for seed in ("1", "12"):
        for step in ("checkpoint-10", "checkpoint-20"):
            checkpoint(tmp_path / f"seed-{seed}" / "grpo-steps" / step)
    checkpoint(tmp_path / "seed-x" / "grpo-steps" / "checkpoint-10")  # no seed
    pattern = f"g={tmp_path}/seed-{{seed}}/grpo-steps/*"
    assert curve_models((pattern,)) == {
        f"g@checkpoint-{step}": f"{tmp_path}/seed-{{seed}}/grpo-steps/checkpoint-{step}" for step in (10, 20)
    }
    checkpoint(tmp_path / "seed-12" / "grpo-steps" / "checkpoint-30")
    with pytest.raises(BadValue, match="checkpoint-30 is there under seed 12 and not under 1"):
        curve_models((pattern,))
