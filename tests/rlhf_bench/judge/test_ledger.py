"""The ledger: claims, caps, what a crash leaves, and a file that is full, newer, damaged or moved."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_bench.errors import DataError, StoreError
from rlhf_bench.files import json_text
from rlhf_bench.judge.client.endpoint import SCHEMA
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Attempt, Call, Cap, Failure, Spent, call_key, connect, count_readable
from rlhf_bench.judge.ledger.transfer import export_ledger, import_ledger, ledger_stats, verify_ledger
from rlhf_bench.judge.questions import ParsedAnswer
from rlhf_bench.runtime.owner import is_dead, this_process

SCOPE = "hh-test/default gpt-4o"
FREE = Cap(None, None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_call(number: int, *, worst: int = 100, seconds: float = 60.0) -> Call:
    request = json_text({"messages": [{"role": "user", "content": f"question {number}"}]})
    return Call(call_key(request), "gpt-4o", "https://api.openai.com/v1", request, "pair@1", "abc", worst, seconds)


def answered(cost: int = 40, text: str = "A") -> Attempt:
    return Attempt("answered", "", True, cost, 200, text, "gpt-4o-2024-08-06", "fp", "stop", 10, 0, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "judge.sqlite"


def test_a_call_is_sent_once(path: Path) -> None:
    call = make_call(1)
    with Ledger(path) as ledger, Ledger(path) as other:
        assert ledger.claim(call, SCOPE, FREE) == "claimed"
        assert other.claim(call, SCOPE, FREE) == "busy"
        ledger.finish(call.key, answered())
        assert other.claim(call, SCOPE, FREE) == "answered"
        assert dict(other.answers([call.key, "unknown"])) == {call.key: "A"}
        assert other.reported_models([call.key]) == {"gpt-4o-2024-08-06": 1}


def test_a_failed_call_is_sent_again(path: Path) -> None:
    call = make_call(1)
    with Ledger(path) as ledger:
        ledger.claim(call, SCOPE, FREE)
        ledger.finish(call.key, Attempt("failed", "HTTP 500", http_status=500))
        assert dict(ledger.answers([call.key])) == {}
        assert ledger.claim(call, SCOPE, FREE) == "claimed"
        assert ledger.spent(SCOPE) == Spent(cost=0, calls=0, reserved=100, in_flight=1)


def test_spent_and_reserved_never_pass_the_cap(path: Path) -> None:
    """Worst case 100 each, cap 250: two in flight reserve 200, a third would make 300. Once one has cost 40:
    40 + 100 + 100 = 240 fits. Then 80 + 100 + 100 = 280 does not, though 80 + 100 would: wait. At last
    120 + 100 = 220 fits, and 160 + 100 = 260 never will."""
    calls = [make_call(n) for n in range(6)]
    cap = Cap(250, None)
    with Ledger(path) as ledger:
        assert [ledger.claim(call, SCOPE, cap) for call in calls[:3]] == ["claimed", "claimed", "busy"]
        ledger.finish(calls[0].key, answered(40))
        assert ledger.claim(calls[2], SCOPE, cap) == "claimed"
        assert ledger.spent(SCOPE) == Spent(40, 1, 200, 2)
        ledger.finish(calls[1].key, answered(40))
        assert ledger.claim(calls[3], SCOPE, cap) == "busy"
        ledger.finish(calls[2].key, answered(40))
        assert ledger.claim(calls[3], SCOPE, cap) == "claimed"
        ledger.finish(calls[3].key, answered(40))
        assert ledger.claim(calls[4], SCOPE, cap) == "over"
        assert ledger.claim(calls[4], "another result", cap) == "claimed"


def test_a_cap_on_calls_counts_what_may_have_been_billed(path: Path) -> None:
    calls = [make_call(n) for n in range(4)]
    cap = Cap(None, 2)
    with Ledger(path) as ledger:
        ledger.claim(calls[0], SCOPE, cap)
        ledger.finish(calls[0].key, Attempt("failed", "HTTP 429", http_status=429))  # not billed
        assert [ledger.claim(call, SCOPE, cap) for call in calls[:3]] == ["claimed", "claimed", "busy"]
        ledger.finish(calls[0].key, answered())
        ledger.finish(calls[1].key, Attempt("unknown", "time-out", charged=True, cost=100))
        assert ledger.claim(calls[2], SCOPE, cap) == "over"


def test_the_cap_holds_over_restarts(path: Path) -> None:
    call = make_call(1)
    with Ledger(path) as ledger:
        ledger.claim(call, SCOPE, FREE)
        ledger.finish(call.key, answered(70))
    with Ledger(path) as ledger:
        assert ledger.spent(SCOPE) == Spent(70, 1, 0, 0)
        assert ledger.claim(make_call(2), SCOPE, Cap(150, None)) == "over"


def test_an_expired_lease_is_charged_at_worst_and_its_late_answer_is_kept(path: Path) -> None:
    clock, call = Clock(), make_call(1, worst=100, seconds=30)
    with Ledger(path, clock=clock) as slow, Ledger(path, clock=clock) as other:
        slow.claim(call, SCOPE, FREE)
        clock.now += 90  # 30 s and a minute of grace: not over yet
        assert other.claim(call, SCOPE, FREE) == "busy"
        clock.now += 1
        assert other.claim(call, SCOPE, FREE) == "claimed"
        assert other.spent(SCOPE) == Spent(100, 1, 100, 1)
        slow.finish(call.key, answered(40, "first"))  # no other has answered so far: it decides, and costs no more
        other.finish(call.key, answered(40, "second"))
        assert dict(other.answers([call.key])) == {call.key: "first"}
        assert other.spent(SCOPE).cost == 140
    assert ledger_stats(path)[0].outcomes == {"answered": 1, "late": 1, "unknown": 1}
    assert verify_ledger(path).faults == []


_DIES = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ledger import SCOPE, FREE, make_call
from rlhf_bench.judge.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
assert ledger.claim(make_call(1), SCOPE, FREE) == "claimed"
os.kill(os.getpid(), 9)
"""


def test_a_dead_process_loses_its_claim_at_once(path: Path) -> None:
    command = [sys.executable, "-c", _DIES, str(path), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -9
    with Ledger(path) as ledger:
        assert ledger.spent(SCOPE) == Spent(0, 0, 100, 1)
        assert ledger.settle(SCOPE) == 1
        assert ledger.spent(SCOPE) == Spent(100, 1, 0, 0)
        assert ledger.claim(make_call(1), SCOPE, FREE) == "claimed"


def test_a_process_is_known_by_its_start_as_well() -> None:
    mine = this_process()
    machine, pid, start = mine.split(":")
    assert not is_dead(mine)
    assert is_dead(f"{machine}:{pid}:{int(start) - 1}")  # the number was given to another process
    assert not is_dead(f"elsewhere:{pid}:{int(start) - 1}")


def _work(path: Path, start: int, log: Path) -> None:
    """Ask 150 calls, each process starting at another one, with a cap that all of them share."""
    asked = []
    with Ledger(path) as ledger:
        for n in range(150):
            call = make_call((n + start) % 150)
            if ledger.claim(call, SCOPE, Cap(120 * 10 + 100, None)) == "claimed":
                asked.append(call.key)
                ledger.finish(call.key, answered(10))
                ledger.add_verdicts({call.key: ParsedAnswer("read", "first")}, "1")
    log.write_text(json.dumps(asked))


def test_eight_processes_share_one_ledger(path: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # which imports this module once for all of them
    context.set_forkserver_preload([__name__])
    logs = [tmp_path / f"{n}.json" for n in range(8)]
    workers = [context.Process(target=_work, args=(path, 19 * n, log)) for n, log in enumerate(logs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    asked = [key for log in logs for key in json.loads(log.read_text())]
    assert len(asked) == len(set(asked))
    # 10 a call; the worst case of 100 has to fit as well: spent <= 1200 lets one more in, so 121 is the most. Others'
    # reservations may turn a process away earlier, never later.
    assert 50 <= len(asked) <= 121
    with Ledger(path) as ledger:
        assert ledger.spent(SCOPE) == Spent(10 * len(asked), len(asked), 0, 0)
        assert set(dict(ledger.answers(asked))) == set(asked)
        assert ledger.verdicts(asked, "1").keys() == set(asked)
    assert verify_ledger(path).faults == []


def test_a_verdict_belongs_to_its_parser_and_only_verdicts_are_stored(path: Path) -> None:
    keys = []
    with Ledger(path) as ledger:
        for n in range(3):
            call = make_call(n)
            ledger.claim(call, SCOPE, FREE)
            ledger.finish(call.key, answered())
            keys.append(call.key)
        read = ParsedAnswer("read", "second", 0.25, "", {"scores": [1, 2]})
        ledger.add_verdicts({keys[0]: read, keys[1]: ParsedAnswer("unreadable"), keys[2]: ParsedAnswer("refused")}, "1")
        assert ledger.verdicts(keys, "1") == {keys[0]: read}
        assert ledger.verdicts(keys, "2") == {}


def test_rows_are_never_changed(path: Path) -> None:
    call = make_call(1)
    with Ledger(path) as ledger:
        ledger.claim(call, SCOPE, FREE)
        ledger.finish(call.key, answered())
    db = sqlite3.connect(path)
    for statement in ("UPDATE attempts SET cost = 0", "DELETE FROM attempts", "DELETE FROM calls"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def schema_call(number: int, *, schema: bool = True, template: str = "t1", judge: str = "judge-1") -> Call:
    request = json.dumps({"messages": [{"content": f"{number}"}], "schema": {"type": "object"} if schema else None})
    return Call(call_key(request), judge, "http://here/v1", request, "pairwise@1", template, 100, 5.0)


def test_a_schema_that_was_refused_is_remembered_until_one_is_answered(path: Path) -> None:
    def refused(judge: str = "judge-1", template: str = "t1", url: str = "http://here/v1") -> bool:
        with Ledger(path) as again:
            return again.is_refused(judge, url, template, SCHEMA.refuses, SCHEMA.sends)

    def record(call: Call, attempt: Attempt) -> None:
        with Ledger(path) as ledger:
            assert ledger.claim(call, SCOPE, FREE) == "claimed"
            ledger.finish(call.key, attempt)

    refusal = Attempt("failed", "HTTP 400 response_format is not supported", http_status=400)
    assert not refused()
    record(schema_call(0), Attempt("failed", "HTTP 400 the request is too long", http_status=400))
    record(schema_call(1, schema=False), refusal)  # it was not sent: something else is wrong
    assert not refused()
    record(schema_call(2), refusal)
    assert refused()
    assert not any([refused(judge="judge-2"), refused(template="t2"), refused(url="http://there/v1")])
    record(schema_call(3, schema=False), answered())
    record(schema_call(4, template="t2"), answered())
    assert refused()
    record(schema_call(5), answered())  # the server has learnt it
    assert not refused()
    record(schema_call(6), refusal)  # and forgotten it
    assert refused()


@pytest.mark.parametrize(
    ("status", "reason", "question", "expected"),
    [
        (400, "HTTP 400 Response_Format is not supported", "which?", True),
        (429, "HTTP 429 response_format is not supported", "which?", False),
        (None, "no connection: response_format", "which?", False),
        (400, "HTTP 400 too long: I like response_format", "I like response_format", False),  # the question repeated
        (400, "HTTP 400 response_format: json_schema is unknown", "I like response_format", True),
        (400, "HTTP 400 bad grammar", "mind the grammar", False),
    ],
)
def test_what_refuses_a_schema(status: int | None, reason: str, question: str, expected: bool) -> None:
    request = json.dumps({"messages": [{"content": question}], "schema": {"type": "object"}})
    assert SCHEMA.refuses(Failure(request, status, reason)) is expected
    assert not SCHEMA.refuses(
        Failure(json.dumps({"messages": [{"content": question}], "schema": None}), status, reason)
    )


def test_a_full_disk_is_one_line_and_the_ledger_stays_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect_with_little_room(path: Path) -> sqlite3.Connection:
        db = connect(path)  # the limit is of a connection, so it has to be the ledger's own
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 20}")
        return db

    with monkeypatch.context() as patch:
        patch.setattr("rlhf_bench.judge.ledger.connect", connect_with_little_room)
        ledger = Ledger(path)
    finished = 0

    def work() -> None:
        nonlocal finished
        for number in range(1000):
            call = make_call(number)
            ledger.claim(call, SCOPE, FREE)
            ledger.finish(call.key, answered(text="x" * 5000))
            finished += 1

    with pytest.raises(OSError, match=r"judge\.sqlite") as caught:
        work()
    assert caught.value.errno == errno.ENOSPC
    ledger.close()
    found = verify_ledger(path)
    assert found.faults == []
    assert 10 <= found.attempts == finished
    with Ledger(path) as again:  # with room, it goes on
        assert again.claim(make_call(finished + 1), SCOPE, FREE) == "claimed"


def test_a_newer_ledger_is_left_as_it_is(path: Path) -> None:
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another version \(schema 9, this one reads 2\).*use that version"):
        Ledger(path)
    assert path.read_bytes() == before


def test_verdicts_are_append_only_and_need_a_winner_or_numbers(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.claim(make_call(1), SCOPE, FREE)
        ledger.finish(make_call(1).key, answered())
        ledger.add_verdicts({make_call(1).key: ParsedAnswer("read", "first", 0.75, "why", {"a": 1})}, "old")
    rated = ParsedAnswer("read", meta={"overall": 7})
    with Ledger(path) as ledger:
        ledger.add_verdicts({make_call(1).key: rated}, "new")
        assert ledger.verdicts([make_call(1).key], "old") == {
            make_call(1).key: ParsedAnswer("read", "first", 0.75, "why", {"a": 1})
        }
        assert ledger.verdicts([make_call(1).key], "new") == {make_call(1).key: rated}
    assert verify_ledger(path).faults == []
    db = sqlite3.connect(path)
    for change in ("UPDATE verdicts SET note = 'x'", "DELETE FROM verdicts"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(change)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):  # neither a winner nor a number
        db.execute("INSERT INTO verdicts VALUES (?, 'p', NULL, NULL, '', '{}')", (make_call(1).key,))
    db.close()


def test_another_database_is_not_touched(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (a)")
    db.close()
    with pytest.raises(StoreError, match="a database of something else"):
        Ledger(path)


def fill(path: Path, n: int) -> None:
    with Ledger(path) as ledger:
        for number in range(n):
            call = make_call(number)
            ledger.claim(call, SCOPE, FREE)
            ledger.finish(call.key, answered(text=f"answer {number} " + "x" * 500))
            ledger.add_verdicts({call.key: ParsedAnswer("read", "first")}, "1")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_damaged_ledger_is_copied_and_counted_and_what_is_left_is_saved(path: Path, tmp_path: Path) -> None:
    fill(path, 200)
    db = sqlite3.connect(path)
    root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'attempts'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.close()
    data = bytearray(path.read_bytes())
    middle = next(
        n for n in range(pages // 2, pages) if data[n * size] == 13 and b"answer 1" in data[n * size : (n + 1) * size]
    )
    assert middle + 1 != root
    data[middle * size : (middle + 1) * size] = b"\xff" * size  # one leaf of the answers
    path.write_bytes(data)
    with pytest.raises(
        StoreError, match=r"judge\.sqlite is damaged .* a copy is kept at .*damaged-1, of which"
    ) as caught:
        verify_ledger(path)
    copy = path.with_name("judge.sqlite.damaged-1")
    assert copy.read_bytes() == bytes(data)
    found = count_readable(copy)
    assert f"{found['attempts']} answers and failures and 200 verdicts" in str(caught.value)
    assert 180 <= found["attempts"] < 200  # both ends were read
    with pytest.raises(StoreError, match="damaged-1"):
        verify_ledger(path)
    assert not path.with_name("judge.sqlite.damaged-2").exists()
    # What can be read goes into a new ledger.
    rows = tmp_path / "saved.jsonl"
    rows.write_text("".join(export_ledger(copy)), encoding="utf-8")
    fresh = tmp_path / "fresh.sqlite"
    assert import_ledger(fresh, rows).new == found


def test_no_database_at_all(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="nothing of a ledger can be read in it; name another file"):
        Ledger(path)
    assert not list(path.parent.glob("*.damaged-*"))  # a copy would be of somebody's other file


def test_verify_finds_what_was_changed(path: Path) -> None:
    fill(path, 3)
    db = sqlite3.connect(path)
    for trigger in ("calls_update", "attempts_update"):
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute("UPDATE attempts SET answer = 'B' WHERE id = 1")
    db.execute("UPDATE calls SET request = '{}' WHERE rowid = 2")
    db.execute("INSERT INTO verdicts VALUES ('nothing', '1', 'tie', NULL, '', '{}')")
    db.commit()
    db.close()
    faults = verify_ledger(path).faults
    assert len(faults) == 4
    assert [fault.partition(": ")[2] for fault in faults] == [
        "its call is missing",
        "its request has another hash",
        "its answer has another hash",
        "the ledger lacks the answer to it",
    ]


def test_a_ledger_travels(path: Path, tmp_path: Path) -> None:
    fill(path, 5)
    file = tmp_path / "ledger.jsonl"
    file.write_text("".join(export_ledger(path)), encoding="utf-8")
    other = tmp_path / "other.sqlite"
    with Ledger(other) as ledger:  # has answered one of them itself
        call = make_call(2)
        ledger.claim(call, SCOPE, FREE)
        ledger.finish(call.key, answered(text="own"))
    assert import_ledger(other, file).new == {"calls": 4, "attempts": 5, "verdicts": 5}
    assert import_ledger(other, file) == ({"calls": 0, "attempts": 0, "verdicts": 0}, 15)
    with Ledger(other) as ledger:
        assert dict(ledger.answers([make_call(2).key])) == {make_call(2).key: "own"}
        assert len(dict(ledger.answers([make_call(n).key for n in range(5)]))) == 5
        assert ledger.spent(SCOPE).cost == 6 * 40  # what was paid elsewhere for this result counts here
    assert verify_ledger(other).faults == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 1 is not JSON"),
        ('{"table": "claims"}', "line 1 is no row of a ledger"),
        ("[]", "line 1 is no row of a ledger"),
    ],
)
def test_what_is_no_export_is_not_read(path: Path, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        import_ledger(path, tmp_path / "in.jsonl")


def test_a_changed_export_is_not_read(path: Path, tmp_path: Path) -> None:
    fill(path, 2)
    text = "".join(export_ledger(path))
    (tmp_path / "in.jsonl").write_text(text.replace("answer 1", "answer 7"))
    with pytest.raises(DataError, match="line 4: the answer's hash is not its digest; the file was changed"):
        import_ledger(tmp_path / "new.sqlite", tmp_path / "in.jsonl")
    assert count_readable(tmp_path / "new.sqlite") == {"calls": 0, "attempts": 0, "verdicts": 0}
