"""`transformers serve` as the judge's server, end to end, with a local model that always says A."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from rlhf_bench.modeling.models import new_gpt2
from rlhf_bench.modeling.tokenizers import train_tokenizer
from rlhf_bench.store import ResultStore

from . import test_judge

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")),
    reason="needs the extra of transformers: pip install 'transformers[serving]'",
)
here, judge = test_judge.here, test_judge.judge
CHAT = "{% for message in messages %}{{ message['content'] + '\n\n' }}{% endfor %}"


@pytest.fixture(scope="module")
def says_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 whose last layer norm gives the same vector everywhere, that of the token A."""
    folder = tmp_path_factory.mktemp("models") / "says-a"
    tokenizer = train_tokenizer(["A response is better than another."] * 9, vocab_size=300)
    tokenizer.chat_template = CHAT
    model = new_gpt2(tokenizer, layers=1, heads=2, width=32, positions=4_096, seed=0)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(100 * model.transformer.wte.weight[tokenizer.convert_tokens_to_ids("A")])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(says_a: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", says_a, "--port", port, "--device", "cpu"]
    log_file = says_a.with_name("serve.log")
    with log_file.open("wb") as log:
        process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log_file.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.mark.kills
def test_a_server_that_always_says_a(url: str, says_a: Path) -> None:
    """4 prompts x 2 models x 2 orders. Who says A each time names each side once, a tie, and always the first place."""
    line = f"run tiny --judge {says_a} --baseline base --base-url {url} --template pairwise-letter --max-tokens 1"
    printed = judge(f"{line} --max-calls 16")
    assert "questions: 16 read" in printed
    stored = ResultStore(Path("results/hh-test/tiny")).read_judge()["judgings"][0]
    assert stored["audit"]["first_position"]["value"] == 1.0
    assert stored["calls_charged"] == 16
    assert [row["estimate"]["value"] for row in stored["win_rates"]] == [0.5, 0.5]
    verdicts = pd.read_parquet("results/hh-test/tiny/judge/verdicts.parquet")
    assert set(verdicts["winner"]) == {"first"}
    # the second run makes no call
    assert judge(f"{line} --max-calls 16") == printed


@pytest.mark.kills
def test_a_schema_and_log_probabilities_are_ignored(url: str, says_a: Path) -> None:
    """It answers HTTP 200 with what it would have answered anyway. Five tokens are AAAAA, which is neither JSON nor a
    verdict; one token is A, which fits the template's form as text. No soft preference comes of it."""
    line = f"run tiny --judge {says_a} --baseline base --base-url {url} --max-calls 64 --attempts 1 --logprobs 5"
    assert "questions: 16 unreadable" in judge(f"{line} --max-tokens 5")
    assert "questions: 16 unreadable" in judge(f"{line} --max-tokens 5 --no-schema")
    with contextlib.closing(sqlite3.connect("results/judge.sqlite")) as ledger:
        rows = ledger.execute("SELECT request, answer FROM attempts JOIN calls USING (key)").fetchall()
    assert {json.loads(request)["schema"] is None for request, _ in rows} == {True, False}
    choices = [json.loads(answer)["choices"][0] for _, answer in rows]
    assert {(choice["message"]["content"], choice.get("logprobs")) for choice in choices} == {("AAAAA", None)}
    assert "questions: 16 read" in judge(f"{line} --max-tokens 1")
    assert pd.read_parquet("results/hh-test/tiny/judge/verdicts.parquet")["soft"].isna().all()
