"""Verdicts on pairs as tables: win rates, what describes the judges, strengths, and the agreement of people."""

from __future__ import annotations

import math
from typing import Any

from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells, column_text, estimate_of
from rlhf_bench.report.tables.judge_forms import (
    CALLS,
    SECTION,
    judge_name,
    named_judgings,
    questions_note,
    rate_columns,
)
from rlhf_bench.report.tables.pairwise import MDE, TESTS

_RATES = {
    "consistency": "Consistent",
    "first_position": "First place wins",
    "longer": "Longer wins",
    "tie": "Ties",
    **CALLS,
}
_P = Column("p", "p", p_value=True)
_ANSWERS = {
    "model_first": "Right, model first",
    "baseline_first": "Right, baseline first",
    "consistency": "Consistent",
}
_JUDGING = ("judge", "base_url", "template", "baseline")  # one is known by these
_UNREAD = ("refused", "unreadable", "failed", "missing")


def win_rate_table(result: Result) -> Table:
    """A row a judge, baseline and model."""
    tests = [*TESTS, MDE, Column("lowest", "Lowest"), Column("highest", "Highest")]
    columns = [
        Column("judge", "Judge"), Column("baseline", "Baseline"), Column("model", "Model"),
        Column("win_rate", "Win rate", interval=True), Column("equal_length", "At equal length", interval=True),
        Column("soft", "Soft", interval=True), *tests, Column("pairs", "Pairs"), Column("unread", "Unread"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    notes = [
        "Win rate: share of prompts won against the baseline. A pair is won where the judge names the same side in "
        "both orders; all else is a tie, 0.5. p: against 0.5. Lowest and highest: if every unread answer had been "
        "against the model, or for it.",
        "At equal length: by a logistic regression in the manner of arXiv:2404.04475; not AlpacaEval's number.",
    ]
    for name, judging in named_judgings(result, "judgings"):
        baseline = judging["baseline"]
        equal = {cell["model"]: cell for cell in judging["equal_length"]}
        for rate in judging["win_rates"]:
            of_model = equal.get(rate["model"], {})
            has_equal = of_model.get("warning") != LENGTH_ALONE  # else the fit returns its prior
            at_equal_length = estimate_of(of_model.get("win_rate")) if has_equal else None
            numbers = [estimate_of(rate["estimate"]), at_equal_length, *cells(rate, columns[5:-2])]
            counts = rate["counts"]
            unread = sum(counts[why] for why in _UNREAD)
            rows.append([name, baseline, rate["model"], *numbers, counts["pairs"], unread])
            if of_model.get("warning"):
                notes.append(f"{name}, {rate['model']} against {baseline}: {of_model['warning']}.")
        orders = "once, in a drawn order" if judging.get("once") else "in both orders"
        notes.append(questions_note(f"{name} against {baseline}: {judging['pairs']} pairs {orders}", judging))
    title = f"Win rates by a judge on {result.data_label}"
    return Table("judge", title, columns, rows, notes, keys=3, section=SECTION)


def judge_audit_table(result: Result) -> Table:
    """A row a judge run: what describes the judge, and how far gold and people agree with it."""
    labels = [
        Column("accuracy", "Right by gold", interval=True),
        Column("cohen_kappa", "Kappa with gold", 2, interval=True),
        Column("people_accuracy", "Right by people", interval=True),
        Column("people_kappa", "Kappa with people", 2, interval=True),
    ]
    columns = [Column("judge", "Judge"), Column("baseline", "Baseline"), *rate_columns(_RATES), *labels]
    rows: list[list[Cell]] = []
    notes = ["First place and longer responses may win rightly: only labels, here the gold reward, show a bias."]
    by_majority: list[dict[str, Any]] = result.judge.get("people", {}).get("judges", [])
    for name, judging in named_judgings(result, "judgings"):
        people = next((row for row in by_majority if all(row[key] == judging[key] for key in _JUDGING)), {})
        by_people = {"people_accuracy": people.get("accuracy"), "people_kappa": people.get("cohen_kappa")}
        found = {**judging["audit"], **judging["agreement"], **by_people}
        rows.append([name, judging["baseline"], *cells(found, columns[2:])])
        biases = [
            f"{check['says']} (p {column_text(check['p_holm'], _P)})"
            for check in judging["biases"]
            if not math.isnan(check["p_holm"])
        ]
        if biases:
            notes.append(f"{name} against {judging['baseline']}: {'; '.join(biases)}; Holm over the checks, 5 %.")
    title = f"The judges on {result.data_label}"
    return Table("judge_audit", title, columns, rows, notes, keys=2, section=SECTION)


def people_table(result: Result) -> Table:
    """Agreement of people with one another, and of each judge with their majority."""
    people = result.judge.get("people", {})
    columns = [
        Column("a", "Who"), Column("b", "And"), Column("baseline", "Baseline"),
        Column("accuracy", "Same verdict", interval=True), Column("cohen_kappa", "Kappa", 2, interval=True),
        *rate_columns(_ANSWERS),
    ]  # fmt: skip
    between = [(row["a"], row["b"], None, row) for row in people.get("between", [])]
    judges = [(row["judge"], "the people's majority", row["baseline"], row) for row in people.get("judges", [])]
    rows: list[list[Cell]] = [
        [*names, *cells({**row, **row.get("order_accuracy", {})}, columns[3:])] for *names, row in [*between, *judges]
    ]
    notes = []
    if people:
        texts = [f"{', '.join(people['raters'])}: {people['pairs']} pairs by two or more"]
        texts += [f"Krippendorff's alpha {people['krippendorff']:.2f}"] if people["krippendorff"] is not None else []
        texts += [f"Fleiss' kappa {people['fleiss']:.2f}"] if people["fleiss"] is not None else []
        notes = [f"{', '.join(texts)}.", "Same verdict: on the pair. Right: the single answers in each order."]
    return Table("judge_people", f"People on {result.data_label}", columns, rows, notes, keys=3, section=SECTION)


def strengths_table(result: Result) -> Table:
    """A row a judge and model, strongest first."""
    columns = [
        Column("judge", "Judge"), Column("model", "Model"), Column("elo", "Elo", 0, interval=True),
        Column("rank", "Rank"), Column("rank_low", "Rank, low"), Column("rank_high", "Rank, high"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    notes = ["Bradley-Terry strengths on an Elo scale; 400 points are odds of ten to one. Rank 0: never compared."]
    for group in result.judge.get("strengths", []):
        name = judge_name(result.judge.get("judgings", []), group)
        rows += [[name, *cells(cell, columns[1:])] for cell in group["models"]]
        notes.append(f"{name}: {group['baseline']} is 1000; compared with {', '.join(group['baselines'])}.")
    title = f"Strengths by a judge on {result.data_label}"
    return Table("judge_strengths", title, columns, rows, notes, keys=2, section=SECTION)
