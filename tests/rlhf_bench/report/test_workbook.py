"""Whatever a response begins with, it is text in Excel: a spreadsheet must not run it. And its bytes tell no time."""

from __future__ import annotations

import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from rlhf_bench.report.render.workbook import write_workbook
from rlhf_bench.report.table import Column, Table

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    st.lists(
        st.builds(str.__add__, st.sampled_from(["=", "+", "-", "@", "\t=", "\r@", "\r\n+", " -", ""]), TEXT),
        min_size=1,
        max_size=8,
    )
)
@example(["\t=1+1", "\r=1+1", "\r\n@SUM(A1)", "\n+1", " =1", "a\rb"])
@example(['=HYPERLINK("http://example.org","x")', "=1+1", "+1", "-1", "@SUM(A1)", "=", "{=1}", "#REF!", "1e5", "TRUE"])
@settings(max_examples=15, deadline=None)
def test_text_stays_text(texts: list[str]) -> None:
    columns = [Column("prompt", "=Prompt"), Column("mine_response", "mine_response")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.xlsx"
        write_workbook(path, [Table("responses", "t", columns, [[text, text] for text in texts], ["=note"])])
        sheet = load_workbook(path)["responses"]
        assert (sheet.cell(1, 1).value, sheet.cell(1, 1).data_type) == ("=Prompt", "s")
        for i, text in enumerate(texts, 2):
            for cell in (sheet.cell(i, 1), sheet.cell(i, 2)):
                expected = ILLEGAL_CHARACTERS_RE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
                assert (cell.value or "") == expected
                assert cell.value is None or cell.data_type == "s"
                assert bool(cell.quotePrefix) is expected.lstrip().startswith(("=", "+", "-", "@"))


def test_the_clock_is_not_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written now and on a day of 2001, by the clocks that openpyxl and zipfile look at: the same bytes."""
    table = Table("t", "t", [Column("a", "A"), Column("b", "B")], [["one", 1.5]], ["note"])
    write_workbook(tmp_path / "now.xlsx", [table])

    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2001, 2, 3, 4, 5, 6)

    monkeypatch.setattr("datetime.datetime", Then)  # openpyxl's, which looks it up in the module
    monkeypatch.setattr(time, "time", lambda: 981_173_106.0)  # what a zip dates its parts by
    write_workbook(tmp_path / "then.xlsx", [table])
    assert (tmp_path / "then.xlsx").read_bytes() == (tmp_path / "now.xlsx").read_bytes()
    book = load_workbook(tmp_path / "then.xlsx")
    assert book.properties.created == book.properties.modified == datetime(1980, 1, 1)
    assert book["t"]["B2"].value == 1.5
