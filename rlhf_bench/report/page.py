"""report.html: one file that holds everything, opens from disk and asks nothing of the network."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlhf_bench.files import atomic_write_text
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.best_of_n import best_of_n_table
from rlhf_bench.report.cells import Cell, Column, Table, column_text, number_text
from rlhf_bench.report.equal_kl import equal_kl_table
from rlhf_bench.report.judge import judge_tables
from rlhf_bench.report.pareto import pareto_table
from rlhf_bench.report.responses import side_by_side
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.rouge import rouge_table
from rlhf_bench.report.tables import gold_table, missing_lines, pairwise_table, per_seed_table, summary_table
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

__all__ = ["write_page"]

_PROMPTS = 30
_MISTAKES = 20
_SVG_LIMIT = 600_000  # bytes; a larger drawing goes in as PNG
_IN_PANELS = ("suite_metrics", "win_rates", "judge_ratings")  # beside each other: as wide as the page
_CAPTIONS = {
    "suite_metrics": "What this suite asks: each model with its interval.",
    "reward_vs_kl": "How much learned reward each model buys with how much distance from the reference.",
    "gold_vs_kl": "The same with the gold reward: where it falls while the learned reward rises, the reward model was "
    "optimised too hard.",
    "gold_vs_sqrt_kl": "A method's checkpoints, or best of n, with the form of arXiv 2210.10760; dotted, upright: "
    "where gold turns.",
    "gold_vs_reward": "What the learned reward promises against what is so.",
    "held_out_vs_reward": "Below the line, a model gains more by the reward model it was optimised against than by "
    "another seed's: what it learned is partly that one's errors.",
    "reward_distribution": "The learned reward of every response.",
    "win_rates": "Against the baseline, which stands at one half; believe it as far as the judge's audit allows.",
    "judge_ratings": "Mean ratings by criterion.",
    "rouge": "How near responses come to the data's chosen ones: by words, pairs of words, longest common subsequence.",
    "length": "How long responses are; 'chosen' and 'rejected' are the data's own.",
    "length_vs_reward": "Whether the reward model pays for length.",
    "kl_by_position": "Where in the response a model leaves the reference.",
}


class HtmlCell(NamedTuple):
    text: str
    interval: str = ""
    arrow: str = ""  # "up" or "down" against the reference
    strong: bool = False
    left: bool = False


def write_page(result: Result) -> Path:
    """Write report.html beside the manifest. The plots are those in plots/; missing ones are left out."""
    environment = Environment(
        loader=PackageLoader("rlhf_bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = result.path / "report.html"
    atomic_write_text(path, environment.get_template("report.html.j2").render(_context(result)) + "\n")
    return path


def _context(result: Result) -> dict[str, Any]:
    summary = summary_table(result)
    return {
        "result": result,
        "manifest": result.manifest,
        "facts": _facts(result),
        "summary": _html(summary, result),
        "summary_notes": summary.notes,
        "alarms": alarm_lines(result),
        "training_alarms": training_alarm_lines(result),
        "plots": {name: uri for name in _CAPTIONS if (uri := _plot(result, name))},
        "captions": _CAPTIONS,
        "in_panels": _IN_PANELS,
        "pareto": _html(pareto_table(result)),
        "pareto_notes": pareto_table(result).notes,
        "equal_kl": _html(equal_kl_table(result)),
        "equal_kl_notes": equal_kl_table(result).notes,
        "best_of_n": _html(best_of_n_table(result)),
        "best_of_n_notes": best_of_n_table(result).notes,
        "judge": [(table.title, _html(table), table.notes) for table in judge_tables(result) if table.rows],
        "curves": _plot(result, "training_curves"),
        "pairwise": _pairwise(result),
        "pairwise_notes": pairwise_table(result).notes,
        "per_seed": _html(per_seed_table(result)) if len(result.seeds) > 1 else None,
        "per_seed_notes": per_seed_table(result).notes,
        "gold": _html(gold_table(result)) if result.has_gold else None,
        "gold_notes": gold_table(result).notes,
        "rouge": _html(rouge_table(result)),
        "rouge_notes": rouge_table(result).notes,
        "training": _html(_training_table(result)),
        "reward_model": _html(_reward_model_table(result)),
        "audit": _audit(result),
        "prompts": side_by_side(result, _PROMPTS),
        "missing": missing_lines(result),
        "manifest_json": json.dumps(result.manifest, indent=2, ensure_ascii=False),
        "number": _number,
        "question": _question,
    }


def _number(value: float | None, digits: int) -> str:
    return number_text(value, digits).replace("-", "−")


def _question(prompt: str) -> str:
    """The end of a prompt, for a heading of one line: in the HH form the last thing that the human said."""
    return prompt.strip().removesuffix("Assistant:").strip().rpartition("Human:")[2].strip()[-130:]


def _facts(result: Result) -> list[tuple[str, str]]:
    manifest, data, sampling = result.manifest, result.manifest["data"], result.sampling
    samples = sampling.get("samples", "?")
    prompts = f"{data.get('n_prompts', '?')} × {samples} sample{'' if samples == 1 else 's'}"
    drawn = f"temperature {sampling.get('temperature', '?')}, top-p {sampling.get('top_p', '?')}"
    return [
        ("Data", result.data_label),
        ("Prompts", prompts),
        ("Training seeds", ", ".join(map(str, result.seeds))),
        ("Reference", result.reference),
        ("Sampling", f"{drawn}, at most {sampling.get('max_new_tokens', '?')} tokens"),
        ("Date", str(manifest.get("time", "?")).replace("T", " ")[:16]),
        ("Hardware", str(manifest.get("hardware", "?"))),
    ]


def _html(table: Table, result: Result | None = None) -> dict[str, Any] | None:
    """Header and cells for the template, or None for a table without rows. With `result`, arrows mark differences."""
    if not table.rows:
        return None
    rows = []
    for row in table.rows:
        model = str(row[0])
        cells = [_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        if result is not None:
            signs = [result.differs(model, _tested(column.key)) for column in table.columns]
            cells = [cell._replace(arrow=("", "up", "down")[sign]) for cell, sign in zip(cells, signs, strict=True)]
        rows.append(cells)
    return _table([column.title for column in table.columns], rows)


def _table(titles: list[str], rows: list[list[HtmlCell]]) -> dict[str, Any]:
    """A heading stands on the side where its cells stand."""
    left = [any(cell.left for cell in column) for column in zip(*rows, strict=True)]
    return {"header": list(zip(titles, left, strict=True)), "rows": rows}


def _tested(key: str) -> list[str]:
    """The pairwise metrics that speak for a column: rewards are often compared under either name."""
    return ["reward_z", "reward"] if key == "reward_z" else [key]


def _cell(cell: Cell, column: Column) -> HtmlCell:
    text = column_text(cell, column)
    if isinstance(cell, str):
        return HtmlCell(text, left=True)
    value, _, interval = text.replace("-", "−").partition(" [")
    return HtmlCell(value, f"[{interval}" if interval else "", strong=isinstance(cell, Estimate))


def _pairwise(result: Result) -> list[dict[str, Any]]:
    """One table a metric; a row is strong where Holm's p is below 5 %."""
    table = pairwise_table(result)
    key = [column.key for column in table.columns].index("p_holm")
    groups = []
    for metric, members in groupby(table.rows, lambda row: str(row[0])):
        rows = []
        for row in members:
            p = row[key]
            found = isinstance(p, float) and p < 0.05
            cells = [_cell(c, col) for c, col in zip(row[1:], table.columns[1:], strict=True)]
            rows.append([cell._replace(strong=found and cell.strong) for cell in cells])
        found_rows = sum(any(cell.strong for cell in cells) for cells in rows)
        header = [column.title for column in table.columns[1:]]
        groups.append({"metric": metric, "table": _table(header, rows), "found": found_rows})
    return groups


def _training_table(result: Result) -> Table:
    columns = [Column("model", "Stage"), Column("seed", "Seed"), Column("seconds", "Seconds", 1)]
    columns += [Column("samples", "Samples", 0), Column("tokens", "Tokens", 0)]
    rows: list[list[Cell]] = [
        [model, int(run["seed"]), float(run["seconds"]), run.get("samples"), run.get("tokens")]
        for model, runs in result.metrics.get("training", {}).items()
        for run in runs
    ]
    return Table("training", "Training cost", columns, rows)


def _reward_model_table(result: Result) -> Table:
    columns = [Column("seed", "Seed"), Column("accuracy", "Accuracy"), Column("ceiling", "Ceiling")]
    rows: list[list[Cell]] = [
        [int(row["seed"]), Estimate.from_dict(row["accuracy"]), row.get("ceiling")]
        for row in result.metrics.get("reward_model", [])
        if isinstance(row.get("accuracy"), dict)
    ]
    return Table("reward_model", "Reward model", columns, rows)


def _audit(result: Result) -> list[dict[str, Any]]:
    """All seeds together where there are several, then each: accuracy by category, calibration bins, worst mistakes."""
    store = ResultStore(result.path)
    audit = store.read_audit() or {"models": {}}
    mistakes = store.read_mistakes()
    pooled = audit.get("pooled")
    together: dict[str, Any] = {
        "title": f"{len(audit['models'])} seeds together",
        "bins": [],
        "ece": None,
        "mistakes": [],
    }
    return [
        *([{**together, "accuracy": _html(_accuracy_table(pooled))}] if pooled else []),
        *_audit_of_seeds(audit["models"], mistakes),
    ]


def _audit_of_seeds(models: dict[str, Any], mistakes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "title": f"seed {seed}",
            "accuracy": _html(_accuracy_table(part)),
            "bins": [b for b in part.get("calibration", []) if b.get("n")],
            "ece": part.get("ece"),
            "mistakes": [row for row in mistakes if str(row.get("seed", seed)) == seed][:_MISTAKES],
        }
        for seed, part in models.items()
    ]


def _accuracy_table(part: dict[str, Any]) -> Table:
    names = ("accuracy", "longer", "shorter", "untrained")
    columns = [Column("category", "Category"), Column("accuracy", "Reward model"), Column("longer", "Longer wins")]
    columns += [Column("shorter", "Shorter wins"), Column("untrained", "Untrained head"), Column("ceiling", "Ceiling")]
    unseen = {f"unseen: {name}": group for name, group in part.get("unseen_by_category", {}).items()}
    groups = {"all": part.get("overall"), **part.get("by_category", {}), "unseen categories": part.get("unseen")}
    groups |= unseen
    rows: list[list[Cell]] = [
        [name, *(_maybe(group.get(key)) for key in names), group.get("ceiling")]
        for name, group in groups.items()
        if group
    ]
    return Table("audit", "Accuracy by category", columns, rows)


def _maybe(cell: dict[str, Any] | None) -> Estimate | None:
    estimate = Estimate.from_dict(cell) if cell else None
    return estimate if known(estimate) else None


def _plot(result: Result, name: str) -> str | None:
    """The plot as a data URI: an image, so nothing in it can run or load anything."""
    for suffix, kind in ((".svg", "image/svg+xml"), (".png", "image/png")):
        path = result.path / "plots" / f"{name}{suffix}"
        if path.exists() and (suffix == ".png" or path.stat().st_size <= _SVG_LIMIT):
            return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return None
