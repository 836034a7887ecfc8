"""Calls through the Batch API: sent once, collected once by whoever comes, charged at the lower price."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.errors import Interrupted, JudgeError
from rlhf_bench.judge.client import JudgeClient
from rlhf_bench.judge.client import batch as batch_module
from rlhf_bench.judge.client.batch import ask_in_batches, in_flight
from rlhf_bench.judge.client.budget import load_prices
from rlhf_bench.judge.client.endpoint import SCHEMA
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Cap
from rlhf_bench.judge.ledger.transfer import verify_ledger
from rlhf_bench.judge.questions import Outcome, QuestionId, items_of
from rlhf_bench.progress import Progress

from .batch_server import State, serving_batches
from .conftest import COST, PRICE, SCOPE
from .test_run import KEY, rows

Make = Callable[..., JudgeClient]


@pytest.fixture
def server() -> Iterator[tuple[str, State]]:
    with serving_batches() as started:
        yield started


def run(client: JudgeClient, **changed: Any) -> dict[QuestionId, Outcome]:
    options: dict[str, Any] = {"wait": True, "poll": 1.0, "sleep": lambda _: None, "progress": Progress(quiet=True)}
    return ask_in_batches(client, items_of(client.subjects), lambda: KEY, **{**options, **changed})


def statuses(found: dict[QuestionId, Outcome]) -> list[str]:
    return [outcome.reading.status for outcome in found.values()]


def test_a_batch_is_sent_waited_for_and_collected(server: tuple[str, State], make_client: Make) -> None:
    url, state = server
    client = make_client(url, 4, model="batch-1")
    found = run(client)
    assert statuses(found) == ["read"] * 8
    assert {outcome.reading.winner for outcome in found.values()} == {"first"}
    assert len(state.sent) == 8
    one = state.sent[0]
    assert (one["method"], one["url"]) == ("POST", "/v1/chat/completions")
    assert one["custom_id"] in {outcome.key for outcome in found.values()}
    assert one["body"]["model"] == "batch-1"
    assert one["body"]["max_tokens"] == 8
    assert client.ledger.spent(SCOPE) == (8 * COST, 8, 0, 0)
    assert run(client) == found  # from the ledger
    assert (len(state.batches), len(state.sent)) == (1, 8)
    assert verify_ledger(client.ledger.path).faults == []


def test_another_process_collects_what_one_sent(server: tuple[str, State], make_client: Make, tmp_path: Path) -> None:
    """The first one is gone: its claims stay, and so does the money they hold."""
    url, state = server
    state.hold = True
    code = f"""
from pathlib import Path
from rlhf_bench.judge.client.batch import ask_in_batches
from rlhf_bench.judge.client.endpoint import Endpoint
from rlhf_bench.judge.ledger.file import Cap
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.client import JudgeClient
from rlhf_bench.judge.questions import items_of
from rlhf_bench.progress import Progress
from tests.rlhf_bench.judge.conftest import PRICE, SCOPE, comparisons, read, render
client = JudgeClient(comparisons(3), Endpoint({url!r}, "batch-1", PRICE, seconds=5.0), render, read, "1",
                Ledger(Path({str(tmp_path / "judge.sqlite")!r})), SCOPE, Cap(10**12, None))
items = items_of(client.subjects)
ask_in_batches(client, items, lambda: {KEY!r}, wait=False, poll=1.0, progress=Progress(quiet=True))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    client = make_client(url, 3, model="batch-1")
    worst = sum(client.endpoint.call(client.question(item)).worst for item in items_of(client.subjects))
    assert (in_flight(client), client.ledger.spent(SCOPE)) == (6, (0, 0, worst, 6))
    assert statuses(run(client, wait=False)) == ["missing"] * 6  # it still runs; nothing is sent again
    assert len(state.sent) == 6
    state.hold = False
    state.looks.clear()
    assert statuses(run(client)) == ["read"] * 6
    assert (len(state.batches), len(state.sent)) == (1, 6)
    assert client.ledger.spent(SCOPE) == (6 * COST, 6, 0, 0)


def test_two_that_collect_at_once_write_each_answer_once(server: tuple[str, State], make_client: Make) -> None:
    url, _ = server
    client = make_client(url, 2, model="batch-1")
    run(client, wait=False)
    other = make_client(url, 2, model="batch-1")
    # private, since the moment between two collections and their writing is inside one call of what is public
    batches = [batch_module._Batches(one, KEY) for one in (client, other)]
    held = client.ledger.held(SCOPE, batch_module.OWNER)
    for one in batches:
        one.collect()
    ((owner, reserved),) = held.items()
    batch = batches[1]._known({owner.split(":")[1]})[owner.split(":")[1]]
    assert other.ledger.finish_held(owner, batches[1]._attempts(batch, reserved)) == 0  # came second
    path = client.ledger.path
    assert rows(path, "SELECT outcome, COUNT(*) FROM attempts GROUP BY 1") == [("answered", 4)]
    for one in batches:
        one.close()


@pytest.mark.parametrize("model", ["mixed", "expires"])
def test_rows_without_an_answer_have_failed_and_are_sent_again(
    server: tuple[str, State], make_client: Make, model: str
) -> None:
    """In turn of 8 rows: an answer, an error, nothing, a filter. Then the 4 that failed: again one of each kind."""
    url, state = server
    client = make_client(url, 4, model=model)
    found = run(client)
    assert sorted(statuses(found)) == ["failed"] * 4 + ["read"] * 2 + ["refused"] * 2
    # only an answer is charged: 2; the filter's verdicts were not
    assert client.ledger.spent(SCOPE).cost == 2 * COST
    assert sorted(statuses(run(client))) == ["failed"] * 2 + ["read"] * 3 + ["refused"] * 3
    assert len(state.sent) == 8 + 4
    reasons = {reason for (reason,) in rows(client.ledger.path, "SELECT reason FROM attempts WHERE outcome = 'failed'")}
    ended = "expired" if model == "expires" else "completed"
    assert reasons == {"HTTP 500 oops", f"the batch {ended} without a result"}


@pytest.mark.parametrize("waits", [True, False])
def test_a_schema_that_is_refused_is_left_out(server: tuple[str, State], make_client: Make, waits: bool) -> None:
    """Whoever collects the refusals sends the calls again, as text."""
    url, state = server
    client, stream = make_client(url, 2, model="schema"), io.StringIO()
    for _ in range(0 if waits else 3):  # sent; still running; ended and refused, so sent again
        assert statuses(run(client, wait=False, progress=Progress(stream=stream))) == ["missing"] * 4
    if not waits:
        client = client.without(SCHEMA)  # as the ledger now says
    assert statuses(run(client, progress=Progress(stream=stream))) == ["read"] * 4
    assert ["response_format" in row["body"] for row in state.sent] == [True] * 4 + [False] * 4
    assert client.ledger.spent(SCOPE) == (4 * COST, 4, 0, 0)
    told = "refuses the JSON schema for 'schema' (HTTP 400 no such parameter (response_format)); sent without it"
    assert stream.getvalue().count(told) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("invalid", r"/v1 refused the batch: too long; nothing was charged$"),
        ("refused", r"/v1 refused the batch: HTTP 400 the model has no batches$"),
        ("none", r"/v1 offers no batches \(HTTP 404\); leave out --batch$"),
    ],
)
def test_a_batch_that_is_refused_costs_nothing(
    server: tuple[str, State], make_client: Make, model: str, message: str
) -> None:
    client = make_client(server[0], 2, model=model)
    with pytest.raises(JudgeError, match=message):
        run(client)
    assert client.ledger.spent(SCOPE) == (0, 0, 0, 0)


def test_the_cap_holds_for_the_worst_case_of_a_batch(server: tuple[str, State], make_client: Make) -> None:
    """Room for 3 calls at their worst and a bit: 3 are sent, though far more would fit at what they come to cost."""
    url, state = server
    client = make_client(url, 4, model="batch-1")
    worst = client.endpoint.call(client.question(QuestionId(0, "model_first", 0))).worst
    client = make_client(url, 4, model="batch-1", cap=Cap(3 * worst + worst // 2, None))
    assert sorted(statuses(run(client))) == ["missing"] * 5 + ["read"] * 3
    assert len(state.sent) == 3
    client = make_client(url, 4, model="batch-1", cap=Cap(None, 4))
    assert sorted(statuses(run(client))) == ["missing"] * 4 + ["read"] * 4
    assert statuses(run(make_client(url, 4, model="batch-1", cap=Cap(0, None)))).count("missing") == 4
    assert len(state.sent) == 4


def test_a_batch_that_was_never_made_is_given_back(
    server: tuple[str, State], make_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server failed while the batch was made. As long as that process lives, no other touches its claims."""
    url, state = server
    state.lose_batches = True
    client = make_client(url, 1, model="batch-1", seconds=5.0)
    with pytest.raises(JudgeError, match=r"while 2 calls were sent as a batch .* finds out what became of it"):
        run(client)
    state.lose_batches = False
    assert statuses(run(client, wait=False)) == ["missing"] * 2
    assert in_flight(client) == 2
    monkeypatch.setattr(batch_module, "is_dead", lambda owner: True)
    assert statuses(run(client)) == ["read"] * 2
    assert client.ledger.spent(SCOPE) == (2 * COST, 2, 0, 0)
    assert len(state.batches) == 1


def test_ctrl_c_says_that_the_batch_goes_on(server: tuple[str, State], make_client: Make) -> None:
    url, state = server
    state.hold = True
    client = make_client(url, 1, model="batch-1")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"^2 calls are in a batch, which goes on at the server"):
        run(client, sleep=interrupt)
    state.hold = False
    state.looks.clear()
    assert statuses(run(client)) == ["read"] * 2


def test_large_runs_are_cut_into_batches_that_servers_take(
    server: tuple[str, State], make_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "MOST_CALLS", 3)
    client = make_client(server[0], 4, model="batch-1")
    assert statuses(run(client)) == ["read"] * 8
    assert len(server[1].batches) == 3


def test_a_lost_batch_is_charged_at_its_worst_after_two_days(server: tuple[str, State], make_client: Make) -> None:
    url, state = server
    state.hold = True
    client = make_client(url, 1, model="batch-1")
    run(client, wait=False)
    reserved = client.ledger.spent(SCOPE).reserved
    later = Ledger(client.ledger.path, clock=lambda: time.time() + 3 * 24 * 3600)
    assert later.settle(SCOPE) == 2
    assert later.spent(SCOPE) == (reserved, 2, 0, 0)
    later.close()


def test_the_packaged_prices_say_what_a_batch_costs(tmp_path: Path) -> None:
    assert load_prices().batch == Decimal("0.5")
    # 1,001 x 0.5 = 500.5, rounded up
    assert PRICE.times(Decimal("0.5")) == (type(PRICE))(500, 2000, 500)
    assert type(PRICE)(1001, 3, 1).times(Decimal("0.5")) == type(PRICE)(501, 2, 1)
    mine = tmp_path / "mine.yaml"
    mine.write_text("date: 2026-01-01\nmodels: {m: {input: 1, output: 2}}\n")
    assert load_prices(mine).batch == 1
