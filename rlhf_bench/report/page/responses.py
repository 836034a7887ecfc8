"""Prompts, responses and verdicts for the page's browser, as columns: the names of fields would be half of the file."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.judge.questions import is_another_sample
from rlhf_bench.judge.results import VERDICTS, read_section
from rlhf_bench.report.result import Result
from rlhf_bench.scorers.kl import TOKEN_ENDS, TOKEN_KL
from rlhf_bench.store.result import SCORE_KEYS

LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # shading.js has the same
_MOST_CHARACTERS = 24_000_000  # of responses; of more an even selection of prompts is in the page
_ROLES = {"model_first": 0, "baseline_first": 1}
_KEYS = list(SCORE_KEYS)
_SHOWN = ("gold", "kl_exact", "category", TOKEN_KL, TOKEN_ENDS)  # of the scores, beside the reward


class Response(NamedTuple):
    """What the page holds of a response, beside its scores."""

    model: str
    seed: int
    prompt_id: str
    sample: int
    text: str
    tokens: int | None  # None: not known
    cut: bool  # by the limit of its length


class Rows(NamedTuple):
    """The responses that the page holds, and their scores in the same order, indexed by model, seed, prompt, sample."""

    rows: list[Response]
    scores: pd.DataFrame  # the columns that the page shows
    prompts: dict[str, int]  # id -> its number on the page
    texts: dict[str, str]  # id -> the prompt
    total: int  # prompts of the result


def read_rows(result: Result) -> Rows:
    """Every response; of more text than a page can hold, those to an even selection of the prompts."""
    size = 0

    def measure(row: Mapping[str, Any]) -> None:
        nonlocal size
        size += len(row["response"]) + 60

    result.responses(measure)
    ids = list(dict.fromkeys(result.scores["prompt_id"]))
    total = len(ids)
    if size > _MOST_CHARACTERS:
        keep = max(1, int(len(ids) * _MOST_CHARACTERS / size))
        ids = [ids[number * len(ids) // keep] for number in range(keep)]
    kept, texts = {one: one for one in ids}, dict[str, str]()

    def shown(row: Mapping[str, Any]) -> Response | None:
        if (prompt := kept.get(row["prompt_id"])) is None:
            return None
        texts.setdefault(prompt, row["prompt"])
        tokens = None if row["n_tokens"] is None else int(row["n_tokens"])
        model, cut = sys.intern(row["model"]), row["finish_reason"] == "length"
        return Response(model, row["seed"], prompt, row["sample"], row["response"], tokens, cut)

    rows = result.responses(shown)
    order = pd.MultiIndex.from_tuples([row[: len(_KEYS)] for row in rows], names=_KEYS)
    columns = (result.reward_key, *_SHOWN)
    scores = result.scores[[*_KEYS, *(name for name in columns if name in result.scores)]]
    numbers = {one: number for number, one in enumerate(ids)}
    return Rows(rows, scores.set_index(_KEYS).reindex(order), numbers, texts, total)


def prompt_columns(given: Rows) -> dict[str, Any]:
    categories: dict[str, str] = {}
    if "category" in given.scores:
        known_ones = given.scores["category"].dropna()
        categories = dict(zip(known_ones.index.get_level_values("prompt_id"), known_ones.astype(str), strict=True))
    ids = list(given.prompts)
    return {
        "id": ids,
        "text": [given.texts[i] for i in ids],
        "category": [categories.get(i, "") for i in ids],
        "total": given.total,
    }


def response_columns(result: Result, given: Rows, index: Mapping[str, int]) -> dict[str, Any]:
    numbers = {"reward": result.reward_key, "gold": "gold", "kl": "kl_exact"}
    return {
        "model": [index[row.model] for row in given.rows],
        "seed": [row.seed for row in given.rows],
        "prompt": [given.prompts[row.prompt_id] for row in given.rows],
        "sample": [row.sample for row in given.rows],
        "text": [row.text for row in given.rows],
        **{name: _numbers(given.scores, column) for name, column in numbers.items()},
        "tokens": [row.tokens for row in given.rows],
        "cut": [int(row.cut) for row in given.rows],
        **_shading(given.scores),
    }


def short(value: Any) -> float | None:
    """Four significant digits; None for what is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _numbers(scores: pd.DataFrame, column: str) -> list[float | None] | None:
    if column not in scores or not scores[column].notna().any():
        return None
    return [short(value) for value in scores[column].astype(float)]


def _shading(scores: pd.DataFrame) -> dict[str, Any]:
    """Each response's KL by token, and how many characters each token has, in a letter a token.

    A level is the square root of the KL in 62 steps up to the 99.5th percentile, `kl_max`. A response without a place
    for each token in its text has neither.
    """
    nothing = {"kl_levels": None, "kl_lengths": None, "kl_max": 0.0}
    if not {TOKEN_KL, TOKEN_ENDS} <= set(scores.columns):
        return nothing
    both = [_token_arrays(*pair) for pair in zip(scores[TOKEN_KL], scores[TOKEN_ENDS], strict=True)]
    known_ones = [kl for kl, _ in both if len(kl)]
    highest = float(np.nanquantile(np.concatenate(known_ones), 0.995)) if known_ones else 0.0
    if not highest > 0:
        return nothing
    return {
        "kl_levels": [_letters(_levels(kl, highest)) for kl, _ in both],
        "kl_lengths": [_letters(np.diff(ends, prepend=0)) for _, ends in both],
        "kl_max": short(highest),
    }


def _levels(kl: np.ndarray, highest: float) -> np.ndarray:
    """The level of each token; `highest` and above have the last."""
    shares = np.sqrt(np.clip(np.nan_to_num(kl) / highest, 0, 1))
    levels: np.ndarray = np.rint(shares * (len(LEVELS) - 1)).astype(int)
    return levels


def _token_arrays(kl: Any, ends: Any) -> tuple[np.ndarray, np.ndarray]:
    """KL and end of each token; both empty where one is not known or a token has more characters than a letter says."""
    if np.ndim(kl) and np.ndim(ends) and len(kl) == len(ends) and len(kl) and np.diff(ends, prepend=0).max() < 62:
        return np.asarray(kl, dtype=float), np.asarray(ends)
    return np.empty(0), np.empty(0, dtype=int)


def _letters(numbers: np.ndarray) -> str:
    return "".join(LEVELS[number] for number in numbers)


def verdicts(result: Result, given: Rows, index: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each judge's verdicts against a baseline, by a response's number: W, L, T or ? where it is first, then second."""
    table = read_section(result.path, VERDICTS)
    if table is None:
        return []
    numbers: dict[tuple[Any, ...], int] = {row[: len(_KEYS)]: number for number, row in enumerate(given.rows)}
    found = []
    for (judge, _, template, baseline), group in table[table["repeat"] == 0].groupby(
        ["judge", "base_url", "template", "baseline"], sort=True
    ):
        if is_another_sample(str(baseline)):
            continue
        by: dict[int, str] = {}
        for row in group.itertuples(index=False):
            number, place = numbers.get((row.model, row.seed, row.prompt_id, row.sample)), _ROLES[str(row.order)]
            if number is not None:
                orders = by.get(number, "--")
                by[number] = orders[:place] + _letter(row, place) + orders[place + 1 :]
        name = judge if template == "none" else f"{judge} ({template})"
        found.append({"judge": name, "baseline": index.get(str(baseline), 0), "by": by})
    return found


def _letter(row: Any, place: int) -> str:
    """How the model did where it is shown at `place`, 0 first."""
    if row.status != "read":
        return "?"
    return "T" if row.winner == "tie" else "W" if row.winner == ("first", "second")[place] else "L"
