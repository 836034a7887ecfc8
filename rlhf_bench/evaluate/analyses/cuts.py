"""How many prompts and responses were too long for what read them: a line each, and an alarm above a tenth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from rlhf_bench.scorers.base import CUT
from rlhf_bench.types import Alarm

CUT_CHECK = "cut prompts and responses"
MOST = 0.1
PROMPT, CHOSEN = f"{CUT}prompt", f"{CUT}chosen"


class Cut(NamedTuple):
    models: str  # that it is about
    share: float
    text: str


def find_cuts(rows: pd.DataFrame, *, max_prompt: int | None, max_response: int | None) -> list[Cut]:
    """What was cut, from the columns `cut:...` of the responses (1: cut, 0: not, NaN: not known).

    `max_prompt` and `max_response`: the limits of what is sampled, in tokens.
    """
    prompts = _of_models(rows, PROMPT, f"prompts are cut to {max_prompt} tokens")
    chosen = _of_models(rows, CHOSEN, f"chosen responses are cut to {max_response} tokens, which perplexity is of")
    return [*prompts, *chosen, *_of_reward_models(rows)]


def cut_alarms(cuts: list[Cut]) -> list[Alarm]:
    return [Alarm(cut.models, "cut", cut.text) for cut in cuts if cut.share > MOST]


def _of_models(rows: pd.DataFrame, column: str, what: str) -> Iterator[Cut]:
    """Models with one tokenizer and form have one share, and one line."""
    if column not in rows:
        return
    shares = rows.groupby(rows["model"].astype(str), sort=False)[column].mean()
    cut = shares[shares > 0]
    for share in dict.fromkeys(cut):
        models = ", ".join(cut.index[cut == share])
        yield Cut(models, float(share), f"{models}: {_percent(share)} of the {what}")


def _of_reward_models(rows: pd.DataFrame) -> Iterator[Cut]:
    for column in (name for name in rows.columns if name.startswith(CUT) and name not in (PROMPT, CHOSEN)):
        share, name = float(rows[column].mean()), column.removeprefix(CUT)
        if share > 0:
            longer = f"{_percent(share)} of the responses are longer, with their prompts, than the reward model reads"
            yield Cut(name, share, f"{name}: {longer}, and are scored in part")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "under 0.1%"
