"""Two policies whose every response is known: the win rate summed over all pairs, and what a judge run finds of it."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.judge.analysis.pairs import win_rates
from rlhf_bench.judge.run import prepare
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore

from .make_verdicts import pairs_frame

TEXTS = (" no", " perhaps", " maybe", " yes")
REWARDS = (0.0, 1.0, 1.0, 2.0)  # " perhaps" and " maybe" tie without being the same
KINDS = 3  # of prompts; a kind is as likely as another
MINE = ((1, 2, 3, 4), (0, 5, 0, 5), (4, 3, 2, 1))  # chances of each text, in tenths, by kind
THEIRS = ((4, 3, 2, 1), (1, 2, 3, 4), (4, 3, 2, 1))


def exact() -> Fraction:
    """The sum over kinds and all 16 pairs of responses: 1 where mine has the higher reward, a tie 1/2."""
    total = Fraction(0)
    for mine, theirs in zip(MINE, THEIRS, strict=True):
        for a, b in product(range(4), repeat=2):
            score = Fraction(int(np.sign(REWARDS[a] - REWARDS[b])) + 1, 2)
            total += Fraction(mine[a] * theirs[b], 100) * score / KINDS
    return total


def test_the_sum_by_hand() -> None:
    # rewards 0, 1, 2 have the chances: kind 0 mine .1 .5 .4, theirs .4 .5 .1
    #   won .5 * .4 + .4 * .9 = .56, tied .04 + .25 + .04 = .33: .725
    # kind 1 mine 0 .5 .5, theirs .1 .5 .4: won .5 * .1 + .5 * .6 = .35, tied .25 + .2 = .45: .575
    # kind 2, the same policy twice: .5.   (.725 + .575 + .5) / 3 = .6
    assert exact() == Fraction(3, 5)


def draw(rng: np.random.Generator, prompts: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the texts of either policy, (P, K), each prompt of a kind that is drawn."""
    kinds = rng.integers(KINDS, size=prompts)
    drawn = (np.array([rng.choice(4, size=samples, p=np.array(of[k]) / 10) for k in kinds]) for of in (MINE, THEIRS))
    mine, theirs = drawn
    return mine, theirs


def test_a_judging_of_drawn_responses_finds_it(tmp_path: Path) -> None:
    """By the built-in judge `reward` on a stored result, in both orders: within its own interval, and 4 standard
    errors as large as they can be (an outcome in [0, 1] has variance 1/4 at most; 300 prompts)."""
    mine, theirs = draw(np.random.default_rng(0), 300, 2)
    rows = [
        {"model": name, "seed": 0, "prompt_id": f"p{p:03d}", "sample": k, "prompt": f"Is {p} enough?",
         "response": TEXTS[text], "reward": REWARDS[text]}
        for name, texts in (("mine", mine), ("theirs", theirs))
        for (p, k), text in np.ndenumerate(texts)
    ]  # fmt: skip
    store = ResultStore(tmp_path / "toy")
    manifest = {"suite": "toy", "run": "toy", "data": {}, "models": [], "reference": "theirs", "seeds": [0]}
    store.write_manifest(manifest)
    store.write_responses({key: row[key] for key in row if key != "reward"} for row in rows)
    store.write_scores(pd.DataFrame(rows)[["model", "seed", "prompt_id", "sample", "reward"]])
    with prepare(
        store.path, ledger_path=tmp_path / "judge.sqlite", results=tmp_path, judge_name="reward", baseline="theirs",
        samples=2,
    ) as judging:  # fmt: skip
        judging.run(max_cost=None, progress=Progress(quiet=True))
    (judged,) = store.read_judge()["judgings"]
    (rate,) = judged["win_rates"]
    found = rate["estimate"]
    assert (rate["model"], found["n"], rate["counts"]["pairs"]) == ("mine", 300, 600)
    assert found["low"] < exact() < found["high"]
    assert abs(found["value"] - exact()) < 4 * (0.25 / 300) ** 0.5
    assert found["high"] - found["low"] < 0.12  # so that another rate would have been told from it
    # what was drawn, counted without the harness: ties are the same text or the same reward
    score = np.sign(np.take(REWARDS, mine) - np.take(REWARDS, theirs)) / 2 + 0.5
    assert found["value"] == pytest.approx(score.mean())
    assert rate["counts"]["tie"] == (score == 0.5).sum()


def test_its_intervals_hold_the_sum_as_often_as_they_say() -> None:
    """100 results of 60 prompts, at 95 %: 95 on the average, and 4 standard deviations (2.2 each) are 9. Their mean is
    within 4 standard errors of the sum."""
    rng, held, values = np.random.default_rng(1), 0, []
    for _ in range(100):
        mine, theirs = draw(rng, 60, 2)
        score = np.sign(np.take(REWARDS, mine) - np.take(REWARDS, theirs)) / 2 + 0.5
        (rate,) = win_rates(pairs_frame(score[None]))
        held += rate.estimate.low <= exact() <= rate.estimate.high
        values.append(rate.estimate.value)
    assert held >= 86
    assert abs(np.mean(values) - float(exact())) < 4 * np.std(values) / 10
