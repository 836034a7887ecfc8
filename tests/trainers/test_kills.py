"""Twenty SIGKILLs a stage at random moments, mid-write included: the run ends with the bits of one left alone.

Minutes of work, so outside `make test`, which kills each stage once (test_resume.py): python -m pytest -m kills
tests/trainers/test_kills.py
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from rlhf_bench.types import STAGES

from ..several import Launcher
from .killing import RandomKills, Training, pairs_file, same_bits

KILLS = 20  # a stage
STEPS = 80  # a stage: a killed process has done one or two of them, each with a state that is saved

pytestmark = pytest.mark.kills


class Runs(NamedTuple):
    alone: Path
    killed: Path
    kills: RandomKills


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, launch: Launcher) -> Runs:
    root, kills = tmp_path_factory.mktemp("kills"), RandomKills()
    settings = {f"{name}.max_steps": STEPS for name in ("sft", "reward", "dpo", "base")}
    settings |= {f"{name}.epochs": 6 for name in ("base", "sft", "reward", "dpo")}
    settings |= {f"{name}.steps": STEPS for name in ("ppo", "grpo")}
    settings |= {f"{name}.eval_every": STEPS // 2 for name in STAGES} | {
        f"{name}.save_steps": STEPS // 4 for name in STAGES
    }
    train = Training(launch, root, pairs_file(root), settings)
    assert train.run("alone", 1000)[0] == 0
    kills.run(train, "killed", kills=KILLS, alone=root / "alone")
    return Runs(root / "alone", root / "killed", kills)


@pytest.mark.parametrize("stage", STAGES)
def test_the_bits_are_those_of_a_run_left_alone(runs: Runs, stage: str) -> None:
    """Weights, log but for wall times, and the checkpoints on the way; the next sample is a function of the weights."""
    again = runs.kills.again
    assert runs.kills.done[stage] == KILLS, again
    same_bits(runs.alone / stage, runs.killed / stage, again)
    for step in range(STEPS // 4, STEPS + 1, STEPS // 4):
        name = Path(f"{stage}-steps") / f"checkpoint-{step}" / "model.safetensors"
        assert (runs.alone / name).read_bytes() == (runs.killed / name).read_bytes(), f"{name}: {again}"


def test_nothing_is_left_of_what_was_cut_short(runs: Runs) -> None:
    there = {path.name for path in runs.killed.iterdir() if path.name != ".lock"}
    left = {name for name in there if not name.startswith(".")}
    assert left == {*STAGES, *(f"{stage}-steps" for stage in STAGES)}, runs.kills.again
