"""What judges said, and how far to believe them, as tables: nothing where nothing was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.judge.show import AUDIT_TITLES
from rlhf_bench.judge.show_forms import people_lines
from rlhf_bench.report.cautions import cautions
from rlhf_bench.report.cells import Cell, Column, Table
from rlhf_bench.report.judge_forms import (
    asked_note,
    estimate_of,
    judge_name,
    ranking_tables,
    rate_columns,
    rating_tables,
)
from rlhf_bench.report.result import Result

__all__ = ["JUDGE_KEYS", "audit_table", "judge_tables", "strengths_table", "win_rate_table"]

JUDGE_KEYS = (3, 2, 2, 2, 1, 3, 4, 1)  # columns that name a row, for each of `judge_tables`


def judge_tables(result: Result) -> list[Table]:
    """Win rates, the judges' audit, strengths, rankings and ratings; each may be without rows."""
    tables = [
        win_rate_table(result),
        audit_table(result),
        strengths_table(result),
        *ranking_tables(result),
        *rating_tables(result),
    ]
    return [
        replace(table, notes=[*table.notes, *cautions(table.columns, table.rows, keys=keys)])
        for table, keys in zip(tables, JUDGE_KEYS, strict=True)
    ]


def win_rate_table(result: Result) -> Table:
    """A row a judge, baseline and model."""
    columns = [
        Column("judge", "Judge"),
        Column("baseline", "Baseline"),
        Column("model", "Model"),
        Column("win_rate", "Win rate", interval=True),
        Column("equal_length", "At equal length", interval=True),
        Column("soft", "Soft", interval=True),
        Column("p_paired", "p (paired)", 4),
        Column("p_wilcoxon", "p (Wilcoxon)", 4),
        Column("p_holm", "p (Holm)", 4),
        Column("detectable", "Detectable"),
        Column("lowest", "Lowest"),
        Column("highest", "Highest"),
        Column("pairs", "Pairs"),
        Column("unread", "Unread"),
    ]
    rows: list[list[Cell]] = []
    notes = [
        "Win rate: share of prompts won against the baseline. A pair is won where the judge names the same side in "
        "both orders; all else is a tie, 0.5. p: against 0.5. Lowest and highest: had every unread answer spoken "
        "against the model, or for it.",
        "At equal length: by a logistic regression in the manner of arXiv:2404.04475; not AlpacaEval's number.",
    ]
    for judging in _judgings(result):
        name = _name(result, judging)
        equal = {cell["model"]: cell for cell in judging["equal_length"]}
        for rate in judging["win_rates"]:
            of_model = equal.get(rate["model"], {})
            nothing_to_go_by = of_model.get("warning") == LENGTH_ALONE  # what stands there is the fit's prior
            unread = sum(rate["counts"][why] for why in ("refused", "unreadable", "failed", "missing"))
            tests = [rate[key] for key in ("p_paired", "p_wilcoxon", "p_holm", "detectable", "lowest", "highest")]
            estimates = [
                estimate_of(rate["estimate"]),
                None if nothing_to_go_by else estimate_of(of_model.get("win_rate")),
                estimate_of(rate["soft"]),
            ]
            rows.append([name, judging["baseline"], rate["model"], *estimates, *tests, rate["counts"]["pairs"], unread])
            if of_model.get("warning"):
                notes.append(f"{name}, {rate['model']} against {judging['baseline']}: {of_model['warning']}.")
        notes.append(_asked(name, judging))
    return Table("judge", f"Win rates by a judge on {result.data_label}", columns, rows, notes)


def audit_table(result: Result) -> Table:
    """A row a judging: what describes the judge, and what gold says against it."""
    rates = rate_columns(AUDIT_TITLES)
    columns = [Column("judge", "Judge"), Column("baseline", "Baseline"), *rates]
    columns += [
        Column("accuracy", "Right by gold", interval=True),
        Column("cohen_kappa", "Kappa with gold", 2, interval=True),
        Column("people_accuracy", "Right by people", interval=True),
        Column("people_kappa", "Kappa with people", 2, interval=True),
    ]
    rows: list[list[Cell]] = []
    notes = ["First place and longer responses may win by right: only labels, here the gold reward, make it a fault."]
    for judging in _judgings(result):
        name, agreement = _name(result, judging), judging["agreement"]
        cells = [estimate_of(judging["audit"].get(key)) for key in AUDIT_TITLES]
        by_gold = [estimate_of(agreement.get(key)) for key in ("accuracy", "cohen_kappa")]
        by_people = [estimate_of(cell) for cell in _by_people(result, judging)]
        rows.append([name, judging["baseline"], *cells, *by_gold, *by_people])
        found = [check["says"] for check in judging["biases"] if check["found"]]
        if judging["biases"]:
            says = "; ".join(found) or "no fault of place, length or noise found"
            notes.append(f"{name} against {judging['baseline']}: {says} (Holm over the checks, 5 %).")
    notes += [f"{line.strip()}." for line in people_lines(result.judge.get("people", {}))]
    return Table("judge_audit", f"The judges on {result.data_label}", columns, rows, notes)


def _by_people(result: Result, judging: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Accuracy and kappa by the people's majority."""
    for row in result.judge.get("people", {}).get("judges", []):
        if all(row[key] == judging[key] for key in ("judge", "base_url", "template", "baseline")):
            return row["accuracy"], row["cohen_kappa"]
    return None, None


def strengths_table(result: Result) -> Table:
    """A row a judge and model, strongest first."""
    columns = [
        Column("judge", "Judge"),
        Column("model", "Model"),
        Column("elo", "Elo", 0, interval=True),
        Column("rank", "Rank"),
        Column("rank_low", "Rank, low"),
        Column("rank_high", "Rank, high"),
    ]
    rows: list[list[Cell]] = []
    notes = ["Bradley-Terry strengths on an Elo scale; 400 points are odds of ten to one. Rank 0: never compared."]
    for group in result.judge.get("strengths", []):
        name = _name(result, group)
        for cell in group["models"]:
            rows.append([name, cell["model"], estimate_of(cell["elo"]), *(cell[k] for k in _RANKS)])
        notes.append(f"{name}: {group['baseline']} is 1000; compared with {', '.join(group['baselines'])}.")
    return Table("judge_strengths", f"Strengths by a judge on {result.data_label}", columns, rows, notes)


_RANKS = ("rank", "rank_low", "rank_high")


def _judgings(result: Result) -> list[dict[str, Any]]:
    return list(result.judge.get("judgings", []))


def _name(result: Result, row: Mapping[str, Any]) -> str:
    return judge_name(_judgings(result), row)


def _asked(name: str, judging: Mapping[str, Any]) -> str:
    orders = "once, in a drawn order" if judging.get("once") else "in both orders"
    return asked_note(f"{name} against {judging['baseline']}: {judging['pairs']} pairs {orders}", judging)
