"""rlhf-bench judge import: verdicts that another pipeline paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlhf_bench.report.result import load_result
from rlhf_bench.report.tables.judge import people_table
from rlhf_bench.store import ResultStore

from .test_judge import ROWS, here, judge

__all__ = ["here"]  # the fixture: base says "short", sft "a longer one", dpo "long" nine times

FOLDER = Path("results/hh-test/tiny")
TEXT = {model: text for model, _, text, _ in ROWS}
ALPACA = "import tiny a.json --format alpaca --judge theirs --baseline base"


def alpaca(prompt: str, first: str, second: str, preference: Any) -> dict[str, Any]:
    texts = {"instruction": f"Human: {prompt}?", "output_1": TEXT[first], "output_2": f" {TEXT[second]}\n"}
    return {**texts, "generator_1": first, "generator_2": second, "annotator": "gpt4", "preference": preference}


def write(name: str, data: Any) -> None:
    Path(name).write_text(json.dumps(data), encoding="utf-8")


def test_annotations_of_alpacaeval() -> None:
    """Each pair once. sft: won by 2 and 1.8, lost by 1, and 0 is a draw: (1 + 1 + 0 + 0.5) / 4 = 62.5 %; soft
    (1 + 0.8 + 0 + 0.5) / 4 = 57.5 %. The third is turned round: base is output_2, and wins by 2."""
    rows = [
        alpaca("p0", "base", "sft", 2),
        alpaca("p1", "base", "sft", 1.8),
        alpaca("p2", "sft", "base", 2.0),
        alpaca("p3", "base", "sft", 0),
        alpaca("p9", "base", "sft", 2),  # a prompt that the result does not have
    ]
    write("a.json", rows)
    lines = judge(f"{ALPACA} --model sft").splitlines()
    assert lines[0] == "5 verdicts in a.json, 4 of them on this result's pairs"
    assert "theirs against base: 4 pairs once, in a drawn order, questions: 4 read." in lines
    (stored,) = ResultStore(FOLDER).read_judge()["judgings"]
    (rate,) = stored["win_rates"]
    assert rate["estimate"]["value"] == pytest.approx(0.625)
    assert rate["soft"]["value"] == pytest.approx(0.575)
    assert (stored["base_url"], stored["once"]) == ("imported:alpaca", True)
    assert stored["source"].startswith("a.json (sha256 ")
    table = pd.read_parquet(FOLDER / "judge/verdicts.parquet")
    assert table[["order", "winner"]].values.tolist() == [
        ["baseline_first", "second"],
        ["baseline_first", "second"],
        ["model_first", "second"],
        ["baseline_first", "tie"],
    ]


def test_what_is_imported_is_no_call_that_we_paid() -> None:
    write("a.json", [alpaca("p0", "base", "sft", 2), alpaca("p1", "base", "sft", 1)])
    for _ in range(2):  # the second time brings nothing new
        judge(f"{ALPACA} --model sft")
        stats = judge("ledger stats")
        assert stats == "theirs at imported:alpaca: 2 calls (2 answered), 0 + 0 tokens, $0.0000 charged\n"
    assert judge("ledger verify").startswith("results/judge.sqlite: 2 calls, 2 attempts, 2 verdicts; all as")
    judge("ledger export out.jsonl")
    attempts = [row for line in Path("out.jsonl").read_text().splitlines() if (row := json.loads(line))["table"] != "x"]
    imported = [row for row in attempts if row["table"] == "attempts"]
    assert {(row["charged"], row["cost"], row["scope"]) for row in imported} == {(0, 0, "imported")}
    assert all(row["reason"].startswith("imported from a.json") for row in imported)
    plan = judge("plan tiny --judge theirs --baseline base --base-url http://localhost:1/v1").splitlines()
    assert plan[1] == "calls: 16, of those answered already: 0, to send: 16"


def test_records_with_model_names_in_both_orders() -> None:
    """sft wins p0 in both orders; on p1 the first place wins twice, a tie; the others are not in the file."""
    write(
        "r.json",
        [
            {"prompt": f"Human: {p}?", "model_a": a, "model_b": b, "response_a": TEXT[a], "response_b": TEXT[b]}
            | {"verdict": verdict}
            for p, a, b, verdict in (
                ("p0", "sft", "base", "sft"),
                ("p0", "base", "sft", "[[B]]"),
                ("p1", "sft", "base", "A"),
                ("p1", "base", "sft", "a"),
            )
        ],
    )
    lines = judge("import tiny r.json --format records --judge theirs --baseline base --model sft").splitlines()
    assert "theirs against base: 4 pairs in both orders, questions: 4 read, 4 missing." in lines
    (stored,) = ResultStore(FOLDER).read_judge()["judgings"]
    assert stored["once"] is False
    assert stored["win_rates"][0]["estimate"]["value"] == pytest.approx(0.75)
    assert stored["win_rates"][0]["counts"]["missing"] == 2


def record(prompt: str, first: str, second: str, **verdicts: Any) -> dict[str, Any]:
    return {"prompt": f"Human: {prompt}?", "response_a": TEXT[first], "response_b": TEXT[second], **verdicts}


def test_a_label_is_a_persons_and_verdicts_may_be_numbers_or_places() -> None:
    """sft first on p0 and p1, second in the other order. The judge: sft, sft on p0; sft, base on p1; tie, tie on p2.

    People say sft on p0 and p1, a tie on p2. Pairs: a win, a tie (for a win), a tie: 2 of 3 are right. Of the answers
    with sft first 3 of 3 are right, of the others 2 of 3; 2 of 3 pairs are consistent.
    """
    rows = [
        record("p0", "sft", "base", verdict=1, label="A"),
        record("p0", "base", "sft", verdict="model_b", label="B"),
        record("p1", "sft", "base", verdict="model_a", label=1),
        record("p1", "base", "sft", verdict=1, label=2),
        record("p2", "sft", "base", verdict=0, label="tie"),
        record("p2", "base", "sft", verdict="Tie", label="tie"),
    ]
    write("r.json", rows)
    printed = judge("import tiny r.json --format records --judge theirs --baseline base --model sft --rater ann")
    stored = ResultStore(FOLDER).read_judge()
    judged = {row["judge"]: row["win_rates"][0]["estimate"]["value"] for row in stored["judgings"]}
    assert judged == {"ann": pytest.approx(2.5 / 3), "theirs": pytest.approx(2 / 3)}
    (against,) = stored["people"]["judges"]
    assert against["accuracy"]["value"] == pytest.approx(2 / 3)
    # of 3 pairs: the judge 1 win and 2 ties, people 2 and 1; chance 1/3 * 2/3 + 2/3 * 1/3 = 4/9, (2/3 - 4/9) / (5/9)
    assert against["cohen_kappa"]["value"] == pytest.approx(0.4)
    by_order = {order: cell["value"] for order, cell in against["order_accuracy"].items()}
    assert by_order == {"model_first": 1.0, "baseline_first": pytest.approx(2 / 3)}
    assert against["consistency"]["value"] == pytest.approx(2 / 3)
    (row,) = people_table(load_result(FOLDER)).rows
    assert [cell.value for cell in row[-3:]] == [1.0, pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert "the people's majority" in printed


def test_a_label_alone_is_no_verdict() -> None:
    write("r.json", [record("p0", "sft", "base", label="A")])
    found_text = judge("import tiny r.json --format records --judge theirs --baseline base", 1)
    assert "row 1 has the verdict null" in found_text
    assert "its label counts as a person's" in found_text


def test_preferences_of_0_and_1_are_explained() -> None:
    write("a.json", [alpaca("p0", "base", "sft", 1), alpaca("p1", "base", "sft", 0)])
    lines = judge(f"{ALPACA} --model sft").splitlines()
    assert lines[0].startswith("all preferences are 0 or 1; they are read as AlpacaEval's")
    write("a.json", [alpaca("p0", "base", "sft", 1), alpaca("p1", "base", "sft", 2)])
    assert "all preferences" not in judge(f"{ALPACA} --model sft")


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("alpaca", [], "a.json' holds no row (read as a JSON list); expected at least one row"),
        (
            "alpaca",
            [alpaca("p0", "base", "sft", 2), alpaca("p1", "base", "sft", None), 3, {"instruction": "x"}],
            "a.json: 3 of 4 rows cannot be used (row 2 has the verdict null, expected a preference in [1, 2], or "
            "0; row 3 is int, not an object with columns; row 4 has no text for first (response_a, output_1, "
            "completion_a, answer_a, a)); correct them, or leave them out with --skip-bad",
        ),
    ],
)
def test_each_row_that_cannot_be_used_is_named(form: str, data: Any, message: str) -> None:
    write("a.json", data)
    found_text = judge(f"import tiny a.json --format {form} --judge x --baseline base", 1)
    assert found_text.splitlines()[-1].endswith(message)
    assert not Path("results/judge.sqlite").exists()


def test_refused_rows_can_be_left_out_and_are_named_still() -> None:
    write("a.json", [alpaca("p0", "base", "sft", 2), alpaca("p1", "base", "sft", "model")])
    lines = judge(f"{ALPACA} --model sft --skip-bad").splitlines()
    assert lines[0].startswith('a.json: 1 of 2 rows cannot be used (row 2 has the verdict "model"')
    assert lines[1] == "1 verdicts in a.json, 1 of them on this result's pairs"
    for line, status, message in (
        (
            ALPACA.replace("a.json", "b.json"),
            1,
            "'b.json' does not exist; did you mean 'a.json' beside it?",
        ),
        (f"{ALPACA} --model dpo --skip-bad", 1, "the same prompt and both texts; check --baseline and --model"),
    ):
        assert judge(line, status).splitlines()[-1].endswith(message)


def test_verdicts_may_be_in_a_csv() -> None:
    """A cell of a CSV is text: the preference 1.8 is the second output's, and the label 2 the second response's."""
    pd.DataFrame([alpaca("p0", "base", "sft", 1.8), alpaca("p1", "base", "sft", 1)]).to_csv("a.csv", index=False)
    judge(f"{ALPACA.replace('a.json', 'a.csv')} --model sft")
    pd.DataFrame([record("p0", "base", "sft", verdict=1, label=2)]).to_csv("r.csv", index=False)
    judge("import tiny r.csv --format records --judge ours --baseline base --model sft")
    rates = {
        row["judge"]: row["win_rates"][0]["estimate"]["value"] for row in ResultStore(FOLDER).read_judge()["judgings"]
    }
    assert rates == {"theirs": 0.5, "ours": 0.0, "people": 1.0}
