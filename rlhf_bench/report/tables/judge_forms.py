"""Ratings and rankings by judges as tables, and the cells and notes that all tables of judges share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells
from rlhf_bench.report.tables.pairwise import MDE, TESTS

SECTION = "Judge"
_JUDGE = Column("judge", "Judge")
CALLS = {
    "unreadable": "Unreadable",
    "refused": "Refused",
    "failed": "Failed",
    "repeatability": "Repeats itself",
}


def rating_table(result: Result) -> Table:
    """A row a judge, criterion and model."""
    judgings = named_judgings(result, "ratings")
    columns = [
        _JUDGE, Column("criterion", "Criterion"), Column("model", "Model"),
        Column("rating", "Rating", 2, interval=True), Column("unread", "Unread"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [name, *cells({**cell, "rating": cell["estimate"]}, columns[1:])]
        for name, judging in judgings
        for cell in judging["means"]
    ]
    notes = ["Mean rating: samples averaged first, then prompts, crossed with training seeds. Unread: not counted."]
    notes += [
        questions_note(f"{name}, {judging['low']} to {judging['high']}: {judging['responses']} responses", judging)
        for name, judging in judgings
    ]
    title = f"Ratings by a judge on {result.data_label}"
    return Table("judge_ratings", title, columns, rows, notes, keys=3, section=SECTION)


def rating_pairs_table(result: Result) -> Table:
    """A row a judge, criterion and pair of models, a minus b."""
    tests = [*TESTS, Column("effect", "Effect (d)", 2), MDE._replace(digits=2)]
    columns = [_JUDGE, Column("criterion", "Criterion"), Column("a", "a"), Column("b", "b")]
    columns += [Column("difference", "a - b", 2, interval=True), *tests]
    rows: list[list[Cell]] = [
        [name, *cells(cell, columns[1:])]
        for name, judging in named_judgings(result, "ratings")
        for cell in judging["differences"]
    ]
    notes = ["Paired over prompts. p (Holm) corrects p (paired) over the pairs within a criterion."]
    title = f"Differences of ratings on {result.data_label}"
    return Table("judge_rating_pairs", title, columns, rows, notes, keys=4, section=SECTION)


def rating_audit_table(result: Result) -> Table:
    """A row a judge."""
    columns = [
        *rate_columns({"highest": "Best rating given", **CALLS}),
        Column("length", "Rank correlation with length", 2, interval=True),
        Column("gold", "Rank correlation with gold", 2, interval=True),
    ]
    rows: list[list[Cell]] = [
        [name, *cells(judging["audit"], columns)] for name, judging in named_judgings(result, "ratings")
    ]
    notes = ["Longer responses may be better: the correlation with length is no bias by itself."]
    title = f"The judges that rated on {result.data_label}"
    return Table("judge_rating_audit", title, [_JUDGE, *columns], rows, notes, section=SECTION)


def ranking_table(result: Result) -> Table:
    """A row a judge and model."""
    judgings = named_judgings(result, "rankings")
    columns = [_JUDGE, Column("model", "Model"), Column("rank", "Mean rank", 2, interval=True)]
    columns += [Column("first", "Ranked first", interval=True)]
    rows: list[list[Cell]] = [
        [name, *cells(cell, columns[1:])] for name, judging in judgings for cell in judging["models"]
    ]
    notes = ["Rank 1 is the best. The pairs that a ranking makes are among the win rates and strengths."]
    notes += [
        questions_note(
            f"{name}: {judging['comparisons']} listwise comparisons, each in an order drawn with seed "
            f"{judging['order_seed']} and in its reverse",
            judging,
        )
        for name, judging in judgings
    ]
    title = f"Rankings by a judge on {result.data_label}"
    return Table("judge_rankings", title, columns, rows, notes, keys=2, section=SECTION)


def ranking_audit_table(result: Result) -> Table:
    """A row a judge."""
    judgings = named_judgings(result, "rankings")
    most = max((len(judging["places"]) for _, judging in judgings), default=0)
    columns = [
        _JUDGE, Column("position", "Rank with place", 2, interval=True), Column("position_p", "p", 4, p_value=True),
        *(Column(f"place_{place}", f"Score at place {place}", interval=True) for place in range(1, most + 1)),
        *rate_columns(CALLS),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for name, judging in judgings:
        places = {f"place_{cell['place']}": cell["score"] for cell in judging["places"]}
        rows.append([name, *cells({**judging, **places, **judging["audit"]}, columns[1:])])
    notes = [
        "Rank with place: mean rank correlation within a listwise comparison, 1 where the order alone decides, 0 where "
        "it does not matter. Score: 1 ranked best, 0 last; 0.5 at every place where the order does not matter."
    ]
    title = f"The judges that ranked on {result.data_label}"
    return Table("judge_ranking_audit", title, columns, rows, notes, section=SECTION)


def judge_name(judgings: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """The judge's name; with template and server where two judgings share it."""
    mine = [other for other in judgings if other["judge"] == row["judge"]]
    name = str(row["judge"])
    name += f" ({row['template']})" if len({other["template"] for other in mine}) > 1 else ""
    return name + (f" at {row['base_url']}" if len({other["base_url"] for other in mine}) > 1 else "")


def rate_columns(titles: Mapping[str, str]) -> list[Column]:
    return [Column(key, title, interval=True) for key, title in titles.items()]


def questions_note(about: str, judging: Mapping[str, Any]) -> str:
    """What was judged, the status of its questions, and what it cost."""
    counts = ", ".join(f"{count} {status}" for status, count in judging["questions"].items())
    text = f"{about}, questions: {counts}"
    models = judging.get("reported_models", {})
    if len(models) > 1:
        named = ", ".join(f"{name} ({count})" for name, count in models.items())
        text += f"; the server reported several models, so the verdicts are mixed: {named}"
    return text + (f"; ${judging['cost_usd']:.4f} charged." if "cost_usd" in judging else ".")


def named_judgings(result: Result, form: str) -> list[tuple[str, dict[str, Any]]]:
    """The judgings of a form, each with its judge's name."""
    found: list[dict[str, Any]] = result.judge.get(form, [])
    return [(judge_name(found, judging), judging) for judging in found]
