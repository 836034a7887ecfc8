"""Judges and labellers by simulation: unread orders, the audit's accusations, rates at equal length, corrected shares.

Every judge here is known: its rate, its faults, and by how much it prefers the longer response.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.optimize import brentq
from scipy.stats import spearmanr

from rlhf_bench.judge.analysis.audit import Labelled, bias_checks
from rlhf_bench.judge.analysis.length import equal_length_win_rates
from rlhf_bench.judge.analysis.pairs import fold, win_rates
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.ppi import ppi_share

FILES = 57  # models of a leaderboard
SETS = 4  # leaderboards a row, whose counts are averaged
LENGTHS = 805  # instructions of a file, as AlpacaEval has
DIFFICULTY = 1.5  # sd of the instructions' difficulties, in log odds
SEEN = 1 / math.sqrt(1 + 0.346 * DIFFICULTY**2)  # share of an effect that rates over such instructions show
OF_MODELS = 0.25  # sd of the length bias between a judge's models
KEYS = {"model": "ppo", "baseline": "base", "seed": 0, "sample": 0}


def expit(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)))


# orders that were not read


def unread(g: Generator, rate: float, share: float, n: int) -> pd.DataFrame:
    """One row per question: each order is won with chance `rate`, and unread with chance `share`."""
    rows = []
    for order in ("model_first", "baseline_first"):
        won, read = g.random(n) < rate, g.random(n) >= share
        winner = np.where(won == (order == "model_first"), "first", "second")
        rows += [
            {**KEYS, "prompt_id": f"{i:04d}", "order": order, "status": "read" if ok else "unreadable",
             "winner": side if ok else None, "soft": None}
            for i, (side, ok) in enumerate(zip(winner.tolist(), read.tolist(), strict=True))
        ]  # fmt: skip
    return pd.DataFrame(rows)


def print_unread(tables: int) -> None:
    print("| Win rate, unread | n = 40 | value outside its bounds | n = 150 | value outside its bounds |")
    print("| --- |" + " ---: |" * 4)
    for rate in (0.5, 0.88, 0.97):
        for share in (0.05, 0.2):
            cells = []
            for n in (40, 150):
                g = np.random.default_rng([round(100 * rate), round(100 * share), n])
                found = [win_rates(fold(unread(g, rate, share, n)))[0] for _ in range(tables)]
                held = sum(not f.estimate.excludes(rate) for f in found) / tables
                outside = sum(not f.lowest <= f.estimate.value <= f.highest for f in found) / tables
                cells += [f"{held:.1%}", f"{outside:.0%}"]
            print(f"| {rate:g}, {share:.0%} of the orders | {' | '.join(cells)} |", flush=True)


# the audit of a judge


class Judge(NamedTuple):
    """Shares of verdicts that follow the first place, the longer response or a coin, and pairs that it calls a tie."""

    first: float = 0.0
    longer: float = 0.0
    coin: float = 0.0
    tie: float = 0.0
    wrong_labels: float = 0.0


JUDGES: Mapping[str, Judge] = {
    "never wrong": Judge(),
    "never wrong, a tie in 30 %": Judge(tie=0.3),
    "never wrong, a tenth of the labels is": Judge(wrong_labels=0.1),
    "10 % by chance": Judge(coin=0.1),
    "10 % by chance, a tie in 30 %": Judge(coin=0.1, tie=0.3),
    "10 % by chance, 30 % the first place": Judge(first=0.3, coin=0.1),
    "30 % the longer response": Judge(longer=0.3),
}


def judged(g: Generator, judge: Judge, n: int) -> Labelled:
    shape = (1, n, 1)
    truth = g.integers(0, 2, size=shape).astype(float)
    lead = np.where(g.random(shape) < 0.6, 1.0, -1.0) * np.where(truth == 1, 1, -1)
    tie = g.random(shape) < judge.tie

    def reading(model_first: bool) -> FloatArray:
        u, by_coin = g.random(shape), g.integers(0, 2, size=shape).astype(float)
        bounds = np.cumsum([judge.first, judge.longer, judge.coin])
        named = [np.full(shape, float(model_first)), (lead > 0).astype(float), by_coin]
        verdict = np.select([u < bound for bound in bounds], named, default=truth)
        return np.where(tie, 0.5, verdict)

    labels = np.where(g.random(shape) < judge.wrong_labels, 1 - truth, truth)
    return Labelled(reading(True), reading(False), labels, lead)


def print_audit(runs: int, n: int = 200) -> None:
    print("| Judge | accused of place | of length | of chance | size of chance, mean | planted |")
    print("| --- |" + " ---: |" * 5)
    for stream, (name, judge) in enumerate(JUDGES.items()):
        g = np.random.default_rng([stream, 15])
        noise = max(judge.wrong_labels, 0.01)
        found = [{c.name: c for c in bias_checks(judged(g, judge, n), label_noise=noise)} for _ in range(runs)]
        accused = [sum(f[fault].found for f in found) / runs for fault in ("position", "length", "noise")]
        size = float(np.mean([f["noise"].size.value for f in found]))
        planted = judge.coin * (1 - judge.tie)
        print(
            f"| {name} | {' | '.join(f'{share:.0%}' for share in accused)} | {size:.1%} | {planted:.0%} |", flush=True
        )


# the rate at equal length of one model alone


class OneModel(NamedTuple):
    """A model that a length-biased judge compares with a baseline."""

    truth: float  # its rate without the bias, over all verdicts that could have been
    clean: float  # that of these verdicts: the judge's other reasons are the same
    raw: float
    pairs: pd.DataFrame
    lead: FloatArray  # (N,) tanh of the standardised length difference
    bias: float  # as the rates show it


def one_model(g: Generator, bias: float, own: float) -> OneModel:
    """Lengths are log-normal around 1,600 characters, the model's on average e^-.4 as long, with an sd of .4 between
    models. `bias` has an sd of `OF_MODELS` between models; `own` is the sd of a model's being better or worse on
    instructions with long answers, which is no length bias and which a file alone cannot tell from it.
    """
    difficulty, base = g.normal(0, DIFFICULTY, LENGTHS), np.exp(g.normal(7.4, 0.6, LENGTHS)).round()
    length = (base * np.exp(g.normal(g.normal(-0.4, 0.4), 0.5, LENGTHS))).round()
    lead = np.tanh((length - base) / (length - base).std())
    quality = g.normal(-1, 1) + difficulty + g.normal(0, own) * (lead - lead.mean())
    of_model, chance = g.normal(bias, OF_MODELS), g.random(LENGTHS)
    won = (chance < expit(quality + of_model * lead)).astype(float)
    pairs = pd.DataFrame(
        {**KEYS, "prompt_id": [f"{i:04d}" for i in range(LENGTHS)], "outcome": won, "model_length": length,
         "baseline_length": base}
    )  # fmt: skip
    clean = float((chance < expit(quality)).mean())
    return OneModel(float(expit(quality).mean()), clean, float(won.mean()), pairs, lead, SEEN * of_model)


def rate_without(file: OneModel, bias: float) -> float:
    """The rate at equal length by a rule that takes the bias as known."""
    theta = brentq(lambda theta: float(expit(theta + bias * file.lead).mean()) - file.raw, -20, 20)
    return float(expit(np.array(theta)))


def print_equal_length() -> None:
    print("| Length bias, own slope | mean distance, raw | at equal length | judge's bias known | model's bias known "
          "| rank correlation, raw | at equal length | farther than raw by over a point | judge's bias known "
          "| off by over 5 points, raw | at equal length | without a warning | warned | interval holds |")  # fmt: skip
    print("| --- |" + " ---: |" * 13)
    for bias in (0, 0.15, 0.3, 0.6, 0.9, 1.2):
        for own in (0.3, 0.6):
            print(f"| {bias:g}, sd {own:g} | {' | '.join(_equal_length_cells(bias, own))} |", flush=True)


def _equal_length_cells(bias: float, own: float) -> Iterator[str]:
    g = np.random.default_rng([round(100 * bias), round(10 * own)])
    files = [one_model(g, bias, own) for _ in range(SETS * FILES)]
    found = [equal_length_win_rates(file.pairs, baseline="base", resamples=100)[0] for file in files]
    clean, raw = np.array([file.clean for file in files]), np.array([file.raw for file in files])
    equal = np.array([f.win_rate.value for f in found])
    of_judge = np.array([rate_without(file, SEEN * bias) for file in files])
    of_model = np.array([rate_without(file, file.bias) for file in files])
    off_raw, off, off_judge, off_model = (np.abs(rates - clean) for rates in (raw, equal, of_judge, of_model))
    warned = np.array([bool(f.warning) for f in found])
    yield from (f"{100 * float(distance.mean()):.1f}" for distance in (off_raw, off, off_judge, off_model))
    yield from (f"{float(spearmanr(clean, rates)[0]):.3f}" for rates in (raw, equal))
    for counted in (off > off_raw + 0.01, off_judge > off_raw + 0.01, off_raw > 0.05, off > 0.05,
                    (off > 0.05) & ~warned):  # fmt: skip
        yield f"{counted.mean() * FILES:.1f}"
    yield f"{warned.mean():.0%}"
    yield f"{np.mean([not f.win_rate.excludes(file.truth) for f, file in zip(found, files, strict=True)]):.0%}"


# shares that labels of a sample correct


def print_ppi(tables: int) -> None:
    print("| True share, labeller | labels of responses | interval holds | width, of the labels' alone |")
    print("| --- |" + " ---: |" * 3)
    for share, finds, alarms, n, total in (
        (0.5, 0.42, 0.05, 100, 1000), (0.5, 0.95, 0.03, 50, 500), (0.1, 0.9, 0.1, 100, 400), (0.02, 1.0, 0.0, 50, 500),
    ):  # fmt: skip
        g = np.random.default_rng([round(100 * share), n])
        held, widths, alone = 0, 0.0, 0.0
        for _ in range(tables):
            labels = (g.random(total) < share).astype(float)
            predictions = (g.random(total) < np.where(labels == 1, finds, alarms)).astype(float)
            found = ppi_share(labels[:n], predictions[:n], predictions)
            held += not found.excludes(share)
            widths += found.high - found.low
            alone += 2 * 1.96 * math.sqrt(max(labels[:n].var(), 0.25 / n) / n)
        labeller = f"{share:g}, finds {finds:.0%} with {alarms:.0%} false alarms"
        print(f"| {labeller} | {n} of {total:,} | {held / tables:.1%} | {widths / alone:.2f} |", flush=True)
