"""What is stored in a ledger: the answers, what parsers read in them, and what servers said of the request's form."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlhf_bench.files import json_text
from rlhf_bench.judge.calls import SCHEMA_REFUSALS, has_schema, refuses_schema
from rlhf_bench.judge.ledger_file import connect, guarded
from rlhf_bench.judge.types import Reading

__all__ = ["Answers"]


class Answers:
    """An open ledger's answers and verdicts. What was asked and what it may cost is `ledger.Ledger`'s."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._db = connect(self.path)

    def close(self) -> None:
        self._db.close()

    def answers(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """(key, body) of those that were answered."""
        for row in self._select("SELECT key, answer FROM attempts WHERE outcome = 'answered' AND key IN", keys):
            yield row["key"], row["answer"]

    def verdicts(self, keys: Iterable[str], parser: str) -> dict[str, Reading]:
        """What `parser` read in the answers to `keys`, as far as that was stored."""
        query = "SELECT key, winner, soft, note, meta FROM verdicts WHERE parser = ? AND key IN"
        return {
            key: Reading("read", winner, soft, note, json.loads(meta) if meta != "{}" else {})
            for key, winner, soft, note, meta in self._select(query, keys, parser)
        }

    def add_verdicts(self, readings: Mapping[str, Reading], parser: str) -> None:
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
        counts: dict[str, int] = {}
        for row in self._select("SELECT model FROM attempts WHERE outcome = 'answered' AND key IN", keys):
            name = row["model"] or "not reported"
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items()))

    def schema_refused(self, judge: str, base_url: str, template_hash: str) -> bool:
        """Whether this server refused the template's JSON schema for this judge, and has not answered by it since."""
        who = (judge, base_url, template_hash)
        with guarded(self.path):
            failed = self._db.execute(
                "SELECT id, key, http_status, reason FROM attempts WHERE outcome = 'failed' AND http_status IN "
                f"{SCHEMA_REFUSALS} ORDER BY id DESC"
            )
            refusals = (row["id"] for row in failed if self._is_refusal(row, who))
            last = next(refusals, None)
            if last is None:
                return False
            newest = self._db.execute(
                "SELECT request FROM attempts JOIN calls USING (key) WHERE id > ? AND outcome = 'answered' AND "
                "(judge, base_url, template_hash) = (?, ?, ?) ORDER BY id DESC LIMIT 1",
                (last, *who),
            ).fetchone()
        return newest is None or not has_schema(newest["request"])

    def schema_refusal(self, keys: Iterable[str]) -> str | None:
        """What the server said of the first of these calls that it refused for the JSON schema in it; None: of none."""
        query = "SELECT request, http_status, reason FROM attempts JOIN calls USING (key) WHERE outcome = 'failed'"
        for row in self._select(f"{query} AND key IN", keys):
            if refuses_schema(row["request"], row["http_status"], row["reason"]):
                return str(row["reason"])
        return None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with guarded(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _select(self, query: str, keys: Iterable[str], *first: object) -> Iterator[sqlite3.Row]:
        with guarded(self.path):
            for part in _chunks(list(keys), 900):  # SQLite takes 999 parameters at least
                yield from self._db.execute(f"{query} ({', '.join('?' * len(part))})", (*first, *part))

    def _is_refusal(self, attempt: sqlite3.Row, who: tuple[str, str, str]) -> bool:
        query = "SELECT request FROM calls WHERE key = ? AND (judge, base_url, template_hash) = (?, ?, ?)"
        call = self._db.execute(query, (attempt["key"], *who)).fetchone()
        return call is not None and refuses_schema(call["request"], attempt["http_status"], attempt["reason"])


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
