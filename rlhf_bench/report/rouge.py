"""ROUGE in full: precision, recall and F of each variant, a row a model."""

from __future__ import annotations

from rlhf_bench.report.cautions import cautions
from rlhf_bench.report.cells import Cell, Column, Table
from rlhf_bench.report.result import Result, known
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.rouge import ROUGE_PARTS
from rlhf_bench.store import ANCHORS

__all__ = ["rouge_table"]


def rouge_table(result: Result) -> Table:
    """Without rows where no model has ROUGE's parts: there was nothing to compare with, or the result is older."""
    keys = [key for name, parts in ROUGE_PARTS.items() for key in (*parts, name)]
    columns = [Column("model", "Model"), *(Column(key, _title(key), interval=True) for key in keys)]
    rows: list[list[Cell]] = []
    for model in result.models:
        cells = [result.estimate(model, key) for key in keys]
        if any(known(cell) for key, cell in zip(keys, cells, strict=True) if key not in ROUGE_PARTS):
            rows.append([f"{model} (data)" if model in ANCHORS else model, *cells])
    notes = [
        "P: share of the response's words that the reference has; R: share of the reference's words that the response "
        "has; F: their harmonic mean, averaged over responses. ROUGE-Lsum takes each line as a sentence.",
        *cautions(columns, rows),
    ]
    return Table("rouge", f"ROUGE on {result.data_label}", columns, rows, notes)


def _title(key: str) -> str:
    return f"{describe(key).title} F" if key in ROUGE_PARTS else describe(key).title
