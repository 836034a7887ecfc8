"""The bytes of a file as rows. The format is recognised by the content, never by the file's ending."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zipfile import BadZipFile, ZipFile

from rlhf_bench.errors import DataError

Numbered = tuple[int, Mapping[str, Any]]  # a row's place in its file, from 1 (JSON lines: the line), and the row
OnBad = Callable[[int, str], object]  # receives the place of a row that cannot be read, and why

_ZIP = b"PK\x03\x04"
_MARKS = (  # UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WRAPPERS = ("data", "rows", "examples", "instances", "records", "results", "samples", "items", "outputs")
_OF_ALL_ROWS = {"model", "model_name", "generator", "system", "dataset", "task", "version"}
# Of a folder or a zip file the files with these endings are read; a file that is named itself may have any.
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".xlsx")
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_MAX_FIELD = 2**31 - 1


def data_suffix(name: str) -> str | None:
    """The ending of a data file, without that of its compression; None where the name has no such ending."""
    name = name.lower()
    name = next((name.removesuffix(packed) for packed in _PACKED if name.endswith(packed)), name)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def unpack(name: str, content: bytes) -> bytes:
    """`content` without its compression: gzip, zstd, bzip2 or xz."""
    for magic, form, decompress in (
        (b"\x1f\x8b", "gzip", gzip.decompress),
        (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
        (b"BZh", "bzip2", bz2.decompress),
        (b"\xfd7zXZ\x00", "xz", lzma.decompress),
    ):
        if content.startswith(magic):
            try:
                return decompress(content)
            except Exception as error:  # each library has errors of its own, EOFError and zlib.error among them
                raise DataError(
                    f"{name!r} is not an intact {form} file ({first_line(error)}); fetch it again"
                ) from error
    return content


def _unzstd(content: bytes) -> bytes:
    import pyarrow as pa

    unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return unpacked


def is_archive(content: bytes) -> bool:
    """True for a zip file of data files; a workbook and an inspect_ai log are zip files too, and one table each."""
    return content.startswith(_ZIP) and not _is_excel(content) and not _is_inspect(content)


def zip_members(name: str, content: bytes) -> dict[str, bytes]:
    """The files of a zip file by name; what an operating system adds is left out."""
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            inside = [info for info in archive.infolist() if not info.is_dir()]
            return {
                info.filename: _member(archive, info.filename, content)
                for info in inside
                if not info.filename.startswith("__MACOSX/") and not info.filename.rsplit("/", 1)[-1].startswith(".")
            }
    except (BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{name!r} is not an intact zip file ({first_line(error)}); fetch it again") from error


def _member(archive: ZipFile, member: str, content: bytes) -> bytes:
    info = archive.getinfo(member)
    if info.compress_type != 93:  # zstd, which inspect_ai writes and zipfile reads from Python 3.14 on
        return archive.read(member)
    header = info.header_offset  # a local header has 30 bytes, then the name and an extra field
    name_length, extra_length = (int.from_bytes(content[header + at : header + at + 2], "little") for at in (26, 28))
    start = header + 30 + name_length + extra_length
    return _unzstd(content[start : start + info.compress_size])


def _names(content: bytes) -> list[str]:
    try:
        return ZipFile(io.BytesIO(content)).namelist()
    except BadZipFile:
        return []


def _is_excel(content: bytes) -> bool:
    return "xl/workbook.xml" in _names(content)


def _is_inspect(content: bytes) -> bool:
    names = _names(content)
    return any(n.startswith(("samples/", "_journal/")) for n in names) and any(n.endswith(".json") for n in names)


def parse(name: str, content: bytes, on_bad: OnBad) -> tuple[str, list[Numbered]]:
    """(format in words, rows) of a file that is unpacked and no archive of several files.

    Raises DataError where the whole cannot be read; a single row that cannot goes to `on_bad`.
    """
    if content.startswith(b"PAR1") or (content and name.endswith(".parquet")):
        return "Parquet", _parquet_rows(name, content)
    if content.startswith(_ZIP):
        if _is_excel(content):
            from rlhf_bench.data.sheets import sheet_rows

            try:
                return "Excel", sheet_rows(content)
            except Exception as error:  # openpyxl raises whatever zip and XML readers do
                raise DataError(
                    f"{name!r} is not a readable Excel file ({first_line(error)}); save it again"
                ) from error
        return "a log of inspect_ai", _inspect_rows(name, content)
    text = _decode(name, content)
    start = text.lstrip()[:1]
    if start == "[":
        return "a JSON list", _list_rows(_json(name, text), on_bad)
    if start == "{":
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            return "JSON lines", _line_rows(text, on_bad)
        return _object_rows(whole, on_bad)
    return "CSV", _csv_rows(name, text, on_bad)


def _decode(name: str, content: bytes) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    if encoding is None:  # UTF-16 without a mark: every second byte of its ASCII is NUL
        even, odd = content[:200:2], content[1:200:2]
        encoding = next(
            (name for name, half in (("utf-16-be", even), ("utf-16-le", odd)) if 2 * half.count(0) > len(half)), "utf-8"
        )
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name!r} is not {encoding.upper()} (byte {error.start}); save it as UTF-8, or as UTF-16 with a "
            "byte-order mark"
        ) from error
    if "\0" in text:
        raise DataError(f"{name!r} is not text (character {text.index(chr(0))} is NUL); expected a table: see docs")
    return text


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{name!r} is not JSON ({first_line(error)}); expected a list of objects, or an object on each line"
        ) from error


def _line_rows(text: str, on_bad: OnBad) -> list[Numbered]:
    rows: list[Numbered] = []
    # At "\n" alone: str.splitlines() would also cut at U+2028, which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            on_bad(number, f"is not JSON ({first_line(error)})")
            continue
        rows += _object_or_bad(number, row, on_bad)
    return rows


def _list_rows(items: Sequence[Any], on_bad: OnBad) -> list[Numbered]:
    return [row for number, item in enumerate(items, start=1) for row in _object_or_bad(number, item, on_bad)]


def _object_or_bad(number: int, item: Any, on_bad: OnBad) -> list[Numbered]:
    if isinstance(item, dict):
        return [(number, item)]
    on_bad(number, f"is {'null' if item is None else type(item).__name__}, not an object with columns")
    return []


def _object_rows(whole: dict[str, Any], on_bad: OnBad) -> tuple[str, list[Numbered]]:
    """One JSON object: a log, a table under a name, a table by columns, or a single row."""
    if isinstance(whole.get("eval"), dict) and isinstance(whole.get("samples"), list):
        return "a log of inspect_ai", _list_rows(_with_model(whole["samples"], whole), on_bad)
    columns, data = whole.get("columns"), whole.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # pandas, orient="split"
        return "JSON by columns", _list_rows([dict(zip(columns, line, strict=False)) for line in data], on_bad)
    for name in _WRAPPERS:
        rows = whole.get(name)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and not _is_message(rows[0]):
            inner = [row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in rows]
            return f"a JSON list under {name!r}", _list_rows(inner, on_bad)
    by_column = _by_column(whole)
    if by_column is not None:
        return "JSON by columns", _list_rows(by_column, on_bad)
    return "JSON lines", [(1, whole)]


def _with_model(samples: Sequence[Any], log: Mapping[str, Any]) -> list[Any]:
    model = log.get("eval", {}).get("model")
    return [{"model": model, **sample} if isinstance(sample, dict) else sample for sample in samples]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _by_column(whole: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of {"prompt": [...], ...} or {"prompt": {"0": ...}, ...}; None for an object that is a row itself."""
    values = list(whole.values())
    if values and all(isinstance(value, dict) for value in values):
        keys = list(values[0])
        if keys and all(key.isdigit() for key in keys) and all(list(value) == keys for value in values):
            return [{column: cells[key] for column, cells in whole.items()} for key in keys]
        if all(key.isdigit() for key in whole):  # pandas, orient="index"
            return values
    lists = {column: cells for column, cells in whole.items() if isinstance(cells, list)}
    alone = {column: cell for column, cell in whole.items() if column not in lists}
    if alone.keys() - _OF_ALL_ROWS or len({len(cells) for cells in lists.values()}) != 1:
        return None
    if any(_is_message(cell) for cells in lists.values() for cell in cells):
        return None
    return [alone | dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]


def _csv_rows(name: str, text: str, on_bad: OnBad) -> list[Numbered]:
    before = csv.field_size_limit(_MAX_FIELD)  # a conversation may exceed the default of 128 KiB
    head, _, rest = text.partition("\n")
    if head.lower().startswith("sep=") and len(head.rstrip("\r")) == 5:  # a line by which Excel names the separator
        delimiter, text = head[4], rest
    else:
        delimiter = max(",;\t|", key=head.count)
    try:
        rows: list[Numbered] = []
        # newline="" keeps the line ends inside quoted fields as they are.
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                on_bad(number, "has another number of fields than the header; quote it")
            else:
                rows.append((number, {column.strip(): cell for column, cell in row.items() if column.strip()}))
    except csv.Error as error:
        raise DataError(f"{name!r} is not CSV ({first_line(error)}); expected a table: see docs/data.md") from error
    finally:
        csv.field_size_limit(before)
    return rows


def _parquet_rows(name: str, content: bytes) -> list[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Mapping[str, Any]] = pq.read_table(pa.BufferReader(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name!r} is not a readable Parquet file ({first_line(error)}); write it again") from error
    return list(enumerate(rows, start=1))


def _inspect_rows(name: str, content: bytes) -> list[Numbered]:
    members = zip_members(name, content)
    try:
        log = json.loads(members.get("header.json") or members["_journal/start.json"])
        samples = [json.loads(members[path]) for path in members if path.startswith("samples/")]
    except (KeyError, ValueError) as error:
        raise DataError(f"{name!r} is not a complete log of inspect_ai ({first_line(error)}); copy it again") from error
    return list(enumerate(_with_model(samples, log), start=1))


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
