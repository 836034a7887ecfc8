"""A ledger as a whole: whether it is sound, what is in it, and how it travels between machines."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.errors import DataError
from rlhf_bench.files import json_text
from rlhf_bench.judge.ledger.file import COLUMNS, answer_digest, call_key, connect, guarded, read_rows


class Verified(NamedTuple):
    """`faults` is empty if all is well; the counts are of the rows checked."""

    calls: int
    attempts: int
    verdicts: int
    faults: list[str]


class JudgeStats(NamedTuple):
    """One judge's part of a ledger; `cost` in nano-dollars, `outcomes` counts attempts."""

    judge: str
    base_url: str
    calls: int
    outcomes: dict[str, int]
    cost: int
    prompt_tokens: int
    completion_tokens: int


class Imported(NamedTuple):
    """New rows by table, and how many were there before."""

    new: dict[str, int]
    known: int


def verify_ledger(path: Path) -> Verified:
    """Check the file's integrity, every key against its request, every answer against its hash, every verdict's answer.

    Raises StoreError where the file cannot be read at all (a copy of a damaged one is kept).
    """
    faults: list[str] = []
    with closing(connect(path)) as db, guarded(path):
        state = [row[0] for row in db.execute("PRAGMA integrity_check(20)")]
        if state != ["ok"]:
            raise sqlite3.DatabaseError(state[0])
        faults += [f"{row[0]} row {row[1]}: its call is missing" for row in db.execute("PRAGMA foreign_key_check")]
        calls = attempts = 0
        for key, request in db.execute("SELECT key, request FROM calls"):
            calls += 1
            if call_key(request) != key:
                faults.append(f"call {key}: its request has another hash")
        for uid, answer, digest in db.execute("SELECT uid, answer, digest FROM attempts"):
            attempts += 1
            if (None if answer is None else answer_digest(answer)) != digest:
                faults.append(f"attempt {uid}: its answer has another hash")
        lonely = db.execute(
            "SELECT key FROM verdicts WHERE key NOT IN (SELECT key FROM attempts WHERE outcome = 'answered')"
        )
        faults += [f"verdict {row[0]}: the ledger lacks the answer to it" for row in lonely]
        verdicts = db.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0]
    return Verified(calls, attempts, verdicts, faults)


def ledger_stats(path: Path) -> list[JudgeStats]:
    """A row a judge and server, by name."""
    with closing(connect(path)) as db, guarded(path):
        calls = db.execute("SELECT judge, base_url, COUNT(*) FROM calls GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
        attempts = db.execute(
            "SELECT judge, base_url, outcome, COUNT(*), SUM(cost), COALESCE(SUM(prompt_tokens), 0), "
            "COALESCE(SUM(completion_tokens), 0) FROM attempts JOIN calls USING (key) GROUP BY 1, 2, 3 ORDER BY 3"
        ).fetchall()
    found = []
    for judge, url, count in calls:
        rows = [tuple(row)[2:] for row in attempts if (row[0], row[1]) == (judge, url)]
        cost, prompt, completion = (sum(row[i] for row in rows) for i in (2, 3, 4))
        found.append(JudgeStats(judge, url, count, {row[0]: row[1] for row in rows}, cost, prompt, completion))
    return found


def export_ledger(path: Path) -> Iterator[str]:
    """The ledger as JSON lines, calls first; of a damaged file what can be read. Claims are left out."""
    for table in COLUMNS:
        for row in read_rows(path, table):
            yield json_text({"table": table, **row}) + "\n"


def import_ledger(path: Path, source: Path) -> Imported:
    """Add what `source`, an export, holds and this ledger lacks; all of it or, on an error, nothing.

    A second answer to a call that has one is kept as late, since the first decides.
    Raises DataError naming the line that is no row of an export, OSError where `source` cannot be read.
    """
    new, known = dict.fromkeys(COLUMNS, 0), 0
    with closing(connect(path)) as db, guarded(path):
        db.execute("BEGIN IMMEDIATE")  # closing rolls back what was not committed
        try:
            with open(source, encoding="utf-8", newline="\n") as file:
                for number, line in enumerate(file, 1):
                    table, row = _parse(source, number, line)
                    if _add(db, table, row):
                        new[table] += 1
                    else:
                        known += 1
        except UnicodeDecodeError as error:
            raise DataError(f"{source} is not UTF-8 ({error.reason}); {_EXPECTED}") from error
        db.execute("COMMIT")
    return Imported(new, known)


_EXPECTED = "expected a file written by `rlhf-bench judge ledger export`"


def _parse(source: Path, number: int, line: str) -> tuple[str, dict[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{source}: line {number} is not JSON ({error}); {_EXPECTED}") from error
    table = row.pop("table", None) if isinstance(row, dict) else None
    if table not in COLUMNS or set(row) != set(COLUMNS[table]):
        raise DataError(f"{source}: line {number} is no row of a ledger; {_EXPECTED}")
    if table == "calls" and call_key(row["request"]) != row["key"]:
        raise DataError(f"{source}: line {number}: the request's hash is not its key; the file was changed")
    if table == "attempts" and row["answer"] is not None and answer_digest(row["answer"]) != row["digest"]:
        raise DataError(f"{source}: line {number}: the answer's hash is not its digest; the file was changed")
    return table, row


def _add(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> bool:
    if table == "attempts" and row["outcome"] == "answered":
        other = db.execute(
            "SELECT 1 FROM attempts WHERE key = ? AND outcome = 'answered' AND uid != ?", (row["key"], row["uid"])
        ).fetchone()
        if other:
            row = {**row, "outcome": "late", "reason": "imported beside an answer that the ledger had"}
    names = COLUMNS[table]
    done = db.execute(
        f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [row[name] for name in names],
    )
    return done.rowcount == 1
