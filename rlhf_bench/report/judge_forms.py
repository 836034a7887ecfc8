"""Rankings and ratings by judges as tables, and the cells and notes that all tables of judges share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_bench.judge.show_forms import RANKING_AUDIT_TITLES, RATING_AUDIT_TITLES
from rlhf_bench.report.cells import Cell, Column, Table
from rlhf_bench.report.result import Result
from rlhf_bench.types import Estimate

__all__ = ["asked_note", "estimate_of", "judge_name", "ranking_tables", "rate_columns", "rating_tables"]


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


def ranking_tables(result: Result) -> list[Table]:
    """Mean ranks, and what describes the judges that ranked; each may be without rows."""
    judgings: list[dict[str, Any]] = result.judge.get("rankings", [])
    columns = [
        Column("judge", "Judge"),
        Column("model", "Model"),
        Column("rank", "Mean rank", 2, interval=True),
        Column("first", "Ranked first", interval=True),
    ]
    rows: list[list[Cell]] = [
        [judge_name(judgings, judging), cell["model"], estimate_of(cell["rank"]), estimate_of(cell["first"])]
        for judging in judgings
        for cell in judging["models"]
    ]
    notes = ["Rank 1 is the best. The pairs that a ranking makes stand among the win rates and strengths."]
    notes += [
        asked_note(
            f"{judge_name(judgings, judging)}: {judging['lineups']} line-ups, each in an order drawn with seed "
            f"{judging['order_seed']} and in its reverse",
            judging,
        )
        for judging in judgings
    ]
    means = Table("judge_rankings", f"Rankings by a judge on {result.data_label}", columns, rows, notes)
    return [means, _ranking_audit(result, judgings)]


def _ranking_audit(result: Result, judgings: Sequence[Mapping[str, Any]]) -> Table:
    most = max((len(judging["places"]) for judging in judgings), default=0)
    places = [Column(f"place_{place}", f"Score at place {place}", interval=True) for place in range(1, most + 1)]
    columns = [
        Column("judge", "Judge"),
        Column("position", "Rank with place", 2, interval=True),
        Column("position_p", "p", 4),
        *places,
        *rate_columns(RANKING_AUDIT_TITLES),
    ]
    rows: list[list[Cell]] = []
    for judging in judgings:
        scores = {f"place_{cell['place']}": cell["score"] for cell in judging["places"]}
        cells = {**scores, **judging["audit"], "position": judging["position"]}
        row: list[Cell] = [judge_name(judgings, judging), estimate_of(judging["position"]), judging["position_p"]]
        rows.append([*row, *(estimate_of(cells.get(column.key)) for column in columns[3:])])
    notes = [
        "Rank with place: mean rank correlation within a line-up, 1 where the order alone decides, 0 where it does not "
        "matter. Score: 1 ranked best, 0 last; 0.5 at every place where the order does not matter."
    ]
    return Table("judge_ranking_audit", f"The judges that ranked on {result.data_label}", columns, rows, notes)


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
