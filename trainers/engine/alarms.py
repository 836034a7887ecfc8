"""Signs in a training log that something goes wrong, as pure functions of its rows.

A check reads the rows up to one step and returns one line that says what was seen, or None. The limits are far beyond
what a sound run does (docs/metrics.md has how often each is raised without a fault): an alarm is a reason to look, and
changes nothing in the training. `ALARMS` names them; each is raised once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import combinations, pairwise
from statistics import fmean, median
from typing import Any, NamedTuple

Rows = Sequence[Mapping[str, Any]]
Check = Callable[[Rows], str | None]

WINDOW = 5  # rows that are averaged, so that a single odd rollout is no alarm
LEVEL = 0.05  # of reward_over_optimisation: the share of logs, however long, that raise it though nothing falls
FEWEST = 6  # evaluations in which a fall can be distinguished from chance at that level


class TrainingAlarm(NamedTuple):
    name: str
    step: int  # of the row that raised it, counted from 1
    message: str


def alarms_at(rows: Rows) -> list[TrainingAlarm]:
    """The alarms that the last of the rows raises, whether or not an earlier row raised them."""
    found = [(name, check(rows)) for name, check in ALARMS.items()]
    return [TrainingAlarm(name, int(rows[-1]["step"]), message) for name, message in found if message is not None]


def find_alarms(rows: Rows) -> list[TrainingAlarm]:
    """Each alarm of a whole log at the first step that raises it, in the order of the steps."""
    first: dict[str, TrainingAlarm] = {}
    for end in range(1, len(rows) + 1):
        for alarm in alarms_at(rows[:end]):
            first.setdefault(alarm.name, alarm)
    return list(first.values())


def approximate_kl(rows: Rows, *, limit: float = 0.1) -> str | None:
    """The updates of one rollout moved the policy further than clipping allows for (usual targets: 0.01 to 0.03)."""
    value = rows[-1].get("policy/approxkl_avg", 0.0)
    if value <= limit:
        return None
    return (
        f"approximate KL between the policy and the one that drew the rollout is {value:.3g} nats a token, above "
        f"{limit:g}: lower the learning rate, take fewer updates a rollout, or set ppo.target_kl"
    )


def entropy_collapse(rows: Rows, *, share: float = 0.1) -> str | None:
    """The policy is nearly deterministic: the entropy of the last rollouts against that of the first."""
    key = "objective/entropy" if "objective/entropy" in rows[-1] else "entropy"
    if len(rows) < 2 * WINDOW or key not in rows[-1] or "completions/mean_length" not in rows[-1]:
        return None
    now, before = fmean(_last(rows, key)), fmean(row[key] for row in rows[:WINDOW])
    if now >= share * before:
        return None
    return f"entropy fell from {before:.3g} to {now:.3g} nats a token: raise the weight of the KL, or set entropy_coef"


def groups_without_spread(rows: Rows, *, limit: float = 0.5, growth: float = 0.25) -> str | None:
    """Groups in which all rewards are equal give no gradient: most groups are, or a quarter more than at first."""
    key = "frac_reward_zero_std"
    share = _recent_mean(rows, key)
    if share is None:
        return None
    early = [row[key] for row in rows[:WINDOW] if key in row]
    first = fmean(early) if len(rows) >= 2 * WINDOW and early else share
    if share <= limit and share <= first + growth:
        return None
    before = f" (at first {first:.0%})" if share > first else ""
    return (
        f"{share:.0%} of the groups have responses of one reward{before} and teach nothing: raise grpo.num_generations "
        "or use a reward that differs between responses"
    )


def responses_do_not_end(rows: Rows, *, limit: float = 0.5) -> str | None:
    """Responses reach the limit of their length without ending."""
    share = _recent_mean(rows, "completions/clipped_ratio")
    if share is None or share <= limit:
        return None
    return (
        f"{share:.0%} of the responses reach the limit of their length without ending: raise "
        "data.max_response_tokens or set missing_eos_penalty"
    )


def prompts_cut(rows: Rows, *, limit: float = 0.1) -> str | None:
    """Prompts of the data have lost their beginning."""
    share = rows[-1].get("data/prompts_cut", 0.0)
    if share <= limit:
        return None
    return f"{share:.0%} of the prompts are cut and have lost their beginning: raise data.max_prompt_tokens"


def responses_cut(rows: Rows, *, limit: float = 0.1) -> str | None:
    """Responses of the data have lost their end token, which is what teaches a model to end."""
    share = rows[-1].get("data/responses_cut", 0.0)
    if share <= limit:
        return None
    return f"{share:.0%} of the responses are cut and have lost their end token: raise data.max_response_tokens"


def exploding_gradient(rows: Rows, *, factor: float = 20.0, history: int = 20) -> str | None:
    """The gradient's norm, before clipping, against the median of the rows before."""
    before = [row["grad_norm"] for row in rows[-history - 1 : -1] if "grad_norm" in row]
    value = rows[-1].get("grad_norm", 0.0)
    if len(before) < history or value <= factor * median(before):
        return None
    return (
        f"the gradient's norm is {value:.3g}, {value / max(median(before), 1e-12):.0f} times the median of the "
        f"{history} steps before: lower the learning rate"
    )


def first_ratio(rows: Rows, *, limit: float = 0.01, spread: float = 0.1) -> str | None:
    """At a rollout's first minibatch the policy still is the one that drew it: every token's ratio is 1.

    The mean alone would say little: under the policy that drew the samples it is 1 for any other policy. So the root
    mean square of the log ratios is checked as well, from the approximate KL, which is half its square; rounding to
    bf16 contributes a few hundredths.
    """
    value = rows[-1].get("val/ratio_first", 1.0)
    deviation = math.sqrt(2 * rows[-1].get("policy/approxkl_first", 0.0))
    if math.isclose(value, 1.0, abs_tol=limit) and deviation <= spread:
        return None
    return (
        f"the policy ratio at the first minibatch is {value:.4g} with log ratios of {deviation:.2g} (root mean "
        "square), and not 1 at every token: old and new log-probabilities come from different forwards (precision, "
        "dropout or temperature)"
    )


def reward_over_optimisation(rows: Rows) -> str | None:
    """Over-optimisation (arXiv:2210.10760): gold falls while the reward of the rollouts rises.

    Gold is checked where it is known, and the reward of held-out prompts. At the k-th evaluation the last two thirds
    of them (6 at least) are tested for a fall by Kendall's exact test, at level 5 / (k (k - 1)) of half of LEVEL: these
    add up to LEVEL over the two numbers and all looks, where evaluations are flat but for noise of their own.
    """
    for key, title in (("eval_gold", "gold"), ("eval_reward", "the reward of held-out prompts")):
        if key not in rows[-1]:
            continue
        evaluations = [i for i, row in enumerate(rows) if key in row]
        k = len(evaluations)
        spans = list(pairwise([-1, *evaluations]))[-max(FEWEST, k - k // 3) :]  # rows after one, up to the next
        rewards = [fmean(row["reward"] for row in rows[start + 1 : end + 1]) for start, end in spans]
        judged = [rows[end][key] for _, end in spans]
        rises = _rising_pairs(rewards) > len(spans) * (len(spans) - 1) / 4 and rewards[-1] > rewards[0]
        if k >= FEWEST and rises and chance_of_falling(judged) <= LEVEL / 2 * (FEWEST - 1) / (k * (k - 1)):
            return (
                f"{title} fell over the last {len(spans)} evaluations, from {judged[0]:.3g} to {judged[-1]:.3g}, while "
                f"the reward of the rollouts rose from {rewards[0]:.3g} to {rewards[-1]:.3g}: stop earlier or raise "
                "the KL's weight"
            )
    return None


def chance_of_falling(values: Sequence[float]) -> float:
    """p value of Kendall's test for a fall (1938): the share of the orders of `values` in which as few pairs rise.

    A tie counts as a rise, which errs on the careful side.
    """
    return sum(_orders(len(values))[: _rising_pairs(values) + 1]) / math.factorial(len(values))


@cache
def _orders(n: int) -> list[int]:
    """How many of the n! orders of n values have 0, 1, 2, ... rising pairs."""
    if n < 2:
        return [1]
    fewer = _orders(n - 1)
    return [sum(fewer[max(0, rising - n + 1) : rising + 1]) for rising in range(len(fewer) + n - 1)]


ALARMS: dict[str, Check] = {
    "approximate_kl": approximate_kl,
    "entropy_collapse": entropy_collapse,
    "groups_without_spread": groups_without_spread,
    "responses_do_not_end": responses_do_not_end,
    "prompts_cut": prompts_cut,
    "responses_cut": responses_cut,
    "exploding_gradient": exploding_gradient,
    "first_ratio": first_ratio,
    "reward_over_optimisation": reward_over_optimisation,
}


def _last(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows[-WINDOW:] if key in row]


def _recent_mean(rows: Rows, key: str) -> float | None:
    """Over the last WINDOW rows; None where one of them lacks the key."""
    values = _last(rows, key)
    return fmean(values) if len(values) >= WINDOW else None


def _rising_pairs(values: Sequence[float]) -> int:
    return sum(a <= b for a, b in combinations(values, 2))
