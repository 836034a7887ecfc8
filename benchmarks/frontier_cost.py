"""What the default evaluation costs with its frontier and page, in seconds of a processor, against the same without.

    rlhf-bench train all --run RUN
    python benchmarks/frontier_cost.py RUN

Each evaluation is a process of its own, tables and plots included, in a folder that is removed afterwards. The page is
drawn once more by itself, and its seconds are taken off the evaluation without a frontier.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlhf_bench.report import write_report


def seconds(run: str, results: Path, *options: str) -> float:
    """User and system time of one evaluation."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "rlhf_bench", "--quiet", "eval", "--run", run, "--results", str(results)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def page_seconds(result: Path) -> float:
    began = time.process_time()
    write_report(result, only=["page"])
    return time.process_time() - began


def main(run: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain, default = Path(folder) / "without", Path(folder) / "default"
        without, whole = seconds(run, plain, "--frontier", "0"), seconds(run, default)
        page = page_seconds(plain / "hh-test" / run)
    frontier, least = whole - without, without - page
    print(f"without frontier and page {least:.1f} s; page {page:.1f} s more, frontier {frontier:.1f} s more")
    print(f"the default evaluation, with both: {whole:.1f} s, {whole / least - 1:+.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
