"""Alarms: each is raised where it was planted, with the right sign, and stays silent beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.evaluate.analyses.alarms import at_equal_length, checks_made, find_alarms
from rlhf_bench.report.alarms import alarm_lines, judge_alarms, training_alarm_lines
from rlhf_bench.report.result import Result
from rlhf_bench.stats.paired_shares import tango_interval
from rlhf_bench.store.score_table import score_table
from rlhf_bench.types import Alarm, Estimate

PROMPTS = 60


def alarms(ppo: dict[str, np.ndarray], sft: dict[str, np.ndarray]) -> list[Alarm]:
    frames = [
        pd.DataFrame(columns | {"model": model, "seed": 0, "sample": 0, "prompt_id": [f"p{i}" for i in range(PROMPTS)]})
        for model, columns in (("ppo", ppo), ("sft", sft))
    ]
    return list(find_alarms(score_table(pd.concat(frames), list(ppo)), reference="sft"))


def noise(seed: int, scale: float = 0.3) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(PROMPTS)


def test_reward_up_and_gold_down() -> None:
    zero = np.zeros(PROMPTS)
    sft = {"reward_z": zero, "gold": zero, "rougeL": zero}
    (found,) = alarms({"reward_z": 1 + noise(0), "gold": -1 + noise(1), "rougeL": noise(2)}, sft)
    assert (found.model, found.kind) == ("ppo", "reward_without_gold")
    assert found.text.startswith("ppo: reward up by +")
    assert "sd, but Gold down by -" in found.text
    assert found.text.endswith(": the reward may no longer measure what it is for")
    assert alarms({"reward_z": 1 + noise(0), "gold": 1 + noise(1), "rougeL": noise(2)}, sft) == []
    assert alarms({"reward_z": noise(0), "gold": -1 + noise(1), "rougeL": noise(2)}, sft) == []  # no gain to doubt
    assert alarms({"reward_z": -1 + noise(0), "gold": -1 + noise(1), "rougeL": noise(2)}, sft) == []


@pytest.mark.parametrize(("fall", "kinds"), [(0.02, []), (0.1, ["reward_without_rougeL"])])
def test_a_small_fall_of_rouge_says_little_of_a_reward(fall: float, kinds: list[str]) -> None:
    sft = {"reward_z": noise(0), "rougeL": 0.4 + noise(1, 0.02)}
    assert [alarm.kind for alarm in alarms({"reward_z": 1 + noise(2), "rougeL": sft["rougeL"] - fall}, sft)] == kinds


@pytest.mark.parametrize(
    ("held_out", "kinds"),
    [(1.0, []), (0.5, ["overfit"]), (0.0, ["overfit"]), (-1.0, ["reward_without_reward_held_out_z", "overfit"])],
)
def test_a_gain_that_another_seeds_reward_model_does_not_see(held_out: float, kinds: list[str]) -> None:
    sft = {"reward_z": noise(4), "reward_held_out_z": noise(7)}
    gains = {"reward_z": 1.0, "reward_held_out_z": held_out}
    ppo = {name: sft[name] + gain + noise(5, 0.1) for name, gain in gains.items()}
    assert [alarm.kind for alarm in alarms(ppo, sft)] == kinds


def flat_tables(rng: np.random.Generator, models: int, tables: int) -> float:
    """The share of `tables` that say of a model that gold or ROUGE-L went down: the reward is up, and they are flat."""
    ids = {"seed": 0, "sample": 0, "prompt_id": [f"p{i}" for i in range(PROMPTS)]}

    def frame(model: str, gain: float) -> pd.DataFrame:
        reward, gold, rouge = 0.3 * rng.standard_normal((3, PROMPTS))
        return pd.DataFrame({"model": model, **ids, "reward_z": gain + reward, "gold": gold, "rougeL": rouge})

    def has_alarm() -> bool:
        rows = pd.concat([frame("sft", 0.0), *(frame(f"m{i}", 1.0) for i in range(models))])
        return any(True for _ in find_alarms(score_table(rows, ["reward_z", "gold", "rougeL"]), reference="sft"))

    return sum(has_alarm() for _ in range(tables)) / tables


def test_a_flat_gold_is_accused_no_more_than_promised_over_the_table() -> None:
    """4 models: 8 tests. 2.5 %, and two standard errors of 40 tables, 2 sqrt(.025 * .975 / 40) = 4.9 %; without Holm
    some 14 %."""
    with stats.resampling(200):
        assert flat_tables(np.random.default_rng(0), models=4, tables=40) <= 0.075


@pytest.mark.parametrize(("earned", "kinds"), [(0.0, ["length"]), (1.0, [])])
def test_length_that_explains_the_gain(earned: float, kinds: list[str]) -> None:
    """Reward is paid 0.1 a token, for 10 tokens more on average; `earned` comes on top of it at any length."""
    longer = 10 + 5 * noise(3, 1.0)
    sft = {"reward_z": noise(4), "n_tokens": np.full(PROMPTS, 20.0)}
    ppo = {"reward_z": sft["reward_z"] + 0.1 * longer + earned + noise(5), "n_tokens": 20 + longer}
    assert [alarm.kind for alarm in alarms(ppo, sft)] == kinds


@pytest.mark.parametrize(("chosen", "unit"), [(4.0, "tokens"), (9.0, "words")])
def test_length_is_in_words_where_two_tokenizers_count(chosen: float, unit: str) -> None:
    """A chosen response of 4 tokens by sft's tokenizer is of 4 or 9 by ppo's; both count words alike."""
    length = 10 + np.abs(noise(3, 5.0))
    sft = {"reward_z": np.zeros(PROMPTS), "n_tokens": np.zeros(PROMPTS), "n_words": np.zeros(PROMPTS)}
    ppo = {"reward_z": 0.2 * length + noise(4), "n_tokens": length, "n_words": length}
    counted = {"chosen_tokens": np.full(PROMPTS, 4.0)}
    (found,) = alarms(ppo | {"chosen_tokens": np.full(PROMPTS, chosen)}, sft | counted)
    assert found.kind == "length"
    assert f"] {unit}, but at equal length" in found.text


def test_difference_at_equal_length_is_the_intercept() -> None:
    x = 10 + 5 * noise(3, 1.0)
    y = 0.7 - 0.2 * x + noise(6)
    estimate = at_equal_length(y[None], x[None])
    assert estimate is not None
    line = scipy_stats.linregress(x, y)
    assert estimate.value == pytest.approx(line.intercept)
    half = scipy_stats.t.ppf(0.975, PROMPTS - 2) * line.intercept_stderr  # for equal variances, as here
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.2)
    assert at_equal_length(y[None], np.ones((1, PROMPTS))) is None
    # lengths that differ but tell nothing: the plain difference, nearly
    plain = stats.mean_estimate(y)
    alone = at_equal_length(y[None], np.tile([-1.0, 1.0], PROMPTS // 2)[None])
    assert alone is not None
    assert alone.value == pytest.approx(plain.value)


@pytest.mark.parametrize(
    ("column", "bad", "harmless", "text"),
    [
        ("repetition", 0.1, 0.01, "ppo: repetition up by +0.1"),
        ("copied", 0.2, 0.03, "ppo: copied up by +0.2"),
        ("distinct2", -0.1, -0.01, "ppo: distinct-2 down by -0.1"),
        ("ended", -0.3, -0.03, "ppo: EOS rate down by -0.3"),
        ("self_bleu", 0.2, 0.03, "ppo: self-bleu up by +0.2"),
        ("refused", 0.2, 0.03, "ppo: refused up by +0.2"),
    ],
)
def test_changes_of_text(column: str, bad: float, harmless: float, text: str) -> None:
    base = {column: 0.5 + noise(0, 0.02)}
    (found,) = alarms({column: base[column] + bad + noise(1, 0.005)}, base)
    assert (found.kind, found.text[: len(text)]) == (column, text)
    assert alarms({column: base[column] + harmless + noise(1, 0.005)}, base) == []  # clear of 0, but small
    assert alarms({column: base[column] - bad + noise(1, 0.005)}, base) == []  # for the better


def test_a_share_has_the_interval_of_shares() -> None:
    """8 of 60 responses no longer end: Tango's interval is clear of 5 %, that of a mean, 0.13 - 2.0 * 0.044, is not."""
    ones = np.ones(PROMPTS)
    (found,) = alarms({"ended": np.where(np.arange(PROMPTS) < 8, 0.0, 1.0)}, {"ended": ones})
    low, high = tango_interval(0, 8, PROMPTS)
    assert high < -0.05
    assert found.text.startswith(f"ppo: EOS rate down by -0.13 [{low:+.2f}, {high:+.2f}] against sft: ")


def judged(win_rate: tuple[float, float], p_holm: float = 0.01, **judging: str) -> dict[str, Any]:
    low, high = win_rate
    rate = {"model": "ppo", "estimate": Estimate((low + high) / 2, low, high, 60).to_dict(), "p_holm": p_holm}
    return {"judge": "j", "base_url": "https://server", "baseline": "sft", "win_rates": [rate]} | judging


def pair(low: float, high: float, a: str = "ppo", b: str = "sft") -> dict[str, Any]:
    return {"metric": "reward_z", "a": a, "b": b, "difference": Estimate((low + high) / 2, low, high, 60).to_dict()}


def test_reward_up_and_the_judge_down() -> None:
    def kinds(row: dict[str, Any], judging: dict[str, Any]) -> list[str]:
        return [alarm.text for alarm in judge_alarms([row], {"judgings": [judging]}, reference="sft")]

    text = (
        "ppo: reward up by +1.00 [+0.50, +1.50], but its win rate against sft is 0.30 [0.20, 0.40] by j: the reward "
        "may no longer measure what it is for"
    )
    assert kinds(pair(0.5, 1.5), judged((0.2, 0.4))) == [text]
    assert kinds(pair(-1.5, -0.5, "sft", "ppo"), judged((0.2, 0.4))) == [text]  # the same pair the other way round
    for row, judging in (
        (pair(-0.5, 1.5), judged((0.2, 0.4))),  # no gain to doubt
        (pair(-1.5, -0.5), judged((0.2, 0.4))),
        (pair(0.5, 1.5, b="base"), judged((0.2, 0.4))),
        (pair(0.5, 1.5), judged((0.4, 0.6))),
        (pair(0.5, 1.5), judged((0.6, 0.8))),
        (pair(0.5, 1.5), judged((0.2, 0.4), p_holm=0.06)),
        (pair(0.5, 1.5), judged((0.2, 0.4), baseline="base")),
        (pair(0.5, 1.5), judged((0.2, 0.4), base_url="built in")),
    ):
        assert kinds(row, judging) == []


def test_reward_up_and_the_rating_down() -> None:
    down = Estimate(-0.5, -0.8, -0.2, 60).to_dict()
    row = {"criterion": "helpful", "a": "ppo", "b": "sft", "difference": down, "p_holm": 0.01}
    judge = {"ratings": [{"judge": "j", "base_url": "https://server", "differences": [row]}]}
    (alarm,) = judge_alarms([pair(0.5, 1.5)], judge, reference="sft")
    assert (alarm.model, alarm.kind) == ("ppo", "judge")
    assert "but its rating (helpful) is down by -0.50 [-0.80, -0.20] by j" in alarm.text
    row["difference"] = Estimate(0.5, 0.2, 0.8, 60).to_dict()
    assert list(judge_alarms([pair(0.5, 1.5)], judge, reference="sft")) == []


def test_lines_of_a_report() -> None:
    def lines(metrics: dict[str, object]) -> list[str]:
        return alarm_lines(Result(Path(), {"reference": "sft"}, metrics, pd.DataFrame(), {}))

    assert lines({}) == []
    assert lines({"alarms": []}) == []
    assert lines({"alarms": [], "alarm_checks": ["self-BLEU", "refusals"]}) == ["none. Checked: self-BLEU, refusals."]
    stored = json.loads(json.dumps([Alarm("ppo", "length", "ppo: too long")._asdict()]))
    assert lines({"alarms": stored}) == ["ppo: too long"]

    judge = {"judgings": [judged((0.2, 0.4))]}
    metrics = {"alarms": [], "pairwise": [pair(0.5, 1.5)]}
    (line,) = alarm_lines(Result(Path(), {"reference": "sft"}, metrics, pd.DataFrame(), {}, judge))
    assert line.startswith("ppo: reward up by ")
    metrics = {"alarms": [], "pairwise": [pair(-0.5, 1.5)]}
    (line,) = alarm_lines(Result(Path(), {"reference": "sft"}, metrics, pd.DataFrame(), {}, judge))
    assert line == "none. Checked: reward against the judges."


def test_lines_of_the_alarms_while_training() -> None:
    def lines(metrics: dict[str, object]) -> list[str]:
        return training_alarm_lines(Result(Path(), {}, metrics, pd.DataFrame(), {}))

    assert lines({}) == lines({"training_alarms": None}) == []
    assert lines({"training_alarms": []}) == ["none"]
    alarm = {"model": "ppo", "seed": 2, "name": "first_ratio", "step": 7, "message": "the ratio is 2 and not 1"}
    assert lines({"training_alarms": [alarm]}) == ["ppo, seed 2, step 7: the ratio is 2 and not 1"]


def test_checks_that_the_reference_and_another_model_have_the_numbers_for() -> None:
    def checks(ppo: list[str], sft: list[str], chosen: list[str] | None = None) -> list[str]:
        models = {"ppo": ppo, "sft": sft, "chosen": chosen or []}
        rows = [
            {"model": model, "seed": 0, "prompt_id": "p", "sample": 0} | dict.fromkeys(columns, 0.5)
            for model, columns in models.items()
        ]
        return checks_made(score_table(pd.DataFrame(rows), sorted({*ppo, *sft, *(chosen or [])})), reference="sft")

    numbers = ["reward_z", "gold", "n_tokens", "refused", "self_bleu"]
    assert checks(numbers, numbers) == ["reward against gold", "self-BLEU", "refusals", "reward at equal length"]
    # what the reference or every other model lacks is not looked at
    assert checks(numbers, ["refused"]) == ["refusals"]
    assert checks(["refused"], numbers, numbers) == ["refusals"]
