"""rlhf-bench judge label: a blinded sheet, its way back, and people as judges."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from openpyxl import load_workbook

from rlhf_bench.cli import cli
from rlhf_bench.report import write_report
from rlhf_bench.store import ResultStore

from .test_judge import here, judge

__all__ = ["here"]  # the fixture: a result with sft best by gold, dpo longest, base worst and shortest

FOLDER = Path("results/hh-test/tiny")
SHEET = "label sheet tiny --baseline base --out"


def fill(path: Path, label: Callable[[dict[str, Any]], str]) -> None:
    """Write into the column `better` what `label` makes of a row."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "better": label(row)} for row in rows)
        return
    workbook = load_workbook(path)
    sheet = workbook.worksheets[0]
    head = [cell.value for cell in sheet[1]]
    for line in sheet.iter_rows(min_row=2):
        line[head.index("better")].value = label({name: cell.value for name, cell in zip(head, line, strict=True)})
    workbook.save(path)


def longer(row: dict[str, Any]) -> str:
    return "A" if len(row["response A"]) > len(row["response B"]) else "b "


@pytest.mark.parametrize("name", ["sheet.xlsx", "sheet.csv"])
def test_a_sheet_goes_out_blinded_and_its_labels_come_back(name: str) -> None:
    """The longer one wins: both models beat base on all 4 prompts, wherever they were."""
    told = judge(f"{SHEET} {name}").splitlines()
    assert told[0] == f"8 pairs: {name}"
    rows = pd.read_csv(name) if name.endswith("csv") else pd.read_excel(name)
    assert list(rows.columns) == ["id", "prompt", "response A", "response B", "better", "note"]
    for model in ("base", "sft", "dpo"):
        assert not rows.astype(str).apply(lambda column, model=model: column.str.contains(model)).any().any()
    assert 0 < (rows["response A"].str.strip() == "short").sum() < 8  # the places are drawn
    fill(Path(name), longer)
    labelled = Path(name).read_bytes()
    refused = CliRunner().invoke(cli, ["judge", *f"{SHEET} {name}".split()])
    assert (refused.exit_code, refused.stderr) == (
        2, f"error: --out: {name} exists, and may hold labels; give another name, or remove it first\n",
    )  # fmt: skip
    assert Path(name).read_bytes() == labelled
    lines = judge(f"label read tiny {name} --rater ann").splitlines()
    assert "ann against base: 8 pairs once, in a drawn order, questions: 8 read." in lines
    assert not any("position" in line for line in lines)  # each pair was shown once: nothing is known of its place
    assert any("[0.398, 1.000]" in line for line in lines)
    stored = pd.read_parquet(FOLDER / "judge/verdicts.parquet")
    assert stored[["judge", "base_url", "template"]].drop_duplicates().values.tolist() == [["ann", "people", "label@1"]]
    assert set(stored["order"]) == {"model_first", "baseline_first"}


def test_the_same_seed_makes_the_same_sheet_and_another_another_order() -> None:
    judge(f"{SHEET} one.csv")
    judge(f"{SHEET} two.csv")
    judge(f"{SHEET} three.csv --seed 1")
    one, two, three = (Path(f"{name}.csv").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
    for name in ("one", "three"):  # both can come back
        fill(Path(f"{name}.csv"), longer)
        judge(f"label read tiny {name}.csv --rater {name}")
    stored = ResultStore(FOLDER).read_judge()
    assert stored["people"]["between"][0]["accuracy"]["value"] == 1.0


@pytest.mark.parametrize("name", ["sheet.xlsx", "sheet.csv"])
def test_text_that_begins_like_a_formula_stays_text(here: Path, name: str) -> None:
    starts = {"p0": "=1+1", "p1": "+1", "p2": "-1", "p3": "@x"}
    store = ResultStore(FOLDER)
    rows = [
        row | ({"response": starts[row["prompt_id"]]} if row["model"] == "base" else {})
        | ({"response": " =cmd|' /C calc'!A0"} if row["model"] == "sft" else {})
        for row in store.read_responses()
    ]  # fmt: skip
    store.write_responses(rows)
    judge(f"{SHEET} {name}")
    if name.endswith("xlsx"):
        cells = [cell for line in load_workbook(name).worksheets[0].iter_rows(min_row=2) for cell in line]
        assert {cell.data_type for cell in cells} <= {"s", "n"}  # n: the empty ones
        assert all(sum(cell.value == start and cell.quotePrefix for cell in cells) == 2 for start in starts.values())
    else:
        text = Path(name).read_text(encoding="utf-8-sig")
        assert all(f",'{start}," in text for start in (*starts.values(), " =cmd|' /C calc'!A0"))
    fill(Path(name), lambda row: "tie")
    assert "questions: 8 read" in judge(f"label read tiny {name} --rater ann")


def test_wrong_rows_are_named_by_number_and_nothing_is_stored() -> None:
    judge(f"{SHEET} sheet.csv")
    labels = iter(["A", "C", "tie", "", "B", "A", "A", "A"])
    fill(Path("sheet.csv"), lambda row: next(labels))
    with Path("sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[4]["response A"] += " and more"
    rows[5]["id"] = rows[4]["id"]
    rows[6]["id"] = "nobody"
    with Path("sheet.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    printed = judge("label read tiny sheet.csv --rater ann", 1)
    assert printed.startswith(
        "error: sheet.csv: 4 of 8 rows cannot be used (row 2 has the label 'C', expected A, B or tie; row 5 has "
        "another response A than the sheet was made with; row 6 "
    )
    assert "row 7 has the id 'nobody', which this result does not know" in printed
    assert "correct them, or leave them out with --skip-bad" in printed
    assert not (FOLDER / "judge/verdicts.parquet").exists()
    lines = judge("label read tiny sheet.csv --rater ann --skip-bad").splitlines()
    assert lines[0].startswith("sheet.csv: 4 of 8 rows cannot be used (row 2 ")
    assert "ann against base: 4 pairs once, in a drawn order, questions: 3 read, 1 missing." in lines


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        (f"{SHEET} sheet.doc", 2, "error: --out: given 'sheet.doc', expected a file that ends in .xlsx or .csv"),
        ("label read tiny other.csv --rater ann", 1, "error: other.csv has no column 'id'; expected a sheet by "
         "`rlhf-bench judge label sheet`"),
        ("label read tiny blank.csv --rater ann", 1, "error: no row of the sheet has a label; expected A, B or tie in "
         "the column 'better'"),
        ("label read tiny foreign.csv --rater ann", 1, "error: results/hh-test/tiny knows no row of foreign.csv; name "
         "the result that the sheet was made of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(line: str, status: int, message: str) -> None:
    judge(f"{SHEET} blank.csv")
    Path("other.csv").write_text("a,b\n1,2\n")
    Path("foreign.csv").write_text("id,prompt,response A,response B,better,note\nx,p,a,b,A,\n")
    assert judge(line, status).splitlines()[-1] == message


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.xlsx", "page.html"])
@pytest.mark.parametrize("blocked", ["sheet", "key"])
def test_a_sheet_and_its_key_are_written_together_or_not_at_all(blocked: str, name: str) -> None:
    """A file is where the folder of one of them has to be."""
    place = Path("taken") if blocked == "sheet" else FOLDER / "judge"
    place.write_text("a file")
    before = {path for path in Path().rglob("*") if path.is_file()}
    kind = "page" if name.endswith("html") else "sheet"
    out = Path("taken" if blocked == "sheet" else "new", name)
    assert judge(f"label {kind} tiny --baseline base --out {out}", 1).count("\n") == 1
    assert {path for path in Path().rglob("*") if path.is_file()} == before


def test_people_agree_with_one_another_and_judges_with_people(here: Path) -> None:
    """ann: the longer, all 8 pairs. bob: the same but for the ties he gives to dpo, 4 of 8. cem labelled sft's pairs
    alone, as ann did.

    Krippendorff's alpha, outcomes for the model: dpo's 4 pairs hold 1 and 0.5, sft's 4 pairs hold 1 three times. 20
    values, 4 of them ties. Disagreement within pairs: 4 pairs x 2 ordered / (2 - 1) = 8; expected 2 * 16 * 4 / 19 =
    6.7368. alpha = 1 - 8 / 6.7368 = -0.1875.
    The majority of dpo's pairs is a tie (one voice each), so the judge `length` is right in sft's 4 pairs of 8.
    """
    judge(f"{SHEET} all.csv")
    fill(Path("all.csv"), longer)
    judge("label read tiny all.csv --rater ann")
    fill(Path("all.csv"), lambda row: "tie" if "longlong" in str(row) else longer(row))
    judge("label read tiny all.csv --rater bob")
    fill(Path("all.csv"), lambda row: "" if "longlong" in str(row) else longer(row))
    judge("label read tiny all.csv --rater cem")
    judge("run tiny --judge length --baseline base")
    people = ResultStore(FOLDER).read_judge()["people"]
    assert people["raters"] == ["ann", "bob", "cem"]
    assert people["pairs"] == 8
    assert people["krippendorff"] == pytest.approx(1 - 8 / (2 * 16 * 4 / 19))
    assert people["fleiss"] is None  # all three labelled sft's pairs alone, and gave each the same label
    between = {(row["a"], row["b"]): row["accuracy"]["value"] for row in people["between"]}
    assert between == {("ann", "bob"): 0.5, ("ann", "cem"): 1.0, ("bob", "cem"): 1.0}
    (row,) = people["judges"]
    assert (row["judge"], row["accuracy"]["value"]) == ("length", 0.5)
    shown = judge("show tiny").splitlines()
    assert "ann, bob, cem: 8 pairs by two or more, Krippendorff's alpha -0.19." in shown
    assert "length, the people's majority" in shown
    write_report(FOLDER, only=("tables",))
    audit = pd.read_csv(FOLDER / "tables/judge_audit.csv").set_index("judge")
    assert audit.loc["length", "people_accuracy"] == 0.5
    assert audit["people_accuracy"].isna().sum() == 3
    notes = (FOLDER / "tables/judge.md").read_text()
    assert "ann against base: 8 pairs once, in a drawn order, questions: 8 read" in notes


def test_a_rater_who_reads_in_again_replaces_the_earlier_labels() -> None:
    judge(f"{SHEET} all.csv")
    for label in ("A", "tie"):
        fill(Path("all.csv"), lambda row, label=label: label)
        judge("label read tiny all.csv --rater ann")
    stored = pd.read_parquet(FOLDER / "judge/verdicts.parquet")
    assert stored["winner"].tolist() == ["tie"] * 8
    key = json.loads(next((FOLDER / "judge/labels").glob("*.json")).read_text())
    assert len(key["rows"]) == 8


def test_people_who_are_split_have_no_majority() -> None:
    """Each of 4 pairs has one voice for and one against: a tie, which is no loss. Then two against and one for."""
    judge("label sheet tiny --baseline sft --model base --out all.csv")
    for rater, label in (("ann", longer), ("bob", lambda row: "B" if longer(row) == "A" else "A")):
        fill(Path("all.csv"), label)
        judge(f"label read tiny all.csv --rater {rater}")
    judge("run tiny --judge length --baseline sft --model base")
    (row,) = ResultStore(FOLDER).read_judge()["people"]["judges"]
    assert row["accuracy"]["value"] == 0.0
    fill(Path("all.csv"), longer)
    judge("label read tiny all.csv --rater cem")
    (row,) = ResultStore(FOLDER).read_judge()["people"]["judges"]
    assert row["accuracy"]["value"] == 1.0
