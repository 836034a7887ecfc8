"""Where a gain came from: a reward that is a function of the texts' features, and the alarm that reads the split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.evaluate.analyses.alarms import find_alarms
from rlhf_bench.evaluate.analyses.gain import Gain, split_gains
from rlhf_bench.scorers.features import FEATURES, feature_table
from rlhf_bench.scorers.style import GROUPS
from rlhf_bench.stats import resampling
from rlhf_bench.store.score_table import score_table

P, K = 60, 4
LENGTH, EXCLAMATION = (list(FEATURES).index(name) for name in ("length", "exclamation"))


def test_every_feature_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(FEATURES)


def rows(model: str, words: float, marks: float, extra: float, *, seed: int, samples: int = K) -> pd.DataFrame:
    """Responses of about so many words and exclamation marks; reward = 2 length + 1 exclamation + extra + noise."""
    generator = np.random.default_rng(seed)
    keys = [(f"p{p:02d}", k) for p in range(P) for k in range(samples)]
    texts = [" word" * (1 + generator.poisson(words)) + "!" * generator.poisson(marks) for _ in keys]
    features = feature_table(texts)
    reward = 2 * features[:, LENGTH] + features[:, EXCLAMATION] + extra + generator.normal(scale=0.3, size=len(keys))
    style = {f"style_{name}": features[:, i] for i, name in enumerate(FEATURES)}
    columns = {"prompt_id": [p for p, _ in keys], "sample": [k for _, k in keys], "reward_z": reward, **style}
    return pd.DataFrame({"model": model, "seed": 0, **columns})


def splits(scores: pd.DataFrame) -> dict[str, Gain]:
    with resampling(300):
        found = split_gains(scores, reference="sft", models=["sft", "long", "loud", "good", "same"])
        return {gain.model: gain for gain in found if isinstance(gain, Gain)}


def test_what_a_function_pays_for_is_found_and_the_alarm_reads_it() -> None:
    sft = rows("sft", 10, 1, 0.0, seed=21)
    scores = pd.concat(
        [
            sft,
            rows("long", 20, 1, 0.0, seed=2),
            rows("loud", 10, 4, 0.0, seed=3),
            rows("good", 20, 1, 1.0, seed=4),
            sft.assign(model="same"),
        ]
    )
    found = splits(scores)
    means = scores.groupby("model")[["style_length", "style_exclamation"]].mean()
    shift = means - means.loc["sft"]
    for model, extra in (("long", 0.0), ("loud", 0.0), ("good", 1.0)):
        parts = found[model].split.parts
        truth = {
            "length": 2 * shift.loc[model, "style_length"],
            "tone": shift.loc[model, "style_exclamation"],
            "rest": extra,
        }
        for name, value in truth.items():
            assert parts[name].low - 0.02 < value < parts[name].high + 0.02, (model, name)
    assert "form" not in found["long"].split.parts  # no response of the reference has a list
    assert {part.value for part in found["same"].split.parts.values()} == {0.0}
    assert found["same"].split.shares == {}
    assert found["long"].split.shares["length"].value == pytest.approx(1, abs=0.15)

    table = score_table(scores, ["reward_z"])
    by_model = {model: gain.split for model, gain in found.items()}
    alarms = find_alarms(table, reference="sft", splits=by_model)
    assert [(alarm.model, alarm.kind) for alarm in alarms] == [("long", "length")]


def test_one_sample_a_prompt_has_no_split_and_says_why() -> None:
    scores = pd.concat([rows("sft", 10, 1, 0.0, seed=1, samples=1), rows("long", 20, 1, 0.0, seed=2, samples=1)])
    (why,) = split_gains(scores, reference="sft", models=["sft", "long"])
    assert "one sample a prompt" in str(why)
    assert list(split_gains(scores.drop(columns="style_length"), reference="sft", models=["sft", "long"])) == []
