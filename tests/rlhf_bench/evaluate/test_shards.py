"""Many prompts are evaluated and stored a shard at a time: the result is that of one shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlhf_bench import evaluate as evaluation
from rlhf_bench.data import mini
from rlhf_bench.evaluate import run
from rlhf_bench.modeling import models
from rlhf_bench.report.result import load_result

from ..tiny import save_elsewhere

PROMPTS = 20


@pytest.fixture
def shards_of_6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHARD", 6)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_elsewhere(tmp_path_factory.mktemp("shards"))


def write_texts(path: Path) -> Path:
    """Two responses a prompt; references for two prompts, so that most shards have none."""
    rows = [
        {"prompt": f"Say {i}.", "response": f"so {i} {k} " * (1 + i % 4)}
        | ({"reference": f"so {i}"} if i in (3, 4) else {})
        for i in range(PROMPTS)
        for k in (0, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sampled(work: Path, results: Path) -> Path:
    """Model b before its reference a, and a response file that knows 20 prompts of the data's."""
    pairs = mini.generate("test", n=60)
    file = results.with_suffix(".jsonl")
    file.write_text("".join(json.dumps({"prompt": p.prompt, "response": p.chosen}) + "\n" for p in pairs))
    suite = results.with_suffix(".yaml")
    suite.write_text(f"version: 1\nprompts: {PROMPTS}\nsamples: 2\nmax_new_tokens: 6\nbest_of_n: 2\n")
    return evaluation.evaluate(
        str(suite), models={"b": str(work / "b"), "a": str(work / "a")}, responses=[("text", str(file))], reference="a",
        reward_models={"judge": str(work / "judge")}, data=str(work / "pairs.jsonl"), settings=["split=train"],
        results=results,
    ).folder  # fmt: skip


def test_texts_give_the_same_bytes_in_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    given: dict[str, Any] = {"responses": [("mine", str(write_texts(tmp_path / "mine.jsonl")))]}
    whole = evaluation.evaluate(**given, results=tmp_path / "whole")
    request.getfixturevalue("shards_of_6")
    scored_at_once: list[int] = []
    scored = run.scored
    monkeypatch.setattr(
        run, "scored", lambda rows, context: (scored_at_once.append(len(rows)), scored(rows, context))[1]
    )
    sharded = evaluation.evaluate(**given, results=tmp_path / "sharded")
    assert scored_at_once[:4] == [12, 12, 12, 4]  # 6, 6, 6 and 2 prompts
    assert (sum(scored_at_once[4:]), min(scored_at_once[4:])) == (2, 0)  # the references
    for name in ("responses.jsonl", "metrics.json"):
        assert (sharded.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    pd.testing.assert_frame_equal(sharded.scores, whole.scores, check_exact=True)
    assert "self_bleu" in whole.scores


def test_models_give_the_same_rows_in_shards_and_are_loaded_once(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    whole = load_result(sampled(work, tmp_path / "whole"))
    request.getfixturevalue("shards_of_6")
    loaded: list[str] = []
    load = models.load_policy
    monkeypatch.setattr(models, "load_policy", lambda path, **k: (loaded.append(Path(path).name), load(path, **k))[1])
    sharded = load_result(sampled(work, tmp_path / "sharded"))
    assert sorted(loaded) == ["a", "b"]
    ours, theirs = (result.responses(lambda row: row["response"]) for result in (sharded, whole))
    assert ours == theirs
    ours, theirs = sharded.scores, whole.scores
    assert list(ours.columns) == list(theirs.columns)
    assert ours.dtypes.astype(str).to_dict() == theirs.dtypes.astype(str).to_dict()
    # the reward model sees other batches, so its last bits differ
    pd.testing.assert_frame_equal(ours.drop(columns="token_kl"), theirs.drop(columns="token_kl"), rtol=1e-4, atol=1e-5)
    assert len(pd.read_parquet(sharded.path / "best_of_n.parquet")) == 2 * PROMPTS


def test_each_tokens_terms_stand_in_the_row_of_their_response(
    work: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """They sum to the response's exact KL, and there is one for each token that was drawn."""
    request.getfixturevalue("shards_of_6")
    scores = load_result(sampled(work, tmp_path / "results")).scores
    for model in ("a", "b"):
        rows = scores[scores["model"] == model]
        assert len(rows) == 2 * PROMPTS
        assert [sum(terms) for terms in rows["token_kl"]] == pytest.approx(rows["kl_exact"].tolist(), abs=1e-5)
        assert [len(terms) for terms in rows["token_kl"]] == rows["n_tokens"].tolist()
    assert np.ptp([sum(terms) for terms in rows["token_kl"]]) > 0  # b's differ from row to row
    assert scores.loc[~scores["model"].isin(["a", "b"]), "token_kl"].isna().all()
