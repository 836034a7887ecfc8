"""What the page holds: drawings small enough, tokens as letters, what was compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rlhf_bench.files import write_jsonl
from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.judge.questions import another_sample
from rlhf_bench.report.page.alarms import alarm_rows
from rlhf_bench.report.page.compared import compared_table
from rlhf_bench.report.page.data import page_data
from rlhf_bench.report.page.embedded import image_uri, small_svg
from rlhf_bench.report.page.responses import read_rows, response_columns
from rlhf_bench.report.result import Result, load_result
from rlhf_bench.types import Estimate

from .make_result import make_result

SVG = """<?xml version="1.0"?>
<svg viewBox="0 0 504 374.04">
 <metadata><title>Matplotlib</title></metadata>
 <!-- a name -->
 <path d="M 163.995539 288 L -2.000000 32.4" transform="scale(0.015625)"/>
</svg>
"""


def test_a_drawing_is_rounded_and_its_scales_are_not(tmp_path: Path) -> None:
    small = '<svg viewBox="0 0 504 374.04"><path d="M 164 288 L -2 32.4" transform="scale(0.015625)"/></svg>'
    assert small_svg(SVG) == small
    assert image_uri(tmp_path, "a") is None
    (tmp_path / "a.svg").write_text(SVG.replace("288", "#<&%"), "utf-8")
    assert image_uri(tmp_path, "a") == "data:image/svg+xml," + small.replace('"', "'").replace("288", "%23<%26%25")


def test_tokens_are_a_letter_each(one_seed: Path) -> None:
    """Levels are square roots of the KL in steps of 1 / 61 of the root of the largest; lengths in base 62."""
    made = load_result(one_seed)
    given = read_rows(made)
    terms = [[0.0, 0.25, 1.0], [0.04], None] + [None] * (len(given.rows) - 3)
    ends = [[2, 12, 12], [61], None] + [None] * (len(given.rows) - 3)
    scores = given.scores.assign(token_kl=pd.Series(terms, given.scores.index), token_ends=ends)
    found = response_columns(made, given._replace(scores=scores), {name: i for i, name in enumerate(made.models)})
    # the 99.5th percentile of 0, 0.04, 0.25, 1 is 0.25 + 0.985 (1 - 0.25) = 0.98875
    assert found["kl_max"] == pytest.approx(0.98875, abs=1e-4)
    # 61 sqrt(0.25 / 0.98875) = 30.7, 61 sqrt(0.04 / 0.98875) = 12.3
    assert found["kl_levels"][:3] == ["0vZ", "c", ""]
    assert found["kl_lengths"][:3] == ["2a0", "Z", ""]


def test_an_alarm_of_a_phrase_is_searched_for(one_seed: Path) -> None:
    made = load_result(one_seed)
    text = 'ppo: 90% of its responses have "i am glad", 1% of sft\'s: a habit'
    alarms = [{"model": "ppo", "kind": "phrase", "text": text}, {"model": "ppo, dpo", "kind": "cut", "text": "cut"}]
    other = Result(made.path, made.manifest, {**made.metrics, "alarms": alarms}, made.scores, {})
    (found,) = alarm_rows(other, {"p0000": 0}, {"ppo": 0, "dpo": 1})  # one of several models has no rows of its own
    assert (found["search"], found["prompts"]) == ("i am glad", [])


def test_models_have_equal_shares_of_the_mistakes(tmp_path: Path) -> None:
    """Of 400 rows the model with 50 has all of its own, the others 175 each, also with margins 100 times as large."""
    path = make_result(tmp_path / "r", n_prompts=4)
    scales = {"a": (1.0, 300), "b": (100.0, 300), "c": (1000.0, 50)}
    texts = dict.fromkeys(("prompt", "chosen", "rejected"), "")
    rows = [{**texts, "model": model, "margin": -scale * k, "chosen_score": 0.0, "rejected_score": scale * k}
            for model, (scale, n) in scales.items() for k in range(n)]  # fmt: skip
    write_jsonl(path / "audit" / "mistakes.jsonl", rows)
    found = page_data(load_result(path))
    margins = {name: [row["margin"] for row in found["mistakes"] if row["audited"] == name] for name in scales}
    assert margins["a"] == [-float(k) for k in range(299, 124, -1)]
    assert margins["b"] == [-100.0 * k for k in range(299, 124, -1)]
    assert margins["c"] == [-1000.0 * k for k in range(49, -1, -1)]
    assert found["n_mistakes"] == {"c": 50, "b": 300, "a": 300}
    assert {row["audited"] for row in found["mistakes"][:3]} == {"a", "b", "c"}  # in turn


def test_what_was_compared_has_its_form(one_seed: Path) -> None:
    made = load_result(one_seed)
    chat = {"seed": 0, "path": "m", "hash": "h", "kind": "checkpoint", "template": "chat", "prompt": {"end": "<eot>"}}
    file = {"seed": 0, "path": "f.jsonl", "hash": "h", "kind": "responses"}
    reward = {"seed": 0, "path": "r", "hash": "h", "form": "plain"}
    manifest = {**made.manifest, "models": {"sft": [chat], "file": [file]}, "reward_model": [reward]}
    other = Result(made.path, manifest, made.metrics, made.scores, {})
    assert [(row[0], row[2], row[-1]) for row in compared_table(other).rows] == [
        ("sft", "reference", "chat, end '<eot>'"),
        ("file", "model", "–"),
        ("reward", "reward model", "plain"),
    ]


def test_verdicts_on_a_models_own_samples_are_no_axis(one_seed: Path) -> None:
    """Its baseline is no model, and a win rate of a model against itself is no place on a plot."""
    made = load_result(one_seed)
    rate = Estimate(0.6, 0.5, 0.7, 20).to_dict()
    judge = {"judge": "length", "base_url": BUILT_IN, "template": "none"}
    judgings = [
        {**judge, "baseline": baseline, "win_rates": [{"model": model, "estimate": rate}]}
        for model, baseline in (("ppo", "sft"), ("sft", another_sample("sft")))
    ]
    axes = page_data(replace(made, judge={"judgings": judgings}))["axes"]
    assert [axis["title"] for axis in axes if axis["key"].startswith("win_rate")] == ["Win rate against sft by length"]
