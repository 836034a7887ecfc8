"""Responses side by side, for a person to read: sample 0 of every model on evenly spaced prompts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, number_text

READABLE = 50  # prompts that responses.md and the workbook hold


class ResponseView(NamedTuple):
    model: str
    text: str
    reward: float  # raw, of the shown seed; NaN if there is none
    gold: float
    finish_reason: str | None  # None, as n_tokens, where a response file does not say
    n_tokens: float | None


class PromptView(NamedTuple):
    prompt_id: str
    prompt: str
    responses: list[ResponseView]  # in the order of the tables: dataset responses last


def side_by_side(result: Result, cap: int) -> list[PromptView]:
    """At most `cap` prompts, evenly spaced over the data so that every category is seen; the first seed."""
    seed = result.seeds[0]
    shown = (result.scores["seed"] == seed) & (result.scores["sample"] == 0)
    ids = list(dict.fromkeys(result.scores.loc[shown, "prompt_id"]))
    picked = ids if len(ids) <= cap else [ids[i * len(ids) // cap] for i in range(cap)]
    kept = set(picked)
    scores = result.scores[shown & result.scores["prompt_id"].isin(picked)]
    numbers = scores.set_index(["model", "prompt_id"]).reindex(columns=["reward", "gold"]).to_dict()

    def pick(row: dict[str, Any]) -> dict[str, Any] | None:
        return row if row["seed"] == seed and row["sample"] == 0 and row["prompt_id"] in kept else None

    rows = result.responses(pick)
    prompts: dict[str, str] = {}
    found: dict[tuple[str, str], ResponseView] = {}
    for row in rows:
        key = (row["model"], row["prompt_id"])
        prompts.setdefault(row["prompt_id"], row["prompt"])
        reward, gold = (float(numbers[name].get(key, math.nan)) for name in ("reward", "gold"))
        found[key] = ResponseView(row["model"], row["response"], reward, gold, row["finish_reason"], row["n_tokens"])
    return [PromptView(p, prompts[p], [found[m, p] for m in result.models if (m, p) in found]) for p in picked]


def responses_markdown(result: Result, views: Sequence[PromptView]) -> str:
    total = result.manifest["data"].get("n_prompts", "?")
    lines = [
        f"# Responses on {result.data_label}",
        "",
        f"{len(views)} of {total} prompts, evenly spaced; sample 0 of each model, seed {result.seeds[0]}.",
    ]
    for number, view in enumerate(views, 1):
        lines += ["", f"## {number}. Prompt {view.prompt_id}", "", _fenced(view.prompt.strip("\n"))]
        for response in view.responses:
            facts = [f"reward {number_text(response.reward, 3)}"]
            facts += [f"gold {number_text(response.gold, 3)}"] if result.has_gold else []
            facts += [] if response.n_tokens is None else [f"{response.n_tokens} tokens"]
            facts += [] if response.finish_reason is None else [f"finish: {response.finish_reason}"]
            lines += ["", f"**{response.model}** ({', '.join(facts)})", "", _fenced(response.text)]
    return "\n".join(lines) + "\n"


def responses_table(result: Result, views: Sequence[PromptView]) -> Table:
    """A row a prompt; the columns <model>_response, <model>_reward and, where there is one, <model>_gold."""
    columns = [Column("prompt_id", "prompt_id"), Column("prompt", "prompt")]
    for model in result.models:
        names = [f"{model}_response", f"{model}_reward", *([f"{model}_gold"] if result.has_gold else [])]
        columns += [Column(name, name) for name in names]
    rows: list[list[Cell]] = []
    for view in views:
        by_model = {response.model: response for response in view.responses}
        row: list[Cell] = [view.prompt_id, view.prompt]
        for model in result.models:
            response = by_model.get(model)
            row += [response.text, response.reward] if response else [None, None]
            row += [response.gold if response else None] if result.has_gold else []
        rows.append(row)
    return Table("responses", "Responses side by side", columns, rows)


def _fenced(text: str) -> str:
    """A code block that no text can close: its fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
