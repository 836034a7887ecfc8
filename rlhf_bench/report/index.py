"""results/index.html: every result of a folder with its key numbers, and leaderboards over runs on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlhf_bench.errors import BenchError, StoreError
from rlhf_bench.files import atomic_write_text, writing
from rlhf_bench.report.leaderboard import leaderboards
from rlhf_bench.report.notes import toy_lines
from rlhf_bench.report.page import rendered
from rlhf_bench.report.render.html import HtmlTable, html_table
from rlhf_bench.report.result import Result, known, load_result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.store import find_results

_COLUMNS = [
    Column("result", "Result"),
    Column("date", "Date"),
    Column("data", "Data"),
    Column("prompts", "Prompts"),
    Column("seeds", "Seeds"),
    Column("best_gold", "Highest gold"),
    Column("gold", "Gold", interval=True),
    Column("best_reward", "Highest reward"),
    Column("reward_z", "Reward (z)", interval=True),
    Column("models", "Models"),
]
_SCRIPTS = ("dom", "tables", "index")


def write_index(results: Path) -> Path:
    """Write index.html into the folder of all results, the newest result first; a result that is broken is named.

    Raises StoreError where the folder holds no result, or cannot be written.
    """
    found: list[tuple[Path, Result]] = []
    unread = []
    for folder in find_results(results):
        try:
            found.append((folder, load_result(folder)))
        except BenchError as error:
            unread.append(f"{folder.relative_to(results).as_posix()}: {error}")
    if not found and not unread:
        raise StoreError(f"no result in {results}/; make one with: rlhf-bench eval --suite hh-test")
    found.sort(key=lambda pair: str(pair[1].manifest.get("time", "")), reverse=True)
    notes = [f"{folder.name}: {line}" for folder, result in found for line in toy_lines(result.manifest)]
    table = Table("results", "All results", _COLUMNS, [_row(results, *one) for one in found], notes)
    overview = _linked(html_table(table), 0, [_link(results, folder) for folder, _ in found])
    boards = [
        _linked(html_table(board.table), 2, [_link(results, folder) for folder in board.folders])
        for board in leaderboards([result for _, result in found])
    ]
    page = rendered("index.html.j2", scripts=_SCRIPTS, results=overview, boards=boards, unread=unread)
    with writing(results / "index.html") as path:
        atomic_write_text(path, page + "\n")
    return path


def _link(root: Path, folder: Path) -> str:
    """The link to a result's page, or to its folder where no page was drawn."""
    target = folder / "report.html" if (folder / "report.html").is_file() else folder
    return target.relative_to(root).as_posix() or "."


def _linked(table: HtmlTable, column: int, links: Sequence[str]) -> HtmlTable:
    """`table` with a link in that column of each row."""
    for cells, link in zip(table.parts[0].rows, links, strict=True):
        cells[column] = cells[column]._replace(link=link)
    return table


def _row(root: Path, folder: Path, result: Result) -> list[Cell]:
    data = result.manifest["data"]
    best_gold, gold = _highest(result, "gold")
    best_reward, reward = _highest(result, "reward_z")  # raw rewards of two results have no common scale
    return [
        folder.relative_to(root).as_posix() or folder.name,
        str(result.manifest.get("time", "?")).replace("T", " ")[:16],
        result.data_label,
        int(data["n_prompts"]) if data.get("n_prompts") else None,
        len(result.seeds),
        *(best_gold, gold),
        *(best_reward, reward),
        ", ".join(result.policies),
    ]


def _highest(result: Result, metric: str) -> tuple[Cell, Cell]:
    """The model with the highest number of a metric, and that number."""
    cells = [(model, estimate) for model in result.policies if known(estimate := result.estimate(model, metric))]
    return max(cells, key=lambda pair: pair[1].value) if cells else (None, None)
