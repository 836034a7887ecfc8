"""AlpacaEval 2's length-controlled win rate beside scikit-learn's fit, which its package uses, on simulated data."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlhf_bench.annotations.length_controlled import (
    STRENGTHS,
    LengthControlled,
    length_controlled,
    penalised,
    read_difficulty,
)
from rlhf_bench.cli import cli
from rlhf_bench.errors import DataError

N = 400


def annotations(seed: int = 0, quality: float = 0.4) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Preferences for a model that mostly writes more, which grow with length and differ by difficulty; and the
    difficulties."""
    rng = np.random.default_rng(seed)
    difficulty, lengths = rng.normal(size=N), rng.integers([[20], [100]], [[400], [600]], size=(2, N))
    lead = lengths[0] - lengths[1]
    eta = quality - 0.8 * np.tanh(lead / lead.std(ddof=1)) + 0.7 * difficulty
    chance = 1 / (1 + np.exp(-(eta + rng.normal(scale=0.5, size=N))))
    rows = [
        {"instruction": str(i), "generator_1": "gpt4", "generator_2": "mine", "output_1": "x" * int(lengths[0, i]),
         "output_2": "y" * int(lengths[1, i]), "preference": 1 + float(chance[i])}
        for i in range(N)
    ]  # fmt: skip
    return rows, difficulty


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def gamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the columns of AlpacaEval's df_gamed.csv: two baselines."""
    rng, (_, difficulty) = np.random.default_rng(5), annotations()
    rows = [
        [i, float(rng.uniform()), float(rng.normal(sign)), float(difficulty[i]), False, f"gpt4_{sign}"]
        for sign in (-1, 1)
        for i in range(N)
    ]
    header = ["index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
    return write_csv(tmp_path_factory.mktemp("gamed") / "df_gamed.csv", header, rows)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LengthControlled:
    """What the annotations give with a file of difficulties alone, as pandas writes it."""
    rows, difficulty = annotations()
    cells = [[i, float(d)] for i, d in enumerate(difficulty)]
    file = write_csv(tmp_path_factory.mktemp("plain") / "difficulty.csv", ["", "0"], cells)
    return length_controlled(rows, read_difficulty([file]))


def by_scikit_learn(rows: list[dict[str, Any]], difficulty: np.ndarray, gamed: Path | None) -> float:
    """Each row twice, as won and as lost, weighed by its probability; liblinear with L1 under five-fold GroupKFold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    lead = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], dtype=float)
    x = np.column_stack([np.tanh(lead / lead.std(ddof=1)), difficulty, np.ones(N)])
    y, weight = np.array([row["preference"] - 1 for row in rows]), np.ones(N)
    if gamed is not None:
        with gamed.open() as file:
            extra = list(csv.DictReader(file))
        more = np.array([[np.tanh(float(r["std_delta_len"])), float(r["instruction_difficulty"]), 0.0] for r in extra])
        x, y = np.vstack([more, x]), np.r_[[float(r["preference"]) for r in extra], y]
        weight = np.r_[np.full(len(extra), 0.1), weight]

    def fit(index: np.ndarray, strength: float) -> np.ndarray:
        twice = np.vstack([x[index], x[index]])
        labels = np.r_[np.ones(len(index)), np.zeros(len(index))]
        model = LogisticRegression(l1_ratio=1.0, solver="liblinear", fit_intercept=False, C=strength, random_state=123)
        chances = np.r_[y[index], 1 - y[index]] * np.r_[weight[index], weight[index]]
        return np.asarray(model.fit(twice, labels, sample_weight=chances).coef_[0])

    def loss(index: np.ndarray, beta: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-x[index] @ beta))
        return float(-np.mean(weight[index] * (y[index] * np.log(p) + (1 - y[index]) * np.log(1 - p))))

    folds = list(GroupKFold(n_splits=5).split(x, y, groups=np.arange(len(y))))
    losses = [sum(loss(out, fit(inside, c)) for inside, out in folds) for c in np.logspace(-4, 4, 10)]
    beta = fit(np.arange(len(y)), float(np.logspace(-4, 4, 10)[int(np.argmin(losses))]))
    return float(100 * np.mean(1 / (1 + np.exp(-(beta[1] * difficulty + beta[2])))))


@pytest.mark.filterwarnings("ignore")  # scikit-learn's
@pytest.mark.parametrize("with_gamed", [True, False])
def test_the_rate_of_scikit_learns_fit(gamed: Path, plain: LengthControlled, with_gamed: bool) -> None:
    rows, difficulty = annotations()
    ours = length_controlled(rows, read_difficulty([gamed])) if with_gamed else plain
    assert ours.rate == pytest.approx(by_scikit_learn(rows, difficulty, gamed if with_gamed else None), abs=0.02)
    raw = 100 * np.mean([row["preference"] - 1 for row in rows])
    assert abs(ours.rate - raw) > 3  # or nothing would have been controlled


def test_the_minimum_of_the_penalised_loss() -> None:
    """One feature that is always 1 and a share of 3/4 of wins: C n (sigmoid(b) - 3/4) + sign(b) = 0 at n = 8, C = 1
    gives sigmoid(b) = 5/8, b = log(5/3); at C = .4 the slope at 0, .4 x 8 x 1/4 = .8, is below 1, and b stays 0."""
    x, y, weight = np.ones((8, 1)), np.array([1.0] * 6 + [0.0] * 2), np.ones(8)
    assert penalised(x, y, weight, 1.0)[0] == pytest.approx(math.log(5 / 3), abs=1e-8)
    assert penalised(x, y, weight, 0.4)[0] == 0.0
    assert len(STRENGTHS) == 10


def test_difficulties_from_two_files_of_predictions(tmp_path: Path, plain: LengthControlled) -> None:
    """sigmoid(b difficulty + c) of two models gives the difficulties up to their unit; the rate hardly changes."""
    rows, difficulty = annotations()
    files = []
    for name, b, c in (("a", 0.5, -1.0), ("b", 1.1, 0.3)):
        path = tmp_path / f"{name}.json"
        stored = [{"preference": 1.5, "glm_preference": float(1 / (1 + np.exp(-(b * d + c))))} for d in difficulty]
        path.write_text(json.dumps(stored))
        files.append(path)
    found = read_difficulty(files)
    assert np.corrcoef([found.by_index[i] for i in range(N)], difficulty)[0, 1] == pytest.approx(1.0)
    assert length_controlled(rows, found).rate == pytest.approx(plain.rate, abs=0.1)
    other = tmp_path / "c.json"
    shuffled = np.random.default_rng(1).permutation(difficulty)
    other.write_text(json.dumps([{"glm_preference": float(1 / (1 + np.exp(-d)))} for d in shuffled]))
    with pytest.raises(DataError, match="do not hold the same difficulties"):
        read_difficulty([files[0], other])


def test_the_command(tmp_path: Path, plain: LengthControlled) -> None:
    rows, difficulty = annotations()
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    file = write_csv(tmp_path / "d.csv", ["index", "value"], [[i, float(d)] for i, d in enumerate(difficulty)])
    words = ["eval", "--annotations", str(tmp_path / "annotations.json")]
    done = CliRunner().invoke(cli, [*words, "--difficulty", str(file)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].split()[10] == f"{plain.rate:.2f}"
    assert "gamed baselines" in done.output
    stored = [row | {"glm_preference": 0.25} for row in rows]
    (tmp_path / "annotations.json").write_text(json.dumps(stored))
    assert CliRunner().invoke(cli, words).output.splitlines()[1].split()[10] == "25.00"
    alone = CliRunner().invoke(cli, ["eval", "--difficulty", str(file)])
    assert alone.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n", "has the columns a, b, c"),
        ("index,value\n0,x\n", "row 1 has 'x' as 'value'"),
        ("glm_preference\n0.5\n0.5\n", "the same in all rows"),
        ("index,value\n0,1.0\n", "no difficulty is known for the row of index 1"),
    ],
)
def test_what_is_no_difficulty(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        length_controlled(annotations()[0], read_difficulty([path]))
    assert message in str(error.value)
