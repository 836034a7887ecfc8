"""rlhf-bench list"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import click

from rlhf_bench.cli.base import DEFAULT_RESULTS, bench_command, checkpoints_option, results_option
from rlhf_bench.cli.results import newest_results
from rlhf_bench.errors import check_known
from rlhf_bench.types import STAGES

KINDS = ("recipes", "suites", "data", "runs", "results")


@bench_command(
    "list",
    examples=["rlhf-bench list", "rlhf-bench list suites"],
)
@click.argument("kind", required=False, metavar="[recipes|suites|data|runs|results]")
@checkpoints_option
@results_option
def list_(kind: str | None, checkpoints: Path, results: Path) -> None:
    """List recipes, suites, data, runs, results.

    Without a kind, all of them; for data also the card of the embedded data set.
    """
    check_known("kind", [] if kind is None else [kind], KINDS)
    tables: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "recipes": _recipes,
        "suites": _suites,
        "data": _data,
        "runs": lambda: _runs(checkpoints),
        "results": lambda: [(it.relative_to(results).as_posix(), _result(it)) for it in newest_results(results)],
    }
    for name in [kind] if kind else KINDS:
        if not kind:
            click.echo(f"{name}:")
        rows = tables[name]() or [("none", "")]
        width = max(len(called) for called, _ in rows)
        for called, what in rows:
            click.echo(f"{'' if kind else '  '}{called:<{width}}  {what}".rstrip())
    if kind == "data":
        from rlhf_bench.data.mini import card

        click.echo()
        click.echo(card().rstrip("\n"))


def _recipes() -> list[tuple[str, str]]:
    from trainers.config.loading import list_recipes

    return sorted(list_recipes().items())


def _suites() -> list[tuple[str, str]]:
    from rlhf_bench.evaluate.suite import list_suites, load_suite, needs

    texts = {name: " ".join(description.split()) for name, description in list_suites().items()}
    return [(name, f"{description} (needs {needs(load_suite(name))})") for name, description in texts.items()]


def _data() -> list[tuple[str, str]]:
    from rlhf_bench.data import known_sources

    return [
        *known_sources().items(),
        ("OWNER/NAME", "any other data set of the Hugging Face hub; its columns are named with --column"),
        ("FILE", "JSON lines, JSON, Parquet, CSV or Excel with prompt/chosen/rejected, or as docs/data.md lists"),
        ("FOLDER", "of such files, or a DatasetDict saved by datasets"),
    ]


def _runs(checkpoints: Path) -> list[tuple[str, str]]:
    rows = []
    for run in sorted(path for path in checkpoints.glob("*") if path.is_dir() and not path.name.startswith(".")):
        seeds = sorted(run.glob("seed-*"))
        parts = [
            (f"{folder.name}: " if seeds else "")
            + (", ".join(filter(None, (_state(folder, stage) for stage in STAGES))) or "nothing")
            for folder in seeds or [run]
        ]
        rows.append((run.name, "; ".join(parts)))
    return rows


def _state(run: Path, stage: str) -> str | None:
    """The stage's name, marked where training was interrupted; None where nothing of it is stored."""
    if (run / stage / "training.json").is_file():
        return stage
    return f"{stage} (unfinished)" if any((run / f".{stage}.work").glob("state-*.pt")) else None


def _result(folder: Path) -> str:
    """Where it is; of an evaluation that was interrupted, how to go on: its manifest is written first, numbers last."""
    if (folder / "metrics.json").is_file():
        return str(folder)
    words = ["rlhf-bench", "eval", "--from", str(folder / "manifest.json")]
    root = Path(os.path.normpath(folder / "../.."))  # of all results, also where the one of a suite was given
    elsewhere = [] if root == DEFAULT_RESULTS else ["--results", str(root)]
    return f"{folder} (unfinished; go on with: {shlex.join([*words, *elsewhere])})"
