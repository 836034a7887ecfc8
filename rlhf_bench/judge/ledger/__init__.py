"""The calls to judges, their answers and their cost: written once, shared by all runs and processes.

A call goes through the ledger in three steps:

    claim    one transaction that sees that the call was not answered, is not in flight and fits under the cap, and
             reserves its worst case
    (the request is sent)
    finish   one transaction that turns the reservation into what happened

A claim with a dead owner or an expired lease becomes an attempt of unknown outcome, charged at its
worst case: the request may have reached the server. So spent + reserved never passes the cap, whatever is killed."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rlhf_bench.files import json_text
from rlhf_bench.judge.ledger.file import (
    COLUMNS,
    Attempt,
    Call,
    Cap,
    Claimed,
    Failure,
    Spent,
    answer_digest,
    connect,
    guarded,
)
from rlhf_bench.judge.questions import ParsedAnswer
from rlhf_bench.runtime.owner import is_dead, this_process

__all__ = ["Ledger"]


_LATE = "came after the call had been given up; charged then"


class Ledger:
    """An open ledger. One process, one thread; other processes may hold the same file open."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._db = connect(self.path)
        self._clock = clock
        self._owner = this_process()
        self._mine: dict[str, str] = {}  # key -> uid of this process's claims
        self._sums: dict[str, tuple[int, int, int]] = {}  # scope -> (last attempt's id, cost, charged calls)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # answers

    def answers(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """(key, body) of those that were answered."""
        for row in self._select("SELECT key, answer FROM attempts WHERE outcome = 'answered' AND key IN", keys):
            yield row["key"], row["answer"]

    def verdicts(self, keys: Iterable[str], parser: str) -> dict[str, ParsedAnswer]:
        """What `parser` read in the answers to `keys`, as far as that was stored."""
        query = "SELECT key, winner, soft, note, meta FROM verdicts WHERE parser = ? AND key IN"
        return {
            key: ParsedAnswer("read", winner, soft, note, json.loads(meta) if meta != "{}" else {})
            for key, winner, soft, note, meta in self._select(query, keys, parser)
        }

    def add_verdicts(self, readings: Mapping[str, ParsedAnswer], parser: str) -> None:
        """Store what was read. Only verdicts are: what is unreadable today may be read by a later parser."""
        rows = [
            (key, parser, reading.winner, reading.soft, reading.note, json_text(reading.meta))
            for key, reading in readings.items()
            if reading.status == "read"
        ]
        if rows:
            with self._transaction() as db:
                db.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", rows)

    def reported_models(self, keys: Iterable[str]) -> dict[str, int]:
        """Answers a model name, as servers reported it: an alias can change its model between two days."""
        rows = self._select("SELECT model FROM attempts WHERE outcome = 'answered' AND key IN", keys)
        return dict(sorted(Counter(row["model"] or "not reported" for row in rows).items()))

    def failures(self, keys: Iterable[str]) -> Iterator[Failure]:
        """The failed attempts of these calls."""
        query = "SELECT request, http_status, reason FROM attempts JOIN calls USING (key) WHERE outcome = 'failed'"
        for row in self._select(f"{query} AND key IN", keys):
            yield Failure(row["request"], row["http_status"], row["reason"])

    def is_refused(
        self,
        judge: str,
        base_url: str,
        template_hash: str,
        refuses: Callable[[Failure], bool],
        sends: Callable[[str], bool],
    ) -> bool:
        """Whether the server refused some part of the template's requests to this judge, and has not answered a request
        with that part since. `refuses` recognises such a failure, `sends` a request that has the part."""
        query = "SELECT id, request, http_status, reason FROM attempts JOIN calls USING (key) WHERE"
        who, where = (judge, base_url, template_hash), "(judge, base_url, template_hash) = (?, ?, ?)"
        with guarded(self.path):
            failed = self._db.execute(
                f"{query} outcome = 'failed' AND http_status >= 400 AND {where} ORDER BY id DESC", who
            )
            refusals = (row["id"] for row in failed if refuses(Failure(*row[1:])))
            last = next(refusals, None)
            if last is None:
                return False
            newest = self._db.execute(
                f"{query} outcome = 'answered' AND id > ? AND {where} ORDER BY id DESC LIMIT 1", (last, *who)
            ).fetchone()
        return newest is None or not sends(newest["request"])

    # calls in flight

    def claim(self, call: Call, scope: str, cap: Cap) -> Claimed:
        """Reserve `call` for this process, if it may be sent now."""
        uid = uuid.uuid4().hex
        # A minute of grace, so that an answer in the last second does not count as lost.
        with self._transaction():
            claimed = self._claim(call, scope, cap, uid=uid, owner=self._owner, seconds=call.seconds + 60)
        if claimed == "claimed":
            self._mine[call.key] = uid
        return claimed

    def claim_for(self, owner: str, calls: Iterable[Call], scope: str, cap: Cap, *, seconds: float) -> list[Call]:
        """Reserve those of `calls` that may be sent now and fit under the cap, all at once, for an `owner` that is no
        process, such as a batch. They are held for so many seconds, whatever becomes of this process."""
        claimed = []
        with self._transaction():
            for call in calls:
                uid = uuid.uuid4().hex
                if self._claim(call, scope, cap, uid=uid, owner=owner, seconds=seconds) == "claimed":
                    claimed.append(call)
        return claimed

    def held(self, scope: str, kind: str) -> dict[str, dict[str, int]]:
        """Owner -> key -> reserved nano-dollars, of the claims of `scope` with an owner that begins with `kind`."""
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
                if (attempt := attempts.get(claim["key"])) is not None:
                    self._end(claim, attempt, now)
                    done += 1
        return done

    def finish(self, key: str, attempt: Attempt) -> None:
        """Record what came of a claimed call. It is on the disk when this returns."""
        uid = self._mine[key]
        now = self._clock()
        with self._transaction() as db:
            held = db.execute("SELECT * FROM claims WHERE uid = ?", (uid,)).fetchone()
            if held is not None:
                self._end(held, attempt, now)
            elif attempt.answer is not None:
                # Another process found this one dead and recorded its call as unknown, at its worst cost.
                lost = db.execute("SELECT scope, started FROM attempts WHERE uid = ?", (uid,)).fetchone()
                free = replace(attempt, reason=_LATE, charged=False, cost=0)
                self._record(f"{uid}-late", key, lost["scope"], free, lost["started"], now)
        del self._mine[key]

    def settle(self, scope: str) -> int:
        """Give up the claims of `scope` with owners that are gone; returns how many there were."""
        now = self._clock()
        with self._transaction() as db:
            claims = db.execute("SELECT * FROM claims WHERE scope = ?", (scope,)).fetchall()
            lost = [row for row in claims if self._is_lost(row, now)]
            for row in lost:
                self._give_up(row, now)
        return len(lost)

    def spent(self, scope: str) -> Spent:
        with guarded(self.path):
            return self._spent(scope)

    # importing

    def add_foreign(self, answers: Iterable[tuple[Call, Attempt]], scope: str) -> int:
        """Record answers to another pipeline, all of them or none; returns how many were new."""
        now, new = self._clock(), 0
        with self._transaction():
            for call, attempt in answers:
                if self._is_answered(call.key):
                    continue
                self._add_call(call, now)
                self._record(uuid.uuid4().hex, call.key, scope, attempt, now, now)
                new += 1
        return new

    # shared

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with guarded(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._sums.clear()  # they may count what is now taken back
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _select(self, query: str, keys: Iterable[str], *first: object) -> Iterator[sqlite3.Row]:
        found = list(keys)
        with guarded(self.path):
            for start in range(0, len(found), 900):  # SQLite takes 999 parameters at least
                part = found[start : start + 900]
                yield from self._db.execute(f"{query} ({', '.join('?' * len(part))})", (*first, *part))

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
        self._add_call(call, now)
        db.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)",
            (call.key, uid, scope, owner, call.worst, now, now + seconds),
        )
        return "claimed"

    def _add_call(self, call: Call, now: float) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)",
            (call.key, call.judge, call.base_url, call.request, call.template, call.template_hash, now),
        )

    def _is_lost(self, claim: sqlite3.Row, now: float) -> bool:
        return claim["lease"] < now or is_dead(claim["owner"])

    def _give_up(self, claim: sqlite3.Row, now: float) -> None:
        attempt = Attempt("unknown", "in flight when its process ended", charged=True, cost=claim["reserved"])
        self._end(claim, attempt, now)

    def _end(self, claim: sqlite3.Row, attempt: Attempt, now: float) -> None:
        self._db.execute("DELETE FROM claims WHERE uid = ?", (claim["uid"],))
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
