"""The ledger's file: its rows and tables, how it is opened, and the errors where it cannot be used.

    calls      the requests, under the call's key: the hash of everything that can change the answer
    attempts   what came of each request: answered, failed, unknown (in flight at a crash, timed out, cut off) or late
               (an answer that came after its call had been given up); what it cost, what was answered, verbatim
    verdicts   what a parser read in an answer, under the call's key and the parser's version: a winner, or for a form
               without one the numbers in `meta`
    claims     the calls in flight now: which process sends them, until when at the latest, and the worst cost

Rows of the first three are only ever added, which triggers enforce. Money is in nano-dollars (1e-9 USD), an integer,
so that sums are exact; times are Unix seconds."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rlhf_bench.errors import StoreError
from rlhf_bench.types import stable_hash

# answered: the ledger has the answer. busy: another process sends it, or calls in flight hold the money it needs: try
# again later. over: it does not fit under the cap.
Claimed = Literal["claimed", "answered", "busy", "over"]


def call_key(request: str) -> str:
    """The key of a request, which is canonical JSON of everything that can change the answer."""
    return stable_hash(request, length=32)


def answer_digest(answer: str) -> str:
    return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a judge. `worst` is the most it can cost, in nano-dollars; `seconds` how long it can take."""

    key: str
    judge: str
    base_url: str
    request: str
    template: str
    template_hash: str
    worst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one request. `charged`: it may have been billed; `cost` in nano-dollars."""

    outcome: Literal["answered", "failed", "unknown"]
    reason: str = ""
    charged: bool = False
    cost: int = 0
    http_status: int | None = None
    answer: str | None = None  # the body, verbatim
    model: str | None = None  # as reported
    fingerprint: str | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class Failure(NamedTuple):
    """A request that was refused, and the answer of the server to it."""

    request: str
    http_status: int | None
    reason: str


class Cap(NamedTuple):
    """The most that a scope may spend (nano-dollars) and the most calls it may be charged for; None is no limit."""

    cost: int | None
    calls: int | None


class Spent(NamedTuple):
    """What one scope (a result and a judge) cost, over all processes and restarts; money in nano-dollars."""

    cost: int
    calls: int
    reserved: int
    in_flight: int


SCHEMA_VERSION = 2
BUSY_SECONDS = 60.0
COLUMNS = {
    "calls": ("key", "judge", "base_url", "request", "template", "template_hash", "created"),
    "attempts": (
        *("uid", "key", "scope", "outcome", "reason", "charged", "cost", "started", "seconds", "http_status", "answer"),
        *("digest", "model", "fingerprint", "finish", "prompt_tokens", "cached_tokens", "completion_tokens"),
    ),
    "verdicts": ("key", "parser", "winner", "soft", "note", "meta"),
}
_ORDER = {"calls": "rowid", "attempts": "id", "verdicts": "rowid"}
_TABLES = """
CREATE TABLE calls (
    key TEXT NOT NULL UNIQUE,
    judge TEXT NOT NULL,
    base_url TEXT NOT NULL,
    request TEXT NOT NULL,
    template TEXT NOT NULL,
    template_hash TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL REFERENCES calls (key),
    scope TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('answered', 'failed', 'unknown', 'late')),
    reason TEXT NOT NULL,
    charged INTEGER NOT NULL CHECK (charged IN (0, 1)),
    cost INTEGER NOT NULL CHECK (cost >= 0),
    started REAL NOT NULL,
    seconds REAL NOT NULL,
    http_status INTEGER,
    answer TEXT,
    digest TEXT,
    model TEXT,
    fingerprint TEXT,
    finish TEXT,
    prompt_tokens INTEGER,
    cached_tokens INTEGER,
    completion_tokens INTEGER
);
CREATE TABLE verdicts (
    key TEXT NOT NULL REFERENCES calls (key),
    parser TEXT NOT NULL,
    winner TEXT,
    soft REAL,
    note TEXT NOT NULL,
    meta TEXT NOT NULL,
    UNIQUE (key, parser),
    CHECK (CASE WHEN winner IS NULL THEN meta != '{}' ELSE winner IN ('first', 'second', 'tie') END)
);
CREATE UNIQUE INDEX one_answer ON attempts (key) WHERE outcome = 'answered';
CREATE INDEX attempts_scope ON attempts (scope, id, charged, cost);
CREATE TABLE claims (
    key TEXT PRIMARY KEY REFERENCES calls (key),
    uid TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    owner TEXT NOT NULL,
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    started REAL NOT NULL,
    lease REAL NOT NULL
);
"""


def connect(path: Path) -> sqlite3.Connection:
    """The open ledger, created where there is none; any number of processes may do so at once.

    Raises StoreError where the file is of a newer version or damaged, OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with guarded(path):
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    if _version(db) == 0:
        _create(db, path)
    if _version(db) != SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by another version (schema {_version(db)}, this one reads {SCHEMA_VERSION}); "
            "it is left as it is: use that version of rlhf-bench, or name another file with --ledger"
        )
    _wal(db)
    db.execute("PRAGMA synchronous = FULL")  # an answer that was paid for outlives a power cut
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("SELECT COUNT(*) FROM claims").fetchone()


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if _version(db) == 0:  # no other process was quicker
            if db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{path} is a database of something else; name another file with --ledger")
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)
            for table in COLUMNS:
                for action in ("UPDATE", "DELETE"):
                    db.execute(
                        f"CREATE TRIGGER {table}_{action.lower()} BEFORE {action} ON {table} "
                        f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                    )
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _wal(db: sqlite3.Connection) -> None:
    """Readers and one writer at once. Changing the mode needs the file alone, and SQLite does not wait for that."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into what the user can do about them: OSError for a full disk, else StoreError."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a fault of ours, not of the file
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "full" in reason or "disk I/O" in reason:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if "locked" in reason:
            message = (
                f"{path} has been locked by another process for {BUSY_SECONDS:.0f} s; wait until it ends or stop it"
            )
        elif "readonly" in reason or "unable to open" in reason:
            message = f"{path} cannot be written ({reason}); choose a folder that can be, or name one with --ledger"
        else:
            message = f"{path}: {reason}; check the file with: rlhf-bench judge ledger verify"
        raise StoreError(message) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    if not any(count_readable(path).values()):
        return StoreError(
            f"{path}: {error}, and nothing of a ledger can be read in it; name another file with --ledger, or restore "
            "it from an export or a backup"
        )
    copy = _keep_copy(path)
    found = count_readable(copy)
    return StoreError(
        f"{path} is damaged ({error}); a copy is kept at {copy}, of which {found['attempts']} answers and failures and "
        f"{found['verdicts']} verdicts can be read: save them with `rlhf-bench judge ledger export FILE --ledger "
        f"{copy}`, move {path} away, and read them in with `rlhf-bench judge ledger import FILE`"
    )


def _keep_copy(path: Path) -> Path:
    """Copy the file with its write-ahead log; the same damage is copied once."""
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged-{number}")).exists():
        if copy.stat().st_size == path.stat().st_size and copy.read_bytes() == path.read_bytes():
            return copy
        number += 1
    shutil.copyfile(path, copy)
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
    return copy


def count_readable(path: Path) -> dict[str, int]:
    """Rows a table that can still be read, whatever the file's state."""
    return {table: sum(1 for _ in read_rows(path, table)) for table in COLUMNS}


def read_rows(path: Path, table: str) -> Iterator[dict[str, object]]:
    """The rows of `table` in the order in which they were written; of a damaged file those that can be reached.

    Where reading on from the start fails, it goes on from the end backwards until it meets damage again.
    """
    order = _ORDER[table]
    query = f"SELECT {order}, {', '.join(COLUMNS[table])} FROM {table} NOT INDEXED ORDER BY {order}"
    last = None
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
        try:
            for row in db.execute(query):
                last = row[0]
                yield dict(zip(COLUMNS[table], row[1:], strict=True))
            return
        except sqlite3.DatabaseError:
            pass
        with suppress(sqlite3.DatabaseError):
            for row in db.execute(f"{query} DESC"):
                if last is not None and row[0] <= last:
                    return
                yield dict(zip(COLUMNS[table], row[1:], strict=True))
