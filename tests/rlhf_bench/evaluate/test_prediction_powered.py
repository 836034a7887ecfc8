"""A rule's share of an evaluation, corrected by labels of a random sample of its responses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.evaluate.prediction_powered import draw_for_labelling, prediction_powered_share
from rlhf_bench.stats.ppi import ppi_share

N = 60


def frames(seeds: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and responses of two models: two samples a prompt, and no value for every sixth prompt."""
    rows = [
        {"model": model, "seed": s, "prompt_id": f"p{p:02d}", "sample": k,
         "refused": float("nan") if p % 6 == 0 else float((p + k + s) % 2)}
        for model in ("sft", "ppo") for s in range(seeds) for p in range(N) for k in range(2)
    ]  # fmt: skip
    scores = pd.DataFrame(rows)
    texts = [f"{r['model']} {r['seed']} {r['prompt_id']} {r['sample']}" for r in rows]
    return scores, scores.drop(columns="refused").assign(prompt=scores["prompt_id"], response=texts)


def test_a_sample_is_drawn_labelled_and_given_back() -> None:
    scores, responses = frames()
    ppo = {"model": "ppo", "metric": "refused"}
    sample = draw_for_labelling(scores, responses, **ppo, n=20)
    assert list(sample.columns) == ["prompt_id", "prompt", "response", "label"]
    assert sample["prompt_id"].is_unique
    assert all(row.response == f"ppo 0 {row.prompt_id} 0" for row in sample.itertuples())  # the first response alone
    assert sample.equals(draw_for_labelling(scores, responses, **ppo, n=20))
    assert not sample.equals(draw_for_labelling(scores, responses, **ppo, n=20, seed=1))
    predicted = {f"p{p:02d}": float(p % 2) for p in range(N) if p % 6}
    labels = [1 - predicted[p] if i < 4 else predicted[p] for i, p in enumerate(sample["prompt_id"])]
    found = prediction_powered_share(scores, sample.assign(label=[str(int(label)) for label in labels]), **ppo)
    wanted = ppi_share(labels, [predicted[p] for p in sample["prompt_id"]], list(predicted.values()))
    assert found == wanted
    assert (found.n, found.method) == (20, "prediction-powered")


def test_what_cannot_be_used_is_one_line() -> None:
    scores, responses = frames(seeds=2)
    ppo = {"model": "ppo", "metric": "refused"}
    with pytest.raises(BadValue, match=r"seeds \[0, 1\]; expected one of them as training_seed"):
        draw_for_labelling(scores, responses, **ppo, n=20)
    sample = draw_for_labelling(scores, responses, **ppo, n=20, training_seed=1)
    assert sample["response"].str.startswith("ppo 1 ").all()
    with pytest.raises(BadValue, match="expected 10 to 50 of the 50 responses"):
        draw_for_labelling(scores, responses, **ppo, n=5, training_seed=0)
    for labels, message in (
        (sample, "20 of 20 labels are no number"),
        (pd.concat([sample, sample]).assign(label=1), "two labels of the prompt"),
        (sample.assign(label=1, prompt_id="elsewhere"), "a label of the prompt elsewhere given"),
        (sample.assign(label=2), "the label 2.0"),
    ):
        with pytest.raises((BadValue, DataError), match=message):
            prediction_powered_share(scores, labels, **ppo, training_seed=1)
    for wrong, message in (({"metric": "right"}, "metric 'right' given"), ({"model": "dpo"}, "no response of 'dpo'")):
        with pytest.raises(BadValue, match=message):
            prediction_powered_share(scores, sample.assign(label=1), **{**ppo, **wrong}, training_seed=1)


def test_a_rule_that_misses_half_is_corrected_on_average() -> None:
    """The rule finds half of the 60 %, the labels of 30 of 300 find the rest: on average over 100 draws, within .02."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        truth = generator.random(300) < 0.6
        scores = pd.DataFrame({"model": "m", "seed": 0, "sample": 0, "prompt_id": [f"{i}" for i in range(300)],
                               "refused": (truth & (generator.random(300) < 0.5)).astype(float)})  # fmt: skip
        drawn = generator.choice(300, 30, replace=False)
        labels = pd.DataFrame({"prompt_id": [str(i) for i in drawn], "label": truth[drawn].astype(int)})
        found.append(prediction_powered_share(scores, labels, model="m", metric="refused").value)
    assert np.mean(found) == pytest.approx(0.6, abs=0.02)
