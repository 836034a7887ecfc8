"""This package as a wheel, made of the files that run: from a checkout as well as from an installation, offline.

The format is the binary distribution format of the Python packaging guide (PEP 427): a zip of the packages and a
`.dist-info` folder with METADATA, WHEEL and RECORD.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import rlhf_bench
from rlhf_bench.config import suites_dir
from rlhf_bench.errors import BenchError

PACKAGES = ("rlhf_bench", "trainers")
WHEEL = "Wheel-Version: 1.0\nGenerator: rlhf-bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
COPIED = ("METADATA", "entry_points.txt")


def write_wheel(folder: Path) -> Path:
    """rlhf_bench-VERSION-py3-none-any.whl in `folder`. Raises BenchError where the package is not installed."""
    try:
        installed = distribution("rlhf-bench")
    except PackageNotFoundError:
        raise BenchError("rlhf-bench is not installed, so it has no metadata; install it with: pip install .") from None
    name = f"rlhf_bench-{installed.version}"
    info = {part: text for part in COPIED if (text := installed.read_text(part))} | {"WHEEL": WHEEL}
    contents = {**dict(_sources()), **{f"{name}.dist-info/{part}": text.encode() for part, text in info.items()}}
    record = f"{name}.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for inside, data in {**contents, record: "\n".join([*lines, f"{record},,\n"]).encode()}.items():
            wheel.writestr(zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return path


def _sources() -> Iterator[tuple[str, bytes]]:
    """Path in the wheel and contents of every file of the packages, and of the suites."""
    root = Path(rlhf_bench.__file__).parent.parent
    folders = {root / package: package for package in PACKAGES} | {suites_dir(): "rlhf_bench/_suites"}
    for source, inside in folders.items():
        for file in sorted(source.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{inside}/{file.relative_to(source).as_posix()}", file.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
