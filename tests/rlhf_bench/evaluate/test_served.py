"""Models behind a server of the OpenAI API, which misbehaves."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from rlhf_bench import evaluate as evaluation
from rlhf_bench.cli import cli
from rlhf_bench.data.hh import split_turns
from rlhf_bench.errors import BadValue, JudgeError
from rlhf_bench.evaluate import served, served_kl
from rlhf_bench.files import read_jsonl
from rlhf_bench.judge.client import Limits
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.templates import Template
from rlhf_bench.scorers.base import LoadedModel
from rlhf_bench.types import ResponseRow

from ..judge import server as faults
from ..judge.conftest import FakeServer, serving
from ..tiny import Log, save_elsewhere

SHARE = 0.7


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LIMITS", Limits(first_wait=0.01))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"prompt": f"Really {i}?", "chosen": "Yes, it is.", "rejected": "No."} for i in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def run(pairs: Path, results: Path, url: str, path: str = "server:judge-1", **more: Any) -> Path:
    request: dict[str, Any] = {"models": {"m": path}, "base_url": url, "data": str(pairs), "samples": 2} | more
    return evaluation.evaluate(results=results, **request).folder


def received(result: Path, model: str = "m") -> dict[tuple[str, int], str]:
    rows = (row for row in read_jsonl(result / "responses.jsonl") if row["model"] == model)
    return {(split_turns(row["prompt"])[-1].content, row["sample"]): row["response"] for row in rows}


def answered(server: FakeServer) -> Counter[tuple[str, int]]:
    """How often the server answered each question under each seed of sampling."""
    rows = (row for row in server.requests() if row["fault"] in (None, *faults.LASTING))
    return Counter((row["question"], row["sent"]["seed"]) for row in rows)


def test_every_response_is_requested_once_from_a_server_that_misbehaves(pairs: Path, tmp_path: Path) -> None:
    with serving(tmp_path, SHARE, 0.05) as server:
        some = run(pairs, tmp_path / "results", server.url, limit=6)
        whole = run(pairs, tmp_path / "results", server.url)  # goes on from what the ledger has of the first six
        before = server.count()
        again = run(pairs, tmp_path / "results", server.url, force=True)
        assert server.count() == before
    texts = {"refusal": " I will not say A", "unreadable": " I like both of them"}
    expected = {}
    for question in (f"Really {i}?" for i in range(20)):
        kind = faults.fault(question, SHARE)
        if kind not in ("filter", "filter 400"):
            expected |= {(question, k): texts.get(kind or "", f" {faults.verdict(question)}") for k in (0, 1)}
    assert {faults.fault(f"Really {i}?", SHARE) for i in range(20)} > {"429 with", "dropped", "refusal", "filter"}
    assert received(whole) == received(again) == expected
    assert received(some).items() <= expected.items()
    assert set(answered(server).values()) == {1}
    scores = pd.read_parquet(whole / "scores.parquet")
    assert scores.loc[scores["model"] == "m", "rougeL"].notna().all()
    missing = json.loads((whole / "metrics.json").read_text("utf-8"))["missing"]
    assert any(row["metric"] == "kl_exact" and "weights=PATH" in row["reason"] for row in missing)
    assert json.loads((whole / "manifest.json").read_text("utf-8"))["models"]["m"][0]["kind"] == "server"


def test_a_named_template_is_written_here_for_the_completions_api(pairs: Path, tmp_path: Path) -> None:
    with serving(tmp_path, 0) as server:
        result = run(pairs, tmp_path / "results", server.url, limit=2, templates={"m": "hh"})
        sent = [row["sent"] for row in server.requests()]
    assert {row["prompt"] for row in sent} == {
        f"\n\nHuman: {question}\n\nAssistant:" for question, _ in received(result)
    }
    assert all(row["stop"] == ["\n\nHuman:"] for row in sent)
    assert len({row["seed"] for row in sent}) == 2  # samples of one prompt
    # what a server that knows no stop strings writes after one is cut
    assert set(received(result).values()) <= {" A.", " B.", " C."}


def test_a_server_that_takes_no_seed_is_sent_none(pairs: Path, tmp_path: Path) -> None:
    log = Log()
    with serving(tmp_path, 0) as server:
        result = run(pairs, tmp_path / "results", server.url, "server:no-seed", limit=2, progress=log)
        assert [("seed" in row["sent"]) for row in server.requests()] == [True] + [False] * 4
    assert len(received(result)) == 4
    assert any("refuses the seed" in line for line in log.lines)


def test_kl_with_the_weights_at_hand(pairs: Path, tmp_path: Path) -> None:
    """By plain log-softmax along the response's tokens."""
    folder = save_elsewhere(tmp_path / "models")
    with serving(tmp_path, 0) as server:
        result = run(
            pairs, tmp_path / "results", server.url, limit=2, samples=1, templates={"m": "hh", "b": "hh"},
            models={"m": f"server:judge-1,weights={folder / 'a'}", "b": str(folder / "b")}, reference="b",
        )  # fmt: skip
    scores = pd.read_parquet(result / "scores.parquet")
    row = scores[scores["model"] == "m"].iloc[0]
    text = next(r for r in read_jsonl(result / "responses.jsonl") if r["model"] == "m")
    (policy, tokenizer), (reference, _) = load_policy(folder / "a"), load_policy(folder / "b")
    prompt = tokenizer(text["prompt"])["input_ids"]
    drawn = [*tokenizer(text["response"])["input_ids"], tokenizer.eos_token_id]
    if text["finish_reason"] == "length":
        drawn = drawn[:-1]
    assert row["token_ids"].tolist() == drawn

    def logps(model: Any) -> torch.Tensor:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + drawn])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1)

    ours, theirs = logps(policy), logps(reference)
    assert row["kl_exact"] == pytest.approx((ours.exp() * (ours - theirs)).sum().item(), rel=1e-4)


def test_what_does_not_come_is_an_error_or_left_out(pairs: Path, tmp_path: Path) -> None:
    with serving(tmp_path, 0) as server:
        with pytest.raises(JudgeError, match="HTTP 400"):
            run(pairs, tmp_path / "results", server.url, "server:rejects", limit=2)
        with pytest.raises(JudgeError, match="knows no model"):
            run(pairs, tmp_path / "results", server.url, "server:no-such-model", limit=2)
    with pytest.raises(BadValue, match="--base-url"):
        run(pairs, tmp_path / "results", None, limit=2)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="expected server:MODEL"):
        run(pairs, tmp_path / "results", "http://localhost/v1", "server:a,weights=", limit=2)


def test_a_server_is_requested_before_any_model_is_sampled_here(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_elsewhere(tmp_path / "models")
    sampled: list[str] = []
    monkeypatch.setattr("rlhf_bench.evaluate.run.sampled_rows", lambda source, *_, **__: sampled.append(source.name))
    models = {"a": str(folder / "a"), "m": "server:judge-1"}
    with pytest.raises(JudgeError, match="no connection"):
        run(pairs, tmp_path / "results", "http://127.0.0.1:9/v1", models=models, limit=2)
    assert not sampled


# KL by what servers say of a prompt


def test_kl_by_the_log_probabilities_of_servers(pairs: Path, tmp_path: Path) -> None:
    """The tests' server gives -(code % 7) / 4 for a character, and twice that under the model `other`."""
    templates = {"m": "hh", "ref": "hh"}
    with serving(tmp_path, SHARE, 0.05) as server:
        models = {"m": "server:judge-1", "ref": "server:other"}
        result = run(pairs, tmp_path / "r", server.url, models=models, reference="ref", templates=templates, limit=6)
        before = server.count()
        run(pairs, tmp_path / "r", server.url, models=models, reference="ref", templates=templates, limit=6, force=True)
        assert server.count() == before
    scores = pd.read_parquet(result / "scores.parquet")
    mine = scores[scores["model"] == "m"].set_index(["prompt_id", "sample"])
    rows = [row for row in read_jsonl(result / "responses.jsonl") if row["model"] == "m"]
    assert len(rows) == len(mine) > 5
    lost = 0
    for row in rows:
        if faults.fault(row["prompt"] + row["response"], SHARE) in ("refusal", "filter", "filter 400", "unreadable"):
            assert math.isnan(mine.loc[(row["prompt_id"], row["sample"]), "kl_k1"])
            lost += 1
            continue
        ratios = [ord(character) % 7 / 4 for character in row["response"]]  # -x - (-2x)
        found = mine.loc[(row["prompt_id"], row["sample"])]
        assert found["kl_k1"] == pytest.approx(sum(ratios))
        assert found["kl_k3"] == pytest.approx(sum(math.exp(-r) - 1 + r for r in ratios))
        assert found["kl_k1_token"] == pytest.approx(sum(ratios) / len(ratios))
    assert lost < len(rows) / 2
    assert (scores.loc[scores["model"] == "ref", "kl_k1"] == 0).all()
    missing = json.loads((result / "metrics.json").read_text("utf-8"))["missing"]
    assert any(row["metric"] == "kl_exact" and "weights=PATH" in row["reason"] for row in missing)


@pytest.mark.parametrize(
    ("model", "template", "reason"),
    [("silent", "hh", "no log-probabilities of a prompt"), ("judge-1", "chat", "the chat API gives no")],
)
def test_servers_that_give_no_log_probabilities(
    pairs: Path, tmp_path: Path, model: str, template: str, reason: str
) -> None:
    with serving(tmp_path, 0) as server:
        models, templates = {"m": f"server:{model}", "ref": "server:judge-1"}, {"m": template, "ref": template}
        result = run(pairs, tmp_path / "r", server.url, models=models, templates=templates, reference="ref", limit=4)
        echoed = sum("echo" in row["sent"] for row in server.requests())
    assert echoed in ((1, 2, 3) if model == "silent" else (0,))  # three texts, if they differ
    missing = json.loads((result / "metrics.json").read_text("utf-8"))["missing"]
    assert any(row["metric"] == "kl_k1" and reason in row["reason"] for row in missing)


def test_the_response_is_the_end_of_the_echoed_text() -> None:
    meta = {"tokens": ["Hi", "\n\n", " Yes", ",", " I"], "logps": [None, -1.0, -2.0, -0.5, -9.0]}
    lengths, logps = served_kl.response_tokens(meta, " Yes,") or ([], np.array([]))
    assert lengths == [4, 1]
    assert logps.tolist() == [-2.0, -0.5]  # without " I", which the server drew
    assert served_kl.response_tokens(meta, "es,") is None  # no token begins with it
    assert served_kl.response_tokens(meta, "Hi\n\n Yes,") is None  # nothing is before its first token


def test_a_reference_that_is_here_reads_the_same_tokens(tmp_path: Path) -> None:
    folder = save_elsewhere(tmp_path / "models")
    model, tokenizer = load_policy(folder / "b")
    loaded = LoadedModel(model, tokenizer, Template.of("hh", tokenizer))
    item = ResponseRow("m", 0, "p", 0, "\n\nHuman: Why?\n\nAssistant:", " It is happening.")
    found = served_kl.under_reference(item, loaded)
    assert found is not None
    ids = tokenizer(item.prompt + item.response)["input_ids"]
    with torch.no_grad():
        logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [logps[i - 1, ids[i]].item() for i in range(1, len(ids))][-len(found[0]) :]
    assert sum(found[0]) == len(item.response)
    assert found[1].tolist() == pytest.approx(own, abs=1e-5)


# limits, and what is killed


def test_no_more_calls_than_allowed(pairs: Path, tmp_path: Path) -> None:
    with serving(tmp_path, 0) as server:
        url, words = server.url, ["--data", str(pairs), "--limit", "5", "--samples", "1", "--results", str(tmp_path)]
        words = ["eval", *words, "--model", "m=server:judge-1", "--base-url", url]
        few = CliRunner().invoke(cli, [*words, "--max-calls", "3"])
        assert few.exit_code != 0
        assert "--max-calls" in few.output
        assert server.count() == 3
        enough = CliRunner().invoke(cli, [*words, "--max-calls", "5"])
        assert enough.exit_code == 0, enough.output
        assert server.count() == 5
        priced = CliRunner().invoke(cli, [*words, "--max-cost", "1", "--force"])
        assert "the price of 'judge-1'" in priced.output


def test_a_killed_evaluation_goes_on(pairs: Path, tmp_path: Path) -> None:
    """What was in flight when it was killed is sent again, and nothing else."""
    with serving(tmp_path, 0) as server:
        if (child := os.fork()) == 0:
            try:
                run(pairs, tmp_path / "r", server.url, "server:unhurried")
            finally:
                os._exit(0)
        while server.count() < 12:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert server.count() < 40
        result = run(pairs, tmp_path / "r", server.url, "server:unhurried")
        sent = Counter((row["question"], row["sent"]["seed"]) for row in server.requests())
    assert len(received(result)) == len(sent) == 40
    assert sum(sent.values()) - 40 <= served.LIMITS.concurrency
