"""What the default evaluation costs with the frontier, in seconds of a processor, against the same without.

    python benchmarks/frontier_cost.py RUN

Each is a process of its own, report included, in a folder that is removed afterwards.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile


def seconds(run: str, *options: str) -> float:
    """User and system time of one evaluation."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as results:
        subprocess.run(
            [sys.executable, "-m", "rlhf_bench", "eval", "--run", run, "--results", results, *options], check=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(run: str) -> None:
    without, default = seconds(run, "--frontier", "0"), seconds(run)
    print(f"without the frontier {without:.0f} s, by default {default:.0f} s: {default / without - 1:+.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
