"""What judges gave to single responses, as tables, and the cells and notes that all tables of judges share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_bench.judge.show_ratings import RATING_AUDIT_TITLES
from rlhf_bench.report.result import Result
from rlhf_bench.report.tables import Cell, Column, Table
from rlhf_bench.types import Estimate

__all__ = ["asked_note", "estimate_of", "judge_name", "rate_columns", "rating_tables"]


def rating_tables(result: Result) -> list[Table]:
    """Mean ratings, paired differences, and what describes the judges; each may be without rows."""
    judgings: list[dict[str, Any]] = result.judge.get("ratings", [])
    return [_means(result, judgings), _differences(result, judgings), _audit(result, judgings)]


def _means(result: Result, judgings: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("judge", "Judge"),
        Column("criterion", "Criterion"),
        Column("model", "Model"),
        Column("rating", "Rating", 2, interval=True),
        Column("unread", "Unread"),
    ]
    rows: list[list[Cell]] = []
    notes = ["Mean rating: samples averaged first, then prompts, crossed with training seeds. Unread: not counted."]
    for judging in judgings:
        name = judge_name(judgings, judging)
        rows += [
            [name, cell["criterion"], cell["model"], estimate_of(cell["estimate"]), cell["unread"]]
            for cell in judging["means"]
        ]
        scale = f"{judging['low']} to {judging['high']}"
        notes.append(asked_note(f"{name}, {scale}: {judging['responses']} responses", judging))
    return Table("judge_ratings", f"Ratings by a judge on {result.data_label}", columns, rows, notes)


def _differences(result: Result, judgings: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("judge", "Judge"),
        Column("criterion", "Criterion"),
        Column("a", "a"),
        Column("b", "b"),
        Column("difference", "a - b", 2, interval=True),
        Column("p_paired", "p (paired)", 4),
        Column("p_wilcoxon", "p (Wilcoxon)", 4),
        Column("p_holm", "p (Holm)", 4),
        Column("effect", "Effect (d)", 2),
        Column("detectable", "Detectable", 2),
    ]
    rows: list[list[Cell]] = [
        [
            *(judge_name(judgings, judging), cell["criterion"], cell["a"], cell["b"], estimate_of(cell["difference"])),
            *(cell[key] for key in ("p_paired", "p_wilcoxon", "p_holm", "effect", "detectable")),
        ]
        for judging in judgings
        for cell in judging["differences"]
    ]
    notes = ["Paired over prompts. p (Holm) corrects p (paired) over the pairs within a criterion."]
    return Table("judge_rating_pairs", f"Differences of ratings on {result.data_label}", columns, rows, notes)


def _audit(result: Result, judgings: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("judge", "Judge"),
        *rate_columns(RATING_AUDIT_TITLES),
        Column("length", "Rank correlation with length", 2, interval=True),
        Column("gold", "Rank correlation with gold", 2, interval=True),
    ]
    rows: list[list[Cell]] = [
        [judge_name(judgings, judging), *(estimate_of(judging["audit"].get(column.key)) for column in columns[1:])]
        for judging in judgings
    ]
    notes = ["Longer responses may be better: the correlation with length is no fault by itself."]
    return Table("judge_rating_audit", f"The judges that rated on {result.data_label}", columns, rows, notes)


def judge_name(judgings: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """The judge's name; with template and server where two judgings share it."""
    mine = [other for other in judgings if other["judge"] == row["judge"]]
    name = str(row["judge"])
    name += f" ({row['template']})" if len({other["template"] for other in mine}) > 1 else ""
    return name + (f" at {row['base_url']}" if len({other["base_url"] for other in mine}) > 1 else "")


def rate_columns(titles: Mapping[str, str]) -> list[Column]:
    return [Column(key, title[:1].upper() + title[1:], interval=True) for key, title in titles.items()]


def asked_note(about: str, judging: Mapping[str, Any]) -> str:
    """What was asked, how the questions ended, and what it cost."""
    counts = ", ".join(f"{count} {status}" for status, count in judging["questions"].items())
    text = f"{about}, questions: {counts}"
    models = judging.get("reported_models", {})
    if len(models) > 1:
        text += f"; the server reported several models, so the verdicts are mixed: {', '.join(models)}"
    return text + (f"; ${judging['cost_usd']:.4f} charged." if "cost_usd" in judging else ".")


def estimate_of(cell: dict[str, Any] | None) -> Estimate | None:
    return Estimate.from_dict(cell) if cell else None
