"""A result in a notebook: its tables as pandas frames, its plots as matplotlib figures."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rlhf_bench.report.best_of_n import best_of_n_table
from rlhf_bench.report.judge import judge_tables
from rlhf_bench.report.pareto import pareto_table
from rlhf_bench.report.plots import PLOTS
from rlhf_bench.report.result import load_result
from rlhf_bench.report.style import drawing
from rlhf_bench.report.tables import gold_table, pairwise_table, per_seed_table, summary_table
from rlhf_bench.report.writers import csv_text

__all__ = ["figures", "frames"]


def frames(result_dir: Path) -> dict[str, pd.DataFrame]:
    """Name -> table, as its CSV: a number with an interval takes the columns value, _low, _high and _n.

    Tables without a row are left out. Raises StoreError where the folder cannot be read.
    """
    result = load_result(result_dir)
    made = [summary_table, pairwise_table, per_seed_table, gold_table, pareto_table, best_of_n_table]
    tables = [*(make(result) for make in made), *judge_tables(result)]
    return {table.name: pd.read_csv(io.StringIO(csv_text(table))) for table in tables if table.rows}


def figures(result_dir: Path) -> dict[str, Figure]:
    """Name -> plot, of those whose numbers the result has. Raises StoreError where the folder cannot be read."""
    result = load_result(result_dir)
    with drawing():
        drawn = {name: draw(result) for name, draw in PLOTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}
