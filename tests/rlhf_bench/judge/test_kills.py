"""A run against a server that fails in three calls of ten, left alone, killed again and again, shared, and out of disk.

All of it in processes of their own. The undisturbed run is made once: what it must have done is checked on it, and a
run that was killed must end with the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlhf_bench.cli.base import report_error
from rlhf_bench.errors import Interrupted
from rlhf_bench.files import json_text
from rlhf_bench.judge.client import JudgeClient, Limits, ask
from rlhf_bench.judge.client.endpoint import Endpoint
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.transfer import verify_ledger
from rlhf_bench.judge.questions import Question, QuestionId, items_of
from rlhf_bench.progress import Progress

from . import server as fake
from .conftest import PLENTY, PRICE, SCOPE, FakeServer, comparisons, read, render, serving

SHARE = 0.3
ALONE, KILLED = "sk-left-alone", "sk-killed"
CONCURRENCY = 32
LOST = {"time-out", "dropped", "truncated", "502"}  # what may have been billed though no answer came
# pairs, kills. The large one is what the claim is about; the small one is for every day.
SIZES = [(60, 5), pytest.param((1_000, 50), marks=pytest.mark.kills)]


class Scene(NamedTuple):
    """A server, and the run that was left alone: its ledger, and its table as (item, key, status, winner)."""

    server: FakeServer
    pairs: int
    kills: int
    ledger: Path
    table: Path

    def rows(self) -> dict[QuestionId, tuple[str, str, str | None]]:
        return {QuestionId(*row[:3]): tuple(row[3:]) for row in json.loads(self.table.read_text(encoding="utf-8"))}

    def requests(self, key: str) -> list[dict[str, Any]]:
        return [row for row in self.server.requests() if row["client"] == fake.client(key)]


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]} pairs")
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    pairs, kills = request.param
    folder = tmp_path_factory.mktemp("judge")
    with serving(folder, SHARE, slow=10.0) as server:
        found = Scene(server, pairs, kills, folder / "alone.sqlite", folder / "alone.json")
        assert finished(fork(lambda: judge_all(server.url, found.ledger, pairs, found.table, key=ALONE))) == 0
        yield found


def judge_all(url: str, ledger_path: Path, pairs: int, out: Path, *, key: str, seconds: float = 8.0) -> None:
    """Ask all pairs, as `judge run` does, and write the table of what is known then."""
    with Ledger(ledger_path) as ledger:
        endpoint = Endpoint(url, "judge-1", PRICE, seconds=seconds)
        client = JudgeClient(comparisons(pairs), endpoint, render, read, "1", ledger, SCOPE, PLENTY)
        limits, progress = Limits(concurrency=CONCURRENCY, first_wait=0.01), Progress(quiet=True)
        items = items_of(client.subjects)
        found = ask(client, items, lambda: key, limits=limits, rng=random.Random(0), progress=progress)
    table = [(*item, o.key, o.reading.status, o.reading.winner) for item, o in found.items()]
    out.write_text(json_text(table), encoding="utf-8")


def fork(work: Callable[[], None]) -> int:
    """The number of a process that does `work` and ends with 0, 130 (interrupted) or 1."""
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


def finished(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def select(path: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def questions(pairs: int) -> dict[QuestionId, Question]:
    made = comparisons(pairs)
    return {item: render(made[item.subject], item.order) for item in items_of(made)}


def text(question: Question) -> str:
    return str(question.messages[-1].content)


def worst_costs(pairs: int) -> dict[str, int]:
    """Question -> the most, in nano-dollars, that asking it can cost."""
    endpoint = Endpoint("", "", PRICE)
    return {text(question): endpoint.call(question).worst for question in questions(pairs).values()}


def attempts(path: Path, where: str = "1") -> list[tuple[str, str, str, int, int]]:
    """(question, outcome, reason, charged, cost) in the order in which they ended."""
    return select(
        path,
        "SELECT json_extract(request, '$.messages[1].content'), outcome, reason, charged, cost "
        f"FROM attempts JOIN calls USING (key) WHERE {where} ORDER BY id",
    )


def test_every_verdict_ends_right(scene: Scene) -> None:
    asked, table = questions(scene.pairs), scene.rows()
    assert table.keys() == asked.keys()
    for item, (_, *ended) in table.items():
        assert tuple(ended) == fake.expected(text(asked[item]), SHARE)
    faults = Counter(fake.fault(text(question), SHARE) for question in asked.values())
    if scene.pairs >= 1_000:
        assert faults.keys() == {None, *fake.PASSING, *fake.LASTING}
        assert 0.27 < 1 - faults[None] / len(asked) < 0.33
    # Each question once, and once more where the first request met a passing fault.
    requests = Counter(row["question"] for row in scene.requests(ALONE))
    assert requests == {text(q): 1 + (fake.fault(text(q), SHARE) in fake.PASSING) for q in asked.values()}
    assert Counter(row[0] for row in attempts(scene.ledger)) == requests
    assert [row[0] for row in select(scene.ledger, "SELECT COUNT(*) FROM attempts WHERE outcome = 'answered'")] == [
        len(asked)
    ]


def test_what_may_have_been_billed_is_charged_at_its_worst(scene: Scene) -> None:
    worst = worst_costs(scene.pairs)
    unknown = attempts(scene.ledger, "outcome = 'unknown'")
    assert {row[0] for row in unknown} == {t for t in worst if fake.fault(t, SHARE) in LOST}
    assert all(charged == 1 and cost == worst[t] for t, _, _, charged, cost in unknown)
    refused = attempts(scene.ledger, "outcome = 'failed' AND reason LIKE 'HTTP%'")
    assert refused
    assert all(charged == cost == 0 for *_, charged, cost in refused)
    with Ledger(scene.ledger) as ledger:
        reported = ledger.reported_models(row[0] for row in scene.rows().values())
    assert reported.get("judge-2", 0) == sum(fake.fault(t, SHARE) == "other model" for t in worst)
    assert verify_ledger(scene.ledger).faults == []


def test_killed_again_and_again_it_ends_with_the_same_bytes(scene: Scene, tmp_path: Path) -> None:
    """Kills come after random numbers of requests, some 70 % of the way in all, and each fifth at a random moment of
    the start, whatever has been sent by then."""
    rng, path, table = random.Random(7), tmp_path / "judge.sqlite", tmp_path / "killed.json"

    def start() -> int:
        return fork(lambda: judge_all(scene.server.url, path, scene.pairs, table, key=KILLED))

    step = 0.7 * len(scene.requests(ALONE)) / scene.kills
    with scene.server.log.open("rb") as log:
        log.seek(0, os.SEEK_END)
        for number in range(scene.kills):
            pid = start()
            if number % 5 == 4:
                time.sleep(rng.uniform(0.0, 0.3))
            else:
                left = rng.uniform(1.0, 2 * step)
                while left > 0 and os.waitpid(pid, os.WNOHANG) == (0, 0):
                    left -= log.read().count(b"\n")
                    time.sleep(rng.uniform(0.001, 0.01))
            os.kill(pid, signal.SIGKILL)
            assert finished(pid) == -signal.SIGKILL  # it was not done before
            log.read()
    assert finished(start()) == 0
    assert table.read_bytes() == scene.table.read_bytes()

    # No question was sent more often than the ledger knows of, and none after its answer was committed.
    known: dict[str, list[str]] = {}
    for question, outcome, *_ in attempts(path):
        known.setdefault(question, []).append(outcome)
    for question, count in Counter(row["question"] for row in scene.requests(KILLED)).items():
        assert count <= len(known[question])
    assert all(outcomes.count("answered") == 1 and outcomes[-1] == "answered" for outcomes in known.values())
    # What was in flight at a kill is counted, and charged at its worst.
    crashed, worst = attempts(path, "reason = 'in flight when its process ended'"), worst_costs(scene.pairs)
    assert len(crashed) >= scene.kills // 2
    assert all(outcome == "unknown" and charged == 1 and cost == worst[q] for q, outcome, _, charged, cost in crashed)
    assert select(path, "SELECT COUNT(*) FROM claims") == [(0,)]
    assert verify_ledger(path).faults == []


def test_ctrl_c_says_what_is_kept(tmp_path: Path, server: FakeServer) -> None:
    path = tmp_path / "judge.sqlite"
    pid = fork(lambda: judge_all(server.url, path, 500, tmp_path / "out.json", key=ALONE))
    while server.count() < 100 and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert finished(pid) == 130
    assert server.count() < 500  # of 1000
    assert select(path, "SELECT COUNT(*) FROM claims") == [(0,)]  # none is left to be found dead
    interrupted = attempts(path, "reason = 'interrupted in flight' AND charged = 1")
    assert len(interrupted) <= CONCURRENCY
    assert attempts(path, "outcome = 'answered'")


def test_eight_processes_send_nothing_twice(tmp_path: Path, server: FakeServer) -> None:
    path, outs = tmp_path / "judge.sqlite", [tmp_path / f"{n}.json" for n in range(8)]

    def work(out: Path) -> Callable[[], None]:
        # patient: a call that times out on a busy machine is rightly sent again
        return lambda: judge_all(server.url, path, 30, out, key=ALONE, seconds=120.0)

    assert [finished(pid) for pid in [fork(work(out)) for out in outs]] == [0] * 8
    assert len(server.requests()) == 60
    assert len({out.read_bytes() for out in outs}) == 1
    assert select(path, "SELECT COUNT(*) FROM verdicts") == [(60,)]


def test_a_full_disk_stops_with_one_line_and_the_ledger_goes_on(tmp_path: Path, server: FakeServer) -> None:
    """No file may grow past 1.5 MB, which is what SQLite meets on a full disk: a write that is refused."""
    path, out = tmp_path / "judge.sqlite", tmp_path / "out.json"

    def judge() -> None:
        judge_all(server.url, path, 150, out, key=ALONE, seconds=120.0)

    def with_little_room() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
        try:
            judge()
        except OSError as error:
            with out.open("w") as file, contextlib.redirect_stderr(file):
                report_error(error, [])

    assert finished(fork(with_little_room)) == 0
    assert out.read_text().startswith(f"error: {path}: No space left on device")
    answered = {row[0] for row in attempts(path, "outcome = 'answered'")}
    assert 10 < len(answered) < 300
    assert verify_ledger(path).faults == []

    assert finished(fork(judge)) == 0  # with room, it goes on
    assert len(json.loads(out.read_text())) == 300
    again = Counter(row["question"] for row in server.requests())
    assert all(again[question] == 1 for question in answered)
    # what was in flight when the disk was full could not be written down
    assert sum(again.values()) - 300 <= CONCURRENCY
    assert verify_ledger(path).faults == []
