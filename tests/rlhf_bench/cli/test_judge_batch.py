"""rlhf-bench judge run --batch, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_bench.store import ResultStore

from ..judge.batch_server import serving_batches
from .test_judge import KEY, here, judge

__all__ = ["here"]  # the fixture: a result of three models on four prompts

PRICES = "date: 2026-01-01\nbatch: 0.5\nmodels: {batch-1: {input: 1.00, output: 4.00}}\n"


def test_a_batch_is_sent_and_collected_at_half_the_price(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 answers of 20 prompt tokens and 1 of the answer, at 500 and 2,000 nano-dollars: 16 x 12,000 = $0.000192."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    Path("prices.yaml").write_text(PRICES)
    with serving_batches() as (url, state):
        line = f"run tiny --judge batch-1 --base-url {url} --prices prices.yaml --baseline base --max-cost 1 --quiet"
        state.hold = True
        sent = judge(f"{line} --batch --no-wait --template pairwise-letter").splitlines()
        assert "batch-1 against base: 8 pairs in both orders, questions: 16 missing; $0.0000 charged." in sent
        assert "16 calls are in a batch; the same command collects it" in sent
        waiting = judge(f"{line} --template pairwise-letter", 1)
        assert waiting == "error: 16 calls of this result and judge are in a batch; collect it with --batch first\n"
        state.hold = False
        state.looks.clear()
        collected = judge(f"{line} --batch --poll 0.01 --template pairwise-letter").splitlines()
        assert "batch-1 against base: 8 pairs in both orders, questions: 16 read; $0.0002 charged." in collected
        assert not any("in a batch" in line for line in collected)
        assert (len(state.batches), len(state.sent)) == (1, 16)
        assert "questions: 16 read" in judge(f"{line} --template pairwise-letter")  # by either way from the ledger
    (stored,) = ResultStore(Path("results/hh-test/tiny")).read_judge()["judgings"]
    assert stored["cost_usd"] == pytest.approx(0.000192)
    assert all(KEY.encode() not in path.read_bytes() for path in here.rglob("*") if path.is_file())


def test_a_plan_has_the_price_of_a_batch() -> None:
    """A dollar a token: what is planned costs half as much in a batch, and is as many calls and tokens."""
    Path("prices.yaml").write_text(PRICES.replace("1.00", "900000").replace("4.00", "900000"))
    line = "plan tiny --judge batch-1 --prices prices.yaml --baseline base"
    full, batch = judge(line).splitlines(), judge(f"{line} --batch").splitlines()
    tokens = sum(int(word) for word in full[2].split() if word.isdigit())
    assert full[3] == f"cost to come: about ${0.9 * tokens:,.4f} (prices as of 2026-01-01, prices.yaml: check them)"
    assert batch[3] == (
        f"cost to come: about ${0.45 * tokens:,.4f} (prices as of 2026-01-01, prices.yaml, of which a batch costs 50%: "
        "check them)"
    )
    assert [*batch[:3], batch[4]] == [*full[:3], full[4]]


def test_bad_input_is_one_line() -> None:
    printed = judge("run tiny --judge length --baseline base --batch", 2)
    assert printed == "error: --batch: the judge length is built in (no API calls); leave it out\n"
    assert judge("plan tiny --judge length --baseline base --batch", 2) == printed
    Path("prices.yaml").write_text(PRICES.replace("0.5", "2"))
    printed = judge("plan tiny --judge m --baseline base --prices prices.yaml", 1)
    assert printed.startswith(
        "error: prices.yaml: batch is 2; expected the share of the prices, such as 0.5; expected date"
    )
