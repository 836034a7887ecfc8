"""How often, and how surely, audited reward models are right, as tables: by category, by list, against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.judge_forms import estimate_of
from rlhf_bench.types import Estimate

__all__ = [
    "MODEL",
    "SECTION",
    "calibration_table",
    "category_calibration_table",
    "category_table",
    "lists_table",
    "table_of_audit",
    "versus_table",
]

SECTION = "Reward model"
MODEL = Column("model", "Model")
_SOURCES = [
    Column("accuracy", "Reward model", interval=True),
    Column("longer", "Longer wins", interval=True),
    Column("shorter", "Shorter wins", interval=True),
    Column("words", "Words alone", interval=True),
    Column("untrained", "Untrained head", interval=True),
]


def category_table(result: Result) -> Table:
    return table_of_audit(result.audit)


def table_of_audit(audit: Mapping[str, Any]) -> Table:
    """Accuracy by category beside its baselines: all seeds together where there are several, then each model."""
    rows: list[list[Cell]] = [
        [model, name, *(estimate_of(group.get(column.key)) for column in _SOURCES), *_counts(group)]
        for model, part in _parts(audit)
        for name, group in _groups(part).items()
        if group
    ]
    columns = [MODEL, Column("category", "Category"), *_SOURCES]
    columns += [Column("ceiling", "Ceiling"), Column("pairs", "Pairs")]
    columns += [Column("ties", "Ties"), Column("ties_wrong", "Ties as errors", interval=True)]
    data = audit.get("data", {})
    notes = [
        "Chance is .5. Longer, shorter: by characters. Words alone: a logistic regression on the words of both "
        "responses, trained on the training split. Untrained head: a fresh one on the same model. Ceiling: the best "
        "accuracy that any reward model can reach on these pairs."
    ]
    title = f"Accuracy by category on {data.get('source', 'its data')} ({data.get('split', 'test')})"
    return Table("audit", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def calibration_table(result: Result) -> Table:
    columns = [
        MODEL, Column("low", "From", 2), Column("high", "To", 2),
        Column("mean_predicted", "Mean predicted", bar=True), Column("share_chosen", "Share chosen", bar=True),
        Column("share", "With interval", interval=True), Column("n", "n"),
    ]  # fmt: skip
    models: dict[str, Any] = result.audit.get("models", {})
    rows: list[list[Cell]] = [
        [
            model, found["low"], found["high"], found["mean_predicted"], found["share_chosen"],
            estimate_of(found.get("share")), found["n"],
        ]
        for model, part in models.items()
        for found in part.get("calibration", [])
        if found.get("n")
    ]  # fmt: skip
    notes = [_calibration_note(model, part) for model, part in models.items() if part.get("ece") is not None]
    return Table(
        "calibration", "Calibration by probability", columns, rows, notes, keys=3, section=SECTION, folded=True
    )


def _calibration_note(model: str, part: Mapping[str, Any]) -> str:
    note = f"{model}: expected calibration error {part['ece']:.3f}"
    if "brier" in part:
        b = part["brier"]
        note += (
            f"; Brier score {b['score']:.3f} = reliability {b['reliability']:.3f} - resolution {b['resolution']:.3f} + "
            f"uncertainty {b['uncertainty']:.3f} + what bins hide; temperature {part['temperature']:.2f} (above 1: too "
            "sure)"
        )
    return note


def category_calibration_table(result: Result) -> Table:
    columns = [
        MODEL, Column("category", "Category"), Column("ece", "ECE"), Column("brier", "Brier score", interval=True),
        Column("overconfidence", "Too sure by", interval=True), Column("n", "Pairs"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, name, row["ece"], estimate_of(row["brier"]), estimate_of(row["overconfidence"]), row["n"]]
        for model, part in result.audit.get("models", {}).items()
        for name, row in part.get("calibration_by_category", {}).items()
    ]
    notes = [
        "ECE: expected calibration error, above 0 by chance alone where there are few pairs. Too sure by: mean "
        "probability given to the preferred side less how often it is the chosen one."
    ]
    title = "Calibration by category"
    return Table("audit_calibration", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def lists_table(result: Result) -> Table:
    """Several responses to a prompt, and styles; without rows where the data have neither."""
    titles = {
        "top1": "Top-1", "mrr": "Reciprocal rank", "kendall": "Kendall tau-b", "pairs": "Pairs in order",
        "easy": "Easy styles", "normal": "Normal styles", "hard": "Hard styles",
    }  # fmt: skip
    columns = [MODEL, *(Column(key, title, interval=True) for key, title in titles.items())]
    rows: list[list[Cell]] = []
    for model, part in result.audit.get("models", {}).items():
        found = {**(part.get("lists") or {}), **(part.get("styles") or {})}
        if found:
            rows.append([model, *(estimate_of(found.get(key)) for key in titles)])
    notes = [
        "Over prompts; ties count against the model. Hard styles: the rejected side has the richer style of the two; "
        "normal: the same; easy: the chosen side has (RM-Bench, arXiv:2410.16184)."
    ]
    return Table("audit_lists", "Several responses to a prompt", columns, rows, notes, section=SECTION)


def versus_table(result: Result) -> Table:
    """Every two reward models on the same pairs."""
    columns = [
        Column("a", "Model"), Column("b", "Against"), Column("first", "Accuracy", interval=True),
        Column("second", "Its accuracy", interval=True), Column("difference", "Difference", interval=True),
        Column("only_first", "First alone right"), Column("only_second", "Second alone right"),
        Column("p", "p (McNemar)", p_value=True), Column("kappa", "Kappa of mistakes", interval=True),
        Column("correlation", "Correlation of margins"), Column("ensemble", "Ensemble", interval=True),
        Column("better", "Where the first is better"), Column("worse", "Where it is worse"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for row in result.audit.get("versus", []):
        numbers = [estimate_of(v) if isinstance(v := row[c.key], dict) else v for c in columns[2:-2]]
        parts = {name: Estimate.from_dict(part) for name, part in row["by_category"].items()}
        better = ", ".join(name for name, part in parts.items() if part.low > 0)
        worse = ", ".join(name for name, part in parts.items() if part.high < 0)
        rows.append([row["a"], row["b"], *numbers, better or None, worse or None])
    notes = [
        "Ensemble: the sum of both margins, each in root mean squares of its own. Where the first is better or worse: "
        "categories whose interval of the difference leaves out 0, not corrected for their number."
    ]
    return Table("audit_versus", "Reward models on the same pairs", columns, rows, notes, keys=2, section=SECTION)


def _parts(audit: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    models: dict[str, Any] = audit.get("models", {})
    if audit.get("pooled"):
        yield f"{len(models)} seeds together", audit["pooled"]
    yield from models.items()


def _groups(part: Mapping[str, Any]) -> dict[str, Any]:
    unseen = {f"unseen: {name}": group for name, group in part.get("unseen_by_category", {}).items()}
    return {
        "all": part.get("overall"), **part.get("by_category", {}), "unseen categories": part.get("unseen"), **unseen
    }  # fmt: skip


def _counts(group: Mapping[str, Any]) -> list[Cell]:
    pairs = group.get("pairs", group.get("n"))
    return [group.get("ceiling"), pairs, group.get("ties"), estimate_of(group.get("ties_wrong"))]
