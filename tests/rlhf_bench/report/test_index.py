"""The index of all results: what it lists, and ranks that the paired tests allow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student_t

from rlhf_bench.errors import StoreError
from rlhf_bench.report.index import write_index
from rlhf_bench.report.leaderboard import leaderboards, p_of_other_seeds, ranks
from rlhf_bench.report.result import load_result

from .make_result import make_result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    for run in ("one", "two"):
        make_result(root / "hh-test" / run, models=("base", "sft", "ppo"), audit=False)
    return root


def test_ranks_by_hand() -> None:
    """0.9 and 0.8 are not told apart, both are surely higher than 0.1: ranks 1-2, 1-2 and 3."""
    assert ranks([0.9, 0.8, 0.1], [(0, 2), (1, 2)]) == [(1, 2), (1, 2), (3, 3)]
    assert ranks([0.9, 0.8, 0.1], [(2, 0)]) == [(1, 2), (1, 3), (2, 3)]  # only the ends differ
    assert ranks([0.9, 0.8], []) == [(1, 2), (1, 2)]


def test_two_runs_of_the_same_checkpoints_share_their_ranks(results: Path) -> None:
    """The runs hold the same numbers: each model is there twice and never told from its twin."""
    (board,) = leaderboards([load_result(results / "hh-test" / run) for run in ("one", "two")])
    found = [(row[0], row[1]) for row in board.table.rows]
    assert len(found) == 6
    assert [found[i] for i in (0, 2, 4)] == [found[i] for i in (1, 3, 5)]
    assert found[-1] == ("5-6", "base")  # by gold 0.22 against 0.48 and 0.55, with a spread of 0.12


def test_prompts_are_paired_and_seeds_are_not() -> None:
    """Differences of 3 prompts 1, 2, 3: variance 1 / 3. Seeds' means 2 and 4, twice: variance 2 / 2 = 1 a side.
    t = 2 / sqrt(7 / 3) = 1.30931 with (7 / 3)^2 / ((1 / 3)^2 / 2 + 1 + 1) = 49 / 18.5 = 2.64865 degrees of freedom.
    """
    a = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])  # means over seeds 2, 3, 4
    b = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])  # 0, 2
    assert p_of_other_seeds(a, b) == pytest.approx(2 * student_t.sf(1.309307, 2.648649), abs=1e-6)
    assert p_of_other_seeds(a, a) == 1.0
    one = p_of_other_seeds(a[:1], b[:1])  # a seed each: prompts alone, 1, 2, 3 again
    assert one == pytest.approx(2 * student_t.sf(2 / (1 / 3) ** 0.5, 2), abs=1e-9)


def test_a_leaderboard_over_runs_without_common_seeds(tmp_path: Path) -> None:
    """The same models trained under other seeds: ppo is surely above base by gold, in whatever run."""
    for run, seeds in (("one", range(4)), ("two", range(4, 8))):
        make_result(tmp_path / run, models=("base", "ppo"), seeds=seeds, n_prompts=20, samples=1, audit=False)
    (board,) = leaderboards([load_result(tmp_path / run) for run in ("one", "two")])
    assert [(row[0], row[1]) for row in board.table.rows] == [("1-2", "ppo")] * 2 + [("3-4", "base")] * 2
    assert {row[2] for row in board.table.rows[:2]} == {"one", "two"}


def test_other_data_are_another_leaderboard(results: Path, tmp_path: Path) -> None:
    path = make_result(tmp_path / "three", models=("sft",), audit=False)
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["data"]["fingerprint"] = "another"
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert leaderboards([load_result(results / "hh-test" / "one"), load_result(path)]) == []


def test_the_index_links_every_result_and_names_a_broken_one(results: Path) -> None:
    broken = results / "hh-test" / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "manifest.json").write_text("{", "utf-8")
    page = write_index(results).read_text("utf-8")
    assert 'href="hh-test/one"' in page  # no page was drawn: its folder
    (results / "hh-test" / "two" / "report.html").write_text("drawn", "utf-8")
    page = write_index(results).read_text("utf-8")
    assert 'href="hh-test/two/report.html"' in page
    assert "hh-test/broken: " in page
    assert "Leaderboard: hh-test on hh-mini (test)" in page


def test_no_result_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no result in"):
        write_index(tmp_path)
