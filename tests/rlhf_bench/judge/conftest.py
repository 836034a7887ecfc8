"""A judge that can be run without the built-in templates: its questions, its reading, its server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlhf_bench.judge.client import JudgeClient
from rlhf_bench.judge.client.budget import Price
from rlhf_bench.judge.client.endpoint import Endpoint
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Cap
from rlhf_bench.judge.questions import AnswerFormat, ChatMessage, Order, PairComparison, ParsedAnswer, Question

PRICE = Price(input=1000, output=4000, cached_input=1000)
COST = 20 * 1000 + 4000  # of one answer: the server reports 20 prompt tokens and 1 completion token
PLENTY = Cap(10**12, None)
FORM = AnswerFormat(8, {"type": "object"}, "fake@1", "abc")
SCOPE = "hh-test/default judge"


class FakeServer(NamedTuple):
    url: str
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def count(self) -> int:
        return self.log.read_bytes().count(b"\n")


@contextmanager
def serving(folder: Path, share: float, slow: float = 0.8) -> Iterator[FakeServer]:
    """A process of its own: a test that forks has to have one thread only."""
    log = folder / "requests.jsonl"
    log.touch()
    port = Path(f"{log}.port")
    port.unlink(missing_ok=True)  # an earlier server's in the same folder
    script = Path(__file__).with_name("server.py")
    process = subprocess.Popen([sys.executable, str(script), str(log), str(share), str(slow)])
    try:
        while not (port.is_file() and port.read_text()):
            time.sleep(0.02)
        yield FakeServer(f"http://127.0.0.1:{port.read_text()}/v1", log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    """A server that does all well."""
    with serving(tmp_path, 0.0) as started:
        yield started


def comparisons(n: int) -> list[PairComparison]:
    return [PairComparison(f"p{i}", f"prompt {i}", 0, 0, "dpo", "base", f"mine {i}", f"theirs {i}") for i in range(n)]


def render(comparison: PairComparison, order: Order, *, repeat: int = 0) -> Question:
    first, second = comparison.model_response, comparison.baseline_response
    if order == "baseline_first":
        first, second = second, first
    messages = (ChatMessage("system", "Say A, B or C."), ChatMessage("user", f"{first} | {second}"))
    return Question(messages, FORM, repeat)


def read(raw: Mapping[str, Any]) -> ParsedAnswer:
    if raw["refusal"] or raw["finish_reason"] == "content_filter":
        return ParsedAnswer("refused")
    winners: dict[Any, Any] = {"A": "first", "B": "second", "C": "tie"}
    if raw["content"] not in winners:
        return ParsedAnswer("unreadable", note="neither A, B nor C")
    return ParsedAnswer("read", winners[raw["content"]])


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Callable[..., JudgeClient]]:
    ledgers = []

    def make(url: str, n: int = 4, *, cap: Cap = PLENTY, model: str = "judge-1", **changed: Any) -> JudgeClient:
        ledger = Ledger(tmp_path / "judge.sqlite")
        ledgers.append(ledger)
        endpoint = Endpoint(url, model, PRICE, **{"seconds": 5.0, **changed})
        return JudgeClient(comparisons(n), endpoint, render, read, "1", ledger, SCOPE, cap)

    yield make
    for ledger in ledgers:
        ledger.close()
