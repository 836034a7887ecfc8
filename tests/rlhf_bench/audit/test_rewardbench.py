"""RewardBench's results: sections by hand, in the forms in which they are published, and rows that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_bench.audit import audit
from rlhf_bench.audit.rewardbench import SECTIONS
from rlhf_bench.cli import cli


def test_sections_and_score_worked_by_hand(tmp_path: Path) -> None:
    """Two pairs a subset. Chat: alpacaeval-easy 1/2, the others 1: (50 + 95 + 95 + 28 + 40) / 358 = 308 / 358 = .8603.
    Reasoning: math-prm 0, code 1, and both weigh 984: .5. The others 1: (.8603 + 1 + 1 + .5) / 4 = .8401."""
    right = {"alpacaeval-easy": [1, 0], "math-prm": [0, 0]}
    rows = [(s, value) for section in SECTIONS.values() for s in section for value in right.get(s, [1, 1])]
    columns = {"model": "org/rm", "subset": [s for s, _ in rows], "results": [value for _, value in rows]}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    scored = [{"subset": s, "scores_chosen": [float(v)], "scores_rejected": [0.5]} for s, v in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    for name in ("columns.json", "rows.jsonl"):
        table = audit(scores=tmp_path / name, results=tmp_path).tables["audit_rewardbench"]
        found = table[table["subset"] == "all"].set_index("section")["accuracy"]
        assert found["Chat"] == pytest.approx(308 / 358)
        assert found["Reasoning"] == 0.5
        assert found["Score"] == pytest.approx((308 / 358 + 2.5) / 4)
    done = CliRunner().invoke(cli, ["audit", "--scores", str(tmp_path / "rows.jsonl"), "--results", str(tmp_path)])
    assert "0.8401" in done.stdout


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"subset": "math-prm", "results": 3}, "row 2 has 3 as 'results', expected 0 or 1"),
        ({"subset": "math-prm", "results": None, "scores_chosen": "x", "scores_rejected": 1}, "row 2 has 'x'"),
    ],
)
def test_wrong_rows_are_named_and_the_rest_counts(tmp_path: Path, row: dict[str, object], why: str) -> None:
    """A tie is wrong; a section that lacks subsets has no accuracy."""
    rows = [{"subset": "mine", "results": 1}, row, {"subset": "hep-go", "scores_chosen": 1, "scores_rejected": 1}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = audit(scores=tmp_path / "rows.jsonl", results=tmp_path)
    assert why in " ".join(found.text().split())
    table = found.tables["audit_rewardbench"].set_index("subset")
    assert table["accuracy"]["hep-go"] == 0
    assert table["without"]["all"].startswith("math-prm, hep-cpp")
    assert len(found.mistakes) == 1
