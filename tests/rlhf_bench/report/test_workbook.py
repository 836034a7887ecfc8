"""Whatever a response begins with, it is text in Excel: a spreadsheet must not run it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from rlhf_bench.report.cells import Column, Table
from rlhf_bench.report.writers import write_workbook

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
