"""The report's main tables as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlhf_bench.report.cautions import cautions
from rlhf_bench.report.cells import Cell, Column, Table
from rlhf_bench.report.probes import own_metrics
from rlhf_bench.report.result import Result, known
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.perplexity import PERPLEXITY_PREFIXES
from rlhf_bench.scorers.reward import HELD_OUT, REWARD_PREFIX
from rlhf_bench.stats.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.store import ANCHORS
from rlhf_bench.types import Estimate

__all__ = [
    "gold_table",
    "missing_lines",
    "pairwise_table",
    "per_seed_table",
    "summary_table",
]

_COLUMNS = [
    Column("reward_std", "Reward std", 3, interval=True),
    Column("gold", "Gold", 3, interval=True),
    Column("kl_exact", "KL exact (nats)", 2, interval=True),
    Column("kl_k1", "KL k1 (nats)", 2, interval=True),
    Column("kl_k3", "KL k3 (nats)", 2, interval=True),
    Column("rouge1", "ROUGE-1", 3, interval=True),
    Column("rouge2", "ROUGE-2", 3, interval=True),
    Column("rougeL", "ROUGE-L", 3, interval=True),
    Column("n_tokens", "Tokens", 1, interval=True),
    Column("ended", "Ended", 3, interval=True),
    Column("distinct1", "Distinct-1", 3, interval=True),
    Column("distinct2", "Distinct-2", 3, interval=True),
    Column("repetition", "Repetition", 3, interval=True),
    Column("perplexity", "Perplexity", 2, interval=True),
]
_MODEL = Column("model", "Model")
_TRAINING = [Column("train_seconds", "Training (s)", 0), Column("train_samples", "Training samples", 0)]
_NEWER = ("kl_forward", "perplexity_reference", "self_bleu", "refused")


def summary_table(result: Result) -> Table:
    """Rows are models. The reward is raw for one seed; for several it is z-scored within each seed."""
    rest = [c for c in _COLUMNS if c.key not in ("gold", "reward_std") or (c.key == "gold" and result.has_gold)]
    columns = [*_own(result), _reward(result), *_scorers(result), *_spread(result), *rest, *_newer(result)]
    marks = result.metrics.get("marks", {})
    rows: list[list[Cell]] = [
        [_name(model), *(result.estimate(model, c.key) for c in columns), *_training(result, model)]
        for model in result.models
    ]
    marked = [c._replace(title=f"{c.title} †") if c.key in marks else c for c in columns]
    notes = [
        _intervals(result),
        *cautions([_MODEL, *columns, *_TRAINING], rows),
        *_left_out(result),
        *_cut(result, columns),
        *(f"† {c.title}: {marks[c.key]}" for c in columns if c.key in marks),
    ]
    title = f"{result.manifest['suite']} on {result.data_label}"
    return Table("summary", title, [_MODEL, *marked, *_TRAINING], rows, notes)


def per_seed_table(result: Result) -> Table:
    """Every seed's own numbers; the reward is raw, so compare it within a seed only."""
    columns = [
        c for c in (Column("reward", "Reward (raw)", interval=True), *_COLUMNS) if c.key != "gold" or result.has_gold
    ]
    rows: list[list[Cell]] = [
        [seed, _name(model), *(result.estimate(model, c.key, seed) for c in columns)]
        for seed in result.seeds
        for model in result.models
    ]
    columns = [Column("seed", "Seed", 0), _MODEL, *columns]
    notes = [
        "Raw rewards of different seeds come from different reward models: compare them within a seed only.",
        *cautions(columns, rows, keys=2),
    ]
    return Table("per_seed", f"Each seed on {result.data_label}", columns, rows, notes)


def gold_table(result: Result) -> Table:
    """The gold reward and its components, or a table without rows where the data have none."""
    parts = [Column(key, key.removeprefix("gold_").replace("_", " "), interval=True) for key in result.gold_parts]
    columns = [_MODEL, Column("gold", "Gold", interval=True), *parts]
    rows: list[list[Cell]] = [
        [_name(model), *(result.estimate(model, c.key) for c in columns[1:])] for model in result.models
    ]
    notes = [_intervals(result), *cautions(columns, rows)]
    title = f"Gold reward and its components on {result.data_label}"
    if not result.has_gold:
        return Table("gold", title, columns, [], ["These data have no known gold reward."])
    return Table("gold", title, columns, rows, notes)


def pairwise_table(result: Result) -> Table:
    """Differences of two models on the same prompts, a minus b."""
    columns = [
        Column("metric", "Metric"),
        Column("a", "a"),
        Column("b", "b"),
        Column("difference", "a - b", interval=True),
        Column("p_paired", "p (paired)", 4),
        Column("p_wilcoxon", "p (Wilcoxon)", 4),
        Column("p_holm", "p (Holm)", 4),
        Column("p_table", "p (table)", 4),
        Column("effect", "Effect (d)", 2),
        Column("detectable", "Detectable"),
        Column("seeds_agree", "Seeds of that sign"),
    ]
    rows: list[list[Cell]] = []
    shown: list[Shown] = []
    for row in result.metrics.get("pairwise", []):
        difference = Estimate.from_dict(row["difference"])
        shown.append(_difference_shown(result, row, difference))
        signs = [cell["value"] * difference.value > 0 for cell in row.get("per_seed", {}).values()]
        agree = f"{sum(signs)} of {len(signs)}" if signs else None
        tests = [
            row["p_paired"],
            row.get("p_wilcoxon"),
            row["p_holm"],
            row.get("p_table"),
            row.get("effect"),
            row["detectable"],
        ]
        rows.append([row["metric"], row["a"], row["b"], difference, *tests, agree])
    cut = any(row["difference"]["clipped"] for row in result.metrics.get("pairwise", []))
    notes = [
        *caution_notes(shown),
        *(
            ["An interval that few prompts or seeds threw outside what a difference can be is cut there."]
            if cut
            else []
        ),
        "Paired over prompts. p (Holm) corrects p (paired) over the pairs within a metric, for a metric that was named "
        "beforehand; p (table) over every row, for whatever stands out.",
        "Effect: Cohen's d for pairs, the difference over the standard deviation of the prompts' own differences, "
        "each averaged over samples and seeds.",
        "Detectable: the smallest difference that this many prompts show in 80 % of repetitions. How many prompts "
        "another difference needs: rlhf-bench report --difference METRIC=SIZE.",
    ]
    return Table("pairwise", f"Pairwise differences on {result.data_label}", columns, rows, notes)


def _difference_shown(result: Result, row: dict[str, Any], difference: Estimate) -> Shown:
    """A difference as its caution needs it: of shares, with whether one of the two is near 0 or 1."""
    is_share = describe(row["metric"]).kind == "share"
    shares = [result.estimate(row[side], row["metric"]) for side in ("a", "b")]
    at_an_end = is_share and any(known(share) and near_an_end(share) for share in shares)
    return Shown(row["metric"], f"{row['a']} - {row['b']}", difference, is_share, at_an_end)


def missing_lines(result: Result) -> list[str]:
    """One line a reason: which numbers are not available, and why. Gaps nobody explained are listed as such."""
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> metric -> models
    explained = set()
    for row in result.metrics.get("missing", []):
        explained.add((row["model"], row["metric"]))
        reasons.setdefault(row["reason"], {}).setdefault(row["metric"], []).append(row["model"])
    for column in summary_table(result).columns[1:-2]:
        for model in result.models:
            told = {(model, column.key), ("all", column.key)} & explained
            if not told and not known(result.estimate(model, column.key)):
                reasons.setdefault("no reason recorded", {}).setdefault(column.key, []).append(model)
    return [line for reason, metrics in reasons.items() for line in _reason_lines(reason, metrics)]


def _reason_lines(reason: str, metrics: dict[str, list[str]]) -> Iterable[str]:
    by_models: dict[tuple[str, ...], list[str]] = {}
    for metric, models in metrics.items():
        by_models.setdefault(tuple(models), []).append(metric)
    for group, names in by_models.items():
        yield f"{', '.join(group)}: {', '.join(names)}: {reason}"


def _reward(result: Result) -> Column:
    title = "Reward (raw)" if result.reward_key == "reward" else f"Reward (z by {result.reference})"
    return Column(result.reward_key, title, interval=True)


def _spread(result: Result) -> list[Column]:
    """The rewards' standard deviation in the units of the reward; no column where an older result has none of them."""
    if result.reward_key == "reward":
        return [column for column in _COLUMNS if column.key == "reward_std"]
    there = any(known(result.estimate(model, "reward_z_std")) for model in result.models)
    return [Column("reward_z_std", f"Reward std (z by {result.reference})", interval=True)] if there else []


def _scorers(result: Result) -> list[Column]:
    """Reward models that score beside the first."""
    found = (key for cells in result.metrics["models"].values() for key in cells)
    keys = [key for key in found if key.startswith(REWARD_PREFIX) or key == f"{HELD_OUT}_z"]
    return [Column(key, describe(key).title, interval=True) for key in dict.fromkeys(keys)]


def _own(result: Result) -> list[Column]:
    """What the suite asked of its own prompts: the reason why anybody ran it, so it stands first."""
    return [Column(name, describe(name).title, interval=True) for name in own_metrics(result)]


def _newer(result: Result) -> list[Column]:
    """Metrics that results of earlier versions do not have; no column for those."""
    cells = dict.fromkeys(key for of_model in result.metrics["models"].values() for key in of_model)
    names = [*_NEWER, *(key for key in cells if key.startswith(PERPLEXITY_PREFIXES))]
    there = [n for n in names if any(known(result.estimate(m, n)) for m in result.models)]
    return [Column(name, describe(name).title, describe(name).digits, interval=True) for name in there]


def _name(model: str) -> str:
    return f"{model} (data)" if model in ANCHORS else model


def _training(result: Result, model: str) -> list[Cell]:
    """Mean seconds and samples of the model's own stage over seeds."""
    runs: list[dict[str, Any]] = result.metrics.get("training", {}).get(model, [])
    if not runs:
        return [None, None]
    return [sum(float(run[key]) for run in runs) / len(runs) for key in ("seconds", "samples")]


def _left_out(result: Result) -> list[str]:
    """The rows that --skip-bad passed over, a line a file."""
    return [
        f"{n:,} row{' of ' + file + ' was' if n == 1 else 's of ' + file + ' were'} left out as malformed (--skip-bad)"
        for file, n in result.manifest.get("left_out", {}).items()
    ]


def _cut(result: Result, columns: Iterable[Column]) -> list[str]:
    """Which intervals would have left what the number can be, the sign of few prompts or seeds; a line a range."""
    found: dict[tuple[float, float], list[str]] = {}
    for model in result.models:
        for column in columns:
            cell = result.estimate(model, column.key)
            if cell and cell.clipped:
                found.setdefault(cell.clipped, []).append(f"{column.title} of {model}")
    return [
        f"Intervals clipped to [{low:g}, {high:g}], which few prompts or seeds had pushed beyond: {', '.join(names)}"
        for (low, high), names in found.items()
    ]


def _intervals(result: Result) -> str:
    cells = [result.estimate(model, result.reward_key) for model in result.models]
    level = next((cell.level for cell in cells if cell), 0.95)
    over = "prompts" if len(result.seeds) == 1 else f"prompts and {len(result.seeds)} seeds"
    return f"value [low, high]: {level:.0%} confidence interval over {over}"
