"""PPO for language models, slowly: plain Python floats, a loop over samples and one over tokens, from the papers alone.

A sample is a list of its response's tokens; there is no padding and no mask to get wrong. Nothing of the project is
imported. Each function names the equation that it spells out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

Row = list[float]  # a number for each response token of one sample


class Loss(NamedTuple):
    value: float
    gradient: list[Row]  # by the new log-probability, or the new value, of each token
    clipped: int  # tokens whose clipped side counted


def rewards(scores: Row, logps: list[Row], reference: list[Row], kl_coef: float) -> list[Row]:
    """Ziegler et al. 2019 (arXiv:1909.08593), eq. 2, a token at a time: -beta log(pi / rho), the score at the end."""
    out = []
    for score, policy_row, reference_row in zip(scores, logps, reference, strict=True):
        row = []
        for t in range(len(policy_row)):
            reward = -kl_coef * (policy_row[t] - reference_row[t])
            if t == len(policy_row) - 1:
                reward += score
            row.append(reward)
        out.append(row)
    return out


def whiten(rows: list[Row], *, shift_mean: bool, eps: float = 1e-8) -> list[Row]:
    """To variance 1 over all tokens of all samples, and to mean 0 with `shift_mean` (arXiv:2403.17031, detail 21)."""
    count, total = 0, 0.0
    for row in rows:
        for x in row:
            count, total = count + 1, total + x
    mean, squares = total / count, 0.0
    for row in rows:
        for x in row:
            squares += (x - mean) ** 2
    scale = math.sqrt(squares / count + eps)
    return [[(x - mean) / scale + (0.0 if shift_mean else mean) for x in row] for row in rows]


def advantages(rewards: list[Row], values: list[Row], gamma: float, lam: float) -> list[Row]:
    """Schulman et al. 2016 (arXiv:1506.02438), eq. 16: A_t = sum over l of (gamma lam)^l delta_{t+l}, not recursively.

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t); a response ends its episode, so V after its last token is 0.
    """
    out = []
    for reward, value in zip(rewards, values, strict=True):
        length = len(reward)
        row = []
        for t in range(length):
            total = 0.0
            for k in range(t, length):
                following = value[k + 1] if k + 1 < length else 0.0
                delta = reward[k] + gamma * following - value[k]
                total += (gamma * lam) ** (k - t) * delta
            row.append(total)
        out.append(row)
    return out


def policy_loss(new: list[Row], old: list[Row], advantages: list[Row], clip: float) -> Loss:
    """Schulman et al. 2017 (arXiv:1707.06347), eq. 7, negated, the mean over all tokens."""
    count = sum(len(row) for row in new)
    value, clipped, gradient = 0.0, 0, []
    for new_row, old_row, advantage_row in zip(new, old, advantages, strict=True):
        row = []
        for t in range(len(new_row)):
            ratio = math.exp(new_row[t] - old_row[t])
            held = min(max(ratio, 1.0 - clip), 1.0 + clip)
            plain, bounded = ratio * advantage_row[t], held * advantage_row[t]
            if bounded < plain:
                clipped += 1
                value -= bounded
                row.append(0.0)  # held does not move
            else:
                value -= plain
                row.append(-ratio * advantage_row[t] / count)  # d ratio / d log pi = ratio
        gradient.append(row)
    return Loss(value / count, gradient, clipped)


def value_loss(new: list[Row], old: list[Row], returns: list[Row], clip: float) -> Loss:
    """OpenAI baselines (detail 9 of "The 37 Implementation Details of PPO"): half the larger squared error, V as it is
    or held within `clip` of its old self; the mean over all tokens."""
    count = sum(len(row) for row in new)
    value, clipped, gradient = 0.0, 0, []
    for new_row, old_row, return_row in zip(new, old, returns, strict=True):
        row = []
        for t in range(len(new_row)):
            held = min(max(new_row[t], old_row[t] - clip), old_row[t] + clip)
            plain, bounded = (new_row[t] - return_row[t]) ** 2, (held - return_row[t]) ** 2
            if bounded > plain:
                clipped += 1
                value += 0.5 * bounded
                row.append(0.0)
            else:
                value += 0.5 * plain
                row.append((new_row[t] - return_row[t]) / count)
        gradient.append(row)
    return Loss(value / count, gradient, clipped)


def approximate_kl(new: list[Row], old: list[Row]) -> float:
    """Half the mean squared log-ratio over all tokens (k2 of J. Schulman, "Approximating KL Divergence", 2020)."""
    count, total = 0, 0.0
    for new_row, old_row in zip(new, old, strict=True):
        for a, b in zip(new_row, old_row, strict=True):
            count, total = count + 1, total + 0.5 * (a - b) ** 2
    return total / count
