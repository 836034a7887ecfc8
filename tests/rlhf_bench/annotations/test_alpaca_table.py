"""AlpacaEval's annotations as a table, and the command that prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_bench.annotations.alpaca import annotations_text
from rlhf_bench.cli import cli
from rlhf_bench.errors import DataError


def write(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows))
    return path


def annotation(i: int, preference: object, output: str = "a b c") -> dict[str, object]:
    return {
        "instruction": f"Say {i}.", "generator_1": "gpt", "generator_2": "mine", "output_1": "a b c",
        "output_2": output, "preference": preference,
    }  # fmt: skip


def test_alpaca_evals_numbers_and_the_rate_at_equal_length(tmp_path: Path) -> None:
    """Preferences 2, 2, 1, 1.5, 0 (a draw) and null: (1 + 1 + 0 + .5 + .5) / 5 = 60 %; deviations .4 .4 -.6 -.1 -.1,
    squares .16 .16 .36 .01 .01 = .70, sd sqrt(.70 / 4) = .418330, over sqrt(5): .187083. 2 wins, 1 loss, 2 draws."""
    rows = [annotation(i, p) for i, p in enumerate([2, 2, 1, 1.5, 0, None])]
    header, line, *_ = annotations_text(write(tmp_path / "annotations.json", rows)).splitlines()
    cells = dict(zip(header.split()[:10], line.split(), strict=False))
    assert (cells["model"], cells["baseline"]) == ("mine", "gpt")
    assert (cells["win_rate"], cells["standard_error"], cells["discrete_win_rate"]) == ("60.00", "18.71", "60.00")
    assert [cells[k] for k in ("n_wins", "n_wins_base", "n_draws", "n_total", "n_dropped")] == ["2", "1", "2", "5", "1"]
    # outputs of one length: nothing to control, but for the weak penalty that draws the rate to a half
    assert float(line.split()[11]) == pytest.approx(60, abs=0.2)


def test_length_that_wins_is_taken_out(tmp_path: Path) -> None:
    """The longer of two is preferred six times in seven, and mine is the longer three times in four."""
    rows = []
    for i in range(280):
        longer, surprise = i % 4 != 0, i % 7 == 3
        rows.append(annotation(i, 2 if longer != surprise else 1, "a b c d e" if longer else "a"))
    line = annotations_text(write(tmp_path / "annotations.json", rows)).splitlines()[1].split()
    assert float(line[2]) == pytest.approx(100 * (3 / 4 * 6 / 7 + 1 / 4 * 1 / 7), abs=0.01)  # as it is: 67.86
    # log odds of 6 : 1 and 1 : 6 meet at 0, a rate of 50; one model's own slope counts for a part only
    assert 50 < float(line[11]) < 62


def test_without_outputs_and_bad_files(tmp_path: Path) -> None:
    text = annotations_text(write(tmp_path / "a.json", [{"preference": 2}, {"preference": 1}]))
    assert text.splitlines()[1].split() == [
        "model",
        "baseline",
        "50.00",
        "50.00",
        "50.00",
        "1",
        "1",
        "0",
        "2",
        "0",
        "-",
        "-",
    ]
    with pytest.raises(DataError, match=r"b.json' has the columns winner and lacks preference"):
        annotations_text(write(tmp_path / "b.json", [{"winner": 1}]))
    with pytest.raises(DataError, match="row 1 is int"):
        annotations_text(write(tmp_path / "c.json", [1]))


def test_the_command_prints_it_and_takes_nothing_else(tmp_path: Path) -> None:
    file = str(write(tmp_path / "annotations.json", [annotation(i, 1 + i % 2) for i in range(4)]))
    found = CliRunner().invoke(cli, ["eval", "--annotations", file])
    assert found.exit_code == 0
    assert "50.00" in found.output
    wrong = CliRunner().invoke(cli, ["eval", "--annotations", file, "--limit", "3"])
    assert wrong.exit_code == 2
    assert "error: --annotations: given with options about what is evaluated; expected it alone" in wrong.output
