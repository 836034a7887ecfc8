"""The script for a GPU works: on a CPU, with a model of a few thousand parameters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.kills
def test_every_part_of_it_prints_its_numbers() -> None:
    pytest.importorskip("trl")
    words = ["--device", "cpu", "--model", "tiny", "--rows", "2", "--steps", "4", "--tokens", "4"]
    out = subprocess.run([sys.executable, SCRIPT, *words], check=True, capture_output=True, text=True).stdout
    for stage in ("sft", "reward", "ppo", "grpo", "dpo"):
        assert any(line.startswith(stage) and "% of" in line and "GFLOP/s" in line for line in out.splitlines()), out
    for stage in ("sft", "reward", "grpo", "dpo"):
        assert any(line.startswith(stage) and "TRL" in line for line in out.splitlines()), out
    assert "transformers" in out
    assert "selftest" in out
