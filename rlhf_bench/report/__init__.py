"""Tables, plots and the page, drawn from a results folder alone: no torch, no model.

write_report(folder)          tables/, plots/ and report.html
summary_text(folder)          the main columns, for a terminal
plot_training_curve(...)      one stage's curve, from its log rows
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.files import exclusive, remove_half_written

__all__ = ["PARTS", "plot_training_curve", "summary_text", "write_report"]

PARTS = ("tables", "plots", "page")


def write_report(result_dir: Path, *, only: Collection[str] | None = None) -> list[Path]:
    """Draw tables/, plots/ and report.html from what the folder holds; return the files written.

    `only` takes some of "tables", "plots", "page"; the page shows the plots that are there. The same folder gives the
    same Markdown, CSV, LaTeX, SVG and HTML, byte for byte. Raises StoreError where the folder cannot be read or
    written or another process writes to it, UnknownName for an unknown part.
    """
    # matplotlib and seaborn take seconds to import: the command line must not wait for them
    from rlhf_bench.report import page, plots
    from rlhf_bench.report.result import load_result
    from rlhf_bench.report.writers import write_tables

    parts = PARTS if only is None else tuple(only)
    for part in parts:
        if part not in PARTS:
            raise UnknownName("report part", part, PARTS)
    result = load_result(result_dir)
    written: list[Path] = []
    try:
        with exclusive(result.path):
            for folder in (result.path, result.path / "tables", result.path / "plots"):
                remove_half_written(folder)
            if "tables" in parts:
                written += write_tables(result, result.path / "tables")
            if "plots" in parts:
                written += plots.write_plots(result, result.path / "plots")
            if "page" in parts:
                written.append(page.write_page(result))
    except OSError as error:
        what = error.filename or result.path
        raise StoreError(f"cannot write {what} ({error.strerror}); choose a folder that can be written") from error
    return written


def summary_text(result_dir: Path, *, width: int = 120) -> str:
    """The main columns with their intervals as plain text, at most `width` characters wide, and the alarms."""
    from rlhf_bench.report import terminal
    from rlhf_bench.report.result import load_result

    return terminal.summary_text(load_result(result_dir), width=width)


def plot_training_curve(log_rows: list[dict[str, Any]], stage: str, path: Path) -> None:
    """One stage's training curve, from the rows of its log.jsonl; see `curves.plot_training_curve`."""
    from rlhf_bench.report import curves

    curves.plot_training_curve(log_rows, stage, path)
