"""People as judges: a blinded sheet or page of pairs, and the labels that come back in it.

The sheet holds no model's name; judge/labels/<sheet>.json beside the result holds the model of each response, under
the row's id. Each pair occurs once, in an order drawn by the seed, and the rows are shuffled.

The page is the sheet as one HTML file: it opens from disk, loads nothing from the network, and gives the labels as a
csv. Its texts are data, which a script shows as text; a policy in the page lets no other script run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from jinja2 import StrictUndefined, Template
from openpyxl import Workbook
from openpyxl.styles import Alignment, Font

from rlhf_bench.data.sheets import csv_cell, put, sheet_text, workbook_bytes
from rlhf_bench.data.tabular import read_table
from rlhf_bench.errors import BadValue, DataError, StoreError
from rlhf_bench.files import atomic_file, atomic_write_text, json_text, policy_hash, timestamp
from rlhf_bench.judge.analysis import PEOPLE
from rlhf_bench.judge.questions import Order, Outcome, PairComparison, ParsedAnswer, QuestionId, texts_of
from rlhf_bench.judge.results import verdict_rows, write_verdicts
from rlhf_bench.store import ResultStore
from rlhf_bench.types import stable_hash

__all__ = ["PersonLabel", "read_labels", "store_labels", "write_label_page", "write_sheet"]

LABEL_TEMPLATE = "label@1"
COLUMNS = ("id", "prompt", "response A", "response B", "better", "note")
_WINNERS: Mapping[str, Any] = {"a": "first", "b": "second", "tie": "tie"}
_WIDTHS = (14, 60, 60, 60, 10, 30)


SheetRow: TypeAlias = tuple[str, str, str, str]  # id, prompt, response A, response B


class _Sheet(NamedTuple):
    name: str
    cells: list[SheetRow]
    key: Mapping[str, Any]  # the model of each response, by the row's id


class PersonLabel(NamedTuple):
    """A person's label of a comparison, which was shown in one order."""

    comparison: PairComparison
    order: Order
    reading: ParsedAnswer


def write_sheet(result: Path, comparisons: Sequence[PairComparison], out: Path, *, seed: int) -> str:
    """Write `out` (.xlsx or .csv) and the key to it in the result's folder; returns the sheet's id.

    Raises BadValue for another ending, and for a file that exists: it may be somebody's labels.
    """
    if out.suffix not in (".xlsx", ".csv"):
        raise BadValue(f"--out: given {str(out)!r}, expected a file that ends in .xlsx or .csv")
    if out.exists():
        raise BadValue(f"--out: {out} exists, and may hold labels; give another name, or remove it first")
    sheet = _draw_sheet(comparisons, seed=seed)
    _write(out, _workbook(sheet.cells) if out.suffix == ".xlsx" else _csv(sheet.cells), result, sheet)
    return sheet.name


def _write(out: Path, data: bytes, result: Path, sheet: _Sheet) -> None:
    """Write `out`, and the key to it into the result's folder: both, or where one cannot be written neither."""
    key = result / "judge" / "labels" / f"{sheet.name}.json"
    with atomic_file(out) as file:
        file.write(data)
        file.flush()
        atomic_write_text(key, json_text(sheet.key, indent=1) + "\n")


def _draw_sheet(comparisons: Sequence[PairComparison], *, seed: int) -> _Sheet:
    """The rows of a sheet in a drawn order, and the key to them."""
    rows: list[dict[str, Any]] = []
    for c in comparisons:
        where = (str(seed), c.model, c.baseline, str(c.seed), c.prompt_id, str(c.sample))
        drawn = stable_hash("order", *where) < stable_hash("other", *where)
        keys = {"model": c.model, "baseline": c.baseline, "seed": c.seed, "prompt_id": c.prompt_id, "sample": c.sample}
        order = "model_first" if drawn else "baseline_first"
        rows.append({"id": stable_hash("row", *where, length=12), **keys, "order": order})
    shown = sorted(zip(rows, comparisons, strict=True), key=lambda pair: pair[0]["id"])
    name = stable_hash(*(row["id"] for row, _ in shown), length=12)
    cells = [_cells(row, comparison) for row, comparison in shown]
    return _Sheet(name, cells, {"sheet": name, "seed": seed, "rows": [row for row, _ in shown]})


def read_labels(result: Path, path: Path, *, skip_bad: bool) -> tuple[list[PersonLabel], str | None]:
    """The labels in a sheet that came back, a row without one "missing"; and which rows were not used, if any.

    Raises DataError that names each wrong row by its number below the header (an unknown or duplicate id, a
    text that is not the one shown, a label that is none of A, B and tie), unless `skip_bad`; StoreError where the
    result does not know the sheet.
    """
    table = read_table(path)
    lacking = [name for name in COLUMNS[:5] if name not in table.columns]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}; expected a sheet by `rlhf-bench judge label sheet`")
    known = _known_rows(result)
    if not any(str(row["id"]).strip() in known for _, row in table.rows):
        raise StoreError(f"{result} knows no row of {path}; name the result that the sheet was made of")
    by_key = _comparisons(result, known.values())
    found: dict[str, PersonLabel] = {}
    for number, row in table.rows:
        row_id = str(row["id"] or "").strip()
        key = known.get(row_id)
        reading = _reading(row)
        if key is None:
            table.add_bad(number, f"has the id {row_id!r}, which this result does not know")
        elif row_id in found:
            table.add_bad(number, f"has the id {row_id!r}, which is duplicated")
        elif (changed := _changed(row, _cells(key, by_key[row_id]))) is not None:
            table.add_bad(number, f"has another {changed} than the sheet was made with")
        elif reading is None:
            table.add_bad(number, f"has the label {str(row['better'])[:40]!r}, expected A, B or tie")
        else:
            found[row_id] = PersonLabel(by_key[row_id], key["order"], reading)
    left_out = table.settle(skip=skip_bad)
    return [found[row_id] for row_id in sorted(found)], left_out


def store_labels(result: Path, rater: str, labels: Sequence[PersonLabel]) -> None:
    """Put a person's labels into the result as the verdicts of a judge of that name, in place of earlier ones.

    Raises DataError where no row has a label.
    """
    if not any(label.reading.status == "read" for label in labels):
        raise DataError(f"no row of the sheet has a label; expected A, B or tie in the column {COLUMNS[4]!r}")
    who = {"judge": rater, "base_url": PEOPLE, "template": LABEL_TEMPLATE}
    found = {QuestionId(n, label.order, 0): Outcome("", label.reading, 1) for n, label in enumerate(labels)}
    rows = verdict_rows([label.comparison for label in labels], found, **who)
    write_verdicts(result, rows, who | {"time": timestamp()}, same=("judge", "base_url"))


def _cells(row: Mapping[str, Any], comparison: PairComparison) -> SheetRow:
    responses = [comparison.model_response, comparison.baseline_response]
    first, second = responses if row["order"] == "model_first" else responses[::-1]
    return row["id"], sheet_text(comparison.prompt), sheet_text(first), sheet_text(second)


def _changed(row: Mapping[str, Any], cells: Sequence[str]) -> str | None:
    """The first column with another text than was shown; white space and an apostrophe at the start do not count."""
    for name, text in zip(COLUMNS[1:4], cells[1:], strict=True):
        given = " ".join(str(row[name] or "").split())
        shown = " ".join(text.split())
        if given not in (shown, " ".join(csv_cell(text).split())):
            return name
    return None


def _reading(row: Mapping[str, Any]) -> ParsedAnswer | None:
    """Gives None for a label that is none."""
    label = str(row["better"] or "").strip().lower()
    if not label:
        return ParsedAnswer("missing")
    winner = _WINNERS.get(label)
    return None if winner is None else ParsedAnswer("read", winner, note=str(row.get("note") or ""))


def _known_rows(result: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted((result / "judge" / "labels").glob("*.json")):
        try:
            found |= {row["id"]: row for row in json.loads(path.read_bytes())["rows"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"cannot read {path} ({error}), the key to a sheet") from error
    return found


def _comparisons(result: Path, rows: Iterable[Mapping[str, Any]]) -> dict[str, PairComparison]:
    """The comparison of each row, by its id. Raises StoreError where the result has lost a response of the sheet."""
    texts = texts_of(ResultStore(result).read_responses())
    found = {}
    for row in rows:
        key = (row["prompt_id"], row["seed"], row["sample"])
        names = row["model"], row["baseline"]
        first, second = (texts.response(name, key) for name in names)
        if first is None or second is None:
            raise StoreError(
                f"{result} has no response of {row['model']} to prompt {key[0]} any more; label a new sheet"
            )
        found[row["id"]] = PairComparison(key[0], texts.prompts[key[0]], key[1], key[2], *names, first, second)
    return found


def _workbook(cells: Sequence[Sequence[str]]) -> bytes:
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "labels"
    for j, (name, width) in enumerate(zip(COLUMNS, _WIDTHS, strict=True), 1):
        put(sheet.cell(1, j), name)
        sheet.cell(1, j).font = Font(bold=True)
        sheet.column_dimensions[sheet.cell(1, j).column_letter].width = width
    for i, row in enumerate(cells, 2):
        for j, text in enumerate(row, 1):
            put(sheet.cell(i, j), text)
            sheet.cell(i, j).alignment = Alignment(wrap_text=True, vertical="top")
    sheet.freeze_panes = "B2"
    return workbook_bytes(workbook)


def _csv(cells: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in cells:
        writer.writerow([*(csv_cell(text) for text in row), "", ""])
    return buffer.getvalue().encode("utf-8-sig")  # the mark tells Excel that it is UTF-8


_PARTS = Path(__file__).with_name("page")
# Inside a script element only these could end it, or begin a comment.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write_label_page(result: Path, comparisons: Sequence[PairComparison], out: Path, *, seed: int) -> str:
    """Write `out` (.html) and the key to it in the result's folder; returns the sheet's id. Raises BadValue.

    The pairs, their order and their places are those of the sheet by the same seed, and so is the key.
    """
    if out.suffix != ".html":
        raise BadValue(f"--out: given {str(out)!r}, expected a file that ends in .html")
    sheet = _draw_sheet(comparisons, seed=seed)
    page = json.dumps({"sheet": sheet.name, "columns": COLUMNS, "pairs": sheet.cells}).translate(_ESCAPES)
    html, style, script = (
        (_PARTS / name).read_text(encoding="utf-8") for name in ("label.html.j2", "label.css", "label.js")
    )
    text = Template(html, undefined=StrictUndefined).render(
        page=page, style=style, script=script, style_hash=policy_hash(style), script_hash=policy_hash(script)
    )
    _write(out, text.encode("utf-8"), result, sheet)
    return sheet.name
