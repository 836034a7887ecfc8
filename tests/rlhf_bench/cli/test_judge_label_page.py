"""rlhf-bench judge label page: what is in the file, what cannot run in it, and how its labels come back."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlhf_bench.store import ResultStore

from .test_judge import here, judge
from .test_judge_label import FOLDER, SHEET

__all__ = ["here"]  # the fixture: a result with sft best by gold, dpo longest, base worst and shortest

PAGE = "label page tiny --baseline base --out"
ATTACK = ' </script><script>alert(1)</script><!-- {{ 7*7 }} & "quotes",\u2028\r\nand =1+1'


def plant(text: str) -> None:
    """Every response of base becomes `text`."""
    store = ResultStore(FOLDER)
    rows = list(store.read_responses())
    store.write_responses(row | ({"response": text} if row["model"] == "base" else {}) for row in rows)


def data(html: str) -> dict[str, Any]:
    """What the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="page">(.*?)</script>', html, re.DOTALL)
    page: dict[str, Any] = json.loads(found)
    return page


def keys() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((FOLDER / "judge/labels").glob("*.json"))]


def test_the_page_shows_what_the_sheet_shows_and_has_its_key() -> None:
    judge(f"{SHEET} sheet.csv")
    before = keys()
    told = judge(f"{PAGE} label.html").splitlines()
    assert keys() == before  # the same draw, so the same key
    page = data(Path("label.html").read_text(encoding="utf-8"))
    assert told[0] == "8 pairs: label.html"
    assert told[1].endswith(f"judge label read results/hh-test/tiny labels-{page['sheet']}.csv --rater NAME")
    assert page["sheet"] == before[0]["sheet"]
    with Path("sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    assert page["columns"] == head
    assert page["pairs"] == [row[:4] for row in rows]
    assert not {"base", "sft", "dpo"} & set(re.findall(r"\w+", json.dumps(page)))  # blinded
    judge(f"{PAGE} other.html --seed 1")
    assert data(Path("other.html").read_text(encoding="utf-8"))["pairs"] != page["pairs"]


def test_a_response_cannot_leave_its_place() -> None:
    """The data are text in the page, and no script runs that is not the page's own by its hash."""
    plant(ATTACK)
    judge(f"{PAGE} label.html")
    html = Path("label.html").read_text(encoding="utf-8")
    assert sum(ATTACK.replace("\r\n", "\n") in pair for pair in data(html)["pairs"]) == 8  # as in the sheet
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<!--" not in html
    assert (html.count("<script"), html.count("</script>")) == (2, 2)
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|innerHTML|insertAdjacentHTML|\beval\b", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; ")
    for name, element in (("script", "script"), ("style", "style")):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's script")
def test_what_the_page_downloads_is_read() -> None:
    """The page's own function writes the csv: A for the first pair, tie and a note for the second, none for the third,
    B for the rest. ResultTexts and a note that begin like formulas, with quotes, commas and line ends, come through."""
    plant(ATTACK.replace(" <", "=<"))
    judge(f"{PAGE} label.html")
    html = Path("label.html").read_text(encoding="utf-8")
    page = data(html)
    ids = [pair[0] for pair in page["pairs"]]
    labels: dict[str, dict[str, str]] = {name: {"better": "B"} for name in ids[3:]}
    labels |= {ids[0]: {"better": "A"}, ids[1]: {"better": "tie", "note": '=so, "so"'}, ids[2]: {"better": ""}}
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    code = f"{script}\nprocess.stdout.write(csvOf({json.dumps(page)}, {json.dumps(labels)}))"
    done = subprocess.run(["node", "-"], input=code.encode(), check=True, capture_output=True)
    Path("labels.csv").write_bytes(done.stdout)
    assert ",\"'=</script>" in done.stdout.decode("utf-8-sig")
    lines = judge("label read tiny labels.csv --rater ann").splitlines()
    assert "ann against base: 8 pairs once, in a drawn order, questions: 7 read, 1 missing." in lines
    stored = pd.read_parquet(FOLDER / "judge/verdicts.parquet")
    rows = {row["id"]: row for row in keys()[0]["rows"]}
    for row in stored.itertuples():
        (name,) = (n for n, key in rows.items() if (key["model"], key["prompt_id"]) == (row.model, row.prompt_id))
        assert row.order == rows[name]["order"]
        printed = {ids[0]: "first", ids[1]: "tie", ids[2]: "missing"}.get(name, "second")
        assert (row.winner if row.status == "read" else row.status) == printed
        assert (row.note == '\'=so, "so"') is (name == ids[1])


def test_the_format_needs_no_browser() -> None:
    """As the script writes it: a mark of UTF-8, every field quoted, an apostrophe before formulas, CRLF."""
    plant("=1+1")
    judge(f"{PAGE} label.html")
    page = data(Path("label.html").read_text(encoding="utf-8"))
    rows = [page["columns"], *([*pair, "tie", ""] for pair in page["pairs"])]
    quoted = ('"' + ("'" * cell.startswith("=") + cell).replace('"', '""') + '"' for row in rows for cell in row)
    fields = list(quoted)
    lines = [",".join(fields[n : n + 6]) + "\r\n" for n in range(0, len(fields), 6)]
    Path("labels.csv").write_bytes("".join(lines).encode("utf-8-sig"))
    assert "questions: 8 read" in judge("label read tiny labels.csv --rater ann")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{PAGE} label.htm", "error: --out: given 'label.htm', expected a file that ends in .html"),
        (
            "label page tiny --baseline bas --out label.html",
            "error: unknown model 'bas'; did you mean 'base'?",
        ),
    ],
)
def test_bad_input_is_one_line(line: str, message: str) -> None:
    assert judge(line, 2) == f"{message}\n"
    assert not list(Path().glob("label.*"))
    assert not (FOLDER / "judge").exists()
