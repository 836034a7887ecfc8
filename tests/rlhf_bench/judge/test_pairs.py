"""What a result offers to a judge: its pairs, what has no counterpart, what is empty, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_bench.errors import BadValue, StoreError, UnknownName
from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.questions import Selection, pairs_of, singles_of


def row(model: str, prompt: str, response: str = "words", *, seed: int = 0, sample: int = 0) -> dict[str, Any]:
    ids = {"prompt_id": prompt, "seed": seed, "sample": sample}
    return {"model": model, **ids, "prompt": f"text of {prompt}", "response": response}


ROWS = [
    row("base", "p1"), row("base", "p0"), row("base", "p0", sample=1),
    row("ppo", "p1", " \n"), row("ppo", "p0", "mine"), row("ppo", "p0", sample=1), row("ppo", "p2"),
    row("dpo", "p0", seed=1), row("dpo", "p0"),
    row("chosen", "p0"),
]  # fmt: skip


def test_each_response_meets_its_counterpart() -> None:
    """ppo's p2 and dpo's seed 1 have none; chosen is the data's own, and is judged only by name."""
    found = pairs_of(ROWS, baseline="base")
    where = [(c.model, c.prompt_id, c.seed, c.sample) for c in found.comparisons]
    assert where == [("ppo", "p0", 0, 0), ("ppo", "p0", 0, 1), ("ppo", "p1", 0, 0), ("dpo", "p0", 0, 0)]
    assert (found.alone, found.empty) == (2, 1)
    first = found.comparisons[0]
    assert (first.prompt, first.model_response, first.baseline_response) == ("text of p0", "mine", "words")
    assert len(pairs_of(ROWS, baseline="base", chosen=Selection(samples=1)).comparisons) == 3
    assert len(pairs_of(ROWS, baseline="base", chosen=Selection(limit=1)).comparisons) == 3  # p0 alone
    named = pairs_of(ROWS, baseline="base", chosen=Selection(["chosen", "chosen"]))
    assert [c.model for c in named.comparisons] == ["chosen"]


def test_a_model_alone_is_compared_with_its_own_other_samples() -> None:
    rows = [row("sft", "p0", f"text {sample}", sample=sample) for sample in range(5)] + [row("ppo", "p0")]
    found = pairs_of(rows, baseline="sft", chosen=Selection(["sft"]))
    assert [(c.sample, c.baseline, c.model_response, c.baseline_response) for c in found.comparisons] == [
        (0, "another sample of sft", "text 0", "text 1"),
        (2, "another sample of sft", "text 2", "text 3"),
    ]
    assert found.alone == 1  # the fifth
    with pytest.raises(BadValue, match="alone, or the others"):
        pairs_of(rows, baseline="sft", chosen=Selection(["sft", "ppo"]))


def test_an_empty_response_is_judged_as_empty_and_counted() -> None:
    found = pairs_of(ROWS, baseline="base", chosen=Selection(["ppo"]))
    (empty,) = (c for c in found.comparisons if not c.model_response.strip())
    asked = load_template("pairwise").render(empty, "model_first").messages[1].content
    assert "(RESPONSE A: empty)" in asked
    assert "(RESPONSE B: empty)" not in asked
    assert found.empty == 1
    assert len(singles_of(ROWS, chosen=Selection(["ppo"]))) == 4


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (
            [*ROWS, row("dpo", "p1") | {"prompt": "another text"}],
            {"baseline": "base"},
            StoreError,
            r"two responses to prompt p1 have different prompts \(dpo, seed 0\); expected",
        ),
        (
            [row("base", "p0"), row("ppo", "p1")],
            {"baseline": "base"},
            StoreError,
            "no response of ppo has a counterpart by base: the same prompt, seed and sample; a judge needs two models",
        ),
        (ROWS[:3], {"baseline": "base"}, StoreError, "no response of any other model has a counterpart by base"),
        (ROWS, {"baseline": "bas"}, UnknownName, "unknown model 'bas'; did you mean 'base'?"),
        (
            ROWS,
            {"baseline": "base", "chosen": Selection(["pppo"])},
            UnknownName,
            "unknown model 'pppo'; did you mean 'ppo'?",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_line(
    rows: list[Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        pairs_of(rows, **options)
