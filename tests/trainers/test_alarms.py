"""Each alarm on a log made for it: silent up to its limit, one clear line beyond, raised once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from torch import nn

from rlhf_bench.progress import Progress
from trainers.config.optimizer import OptimizerConfig
from trainers.config.recipe import Recipe
from trainers.engine.alarms import ALARMS, LEVEL, alarms_at, chance_of_falling, find_alarms
from trainers.engine.loop import Loop
from trainers.engine.optim import make_optimizer
from trainers.engine.stage import Trained

from .conftest import stage_in

Row = dict[str, Any]


def log(*columns: tuple[str, list[float]]) -> list[Row]:
    """A log from its columns, steps counted from 1."""
    length = len(columns[0][1])
    return [{"step": i + 1, **{key: values[i] for key, values in columns}} for i in range(length)]


def evaluated(rewards: list[float], **judged: list[float]) -> list[Row]:
    """A log of rollouts with an evaluation in every second row."""
    rows = log(("reward", rewards))
    for key, values in judged.items():
        for row, value in zip(rows[1::2], values, strict=True):
            row[key] = value
    return rows


RISING = [1, 2, 1, 3, 2, 3, 2, 2, 2, 4, 3, 4]  # in pairs: 1.5, 2, 2.5, 2, 3, 3.5
LENGTHS = ("completions/mean_length", [9.0] * 10)
CASES: list[tuple[str, list[Row], list[Row], int, str]] = [
    # name, a log at the limit, a log beyond, the step that raises it, how its line begins
    (
        "approximate_kl",
        log(("policy/approxkl_avg", [0.01, 0.1])),
        log(("policy/approxkl_avg", [0.01, 0.11, 0.2])),
        2,
        "approximate KL between the policy and the one that drew the rollout is 0.11 nats a token, above 0.1: ",
    ),
    (
        # the mean of the last 5 against that of the first 5: 2 and .2; 2 and .18
        "entropy_collapse",
        log(("entropy", [2.0] * 5 + [0.2] * 5), LENGTHS),
        log(("entropy", [2.0] * 5 + [0.18] * 5), LENGTHS),
        10,
        "entropy fell from 2 to 0.18 nats a token: ",
    ),
    (
        "groups_without_spread",
        log(("frac_reward_zero_std", [1.0, 0.5, 0.5, 0.5, 0.0])),
        log(("frac_reward_zero_std", [0.0, 1.0, 0.5, 0.5, 0.5, 0.25])),
        6,
        "55% of the groups have responses of one reward and teach nothing: ",
    ),
    (
        "groups_without_spread",
        log(("frac_reward_zero_std", [0.0] * 5 + [0.25] * 5)),
        log(("frac_reward_zero_std", [0.0] * 5 + [0.25] * 4 + [0.5])),
        10,
        "30% of the groups have responses of one reward (at first 0%) and teach nothing: ",
    ),
    (
        "responses_do_not_end",
        log(("completions/clipped_ratio", [0.5] * 5)),
        log(("completions/clipped_ratio", [0.5] * 5 + [1.0])),
        6,
        "60% of the responses reach the limit of their length without ending: ",
    ),
    (
        "prompts_cut",
        log(("data/prompts_cut", [0.1])),
        log(("data/prompts_cut", [0.46])),
        1,
        "46% of the prompts are cut and have lost their beginning: ",
    ),
    (
        "responses_cut",
        log(("data/responses_cut", [0.1])),
        log(("data/responses_cut", [1.0])),
        1,
        "100% of the responses are cut and have lost their end token: ",
    ),
    (
        "exploding_gradient",
        log(("grad_norm", [0.5] * 20 + [10.0])),
        log(("grad_norm", [0.5] * 20 + [11.0])),
        21,
        "the gradient's norm is 11, 22 times the median of the 20 steps before: ",
    ),
    (
        "first_ratio",
        log(("val/ratio_first", [1.0, 1.009, 0.991])),
        log(("val/ratio_first", [1.0, 0.98])),
        2,
        "the policy ratio at the first minibatch is 0.98 with log ratios of 0 (root mean square), and not 1 at every ",
    ),
    (
        # half the square of 0.1 is 0.005; the mean ratio hardly tells
        "first_ratio",
        log(("val/ratio_first", [1.0, 1.001]), ("policy/approxkl_first", [0.0, 0.00499])),
        log(("val/ratio_first", [1.0, 1.001]), ("policy/approxkl_first", [0.0, 0.045])),
        2,
        "the policy ratio at the first minibatch is 1.001 with log ratios of 0.3 (root mean square), and not 1 at ",
    ),
    (
        # An evaluation every second row. Of 6! = 720 orders one falls all the way: 1 / 720 = 0.0014, below the level
        # of the sixth look, 0.025 * 5 / (6 * 5) = 0.0042. With two neighbours swapped it is 6 / 720 = 0.0083.
        "reward_over_optimisation",
        evaluated(RISING, eval_gold=[5, 4, 2, 3, 1, 0], eval_reward=[1, 2, 3, 4, 5, 6]),
        evaluated(RISING, eval_gold=[5, 4, 3, 2, 1, 0], eval_reward=[1, 2, 3, 4, 5, 6]),
        12,
        "gold fell over the last 6 evaluations, from 5 to 0, while the reward of the rollouts rose from 1.5 to 3.5: ",
    ),
]


@pytest.mark.parametrize(("name", "sound", "wrong", "step", "begins"), CASES, ids=[case[0] for case in CASES])
def test_each_alarm_at_its_limit_and_beyond(
    name: str, sound: list[Row], wrong: list[Row], step: int, begins: str
) -> None:
    assert find_alarms(sound) == []
    (alarm,) = find_alarms(wrong)
    assert (alarm.name, alarm.step) == (name, step)
    assert alarm.message.startswith(begins)
    assert "\n" not in alarm.message


def test_every_alarm_is_tested() -> None:
    assert list(dict.fromkeys(case[0] for case in CASES)) == list(ALARMS)


def test_over_optimisation_only_where_all_of_it_holds() -> None:
    falling = [5, 4, 3, 2, 1, 0]
    (alarm,) = find_alarms(evaluated(RISING, eval_gold=[5, 6, 7, 8, 9, 9], eval_reward=falling))
    assert alarm.message.startswith("the reward of held-out prompts fell over the last 6 evaluations, from 5 to 0, ")
    assert find_alarms(evaluated(RISING[:10], eval_gold=falling[:5])) == []  # too few to tell
    assert find_alarms(evaluated(RISING[::-1], eval_gold=falling)) == []  # fell together with the reward
    assert find_alarms(evaluated([2] * 12, eval_gold=falling)) == []  # the reward is flat
    assert find_alarms(evaluated(RISING, eval_gold=[3, 3, 3, 3, 3, 3])) == []  # ties are no falls
    # a gold that rose first: of nine evaluations the last six are looked at
    (alarm,) = find_alarms(evaluated([0, 0, 1, 1, 1, 1, *RISING], eval_gold=[3, 4, 4.5, *falling]))
    assert alarm.step == 18


def test_chance_of_falling_worked_by_hand() -> None:
    # of the 6 orders of three values, one has no rising pair, two have one: 3 2 1; 2 3 1, 3 1 2
    assert chance_of_falling([3, 2, 1]) == pytest.approx(1 / 6)
    assert chance_of_falling([3, 1, 2]) == pytest.approx(3 / 6)
    assert chance_of_falling([1, 2, 3]) == 1.0
    assert chance_of_falling([2, 2, 1]) == pytest.approx(3 / 6)  # a tie counts as a rise
    for values in np.random.default_rng(0).standard_normal((20, 9)):
        peer = kendalltau(np.arange(9), values, alternative="less", method="exact").pvalue
        assert chance_of_falling(list(values)) == pytest.approx(peer, rel=1e-9)


def alarmed_share(gold: Callable[[np.random.Generator], Any], logs: int = 1_000) -> float:
    """How many of `logs` with a reward that rises surely, and this gold, raise the alarm."""
    rng = np.random.default_rng(1)

    def raised() -> bool:
        values = [float(value) for value in gold(rng)]
        held_out = [float(value) for value in rng.standard_normal(len(values))]
        rows = [
            {"step": n + 1, "reward": float(n), "eval_gold": g, "eval_reward": h}
            for n, (g, h) in enumerate(zip(values, held_out, strict=True))
        ]
        return any(alarms_at(rows[:end]) for end in range(1, len(rows) + 1))

    return sum(raised() for _ in range(logs)) / logs


def test_a_flat_gold_raises_no_more_than_promised() -> None:
    """20 evaluations of noise. 1,000 logs: 5 % and two standard errors, 2 sqrt(.05 * .95 / 1000) = 1.4 %."""
    assert alarmed_share(lambda rng: rng.standard_normal(20)) <= LEVEL + 0.014


def test_a_gold_that_falls_is_seen() -> None:
    """It rises for 7 evaluations and falls for 13, by half of its noise's standard deviation each time."""
    fall = np.concatenate([np.arange(7), 6 - np.arange(1, 14)]) * 0.5
    assert alarmed_share(lambda rng: fall + rng.standard_normal(20), logs=200) >= 0.8


def test_an_alarm_is_raised_once() -> None:
    rows = log(("policy/approxkl_avg", [0.2, 0.05, 0.3]), ("val/ratio_first", [1.0, 1.5, 1.0]))
    assert [(a.name, a.step) for a in find_alarms(rows)] == [("approximate_kl", 1), ("first_ratio", 2)]
    assert [a.name for a in alarms_at(rows)] == ["approximate_kl"]


def test_too_few_rows_and_other_stages_raise_nothing() -> None:
    assert find_alarms([]) == []
    assert find_alarms(log(("frac_reward_zero_std", [1.0] * 4))) == []
    assert find_alarms(log(("grad_norm", [0.1] * 19 + [99.0]))) == []
    # a language model's entropy falls because it learns: only rollouts are watched
    assert find_alarms(log(("entropy", [7.0] * 5 + [0.1] * 5))) == []


def test_the_loop_says_each_alarm_once_resumed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Progress, "log", lambda self, line: lines.append(line))

    def loop() -> Loop:
        model, config = nn.Linear(2, 2), OptimizerConfig()
        optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)])
        stage = stage_in(tmp_path, "ppo", Recipe(save_seconds=0))
        trained: Any = Trained(model, None)  # type: ignore[arg-type]
        return Loop(stage, 4, trained, optimizer)

    first = loop()
    for step in first:
        first.log({"policy/approxkl_avg": 0.5 if step else 0.0})
    assert [line.partition(": ")[0] for line in lines] == ["alarm"]
    assert lines[0].startswith("alarm: ppo, step 2 of 4: approximate KL between the policy and the one that drew ")
    second = loop()  # from the state after step 3
    assert [step for step in second if not second.log({"policy/approxkl_avg": 0.5})] == [3]
    assert lines[1:] == ["ppo: continues after step 3 of 4"]
