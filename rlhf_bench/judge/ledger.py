"""What was asked of judges, what they answered and what it cost: written once, shared by all runs and processes.

A call goes through the ledger in three steps:

    claim    one transaction that sees that the call was not answered, is not in flight and fits under the cap, and
             reserves its worst case
    (the request is sent)
    finish   one transaction that turns the reservation into what happened

A claim whose owner is dead or whose lease has run out is turned into an attempt of unknown outcome, charged at its
worst case: the request may have reached the server. So spent + reserved never passes the cap, whatever is killed.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rlhf_bench.judge.calls import Attempt, Call, Cap, Claimed, Spent, answer_digest
from rlhf_bench.judge.ledger_answers import Answers
from rlhf_bench.judge.ledger_file import COLUMNS, guarded
from rlhf_bench.judge.owner import is_dead, this_process

__all__ = ["Ledger"]

_LATE = "came after the call had been given up; charged then"


class Ledger(Answers):
    """An open ledger. One process, one thread; other processes may hold the same file open."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path)
        self._clock = clock
        self._owner = this_process()
        self._mine: dict[str, str] = {}  # key -> uid of this process's claims
        self._sums: dict[str, tuple[int, int, int]] = {}  # scope -> (last attempt's id, cost, charged calls)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # asking

    def claim(self, call: Call, scope: str, cap: Cap) -> Claimed:
        """Reserve `call` for this process, if it may be asked now."""
        uid = uuid.uuid4().hex
        # A minute of grace, so that an answer in the last second is not taken for a lost one.
        with self._transaction():
            claimed = self._claim(call, scope, cap, uid=uid, owner=self._owner, seconds=call.seconds + 60)
        if claimed == "claimed":
            self._mine[call.key] = uid
        return claimed

    def claim_for(self, owner: str, calls: Iterable[Call], scope: str, cap: Cap, *, seconds: float) -> list[Call]:
        """Reserve those of `calls` that may be asked now and fit under the cap, all at once, for an `owner` that is no
        process, such as a batch. They are held for so many seconds, whatever becomes of this process."""
        claimed = []
        with self._transaction():
            for call in calls:
                uid = uuid.uuid4().hex
                if self._claim(call, scope, cap, uid=uid, owner=owner, seconds=seconds) == "claimed":
                    claimed.append(call)
        return claimed

    def held(self, scope: str, kind: str) -> dict[str, dict[str, int]]:
        """Owner -> key -> reserved nano-dollars, of those claims of `scope` whose owner begins with `kind`."""
        found: dict[str, dict[str, int]] = {}
        with guarded(self.path):
            query = "SELECT owner, key, reserved FROM claims WHERE scope = ? ORDER BY started, rowid"
            for row in self._db.execute(query, (scope,)):
                if row["owner"].startswith(kind):
                    found.setdefault(row["owner"], {})[row["key"]] = row["reserved"]
        return found

    def finish_held(self, owner: str, attempts: Mapping[str, Attempt]) -> int:
        """Record what came of an owner's claims, all at once; returns how many there were.

        One that was recorded before, by whichever process, is passed over, so that it counts once.
        """
        now, done = self._clock(), 0
        with self._transaction() as db:
            for claim in db.execute("SELECT * FROM claims WHERE owner = ?", (owner,)).fetchall():
                attempt = attempts.get(claim["key"])
                if attempt is not None:
                    db.execute("DELETE FROM claims WHERE uid = ?", (claim["uid"],))
                    self._record(claim["uid"], claim["key"], claim["scope"], attempt, claim["started"], now)
                    done += 1
        return done

    def finish(self, key: str, attempt: Attempt) -> None:
        """Record what came of a claimed call. It is on the disk when this returns."""
        uid = self._mine[key]
        now = self._clock()
        with self._transaction() as db:
            held = db.execute("SELECT scope, started FROM claims WHERE uid = ?", (uid,)).fetchone()
            if held is not None:
                db.execute("DELETE FROM claims WHERE uid = ?", (uid,))
                self._record(uid, key, held["scope"], attempt, held["started"], now)
            elif attempt.answer is not None:
                # Another process took this one for dead and recorded its call as unknown, at its worst cost.
                lost = db.execute("SELECT scope, started FROM attempts WHERE uid = ?", (uid,)).fetchone()
                free = replace(attempt, reason=_LATE, charged=False, cost=0)
                self._record(f"{uid}-late", key, lost["scope"], free, lost["started"], now)
        del self._mine[key]

    def settle(self, scope: str) -> int:
        """Give up the claims of `scope` whose owners are gone; returns how many there were."""
        now = self._clock()
        with self._transaction() as db:
            lost = [
                row for row in db.execute("SELECT * FROM claims WHERE scope = ?", (scope,)) if self._is_lost(row, now)
            ]
            for row in lost:
                self._give_up(row, now)
        return len(lost)

    def spent(self, scope: str) -> Spent:
        with guarded(self.path):
            return self._spent(scope)

    # importing

    def add_foreign(self, answers: Iterable[tuple[Call, Attempt]], scope: str) -> int:
        """Record answers that someone else was given, all of them or none; returns how many were new."""
        now, new = self._clock(), 0
        with self._transaction() as db:
            for call, attempt in answers:
                if self._is_answered(call.key):
                    continue
                db.execute(
                    "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (call.key, call.judge, call.base_url, call.request, call.template, call.template_hash, now),
                )
                self._record(uuid.uuid4().hex, call.key, scope, attempt, now, now)
                new += 1
        return new

    # shared

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with super()._transaction() as db:
                yield db
        except BaseException:
            self._sums.clear()  # they may count what is now taken back
            raise

    def _spent(self, scope: str) -> Spent:
        # Attempts are only ever added, with growing ids: what was summed before stays right.
        last, cost, calls = self._sums.get(scope, (0, 0, 0))
        row = self._db.execute(
            "SELECT MAX(id), SUM(cost), SUM(charged) FROM attempts WHERE scope = ? AND id > ?",
            (scope, last),
        ).fetchone()
        if row[0] is not None:
            last, cost, calls = row[0], cost + row[1], calls + row[2]
            self._sums[scope] = (last, cost, calls)
        reserved, in_flight = self._db.execute(
            "SELECT COALESCE(SUM(reserved), 0), COUNT(*) FROM claims WHERE scope = ?", (scope,)
        ).fetchone()
        return Spent(cost, calls, reserved, in_flight)

    def _claim(self, call: Call, scope: str, cap: Cap, *, uid: str, owner: str, seconds: float) -> Claimed:
        now, db = self._clock(), self._db
        if self._is_answered(call.key):
            return "answered"
        held = db.execute("SELECT * FROM claims WHERE key = ?", (call.key,)).fetchone()
        if held is not None:
            if not self._is_lost(held, now):
                return "busy"
            self._give_up(held, now)
        spent = self._spent(scope)
        if cap.calls is not None and spent.calls + spent.in_flight + 1 > cap.calls:
            return "over" if spent.calls + 1 > cap.calls else "busy"
        if cap.cost is not None and spent.cost + spent.reserved + call.worst > cap.cost:
            return "over" if spent.cost + call.worst > cap.cost else "busy"
        db.execute(
            "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)",
            (call.key, call.judge, call.base_url, call.request, call.template, call.template_hash, now),
        )
        db.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)",
            (call.key, uid, scope, owner, call.worst, now, now + seconds),
        )
        return "claimed"

    def _is_lost(self, claim: sqlite3.Row, now: float) -> bool:
        return claim["lease"] < now or is_dead(claim["owner"])

    def _give_up(self, claim: sqlite3.Row, now: float) -> None:
        self._db.execute("DELETE FROM claims WHERE uid = ?", (claim["uid"],))
        attempt = Attempt("unknown", "in flight when its process ended", charged=True, cost=claim["reserved"])
        self._record(claim["uid"], claim["key"], claim["scope"], attempt, claim["started"], now)

    def _record(self, uid: str, key: str, scope: str, attempt: Attempt, started: float, now: float) -> None:
        outcome: str = attempt.outcome
        if outcome == "answered" and self._is_answered(key):
            outcome = "late"  # the first answer decides
        values = {
            "uid": uid,
            "key": key,
            "scope": scope,
            "started": started,
            "seconds": max(0.0, now - started),
            "digest": None if attempt.answer is None else answer_digest(attempt.answer),
            **asdict(attempt),
            "outcome": outcome,
        }
        names = COLUMNS["attempts"]
        self._db.execute(
            f"INSERT INTO attempts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [values[name] for name in names],
        )

    def _is_answered(self, key: str) -> bool:
        query = "SELECT 1 FROM attempts WHERE key = ? AND outcome = 'answered'"
        return self._db.execute(query, (key,)).fetchone() is not None
