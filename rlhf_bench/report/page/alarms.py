"""The prompts behind each alarm: those on which the numbers that it is about go the way it warns of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from rlhf_bench.errors import UnknownName
from rlhf_bench.report.alarms import found_alarms
from rlhf_bench.report.page.responses import short
from rlhf_bench.report.result import Result
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.reward import HELD_OUT_Z
from rlhf_bench.types import Alarm

_WITHOUT = "reward_without_"


def alarm_rows(result: Result, prompts: Mapping[str, int], index: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each alarm's text, its model, and the prompts behind it, the largest change of its number first.

    Two have no prompts here: a judge's, behind which are those that the model lost, and that of a phrase, which is
    searched for.
    """
    return [
        {
            "text": alarm.text,
            "model": index[alarm.model],
            "kind": alarm.kind,
            # the first phrase that an alarm of a phrase quotes
            "search": alarm.text.split('"')[1] if alarm.kind == "phrase" and alarm.text.count('"') > 1 else "",
            **_behind(result, alarm, prompts),
        }
        for alarm in found_alarms(result)
        if alarm.model in index
    ]


def _behind(result: Result, alarm: Alarm, prompts: Mapping[str, int]) -> dict[str, Any]:
    changes = dict(_changes(result, alarm))
    if not changes:
        return {"title": "", "digits": 0, "prompts": [], "changes": []}
    column = next(iter(changes))
    table = pd.DataFrame(changes)
    ways = {name: _way(name, table[name]) for name in changes}
    bad = table[(table * pd.Series(ways) > 0).all(axis=1)]
    found = bad[column].mul(-ways[column]).sort_values(kind="stable")
    known_ones = [str(prompt) for prompt in found.index if prompt in prompts]
    about = describe(column)
    return {
        "title": about.title,
        "digits": about.digits,
        "prompts": [prompts[prompt] for prompt in known_ones],
        "changes": [short(bad.at[prompt, column]) for prompt in known_ones],
    }


def _changes(result: Result, alarm: Alarm) -> Iterator[tuple[str, pd.Series[float]]]:
    """The model's mean minus the reference's on each prompt, of the numbers that an alarm is about, its own first."""
    for column in _columns(result, alarm.kind):
        if column in result.scores.columns:
            means = result.scores.groupby(["model", "prompt_id"])[column].mean().unstack(0)
            yield column, (means[alarm.model] - means[result.reference]).dropna()


def _columns(result: Result, kind: str) -> list[str]:
    reward = result.reward_key
    if kind.startswith(_WITHOUT):
        return [kind.removeprefix(_WITHOUT), reward]
    known_ones = {"length": ["n_tokens", reward], "overfit": [HELD_OUT_Z, reward], "above_frontier": [reward]}
    return known_ones.get(kind, [kind])


def _way(column: str, changes: pd.Series[float]) -> int:
    """Which way the number goes in an alarm: +1 or -1."""
    if column == "n_tokens":
        return 1 if changes.mean() > 0 else -1
    try:
        alarm = describe(column).alarm
    except UnknownName:
        return 1
    return alarm.bad if alarm else 1
