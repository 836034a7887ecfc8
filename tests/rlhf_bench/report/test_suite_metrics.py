"""What a suite checks on its own prompts, and ROUGE in full, as tables and plot; older results have neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.report.plots.panels import suite_metrics
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import REST
from rlhf_bench.report.tables.in_full import rouge_table
from rlhf_bench.report.tables.metrics import own_metrics
from rlhf_bench.report.tables.pairwise import pairwise_table
from rlhf_bench.report.tables.summary import summary_table
from rlhf_bench.scorers.rules.refusal import LABELLER, measured
from rlhf_bench.types import Estimate


def result(metrics: list[str], **cells: float) -> Result:
    manifest: dict[str, Any] = {
        "suite": "s", "run": "r", "models": {"sft": [], "ppo": []}, "seeds": [0], "reference": "sft",
        "metrics": metrics,
        "data": {"source": "own prompts", "split": "mini"},
    }  # fmt: skip
    models = {
        model: {name: Estimate(value + shift, value - 0.1, value + 0.1, 40).to_dict() for name, value in cells.items()}
        for model, shift in (("sft", 0.0), ("ppo", 0.05))
    }
    return Result(Path(), manifest, {"models": models}, pd.DataFrame({"model": []}), {})


def test_the_suites_metrics_stand_first_and_are_drawn() -> None:
    shown = result(["sycophancy", "degenerate:empty", "right"], reward=1.0, right=0.5, sycophancy=0.1, refused=0.2)
    assert own_metrics(shown) == ["sycophancy", "right"]  # no model has the other
    titles = [column.title for column in summary_table(shown).columns]
    assert titles[:4] == ["Model", "Sycophancy ↓", "Right answer ↑", "Reward ↑"]
    assert "refused" in [c.key for c in summary_table(shown).columns if c.tier < REST]
    figure = suite_metrics(shown)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["Sycophancy", "Right answer"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["sft", "ppo"]
    assert panels[1].get_xlim()[0] < 0 < 1 < panels[1].get_xlim()[1]
    drawn = panels[1].collections[-1].get_offsets()
    assert drawn.tolist() == [[0.55, 1]]  # ppo's share


def test_a_suite_that_counts_refusals_names_the_labeller_and_its_error() -> None:
    """Over all models and by model, as they are measured; not where no metric of the suite is of it."""
    *models, together = measured()
    shown = result(["refused:harmful", "right"], right=0.5, **{"refused:harmful": 0.5})
    for table in (summary_table(shown), pairwise_table(shown)):
        (note,) = [note for note in table.notes if LABELLER in note]
        lowest, highest = min(m.sensitivity for m in models), max(m.sensitivity for m in models)
        assert f"finds {together.sensitivity:.1%} ({lowest:.1%} to {highest:.1%} by model) of the refusals" in note
        assert f"{together.two_way:.1%} (" in note
        assert f"{together.false_alarms:.1%} (" in note
    assert not any(LABELLER in note for note in summary_table(result(["right"], right=0.5, refused=0.2)).notes)


def test_a_result_without_them_looks_as_before() -> None:
    old = result([], reward=1.0, rougeL=0.4)
    titles = [column.title for column in summary_table(old).columns]
    assert titles[1] == "Reward ↑"
    assert not {"Refused", "Self-BLEU"} & set(titles)
    assert suite_metrics(old) is None
    assert rouge_table(old).rows == []


def test_rouge_in_full() -> None:
    table = rouge_table(result([], rougeL=0.5, rougeL_precision=1.0, rougeL_recall=1 / 3))
    assert {"ROUGE-L P", "ROUGE-L R", "ROUGE-L F"} <= {column.title for column in table.columns}
    row = {c.key: cell for c, cell in zip(table.columns, table.rows[0], strict=True)}
    values = {key: cell.value for key, cell in row.items() if isinstance(cell, Estimate)}
    assert row["model"] == "sft"
    assert values == {"rougeL_precision": 1.0, "rougeL_recall": 1 / 3, "rougeL": 0.5}
