"""AlpacaEval 2's length-controlled win rate, Dubois et al. 2024 (arXiv:2404.04475), as its package computes it.

    logit P(model i wins on prompt x) = a tanh((len_baseline - len_model) / sd) + b difficulty_x + c
    rate = mean over x of sigmoid(b difficulty_x + c)

len are characters, sd is over a model's rows. Each model is fitted alone: logistic regression on its preferences, which
may lie between 0 and 1, without an intercept, with an L1 penalty; five-fold cross-validation chooses its strength.
Difficulties come from a file, in which AlpacaEval has fitted them over many models. Its rows of two baselines with the
instruction to be concise, or verbose, count a tenth each, without c: they keep a from being gamed.

AlpacaEval fits by liblinear, to a tolerance of 1e-4; here the same objective is minimised to some 1e-8. The folds
decide the strength of the penalty alone, and at 805 prompts hardly the rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize

from rlhf_bench.annotations.cells import as_number, preference_of
from rlhf_bench.data.tabular import is_nothing, read_table
from rlhf_bench.errors import DataError
from rlhf_bench.stats import FloatArray

STRENGTHS = np.logspace(-4, 4, 10)  # C of the penalty, as scikit-learn's LogisticRegressionCV tries them
FOLDS = 5
GAMED_WEIGHT = 0.2 / 2  # of each row of the two gamed baselines
_EXPECTED = (
    "expected index and a value a row (AlpacaEval's instruction_difficulty.csv), AlpacaEval's df_gamed.csv, or an "
    "annotations.json with glm_preference"
)


class GamedRows(NamedTuple):
    """AlpacaEval's annotations of its baseline with the instruction to be concise, and to be verbose."""

    lead: FloatArray  # (G,) (len_baseline - len_model) / sd
    difficulty: FloatArray  # (G,)
    preference: FloatArray  # (G,) 0 to 1


class Difficulty(NamedTuple):
    by_index: Mapping[int, float]  # the row of a model's annotations, from 0
    gamed: GamedRows | None
    note: str  # what it is, for the log


class LengthControlled(NamedTuple):
    rate: float  # in percent
    length: float  # a
    difficulty: float  # b
    model: float  # c


def length_controlled(rows: Sequence[Mapping[str, Any]], difficulty: Difficulty) -> LengthControlled:
    """Fit one model's annotations, in the order of AlpacaEval's instructions. Raises DataError.

    A row without a preference is not learned from, and counts in the mean, as in AlpacaEval.
    """
    try:
        of_row = np.array([difficulty.by_index[int(row.get("index", i))] for i, row in enumerate(rows)])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"no difficulty is known for the row of index {error}; expected one for each row of a model's annotations "
            f"({len(difficulty.by_index)} are given)"
        ) from None
    texts = [(row["output_1"], row["output_2"]) for row in rows if {"output_1", "output_2"} <= row.keys()]
    if len(texts) < len(rows) or not all(isinstance(text, str) for pair in texts for text in pair):
        raise DataError("annotations without both outputs have no lengths; expected output_1 and output_2")
    lead = np.array([float(len(str(baseline)) - len(str(model))) for baseline, model in texts])
    spread = lead.std(ddof=1) if len(lead) > 1 else 0.0
    if spread == 0:
        raise DataError("the outputs' lengths differ by the same in every row; expected lengths that vary")
    given = [preference_of(row.get("preference")) for row in rows]
    x = np.column_stack([np.tanh(lead / spread), of_row, np.ones(len(rows))])
    y = np.array([math.nan if value is None else value - 1 for value in given])
    weight = np.ones(len(rows))
    if difficulty.gamed is not None:
        gamed = difficulty.gamed
        x = np.vstack([np.column_stack([np.tanh(gamed.lead), gamed.difficulty, np.zeros(len(gamed.lead))]), x])
        y = np.concatenate([gamed.preference, y])
        weight = np.concatenate([np.full(len(gamed.lead), GAMED_WEIGHT), weight])
    known = ~np.isnan(y)
    if known.sum() < FOLDS:
        raise DataError(f"{known.sum()} preferences given, expected at least {FOLDS}")
    a, b, c = cross_validated(x[known], y[known], weight[known])
    return LengthControlled(100 * float(_sigmoid(b * of_row + c).mean()), a, b, c)


def cross_validated(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Coefficients at the strength of the penalty with the least log loss in five folds; of equal ones the strongest.

    x: (N, D). y: (N,) probabilities. weight: (N,). Each fifth row, counted from the last, is in one fold:
    scikit-learn's GroupKFold, where its sort keeps the order of groups of one size.
    """
    fold = np.arange(len(y))[::-1] % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for k in range(FOLDS):
        out = fold == k
        for i, strength in enumerate(STRENGTHS):
            beta = penalised(x[~out], y[~out], weight[~out], strength)
            losses[i] += float(np.mean(weight[out] * _log_loss(x[out] @ beta, y[out])))
    return penalised(x, y, weight, STRENGTHS[int(losses.argmin())])


def penalised(x: FloatArray, y: FloatArray, weight: FloatArray, strength: float) -> FloatArray:
    """argmin over beta of |beta|_1 + C sum of weight * log loss; (D,).

    beta is the difference of two parts that are not below 0, in which the objective is smooth and |beta|_1 their sum.
    """

    def objective(parts: FloatArray) -> tuple[float, FloatArray]:
        up, down = np.split(parts, 2)
        eta = x @ (up - down)
        gradient = strength * x.T @ (weight * (_sigmoid(eta) - y))
        loss = parts.sum() + strength * (weight * _log_loss(eta, y)).sum()
        return float(loss), 1 + np.concatenate([gradient, -gradient])

    start = np.zeros(2 * x.shape[1])
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(0),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000, "maxcor": 20},
    )
    up, down = np.split(found.x, 2)
    return np.asarray(up - down)


def _log_loss(eta: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp(0, eta) - y * eta)


def _sigmoid(eta: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-np.logaddexp(0, -eta)))


def stored_rate(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """AlpacaEval's own rate in percent, where it has left its predictions (`glm_preference`) in the annotations."""
    given = [as_number(row.get("glm_preference")) for row in rows]
    known = [value for value in given if 0 <= value <= 1]
    return 100 * float(np.mean(known)) if known and len(known) == len(given) else None


def read_difficulty(paths: Sequence[Path]) -> Difficulty:
    """Read one file of difficulties, or one or more annotations of AlpacaEval with `glm_preference`.

    A prediction is sigmoid(b difficulty + c): its log odds are the difficulties up to their unit, which the rate does
    not depend on but for the weak penalty. Several files have to agree on them. Raises DataError.
    """
    found = [_difficulty(path) for path in paths]
    first = found[0]
    if len(found) == 1:
        return first
    for path, other in zip(paths[1:], found[1:], strict=True):
        common = sorted(set(first.by_index) & set(other.by_index))
        one, two = (np.array([each.by_index[i] for i in common]) for each in (first, other))
        if len(common) < 3 or abs(np.corrcoef(one, two)[0, 1]) < 0.999:
            raise DataError(
                f"{paths[0].name} and {path.name} do not hold the same difficulties; expected annotations of the same "
                "instructions in the same order, by the same version of AlpacaEval"
            )
    return first._replace(note=f"{first.note}; {len(found)} files agree on them")


def _difficulty(path: Path) -> Difficulty:
    table = read_table(path)
    table.settle(skip=False)
    columns, rows = table.columns, [row for _, row in table.rows]
    if {"instruction_difficulty", "std_delta_len", "preference"} <= {*columns}:
        return _gamed(path, rows)
    if "glm_preference" in columns:
        chances = _numbers(path, rows, "glm_preference")
        if not ((chances > 0) & (chances < 1)).all() or chances.std() == 0:
            raise DataError(f"{path.name}: glm_preference is not between 0 and 1, or the same in all rows; {_EXPECTED}")
        odds = np.log(chances / (1 - chances))
        values = (odds - odds.mean()) / odds.std()
        return Difficulty(dict(enumerate(values.tolist())), None, f"difficulties from the predictions in {path.name}")
    others = [column for column in columns if column not in ("index", "")]
    if len(others) != 1:
        raise DataError(f"{path.name} has the columns {', '.join(columns)}; {_EXPECTED}")
    values = _numbers(path, rows, others[0])
    # pandas writes an index without a name: the rows are in order then
    at = _numbers(path, rows, "index") if "index" in columns else np.arange(len(rows))
    return Difficulty({int(i): float(v) for i, v in zip(at, values, strict=True)}, None, f"difficulties of {path.name}")


def _gamed(path: Path, rows: Sequence[Mapping[str, Any]]) -> Difficulty:
    """AlpacaEval's df_gamed.csv: difficulties by index, and the annotations of the gamed baselines."""
    index, lead, difficulty, preference = (
        _numbers(path, rows, name) for name in ("index", "std_delta_len", "instruction_difficulty", "preference")
    )
    by_index: dict[int, float] = {}
    for i, value in zip(index, difficulty, strict=True):
        by_index.setdefault(int(i), float(value))
    return Difficulty(by_index, GamedRows(lead, difficulty, preference), f"difficulties and gamed rows of {path.name}")


def _numbers(path: Path, rows: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[np.float64]:
    values = np.array([as_number(row.get(name)) for row in rows])
    wrong = [i for i, value in enumerate(values, 1) if is_nothing(float(value))]
    if wrong:
        raise DataError(f"{path.name}: row {wrong[0]} has {rows[wrong[0] - 1].get(name)!r} as {name!r}; {_EXPECTED}")
    return values
