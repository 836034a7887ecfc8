"""Small file helpers that the whole project shares: atomic writes, JSON lines, hashes."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rlhf_bench.errors import DataError, StoreError

if TYPE_CHECKING:  # most of those who write files need no tables
    import pandas as pd
    import pyarrow as pa


LOCK = ".lock"  # the file of a folder that `exclusive` holds
_DIGEST = 32  # bytes of a SHA-256


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, so that `path` holds either its old content or all of the new one, even after a power cut.

    The bytes go to a new file beside `path`, are flushed to disk, and the file is renamed as the block ends; if it
    fails, nothing is left. Missing folders are made. Raises OSError where the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the name of the new file
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        use_umask(Path(name))  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def use_umask(path: Path) -> None:
    """Give a file the mode that the user's umask gives to new files, whatever the library that wrote it has set."""
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def remove_half_written(folder: Path) -> None:
    """What killed processes were writing into `folder`, each as an `atomic_file`; no process may write there now."""
    for half in folder.glob(".*.tmp"):
        half.unlink(missing_ok=True)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """`data` in an `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write UTF-8 as `atomic_write_bytes` does, line ends as they are in `text` on every platform."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `atomic_write_bytes` does; the index is left out."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False)
    atomic_write_bytes(path, buffer.getvalue())


def atomic_write_row_groups(path: Path, groups: Iterable[pd.DataFrame], schema: pa.Schema) -> None:
    """Write a row group a frame: they need not be in memory together. Columns are those of `schema`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        for group in groups:
            writer.write_table(pa.Table.from_pandas(group, schema=schema, preserve_index=False))


def write_checked(path: Path, data: bytes) -> None:
    """Write `data` after its SHA-256, by which `read_checked` knows it again."""
    atomic_write_bytes(path, hashlib.sha256(data).digest() + data)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote; None where the file is cut short or damaged."""
    stored = Path(path).read_bytes()
    digest, data = stored[:_DIGEST], stored[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN becomes None, infinity the string "Infinity", dataclasses and NumPy plain."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy or torch scalar or array
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Path):
        return str(value)
    return value


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts (no bare NaN); U+2028 and other scripts stay readable."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def read_jsonl(path: Path, *, drop_partial: bool = False) -> list[dict[str, Any]]:
    """The rows of `iter_jsonl`."""
    return list(iter_jsonl(path, drop_partial=drop_partial))


def iter_jsonl(path: Path, *, drop_partial: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, one per line that ends in a newline byte; blank lines are passed over.

    Lines are cut at b"\\n" alone: `str.splitlines` would also cut at U+2028, which JSON strings may hold.
    `drop_partial` leaves out a last line without a newline (a write that was interrupted).
    Raises DataError naming the line that is no JSON object, OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or (drop_partial and not line.endswith(b"\n")):
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
                raise DataError(
                    f"{path}: line {number} is not JSON ({error}); expected one JSON object a line"
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is a {type(row).__name__}; expected one JSON object a line")
            yield row


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write all `rows` to an `atomic_file`, one after another: they need not be in memory together."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(f"{json_text(row)}\n".encode())


@contextmanager
def exclusive(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` for this process; the lock goes with the process, however that ends.

    Raises StoreError where another process still holds it after `wait` seconds, OSError where the folder cannot be
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with open(folder / LOCK, "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise StoreError(f"{folder} is in use by process {holder}; wait until it ends or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives `path`, and turns the OSError of a file or folder that cannot be written into a StoreError."""
    try:
        yield path
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot write {path} ({why}); choose a folder that can be written") from error


def check_folder(path: Path) -> None:
    """Raise StoreError where no file could be written in a folder, which need not be there yet; nothing is made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    with writing(path):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def timestamp() -> str:
    """The time now, in UTC and to the second, as files hold it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def policy_hash(text: str) -> str:
    """The name by which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; not every platform lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
