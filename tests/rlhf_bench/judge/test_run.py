"""The run: what is sent, what is not sent again, and what stops it."""

from __future__ import annotations

import io
import random
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.errors import JudgeError
from rlhf_bench.judge.client import JudgeClient, Limits, ask, look_up
from rlhf_bench.judge.client.endpoint import SCHEMA
from rlhf_bench.judge.client.http import ChatServer, Reply
from rlhf_bench.judge.ledger.file import Attempt, Call, Cap
from rlhf_bench.judge.ledger.transfer import export_ledger
from rlhf_bench.judge.questions import Outcome, QuestionId, items_of
from rlhf_bench.progress import Progress

from . import server as fake
from .conftest import COST, SCOPE, FakeServer, read, render, serving

Make = Callable[..., JudgeClient]
QUICK = Limits(first_wait=0.01)
KEY = "sk-planted-0123456789"


def run(client: JudgeClient, limits: Limits = QUICK, *, again: int = 0, key: str = KEY) -> dict[QuestionId, Outcome]:
    items = items_of(client.subjects, again)
    return ask(client, items, lambda: key, limits=limits, rng=random.Random(0), progress=Progress(quiet=True))


def table(client: JudgeClient, found: dict[QuestionId, Outcome]) -> list[tuple[Any, ...]]:
    return [(*item, o.key, o.reading.status, o.reading.winner) for item, o in found.items()]


def question(client: JudgeClient, item: QuestionId) -> str:
    return client.question(item).messages[-1].content


def rows(path: Path, query: str) -> list[Any]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_what_is_answered_is_not_sent_again(server: FakeServer, make_client: Make) -> None:
    first = run(make_client(server.url))
    assert len(server.requests()) == 8

    def no_key() -> str:
        raise AssertionError("nothing is to be sent")

    again = make_client(server.url)
    second = ask(
        again, items_of(again.subjects), no_key, limits=QUICK, rng=random.Random(0), progress=Progress(quiet=True)
    )
    assert table(again, second) == table(again, first)
    assert len(server.requests()) == 8
    assert again.ledger.spent(SCOPE) == (8 * COST, 8, 0, 0)


def test_what_is_sent(server: FakeServer, make_client: Make) -> None:
    run(make_client(server.url, 1, top_logprobs=5))
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


def test_what_changes_the_answer_changes_the_key(make_client: Make) -> None:
    url = "http://localhost:1/v1"
    changes: list[dict[str, Any]] = [
        {}, {"temperature": 1.0}, {"structured": False}, {"top_logprobs": 5}, {"max_tokens": 9}, {"temperature": None},
    ]  # fmt: skip
    keys = {make_client(url, 1, **change).key(QuestionId(0, "model_first", 0)) for change in changes}
    one = make_client(url, 1)
    keys |= {one.key(QuestionId(0, "baseline_first", 0)), one.key(QuestionId(0, "model_first", 1))}
    keys |= {one.key(QuestionId(0, "model_first", 0), retry=1)}
    keys |= {make_client("http://localhost:2/v1", 1).key(QuestionId(0, "model_first", 0))}
    keys |= {make_client(url, 1, model="judge-2").key(QuestionId(0, "model_first", 0))}
    assert len(keys) == len(changes) + 5
    # How long to wait, and the price, change nothing.
    assert make_client(url, 1, seconds=9.0).key(QuestionId(0, "model_first", 0)) in keys


def test_a_question_that_is_repeated_has_a_key_of_its_own(server: FakeServer, make_client: Make) -> None:
    found = run(make_client(server.url, 3), again=2)
    assert [item.repeat for item in found] == [0] * 6 + [1] * 4
    assert len({outcome.key for outcome in found.values()}) == 10 == len(server.requests())


def test_the_cap_stops_in_time(server: FakeServer, make_client: Make) -> None:
    client = make_client(server.url, 20)
    worst = client.endpoint.call(client.question(QuestionId(0, "model_first", 0))).worst
    assert worst > COST
    cap = worst + 4 * COST + 8000
    client = make_client(server.url, 20, cap=Cap(cap, None))
    found = run(client)
    spent = client.ledger.spent(SCOPE)
    # The n-th call fits while (n - 1) * COST + worst <= cap: five of them.
    assert spent == (5 * COST, 5, 0, 0)
    statuses = [outcome.reading.status for outcome in found.values()]
    assert statuses.count("missing") == 35
    assert len(server.requests()) == 5
    # Neither a restart nor a second one may spend more.
    run(make_client(server.url, 20, cap=Cap(cap, None)))
    assert len(server.requests()) == 5


def test_a_cap_on_calls(server: FakeServer, make_client: Make) -> None:
    run(make_client(server.url, 20, cap=Cap(None, 7)))
    assert len(server.requests()) == 7


def test_a_cap_of_0_reads_only(server: FakeServer, make_client: Make) -> None:
    run(make_client(server.url, 1))
    found = run(make_client(server.url, 2, cap=Cap(0, None)))
    assert sorted(outcome.reading.status for outcome in found.values()) == ["missing"] * 2 + ["read"] * 2
    assert len(server.requests()) == 2


def unreadable_pairs(client: JudgeClient) -> int:
    return sum(fake.fault(question(client, item), 1.0) == "unreadable" for item in items_of(client.subjects))


def test_unreadable_answers_are_requested_again_only_by_option(tmp_path: Path, make_client: Make) -> None:
    with serving(tmp_path, 1.0, slow=0.1) as server:
        client = make_client(server.url, 15, seconds=2.0)
        number = unreadable_pairs(client)
        assert number > 0
        run(client)
        before = len(server.requests())
        run(client)
        assert len(server.requests()) == before
        found = run(client, Limits(first_wait=0.01, retry_unreadable=2))
        assert len(server.requests()) == before + 2 * number
        run(client, Limits(first_wait=0.01, retry_unreadable=2))
        assert len(server.requests()) == before + 2 * number  # bounded over runs as well
    unreadable = [outcome for outcome in found.values() if outcome.reading.status == "unreadable"]
    assert [outcome.answers for outcome in unreadable] == [3] * number


def test_a_new_parser_reads_what_is_stored_and_pays_nothing(server: FakeServer, make_client: Make) -> None:
    old = make_client(server.url)
    run(old)
    new = JudgeClient(
        old.subjects, old.endpoint, render, lambda raw: read({**raw, "content": "C"}), "2", old.ledger, SCOPE
    )
    assert {o.reading.winner for o in look_up(new, items_of(new.subjects)).values()} == {"tie"}
    assert {o.reading.winner for o in look_up(old, items_of(old.subjects)).values()} != {"tie"}
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
    server: FakeServer, make_client: Make, model: str, key: str, message: str
) -> None:
    client = make_client(server.url, 50, model=model)
    with pytest.raises(JudgeError, match=message):
        run(client, Limits(concurrency=4, first_wait=0.01), key=key)
    assert len(server.requests()) == 1  # the first question goes alone
    assert client.ledger.spent(SCOPE) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("model", "url", "message"),
    [
        ("rejects", None, "calls in a row got no answer .* HTTP 400 the request is too long"),
        ("judge-1", "http://127.0.0.1:9/v1", "no connection to http://127.0.0.1:9/v1 in 4 attempts"),
    ],
)
def test_a_server_that_answers_nothing_is_left_alone(
    server: FakeServer, make_client: Make, model: str, url: str | None, message: str
) -> None:
    client = make_client(url or server.url, 50, model=model)
    with pytest.raises(JudgeError, match=message):
        run(client, Limits(concurrency=4, first_wait=0.001))
    assert len(server.requests()) <= 14
    assert client.ledger.spent(SCOPE) == (0, 0, 0, 0)


def test_a_server_that_was_reached_once_is_waited_for(make_client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was overloaded, and then takes no connection: all 6 attempts of 10 calls are made."""
    busy, away = (
        Reply(Attempt("failed", "HTTP 503"), again=True),
        Reply(Attempt("failed", "no connection"), again=True, connected=False),
    )
    replies = [busy]

    async def reply(self: ChatServer, call: Call) -> Reply:
        replies.append(away)
        return replies[-2]

    monkeypatch.setattr(ChatServer, "ask", reply)
    with pytest.raises(JudgeError, match="10 calls in a row got no answer"):
        run(make_client("http://127.0.0.1:9/v1", 50), Limits(concurrency=1, first_wait=0.001))
    assert len(replies) == 1 + 60


@pytest.mark.parametrize("model", fake.SCHEMA_REFUSALS)
def test_a_server_that_refuses_the_schema_is_sent_none(server: FakeServer, make_client: Make, model: str) -> None:
    """One request is refused, of 40 that were ready; then all of them as text, and nothing is charged twice."""
    client, stream = make_client(server.url, 20, model=model), io.StringIO()
    items = items_of(client.subjects)
    found = ask(client, items, lambda: KEY, limits=QUICK, rng=random.Random(0), progress=Progress(stream=stream))
    assert {outcome.reading.status for outcome in found.values()} == {"read"}
    assert ["response_format" in row["sent"] for row in server.requests()] == [True] + [False] * 40
    assert client.ledger.spent(SCOPE) == (40 * COST, 40, 0, 0)
    lines = [line for line in stream.getvalue().splitlines() if "refuses the JSON schema" in line]
    assert len(lines) == 1
    assert re.search(rf"for '{model}' \(HTTP \d+ .*\); sent without it, and the answers are read as text$", lines[0])
    # The answers stand under the keys of what was sent.
    plain = client.without(SCHEMA)
    assert found.keys() == look_up(plain, items).keys()
    assert {item: outcome.key for item, outcome in found.items()} == {item: plain.key(item) for item in items}
    assert client.adapted("abc").endpoint.structured is False


def test_the_key_is_found_nowhere(server: FakeServer, make_client: Make, tmp_path: Path) -> None:
    """The server's error repeats the request's header."""
    client = make_client(server.url, 10, model="echo")
    with pytest.raises(JudgeError, match=r"your headers were Bearer \[key\]") as caught:
        run(client, Limits(first_wait=0.001, attempts=1))
    assert caught.value.__cause__ is None
    exported = "".join(export_ledger(client.ledger.path))
    assert "Bearer [key]" in exported
    assert KEY not in exported
    for file in tmp_path.glob("judge.sqlite*"):
        assert KEY.encode() not in file.read_bytes()


def test_progress_shows_the_cost(server: FakeServer, make_client: Make) -> None:
    client, stream = make_client(server.url, 2), io.StringIO()
    ask(
        client, items_of(client.subjects), lambda: KEY,
        limits=QUICK, rng=random.Random(0), progress=Progress(stream=stream, every=0.0),
    )  # fmt: skip
    # An answer costs 24,000 nano-dollars: less than the four decimals that are shown; four of them 0.000096.
    assert "calls to judge-1: 1/4 (25%)" in stream.getvalue()
    assert "cost <$0.0001, to come <$0.0001" in stream.getvalue()


@pytest.mark.parametrize("key", ["0", "A", "none"])
def test_a_short_key_leaves_answers_alone(server: FakeServer, make_client: Make, key: str) -> None:
    """Such a key occurs in every answer: replaced there, it broke the JSON or took the verdicts of one side away."""
    client = make_client(server.url, 10)
    found = run(client, key=key)
    asked = [fake.expected(question(client, item), 0.0) for item in found]
    assert [(o.reading.status, o.reading.winner) for o in found.values()] == asked
    assert client.ledger.spent(SCOPE).cost == 20 * COST  # the reported tokens were read, too


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("new-limit", ["max_tokens"]),
        ("no-system", ["the system role"]),
        ("old-server", ["max_tokens", "the system role"]),
    ],
)
def test_what_a_server_refuses_is_left_out_once_and_remembered(
    server: FakeServer, make_client: Make, model: str, refused: list[str]
) -> None:
    client, stream = make_client(server.url, 10, model=model), io.StringIO()
    found = ask(
        client,
        items_of(client.subjects),
        lambda: KEY,
        limits=QUICK,
        rng=random.Random(0),
        progress=Progress(stream=stream),
    )
    assert {outcome.reading.status for outcome in found.values()} == {"read"}
    assert [part for part in refused if f"refuses {part} for" in stream.getvalue()] == refused
    assert len(server.requests()) == 20 + len(refused)
    sent = server.requests()[-1]["sent"]
    assert ("max_tokens" in sent) == (model == "no-system")
    assert [m["role"] for m in sent["messages"]] == (["system", "user"] if model == "new-limit" else ["user"])
    if model != "new-limit":  # the instructions are not lost
        assert sent["messages"][0]["content"].startswith("Say A, B or C.\n\n")
    again = make_client(server.url, 11, model=model).adapted("abc")
    run(again)
    assert len(server.requests()) == 22 + len(refused)  # the two new questions, and no refusal


def test_a_model_that_reasons_takes_neither_temperature_nor_log_probabilities(
    server: FakeServer, make_client: Make
) -> None:
    client, stream = make_client(server.url, 5, model="reasons"), io.StringIO()
    client = replace(client, endpoint=replace(client.endpoint, top_logprobs=5, temperature=0.0))
    found = ask(
        client, items_of(client.subjects), lambda: KEY, limits=QUICK, rng=random.Random(0),
        progress=Progress(stream=stream),
    )  # fmt: skip
    assert {outcome.reading.status for outcome in found.values()} == {"read"}
    assert len(server.requests()) == 10 + 2
    assert not {"temperature", "logprobs", "top_logprobs"} & server.requests()[-1]["sent"].keys()
    assert all(f"refuses {part} for" in stream.getvalue() for part in ("the temperature", "log-probabilities"))


def test_content_in_parts_is_read(server: FakeServer, make_client: Make) -> None:
    client = make_client(server.url, 10, model="parts")
    found = run(client)
    assert [(o.reading.status, o.reading.winner) for o in found.values()] == [
        fake.expected(question(client, item), 0.0) for item in found
    ]


def test_an_error_inside_a_choice_is_sent_again(server: FakeServer, make_client: Make) -> None:
    client = make_client(server.url, 5, model="choice-error")
    assert {outcome.reading.status for outcome in run(client).values()} == {"read"}
    assert len(server.requests()) == 20
    reasons = [
        failure.reason for failure in client.ledger.failures({client.key(item) for item in items_of(client.subjects)})
    ]
    assert len(reasons) == 10
    assert "upstream died" in reasons[0]


def test_where_all_calls_fail_there_is_one_line(server: FakeServer, make_client: Make) -> None:
    with pytest.raises(JudgeError, match=r"^4 calls got no answer .* the request is too long"):
        run(make_client(server.url, 2, model="rejects"))


def test_a_long_retry_after_ends_the_run_with_what_is_kept(server: FakeServer, make_client: Make) -> None:
    client, stream = make_client(server.url, 10, model="pauses"), io.StringIO()
    limits = replace(QUICK, concurrency=1)
    found = ask(
        client,
        items_of(client.subjects),
        lambda: KEY,
        limits=limits,
        rng=random.Random(0),
        progress=Progress(stream=stream),
    )
    assert [outcome.reading.status for outcome in found.values()] == ["read"] * 3 + ["missing"] * 17
    assert "requests a pause of 3600 s" in stream.getvalue()
    with pytest.raises(JudgeError, match="requests a pause of 3600 s"):  # nothing was answered
        run(make_client(server.url, 10, model="pauses"), limits)
