"""The page docs/notebook.md: its code is run as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rlhf_bench.report.notebook import figures, frames
from rlhf_bench.report.result import load_result

PAGE = Path(__file__).parents[3] / "docs" / "notebook.md"


def test_frames_are_the_tables(three_seeds: Path) -> None:
    found, result = frames(three_seeds), load_result(three_seeds)
    assert {"summary", "pairwise", "per_seed", "gold"} <= found.keys()
    assert "best_of_n" not in found  # the result has none
    summary = found["summary"].set_index("model")
    gold = result.estimate("ppo", "gold")
    assert gold is not None
    assert summary.loc["ppo", ["gold", "gold_low", "gold_high", "gold_n"]].tolist() == pytest.approx(
        [gold.value, gold.low, gold.high, gold.n]
    )


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Say {i}.", "response": f"so {i} " * (1 + i % 4), "reference": f"so {i}"} for i in range(20)]
    for name in ("mine", "theirs"):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code
    names: dict[str, object] = {}
    for cell in code:
        exec(cell, names)
    assert isinstance(names["bars"], Figure)
    assert set(figures(Path(str(names["folder"])))) >= {"rouge"}
