"""What an audit gave: its tables as frames and files, its plots, its text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_text, writing
from rlhf_bench.report.contents import Plot, audit_contents, figures
from rlhf_bench.report.notes import audit_toy_note
from rlhf_bench.report.render import texts_of
from rlhf_bench.report.render.flat import frame
from rlhf_bench.report.render.terminal import text_of, wrapped
from rlhf_bench.report.render.workbook import write_workbook
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables.audit import category_table, lists_table, rewardbench_table, styles_table
from rlhf_bench.store import ResultStore

if TYPE_CHECKING:  # what reads no plot does not wait for matplotlib
    from matplotlib.figure import Figure

_WIDTH = 120
_ROWS = 8  # of a table on a terminal at most
_SPECIAL = 5  # of the table beside accuracy at least
_LINES = 21  # on a terminal; four more name the files
_SENTENCES = 3


@dataclass(frozen=True)
class Audit:
    """A folder `audit/`: `audit(...)` returns it, and `Audit(folder)` opens one that is stored.

    Each member reads the folder when it is first read. StoreError is raised where a file is missing or broken.
    """

    folder: Path

    @cached_property
    def report(self) -> dict[str, Any]:
        """All of audit.json."""
        found = ResultStore(self.folder.parent).read_audit()
        if found is None:
            raise StoreError(f"{self.folder} has no audit.json; make one with: rlhf-bench audit")
        return found

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> table, such as audit_features: a number with an interval takes the columns value, _low, _high, _n.

        Tables without a row are left out.
        """
        return {table.name: frame(table) for table in self._tables()}

    @property
    def findings(self) -> pd.DataFrame:
        """A row a finding (q < .05), by model, smallest q first; no row where there is none."""
        return self.tables.get(
            "audit_findings", pd.DataFrame(columns=["model", "number", "kind", "sentence", "p", "q"])
        )

    @cached_property
    def mistakes(self) -> pd.DataFrame:
        """A row for each mistake: the rejected response scored as high as the chosen one or higher. Worst first."""
        return pd.DataFrame(ResultStore(self.folder.parent).read_mistakes())

    @property
    def figures(self) -> dict[str, Figure]:
        """Name -> plot, where the audit has the numbers for it; drawn at each access."""
        return figures(self._result, audit_contents())

    def write(self) -> list[Path]:
        """The tables as .md, .csv, .tex and audit.xlsx, and the plots, in tables/ and plots/ beside the folder."""
        from rlhf_bench.report.plots.style import save_figure

        found = list(self._tables())
        texts = {name: text for table in found for name, text in texts_of(table).items()}
        where = self.folder.parent / "tables"
        written = [where / name for name in (*texts, "audit.xlsx")]
        with writing(where):
            for name, text in texts.items():
                atomic_write_text(where / name, text)
            write_workbook(where / "audit.xlsx", found)
            for name, figure in self.figures.items():
                written += save_figure(figure, self.folder.parent / "plots" / name)
        return written

    def text(self) -> str:
        """The audit for a terminal; with the names of the files at most 25 lines.

        The three largest findings, then accuracy beside its baselines (of all, of unseen categories, of the worst), and
        ranks where a prompt has several responses: as many rows of each table as `_LINES` lines hold.
        """
        of_all = [*audit_toy_note(self.report), *self.report.get("data", {}).get("notes", [])]
        notes = [line for note in of_all for line in wrapped(note, _WIDTH)]
        head = "\n".join([*notes, *_findings(self.report.get("models", {}))])
        for n_rows in range(_ROWS, 0, -1):
            tables = [text_of(table, width=_WIDTH).rstrip() for table in _terminal_tables(self._result, n_rows)]
            text = "\n\n".join([head, *tables]).strip()
            if text.count("\n") < _LINES:
                break
        return text

    @cached_property
    def _result(self) -> Result:
        return Result(self.folder.parent, {}, {}, pd.DataFrame(), {}, audit=self.report)

    def _tables(self) -> Iterator[Table]:
        for entry in audit_contents():
            if not isinstance(entry, Plot) and (table := entry(self._result)).rows:
                yield replace(table, notes=[*audit_toy_note(self.report), *table.notes])


def _terminal_tables(result: Result, n_rows: int) -> list[Table]:
    """Two tables without notes, the most important rows of each in their order: accuracy, and what these data have
    beside it, styles or sections or ranks."""
    table = category_table(result)
    rows = sorted(range(len(table.rows)), key=lambda i: _rank(table, i))[:n_rows]
    shown = [j for j, column in enumerate(table.columns) if not column.key.startswith("ties")]
    kept = [[table.rows[i][j] for j in shown] for i in sorted(rows)]
    found = [replace(table, columns=[table.columns[j] for j in shown], rows=kept, notes=[])]
    others = [styles_table(result), *(_of_all(other) for other in (rewardbench_table(result), lists_table(result)))]
    special = next((other for other in others if other.rows), None)
    if special is not None:
        found.append(replace(special, rows=special.rows[: max(n_rows, _SPECIAL)], notes=[]))
    return found


def _of_all(table: Table) -> Table:
    """The rows of all pairs, not those of a part of them, without the column that says so."""
    at = next(i for i, column in enumerate(table.columns) if column.key in ("category", "subset"))
    rows = [[*row[:at], *row[at + 1 :]] for row in table.rows if row[at] == "all"]
    return replace(table, columns=[*table.columns[:at], *table.columns[at + 1 :]], rows=rows, keys=table.keys - 1)


def _rank(table: Table, i: int) -> tuple[int, float]:
    """Says which rows come first on a terminal: all pairs of each model, unseen categories, the first one's worst."""
    model, category, accuracy = table.rows[i][:3]
    if category in ("all", "unseen categories"):
        return (0 if category == "all" else 1), 0.0
    value = getattr(accuracy, "value", 1.0)
    return (2 if model == table.rows[0][0] else 3), value


def _findings(models: Mapping[str, Any]) -> list[str]:
    """The first finding of each kind of the first model, a sentence each; nothing without an examination."""
    examined = [(model, part["examination"]) for model, part in models.items() if part.get("examination")]
    if not examined:
        return []
    model, first = examined[0]
    if first["missing"]:
        return [f"findings: not computed ({first['missing']})"]
    found = first["findings"]
    head = (
        f"findings, {model} (q < .05): {len(found) or 'none'} of {first['tests']} tests; all in tables/audit_findings"
    )
    return [head, *(line for entry in largest(found) for line in wrapped(f"- {entry['sentence']}", _WIDTH))]


def largest(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three findings: the first of each kind, then the next ones. A feature's price, a slice and an edit that are one
    fault are listed once each, in place of three slices that overlap."""
    first = list({found["kind"].removeprefix("discovered "): found for found in reversed(findings)}.values())
    rest = [found for found in findings if found not in first]
    kept = [*sorted(first, key=findings.index), *rest][:_SENTENCES]
    return sorted(kept, key=findings.index)
