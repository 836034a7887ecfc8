"""Tables, plots and the page, drawn from a results folder alone: no torch, no model.

write_report(folder)          tables/, plots/ and report.html
index.write_index(results)    index.html over all results of a folder
paper.write_paper(folder, …)  one figure and one table with the models, names and numbers that an author chooses
screen.summary_text(folder)   the main columns, for a terminal
screen.judge_text(folder)     what judges found, for a terminal
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rlhf_bench.errors import check_known
from rlhf_bench.files import exclusive, remove_half_written, writing

__all__ = ["PARTS", "write_report"]

PARTS = ("tables", "plots", "page")


def write_report(result_dir: Path, *, only: Collection[str] = PARTS) -> list[Path]:
    """Draw tables/, plots/ and report.html from what the folder holds; return the files written.

    `only` takes some of "tables", "plots", "page"; the page shows the plots that are there. The same folder gives the
    same Markdown, CSV, LaTeX, SVG and HTML, byte for byte. Raises StoreError where the folder cannot be read or
    written or another process writes to it, UnknownName for an unknown part.
    """
    # matplotlib and seaborn take seconds to import: the command line must not wait for them
    from rlhf_bench.report import files, page
    from rlhf_bench.report.result import load_result

    check_known("report part", only, PARTS)
    result = load_result(result_dir)
    written: list[Path] = []
    with writing(result.path), exclusive(result.path):
        for folder in (result.path, result.path / "tables", result.path / "plots"):
            remove_half_written(folder)
        if "tables" in only:
            written += files.write_tables(result, result.path / "tables")
        if "plots" in only:
            written += files.write_plots(result, result.path / "plots")
        if "page" in only:
            written.append(page.write_page(result))
    return written
