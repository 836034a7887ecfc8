"""How often, and how surely, reward models are right, as tables: by category, by list, against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells, estimate_of
from rlhf_bench.report.tables.metrics import MODEL

SECTION = "Reward model"
_STYLES = ("plain", "detailed", "detailed with markup")
_SOURCES = [
    Column("accuracy", "Reward model", interval=True),
    Column("longer", "Longer wins", interval=True),
    Column("shorter", "Shorter wins", interval=True),
    Column("words", "Words alone", interval=True),
    Column("untrained", "Untrained head", interval=True),
]


def accuracy_table(result: Result) -> Table:
    """The reward model's accuracy on the result's own test pairs, a row a seed."""
    columns = [Column("seed", "Seed"), Column("accuracy", "Accuracy", interval=True), Column("ceiling", "Ceiling")]
    found = result.metrics.get("reward_model", [])
    rows = [cells(row, columns) for row in found if isinstance(row.get("accuracy"), dict)]
    notes = [
        "Accuracy: share of test pairs in which the chosen response scores higher. Ceiling: the best accuracy that any "
        "reward model can reach on these pairs."
    ]
    return Table("reward_model", "Accuracy of the reward model", columns, rows, notes, section=SECTION)


def category_table(result: Result) -> Table:
    """Accuracy by category beside its baselines: all seeds together where there are several, then each model."""
    columns = [MODEL, Column("category", "Category"), *_SOURCES]
    columns += [Column("ceiling", "Ceiling"), Column("pairs", "Pairs")]
    columns += [Column("ties", "Ties"), Column("ties_wrong", "Ties as errors", interval=True)]
    rows: list[list[Cell]] = [
        [model, name, *cells({"pairs": group.get("n"), **group}, columns[2:])]
        for model, part in _parts(result.audit)
        for name, group in _groups(part).items()
        if group
    ]
    data = result.audit.get("data", {})
    notes = [
        "Chance is .5. Longer, shorter: by characters. Words alone: a logistic regression on the words of both "
        "responses, trained on the training split (on other prompts of the same pairs where there is none). Untrained "
        "head: a fresh one on the same model. Ceiling: the best accuracy that any reward model can reach on these "
        "pairs."
    ]
    title = f"Accuracy by category on {data.get('source', 'its data')} ({data.get('split', 'test')})"
    return Table("audit", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def calibration_table(result: Result) -> Table:
    """The reliability curve, of all pairs and of each category."""
    columns = [
        MODEL, Column("category", "Category"), Column("low", "From", 2), Column("high", "To", 2),
        Column("mean_predicted", "Mean predicted", bar=True), Column("share_chosen", "Share chosen", bar=True),
        Column("share", "With interval", interval=True), Column("n", "n"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, name, *cells(found, columns[2:])]
        for model, name, part in _calibrations(result)
        for found in part["bins"]
        if found["n"]
    ]
    notes = ["Share chosen: how often the side that the model prefers is the chosen one. Its interval is over prompts."]
    return Table("calibration", "Reliability curve", columns, rows, notes, keys=4, section=SECTION, folded=True)


def category_calibration_table(result: Result) -> Table:
    columns = [
        MODEL, Column("category", "Category"), Column("ece", "ECE", interval=True),
        Column("overconfidence", "Too sure by", interval=True), Column("brier", "Brier score", interval=True),
        Column("reliability", "Reliability"), Column("resolution", "Resolution"), Column("uncertainty", "Uncertainty"),
        Column("temperature", "Temperature", 2), Column("n", "Pairs"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, name, *cells({**part["brier"], **part, "brier": part["brier_score"]}, columns[2:])]
        for model, name, part in _calibrations(result)
    ]
    notes = [
        "ECE: expected calibration error of ten bins. Chance alone raises it: where the interval reaches 0, chance can "
        "be all of it. Too sure by: mean probability given to the preferred side less how often it is the chosen one.",
        "Brier score = reliability - resolution + uncertainty + what bins hide. Temperature: what margins are to be "
        "divided by; above 1 the model is too sure.",
    ]
    return Table("audit_calibration", "Calibration", columns, rows, notes, keys=2, section=SECTION, folded=True)


def _calibrations(result: Result) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for model, part in result.audit.get("models", {}).items():
        if "calibration" in part:
            yield model, "all", part["calibration"]
            for name, of_category in part["calibration_by_category"].items():
                yield model, name, of_category


def lists_table(result: Result) -> Table:
    """Several responses to a prompt; without rows where the data have two."""
    columns = [
        MODEL, Column("category", "Category"), Column("top1", "Top-1", 4, interval=True),
        Column("separated", "All right ones first", 4, interval=True),
        Column("mrr", "Reciprocal rank", 4, interval=True), Column("kendall", "Kendall tau-b", 4, interval=True),
        Column("pairs", "Pairs in order", 4, interval=True), Column("n", "Prompts"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, name, *cells({**found, "n": found["top1"]["n"]}, columns[2:])]
        for model, part in result.audit.get("models", {}).items()
        for name, found in part.get("lists", {}).items()
    ]
    notes = [
        "Over prompts; ties count against the model. All right ones first: every right response is above every wrong "
        "one."
    ]
    title = "Several responses to a prompt"
    return Table("audit_lists", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def styles_table(result: Result) -> Table:
    """Accuracy by the styles of both sides; without rows where the data have no styles."""
    columns = [
        MODEL, Column("easy", "Easy", interval=True), Column("normal", "Normal", interval=True),
        Column("hard", "Hard", interval=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = [[model, *cells(found, columns[1:])] for model, found in _styles(result)]
    notes = [
        "Hard: the rejected side has the richer style of the two; normal: the same; easy: the chosen side has the "
        "richer one (RM-Bench, arXiv:2410.16184)."
    ]
    return Table("audit_styles", "Accuracy by style", columns, rows, notes, section=SECTION)


def style_matrix_table(result: Result) -> Table:
    columns = [MODEL, Column("chosen", "Chosen side")]
    columns += [Column(style.replace(" ", "_"), f"Rejected {style}") for style in _STYLES]
    rows: list[list[Cell]] = [
        [model, style, *accuracies]
        for model, found in _styles(result)
        for style, accuracies in zip(_STYLES, found["matrix"], strict=True)
    ]
    return Table("audit_style_matrix", "Accuracy by the styles of both sides", columns, rows, keys=2, section=SECTION)


def _styles(result: Result) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((model, part["styles"]) for model, part in result.audit.get("models", {}).items() if part.get("styles"))


def rewardbench_table(result: Result) -> Table:
    """The sections of RewardBench and their subsets; without rows for other data."""
    columns = [
        MODEL, Column("section", "Section"), Column("subset", "Subset"), Column("accuracy", "Accuracy", 4),
        Column("share", "With interval", 4, interval=True), Column("without", "Without"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for model, part in result.audit.get("models", {}).items():
        for row in part.get("rewardbench", []):
            rows.append([model, row["section"], "all", row["accuracy"], None, ", ".join(row["without"]) or None])
            for name, share in row["subsets"].items():
                rows.append([model, row["section"], name, share["value"], estimate_of(share), None])
    notes = [
        "A section is the mean of its subsets by the benchmark's own numbers of pairs, where math counts as much as "
        "code; the score is the mean of the four sections (arXiv:2403.13787). A tie is wrong."
    ]
    return Table("audit_rewardbench", "RewardBench", columns, rows, notes, keys=3, section=SECTION, folded=True)


def versus_table(result: Result) -> Table:
    """Every two reward models on the same pairs."""
    columns = [
        Column("a", "Model"), Column("b", "Against"), Column("first", "Accuracy", interval=True),
        Column("second", "Its accuracy", interval=True), Column("difference", "Difference", interval=True),
        Column("only_first", "First ahead"), Column("only_second", "Second ahead"),
        Column("p", "p (McNemar)", p_value=True), Column("kappa", "Kappa of mistakes", interval=True),
        Column("correlation", "Correlation of margins"), Column("ensemble", "Ensemble", interval=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = [cells(row, columns) for row in result.audit.get("versus", [])]
    notes = [
        "First ahead: prompts on which the first model is right about more pairs. Kappa is over pairs, and its "
        "interval takes them as independent. Ensemble: the sum of both margins, each in root mean squares of its own."
    ]
    return Table("audit_versus", "Reward models on the same pairs", columns, rows, notes, keys=2, section=SECTION)


def versus_slices_table(result: Result) -> Table:
    """Where one of two reward models is right more often, smallest q first."""
    columns = [
        Column("a", "Model"), Column("b", "Against"), Column("name", "Slice"), Column("n", "Pairs"),
        Column("difference", "Difference", interval=True), Column("p", "p", p_value=True),
        Column("q", "q", p_value=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [row["a"], row["b"], *cells(found, columns[2:])]
        for row in result.audit.get("versus", [])
        for found in row["slices"]
    ]
    notes = [
        "Difference: of accuracies, the first model's less the other's. q: Benjamini and Hochberg's, over the slices "
        "of two models. A model that is better where the chosen side has more of a feature, and worse where it has "
        "less, pays more for that feature."
    ]
    title = "Where one reward model is better"
    return Table("audit_versus_slices", title, columns, rows, notes, keys=3, section=SECTION, folded=True)


def _parts(audit: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    models: dict[str, Any] = audit.get("models", {})
    if audit.get("pooled"):
        yield f"{len(models)} seeds together", audit["pooled"]
    yield from models.items()


def _groups(part: Mapping[str, Any]) -> dict[str, Any]:
    unseen = {f"unseen: {name}": group for name, group in part.get("unseen_by_category", {}).items()}
    return {
        "all": part.get("overall"), **part.get("by_category", {}), **part.get("by_agreement", {}),
        "unseen categories": part.get("unseen"), **unseen,
    }  # fmt: skip
