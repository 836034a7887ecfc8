"""A figure and a table for a paper: the models, names, order and numbers that were chosen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.report.paper import Choice, paper_figure, paper_table, write_paper
from rlhf_bench.report.result import Result, load_result


def test_names_and_order_are_the_authors(one_seed: Path) -> None:
    choice = Choice(models=["sft", "ppo", "dpo"], metrics=["reward", "gold", "kl_exact"], order=["ppo"],
                    rename={"ppo": "PPO (ours)"})  # fmt: skip
    result = load_result(one_seed)
    table = paper_table(result, choice)
    assert [row[0] for row in table.rows] == ["PPO (ours)", "sft", "dpo"]
    assert [column.key for column in table.columns] == ["model", "reward", "gold", "kl_exact"]
    figure = paper_figure(result, choice)
    assert [axes.get_ylabel() for axes in figure.axes] == ["learned reward (raw)", "gold"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["PPO (ours)", "sft", "dpo"]


def test_files_of_every_format_hold_vector_fonts(one_seed: Path, tmp_path: Path) -> None:
    written = write_paper(one_seed, Choice(formats=["pdf", "svg", "png"], models=["sft", "ppo"]), tmp_path)
    figures, tables = ["figure.pdf", "figure.svg", "figure.png"], ["table.md", "table.csv", "table.tex"]
    assert [path.name for path in written] == [*figures, *tables]
    pdf = (tmp_path / "figure.pdf").read_bytes()
    used = set(re.findall(rb"/BaseFont /([\w+-]+)", pdf))
    embedded = set(re.findall(rb"/FontName /([\w+-]+)[^>]*/FontFile2 ", pdf))
    assert used == embedded != set()  # each as TrueType, which journals take
    assert b"/Type3" not in pdf
    assert b"<image" not in (tmp_path / "figure.svg").read_bytes()
    choices = [Choice(models=["sft"], columns="single"), Choice(models=["sft"], columns="double")]
    result = load_result(one_seed)
    assert [paper_figure(result, choice).get_size_inches()[0] for choice in choices] == [3.35, 6.9]


@pytest.mark.parametrize(
    ("choice", "error", "text"),
    [
        ({"models": ["pop"]}, UnknownName, "did you mean 'ppo'"),
        ({"metrics": ["golb"]}, UnknownName, "did you mean 'gold'"),
        ({"formats": ["pfd"]}, UnknownName, "did you mean 'pdf'"),
        ({"rename": {"ppo": "sft"}}, BadValue, "'sft' as the name of"),
        ({"models": ["sft"], "order": ["ppo"]}, BadValue, "'ppo', which --models leaves out"),
    ],
)
def test_a_choice_that_cannot_be_made(
    one_seed: Path, tmp_path: Path, choice: dict[str, Any], error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        write_paper(one_seed, Choice(**choice), tmp_path)


def without(result: Result, *metrics: str) -> Result:
    kept = {
        model: {name: value for name, value in numbers.items() if name not in metrics}
        for model, numbers in result.metrics["models"].items()
    }
    return replace(result, metrics={**result.metrics, "models": kept})


def test_without_kl_each_metric_has_a_panel_with_a_row_a_model(one_seed: Path) -> None:
    result = without(load_result(one_seed), "kl_exact")
    figure = paper_figure(result, Choice(models=["sft", "ppo"], rename={"ppo": "ours"}))
    assert [axes.get_xlabel() for axes in figure.axes] == ["learned reward (raw)", "gold"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["sft", "ours"]
    nothing = without(result, "reward", "reward_z", "gold")
    with pytest.raises(BadValue, match="no reward, gold or KL; expected metrics: --metrics"):
        paper_table(nothing, Choice())
    assert paper_table(nothing, Choice(metrics=["n_tokens"])).rows
