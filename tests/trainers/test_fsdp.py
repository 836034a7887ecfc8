"""Models sharded over two CPU processes. That the first step's gradients are those of one process is held in
test_processes.py; here is what surrounds a step: states, checkpoints, adapters, and how much a process holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from rlhf_bench.errors import BadValue
from rlhf_bench.runtime.sharding import gather, gathered_state, is_sharded, sharded_as
from rlhf_bench.types import STAGES
from trainers.pipeline import train

from ..several import Launcher, same_files
from .conftest import TOY
from .killing import log_of, pairs_file
from .test_processes import KILL_AT_SFT, words

pytest.importorskip("peft")

SETTINGS: dict[str, Any] = {
    "sft__save_steps": 2,
    "reward__lora.r": 4,
    "ppo__critic": "policy",
    "grpo__lora.r": 4,
    "grpo__gradient_checkpointing": "true",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs_file(tmp_path_factory.mktemp("fsdp")).parent


@pytest.fixture(scope="module")
def sharded(root: Path, launch: Launcher) -> Path:
    """All stages, muon, adapters and checkpointed layers among them, by two processes without a break."""
    ended = launch(*words(root, "sharded", **SETTINGS), "--fsdp", processes=2)
    assert ended.statuses == [0, 0], ended.errors
    assert "seed 0, fp32 on cpu, 2 processes (FSDP), " in ended.errors[0]
    return root / "sharded"


@pytest.mark.slow
def test_what_is_saved_is_unsharded(root: Path, launch: Launcher, sharded: Path) -> None:
    """transformers loads it, and one process evaluates it to the numbers that both had while training."""
    model = AutoModelForCausalLM.from_pretrained(sharded / "sft")
    assert model.lm_head.weight is model.transformer.wte.weight
    best = AutoModelForCausalLM.from_pretrained(sharded / "sft-steps" / "checkpoint-3")  # keep: best, at the last step
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, best.state_dict()[name]), name
    for stage in STAGES:
        assert json.loads((sharded / stage / "training.json").read_text())["fsdp"] is True
    checked = launch("selftest", "--model", sharded / "ppo")  # a policy without data: ratio 1, KL 0, no padding seen
    assert checked.statuses == [0], checked.errors


@pytest.mark.slow
@pytest.mark.parametrize("stages", [STAGES[:2], pytest.param(STAGES, marks=pytest.mark.kills)])
def test_killed_and_continued_it_ends_at_the_same_bits(
    root: Path, launch: Launcher, sharded: Path, stages: Sequence[str]
) -> None:
    """In sft; what follows starts from it."""
    run = f"killed-{len(stages)}"
    begin = [*words(root, run, " ".join(stages), save_seconds=0, **SETTINGS), "--fsdp"]
    ended = launch(*begin, processes=2, plan=KILL_AT_SFT.format(rank=1))
    assert ended.statuses == [1, -9]
    last = launch(*begin, processes=2)
    assert last.statuses == [0, 0], last.errors
    assert "sft: continues after step 1 of 3" in last.errors[0] or "sft: continues after step 2 of 3" in last.errors[0]
    for stage in stages:
        weights = "adapter_model.safetensors" if stage in ("reward", "grpo") else "model.safetensors"
        same_files(sharded / stage, root / run / stage, [weights])
        assert log_of(sharded / stage) == log_of(root / run / stage), stage


@pytest.mark.slow
def test_one_process_continues_what_sharded_models_began(root: Path, launch: Launcher, sharded: Path) -> None:
    """And the reverse: a state holds unsharded tensors, whoever wrote it."""
    for begun, going_on in (("--fsdp", None), (None, "--fsdp")):
        run = f"other{begun}"
        given = words(root, run, "base", save_seconds=0)
        plan = KILL_AT_SFT.replace('"sft"', '"base"').format(rank=1 if begun else 0)
        first = launch(*given, *([begun] if begun else []), processes=2 if begun else 1, plan=plan)
        assert -9 in first.statuses
        last = launch(*given, *([going_on] if going_on else []), processes=2 if going_on else 1)
        assert set(last.statuses) == {0}, last.errors
        assert "base: continues after step " in last.errors[0]
        for ours, theirs in zip(log_of(root / run / "base"), log_of(sharded / "base"), strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3)  # muon rounds to bf16


HOLDS = """
import json, os
from torch.distributed.tensor import DTensor
from trainers.engine.loop import Loop
write = Loop.end_row
def held(tensor):
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).numel()
def spy(loop):
    model = loop.trained.model
    states = [s for part in loop.optimizer.parts for state in part.state.values() for s in state.values()]
    with open("{folder}/" + os.environ.get("RANK", "0"), "w") as file:
        json.dump([sum(held(p) for p in model.parameters()), sum(map(held, states))], file)
    return write(loop)
Loop.end_row = spy
"""


@pytest.mark.slow
def test_each_process_holds_half(root: Path, launch: Launcher) -> None:
    """Of weights and optimiser states after a step; a plain process holds all."""
    held = []
    for processes in (1, 2):
        folder = root / f"holds-{processes}"
        folder.mkdir()
        given = words(root, f"held-{processes}", "base", base__max_steps=1, base__optimizer="adamw")
        fsdp = ["--fsdp"] if processes > 1 else []
        ended = launch(*given, *fsdp, processes=processes, plan=HOLDS.format(folder=folder))
        assert set(ended.statuses) == {0}, ended.errors
        held.append([json.loads(path.read_text()) for path in sorted(folder.iterdir())])
    ((weights, states),) = held[0]
    for half_weights, half_states in held[1]:
        assert half_weights == weights // 2
        assert half_states == pytest.approx(states / 2, rel=1e-3)  # a step count a tensor is not sharded


def test_accelerates_configuration_requests_it_too(root: Path, launch: Launcher) -> None:
    plan = "import os; os.environ['ACCELERATE_USE_FSDP'] = 'true'"
    ended = launch(*words(root, "asked", "base", base__max_steps=1), processes=2, plan=plan)
    assert ended.statuses == [0, 0], ended.errors
    assert "2 processes (FSDP)" in ended.errors[0]
    refused = launch("eval", "--run", "asked", "--checkpoints", root, processes=2, plan=plan)
    assert refused.statuses == [2, 2]
    (line,) = refused.lines
    assert line.startswith("error: eval: accelerate's configuration sets FSDP, but an evaluation holds whole models")


def test_what_it_does_not_go_with(root: Path, launch: Launcher, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="--fsdp: given with one process"):
        train(["base"], recipe=str(TOY), root=tmp_path, fsdp=True)
    ended = launch(*words(root, "compiled", "base", base__compile="true"), "--fsdp", processes=2)
    assert ended.statuses == [2, 2]
    (line,) = ended.lines
    assert line.startswith("error: base.compile: given with --fsdp, which shards a model's tensors")


def test_what_is_not_sharded_is_left_as_it_is() -> None:
    tied = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    tied["b"].weight = tied["a"].weight
    state = gathered_state(tied)
    assert not is_sharded(tied)
    assert state["a.weight"] is state["b.weight"]
    assert torch.equal(state["a.weight"], tied["a"].weight)
    assert set(gathered_state(tied, trained_only=True)) == set(state)
    assert gather({"x": [1, "two"]}) == {"x": [1, "two"]}
    assert sharded_as(tied["a"].weight, state["a.weight"]) is state["a.weight"]
