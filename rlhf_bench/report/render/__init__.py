"""Tables as Markdown, CSV, LaTeX, Excel, HTML and text: a loop over what a Table says of itself, a file a format."""

from collections.abc import Callable

from rlhf_bench.report.render.flat import csv_text
from rlhf_bench.report.render.markdown import markdown_text
from rlhf_bench.report.render.tex import tex_text
from rlhf_bench.report.table import Table

__all__ = ["FORMATS", "texts_of"]

FORMATS: dict[str, Callable[[Table], str]] = {".md": markdown_text, ".csv": csv_text, ".tex": tex_text}


def texts_of(table: Table) -> dict[str, str]:
    """The table's text files: name -> text."""
    return {f"{table.name}{suffix}": text(table) for suffix, text in FORMATS.items()}
