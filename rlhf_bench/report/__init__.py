"""Tables, plots and the page, drawn from a results folder alone: no torch, no model.

write_report(folder)          tables/, plots/ and report.html
write_index(results)          index.html over all results of a folder
write_paper(folder, ...)      one figure and one table with the models, names and numbers that an author chooses
summary_text(folder)          the main columns, for a terminal
judge_text(folder)            what judges found, for a terminal
audit_text(folder)            what an audit found, for a terminal
plot_training_curve(...)      one stage's curve, from its log rows
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.files import exclusive, remove_half_written

__all__ = [
    "PARTS",
    "audit_text",
    "judge_text",
    "plot_training_curve",
    "summary_text",
    "write_index",
    "write_paper",
    "write_report",
]

PARTS = ("tables", "plots", "page")


def write_report(result_dir: Path, *, only: Collection[str] | None = None) -> list[Path]:
    """Draw tables/, plots/ and report.html from what the folder holds; return the files written.

    `only` takes some of "tables", "plots", "page"; the page shows the plots that are there. The same folder gives the
    same Markdown, CSV, LaTeX, SVG and HTML, byte for byte. Raises StoreError where the folder cannot be read or
    written or another process writes to it, UnknownName for an unknown part.
    """
    # matplotlib and seaborn take seconds to import: the command line must not wait for them
    from rlhf_bench.report import files, page
    from rlhf_bench.report.result import load_result

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
                written += files.write_tables(result, result.path / "tables")
            if "plots" in parts:
                written += files.write_plots(result, result.path / "plots")
            if "page" in parts:
                written.append(page.write_page(result))
    except OSError as error:
        what = error.filename or result.path
        raise StoreError(f"cannot write {what} ({error.strerror}); choose a folder that can be written") from error
    return written


def write_index(results: Path) -> Path:
    """Write index.html into the folder of all results; see `index.write_index`."""
    from rlhf_bench.report import index

    return index.write_index(results)


def write_paper(result_dir: Path, *, folder: Path | None = None, **choice: Any) -> list[Path]:
    """Write a figure and a table of a result; the fields of `paper.Choice` choose what they show."""
    from rlhf_bench.report import paper

    return paper.write_paper(result_dir, paper.Choice(**choice), folder)


def summary_text(result_dir: Path, *, width: int = 120) -> str:
    """The main columns with their intervals as plain text, at most `width` characters wide, and a few lines on them."""
    from rlhf_bench.report import screen
    from rlhf_bench.report.result import load_result

    return screen.summary_text(load_result(result_dir), width=width)


def judge_text(result_dir: Path, **wanted: str) -> str:
    """What judges found, as plain text; see `screen.judge_text`."""
    from rlhf_bench.report import screen
    from rlhf_bench.report.result import load_result

    return screen.judge_text(load_result(result_dir), **wanted)


def audit_text(audit_dir: Path) -> str:
    """The audit in a folder `audit/`, as plain text. Raises StoreError where it cannot be read."""
    from rlhf_bench.report.audit import Audit

    return Audit(audit_dir).text()


def plot_training_curve(log_rows: list[dict[str, Any]], stage: str, path: Path) -> None:
    """One stage's training curve, from the rows of its log.jsonl; see `curves.plot_training_curve`."""
    from rlhf_bench.report.plots import curves

    curves.plot_training_curve(log_rows, stage, path)
