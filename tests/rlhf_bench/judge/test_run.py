"""The run against a server that misbehaves: every verdict ends right, and nothing is paid for twice."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.errors import Interrupted, JudgeError
from rlhf_bench.files import json_text
from rlhf_bench.judge.endpoint import Endpoint
from rlhf_bench.judge.ledger import Cap, Ledger
from rlhf_bench.judge.ledger_io import export_ledger, verify_ledger
from rlhf_bench.judge.run import Asking, Item, Limits, Outcome, ask, items_of, look_up
from rlhf_bench.progress import Progress

from . import server as fake
from .conftest import COST, PRICE, SCOPE, FakeServer, comparisons, read, render, serving

Make = Callable[..., Asking]
QUICK = Limits(first_wait=0.01)
KEY = "sk-planted-0123456789"


def run(asking: Asking, limits: Limits = QUICK, *, again: int = 0, key: str = KEY) -> dict[Item, Outcome]:
    items = items_of(asking.comparisons, again)
    return ask(asking, items, lambda: key, limits=limits, rng=random.Random(0), progress=Progress(quiet=True))


def table(asking: Asking, found: dict[Item, Outcome]) -> list[tuple[Any, ...]]:
    return [(*item, o.key, o.reading.status, o.reading.winner) for item, o in found.items()]


def question(asking: Asking, item: Item) -> str:
    return asking.question(item).messages[-1]["content"]


def rows(path: Path, query: str) -> list[Any]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def check_misbehaving(tmp_path: Path, make_asking: Make, pairs: int) -> None:
    with serving(tmp_path, 0.3, slow=6.0) as server:
        asking = make_asking(server.url, pairs, seconds=4.0)
        found = run(asking, Limits(first_wait=0.01))
    met = set()
    for item, outcome in found.items():
        text = question(asking, item)
        assert (outcome.reading.status, outcome.reading.winner) == fake.expected(text, 0.3)
        met.add(fake.fault(text, 0.3))
    requests = server.requests()
    if pairs >= 200:
        assert met == {None, *fake.PASSING, *fake.LASTING}
    # Each question once, and once more where the first request met a passing fault.
    assert len(requests) == sum(1 + (fake.fault(question(asking, i), 0.3) in fake.PASSING) for i in found)
    # Each request has a row; each question one answer.
    path = asking.ledger.path
    outcomes = dict(rows(path, "SELECT outcome, COUNT(*) FROM attempts GROUP BY 1"))
    assert outcomes["answered"] == len(found)
    assert sum(outcomes.values()) == len(requests)
    # What may have been billed is charged at its worst; what was not, is not.
    lost = {"time-out", "dropped", "truncated", "502"}
    assert outcomes.get("unknown", 0) == sum(fake.fault(question(asking, i), 0.3) in lost for i in found)
    for fault, cost in rows(path, "SELECT reason, cost FROM attempts WHERE reason LIKE 'HTTP%' AND outcome = 'failed'"):
        assert cost == 0, fault
    worst = {o.key: asking.endpoint.call(asking.question(i)).worst for i, o in found.items()}
    assert all(
        cost == worst[key] for key, cost in rows(path, "SELECT key, cost FROM attempts WHERE outcome = 'unknown'")
    )
    others = sum(fake.fault(question(asking, i), 0.3) == "other model" for i in found)
    assert asking.ledger.reported_models(o.key for o in found.values()).get("judge-2", 0) == others
    assert verify_ledger(path).faults == []


def test_every_verdict_ends_right(tmp_path: Path, make_asking: Make) -> None:
    check_misbehaving(tmp_path, make_asking, 60)


@pytest.mark.slow
def test_every_verdict_of_300_pairs_ends_right(tmp_path: Path, make_asking: Make) -> None:
    """More of them meet no other kind of fault, and take longer."""
    check_misbehaving(tmp_path, make_asking, 300)


def test_what_is_answered_is_asked_no_more(server: FakeServer, make_asking: Make) -> None:
    first = run(make_asking(server.url))
    assert len(server.requests()) == 8

    def no_key() -> str:
        raise AssertionError("nothing is to be asked")

    again = make_asking(server.url)
    second = ask(
        again, items_of(again.comparisons), no_key, limits=QUICK, rng=random.Random(0), progress=Progress(quiet=True)
    )
    assert table(again, second) == table(again, first)
    assert len(server.requests()) == 8
    assert again.ledger.spent(SCOPE) == (8 * COST, 8, 0, 0)


def test_what_is_sent(server: FakeServer, make_asking: Make) -> None:
    run(make_asking(server.url, 1, top_logprobs=5))
    sent = server.requests()[0]["sent"]
    messages = sent.pop("messages")
    assert [message["role"] for message in messages] == ["system", "user"]
    schema = {"name": "verdict", "strict": True, "schema": {"type": "object"}}
    assert sent == {
        "model": "judge-1",
        "max_tokens": 8,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 5,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def test_what_changes_the_answer_changes_the_key(make_asking: Make) -> None:
    url = "http://localhost:1/v1"
    changes: list[dict[str, Any]] = [
        {}, {"temperature": 1.0}, {"structured": False}, {"top_logprobs": 5}, {"max_tokens": 9}, {"temperature": None},
    ]  # fmt: skip
    keys = {make_asking(url, 1, **change).key(Item(0, "model_first", 0)) for change in changes}
    one = make_asking(url, 1)
    keys |= {one.key(Item(0, "baseline_first", 0)), one.key(Item(0, "model_first", 1))}
    keys |= {one.key(Item(0, "model_first", 0), retry=1)}
    keys |= {make_asking("http://localhost:2/v1", 1).key(Item(0, "model_first", 0))}
    keys |= {make_asking(url, 1, model="judge-2").key(Item(0, "model_first", 0))}
    assert len(keys) == len(changes) + 5
    # How long to wait, and the price, change nothing.
    assert make_asking(url, 1, seconds=9.0).key(Item(0, "model_first", 0)) in keys


def test_a_question_asked_again_has_a_key_of_its_own(server: FakeServer, make_asking: Make) -> None:
    found = run(make_asking(server.url, 3), again=2)
    assert [item.repeat for item in found] == [0] * 6 + [1] * 4
    assert len({outcome.key for outcome in found.values()}) == 10 == len(server.requests())


def test_the_cap_stops_in_time(server: FakeServer, make_asking: Make) -> None:
    asking = make_asking(server.url, 20)
    worst = asking.endpoint.call(asking.question(Item(0, "model_first", 0))).worst
    assert worst > COST
    cap = worst + 4 * COST + 8000
    asking = make_asking(server.url, 20, cap=Cap(cap, None))
    found = run(asking)
    spent = asking.ledger.spent(SCOPE)
    # The n-th call fits while (n - 1) * COST + worst <= cap: five of them.
    assert spent == (5 * COST, 5, 0, 0)
    statuses = [outcome.reading.status for outcome in found.values()]
    assert statuses.count("missing") == 35
    assert len(server.requests()) == 5
    # Neither a restart nor a second one may spend more.
    run(make_asking(server.url, 20, cap=Cap(cap, None)))
    assert len(server.requests()) == 5


def test_a_cap_on_calls(server: FakeServer, make_asking: Make) -> None:
    run(make_asking(server.url, 20, cap=Cap(None, 7)))
    assert len(server.requests()) == 7


def test_a_cap_of_0_reads_only(server: FakeServer, make_asking: Make) -> None:
    run(make_asking(server.url, 1))
    found = run(make_asking(server.url, 2, cap=Cap(0, None)))
    assert sorted(outcome.reading.status for outcome in found.values()) == ["missing"] * 2 + ["read"] * 2
    assert len(server.requests()) == 2


def unreadable_pairs(asking: Asking) -> int:
    return sum(fake.fault(question(asking, item), 1.0) == "unreadable" for item in items_of(asking.comparisons))


def test_unreadable_answers_are_put_again_only_when_asked_to(tmp_path: Path, make_asking: Make) -> None:
    with serving(tmp_path, 1.0, slow=0.1) as server:
        asking = make_asking(server.url, 15, seconds=2.0)
        number = unreadable_pairs(asking)
        assert number > 0
        run(asking)
        before = len(server.requests())
        run(asking)
        assert len(server.requests()) == before
        found = run(asking, Limits(first_wait=0.01, retry_unreadable=2))
        assert len(server.requests()) == before + 2 * number
        run(asking, Limits(first_wait=0.01, retry_unreadable=2))
        assert len(server.requests()) == before + 2 * number  # bounded over runs as well
    unreadable = [outcome for outcome in found.values() if outcome.reading.status == "unreadable"]
    assert [outcome.answers for outcome in unreadable] == [3] * number


def test_a_new_parser_reads_what_is_stored_and_pays_nothing(server: FakeServer, make_asking: Make) -> None:
    old = make_asking(server.url)
    run(old)
    new = Asking(
        old.comparisons, old.endpoint, render, lambda raw: read({**raw, "content": "C"}), "2", old.ledger, SCOPE
    )
    assert {o.reading.winner for o in look_up(new, items_of(new.comparisons)).values()} == {"tie"}
    assert {o.reading.winner for o in look_up(old, items_of(old.comparisons)).values()} != {"tie"}
    assert len(server.requests()) == 8
    assert rows(old.ledger.path, "SELECT parser, COUNT(*) FROM verdicts GROUP BY 1") == [("1", 8), ("2", 8)]


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        ("judge-1", "wrong", r"does not accept the key in OPENAI_API_KEY \(HTTP 401\)"),
        ("no-such-model", KEY, "knows no model 'no-such-model'"),
        ("no-credit", KEY, "has no credit left"),
    ],
)
def test_what_cannot_succeed_stops_at_once(
    server: FakeServer, make_asking: Make, model: str, key: str, message: str
) -> None:
    asking = make_asking(server.url, 50, model=model)
    with pytest.raises(JudgeError, match=message):
        run(asking, Limits(concurrency=4, first_wait=0.01), key=key)
    assert len(server.requests()) <= 4  # no more than were in flight at once
    assert asking.ledger.spent(SCOPE) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("model", "url", "message"),
    [
        ("refuses", None, "calls in a row got no answer .* HTTP 400 response_format is not supported"),
        ("judge-1", "http://127.0.0.1:9/v1", "calls in a row got no answer .* no connection"),
    ],
)
def test_a_server_that_answers_nothing_is_left_alone(
    server: FakeServer, make_asking: Make, model: str, url: str | None, message: str
) -> None:
    asking = make_asking(url or server.url, 50, model=model)
    with pytest.raises(JudgeError, match=message):
        run(asking, Limits(concurrency=4, first_wait=0.001))
    assert len(server.requests()) <= 14
    assert asking.ledger.spent(SCOPE) == (0, 0, 0, 0)


def test_the_key_is_found_nowhere(server: FakeServer, make_asking: Make, tmp_path: Path) -> None:
    """The server's error repeats the request's header."""
    asking = make_asking(server.url, 10, model="echo")
    with pytest.raises(JudgeError, match=r"your headers were Bearer \[key\]") as caught:
        run(asking, Limits(first_wait=0.001, attempts=1))
    assert caught.value.__cause__ is None
    exported = "".join(export_ledger(asking.ledger.path))
    assert "Bearer [key]" in exported
    assert KEY not in exported
    for file in tmp_path.glob("judge.sqlite*"):
        assert KEY.encode() not in file.read_bytes()


def test_progress_tells_the_cost(server: FakeServer, make_asking: Make) -> None:
    asking, stream = make_asking(server.url, 2), io.StringIO()
    ask(
        asking, items_of(asking.comparisons), lambda: KEY,
        limits=QUICK, rng=random.Random(0), progress=Progress(stream=stream, every=0.0),
    )  # fmt: skip
    # An answer costs 24,000 nano-dollars: less than the four decimals that are shown; four of them 0.000096.
    assert "asking judge-1: 1/4 (25%)" in stream.getvalue()
    assert "cost <$0.0001, to come <$0.0001" in stream.getvalue()


# Processes that are killed.


def _child(url: str, path: Path, pairs: int, out: Path, *, seconds: float = 2.0) -> None:
    with Ledger(path) as ledger:
        endpoint = Endpoint(url, "judge-1", PRICE, seconds=seconds)
        asking = Asking(comparisons(pairs), endpoint, render, read, "1", ledger, SCOPE, Cap(10**12, None))
        found = run(asking, Limits(concurrency=4, first_wait=0.01))
        out.write_text(json_text(table(asking, found)), encoding="utf-8")


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        status = 0
    except Interrupted:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def check_killed(tmp_path: Path, *, pairs: int, kills: int) -> None:
    rng, path = random.Random(7), tmp_path / "judge.sqlite"
    with serving(tmp_path, 0.1, slow=3.0) as server:
        for _ in range(kills):
            pid, before = fork(lambda: _child(server.url, path, pairs, tmp_path / "killed.json")), server.count()
            while server.count() == before and os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.15))
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it was done before
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        last = fork(lambda: _child(server.url, path, pairs, tmp_path / "killed.json"))
        assert os.waitstatus_to_exitcode(os.waitpid(last, 0)[1]) == 0
        requests = server.requests()
        undisturbed = fork(lambda: _child(server.url, tmp_path / "other.sqlite", pairs, tmp_path / "whole.json"))
        assert os.waitstatus_to_exitcode(os.waitpid(undisturbed, 0)[1]) == 0
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    # No question was asked more often than the ledger knows of, and none after its answer was committed.
    asked: dict[str, int] = {}
    for request in requests:
        asked[request["question"]] = asked.get(request["question"], 0) + 1
    known: dict[str, list[str]] = {}
    for text, outcome in rows(
        path,
        "SELECT json_extract(request, '$.messages[1].content'), outcome "
        "FROM attempts JOIN calls USING (key) ORDER BY id",
    ):
        known.setdefault(text, []).append(outcome)
    for text, count in asked.items():
        assert count <= len(known[text])
        assert known[text].count("answered") == 1
        assert known[text][-1] == "answered"
    crashed = rows(path, "SELECT charged, cost FROM attempts WHERE reason = 'in flight when its process ended'")
    assert len(crashed) >= kills // 2
    worst = {
        Endpoint("", "", PRICE).call(render(c, o)).worst
        for c in comparisons(pairs)
        for o in ("model_first", "baseline_first")
    }
    assert all(charged == 1 and cost > 0 for charged, cost in crashed)
    assert {cost for _, cost in crashed} <= worst
    assert verify_ledger(path).faults == []


def test_killed_and_started_again(tmp_path: Path) -> None:
    check_killed(tmp_path, pairs=40, kills=5)


@pytest.mark.slow
def test_killed_twenty_times(tmp_path: Path) -> None:
    check_killed(tmp_path, pairs=150, kills=20)


def test_ctrl_c_says_what_is_kept(tmp_path: Path, server: FakeServer) -> None:
    path = tmp_path / "judge.sqlite"
    pid = fork(lambda: _child(server.url, path, 500, tmp_path / "out.json"))
    while server.count() < 20 and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert server.count() < 500  # of 1000
    assert rows(path, "SELECT COUNT(*) FROM claims") == [(0,)]  # none is left to be found dead
    interrupted = rows(path, "SELECT COUNT(*) FROM attempts WHERE reason = 'interrupted in flight' AND charged = 1")
    assert interrupted[0][0] <= 4
    assert rows(path, "SELECT COUNT(*) FROM attempts WHERE outcome = 'answered'")[0][0] > 0


def test_eight_processes_ask_nothing_twice(tmp_path: Path, server: FakeServer) -> None:
    path = tmp_path / "judge.sqlite"
    # patient: a call that times out on a busy machine is rightly asked again
    outs = [tmp_path / f"{n}.json" for n in range(8)]
    work = [fork(lambda out=out: _child(server.url, path, 30, out, seconds=120.0)) for out in outs]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in work] == [0] * 8
    assert len(server.requests()) == 60
    assert len({(tmp_path / f"{n}.json").read_bytes() for n in range(8)}) == 1
    assert rows(path, "SELECT COUNT(*) FROM verdicts") == [(60,)]
