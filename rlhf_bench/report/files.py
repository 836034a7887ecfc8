"""The files of a report: tables/ in four formats, and plots/."""

from __future__ import annotations

from pathlib import Path

from rlhf_bench.files import atomic_write_text
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.contents import plots, tables
from rlhf_bench.report.plots.style import save_figure
from rlhf_bench.report.render import FORMATS, texts_of
from rlhf_bench.report.render.markdown import markdown_text
from rlhf_bench.report.render.workbook import write_workbook
from rlhf_bench.report.responses import READABLE, responses_markdown, responses_table, side_by_side
from rlhf_bench.report.result import Result
from rlhf_bench.report.tables.summary import missing_lines
from rlhf_bench.report.verdict import verdict


def write_tables(result: Result, folder: Path) -> list[Path]:
    """Each table as .md, .csv and .tex; summary.xlsx with a sheet for each; responses.md.

    A table without a row is left out unless it is kept without one; files of tables that are left out are removed.
    """
    every = tables(result)
    found = [table for table in every if table.is_written]
    lists = {
        "Verdict": verdict(result),
        "Alarms": alarm_lines(result),
        "Alarms while training": training_alarm_lines(result),
        "Not available": missing_lines(result),
    }
    views = side_by_side(result, READABLE)
    texts = {"responses.md": responses_markdown(result, views)}
    for table in found:
        texts |= texts_of(table)
        if table.name == "summary":
            texts["summary.md"] = markdown_text(table, sections=lists)
    for name in (f"{table.name}{suffix}" for table in every for suffix in FORMATS):
        if name not in texts:
            (folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        atomic_write_text(folder / name, text)
    write_workbook(folder / "summary.xlsx", [*found, responses_table(result, views)])
    return [*(folder / name for name in texts), folder / "summary.xlsx"]


def write_plots(result: Result, folder: Path) -> list[Path]:
    """Each plot as .png and .svg; a plot without its numbers is not drawn, and an old one of it is removed."""
    written: list[Path] = []
    for plot in plots():
        figure = plot.draw(result)
        if figure is not None:
            written += save_figure(figure, folder / plot.name)
        else:
            for suffix in (".png", ".svg"):
                (folder / f"{plot.name}{suffix}").unlink(missing_ok=True)
    return written
