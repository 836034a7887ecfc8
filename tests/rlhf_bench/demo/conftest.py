"""A run of random weights with two policies, and the demo that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_bench.data import mini
from rlhf_bench.demo.session import Session
from rlhf_bench.demo.spec import DemoSpec, demo_spec
from rlhf_bench.evaluate.request import Request
from rlhf_bench.files import write_jsonl
from rlhf_bench.progress import Progress

from ..tiny import save_policy, save_run, write_training


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs: `default` has sft, reward and ppo."""
    folder = tmp_path_factory.mktemp("demo")
    pairs = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in mini.generate("test", n=200))
    write_jsonl(folder / "pairs.jsonl", pairs)
    data = {"source": str(folder / "pairs.jsonl"), "seed": 0, "max_prompt_tokens": 64, "max_response_tokens": 24}
    run = save_run(folder / "checkpoints" / "default", config={"data": data})
    write_training(save_policy(run / "ppo", seed=1), parents={"sft": run / "sft"}, config={"data": data})
    return folder / "checkpoints"


@pytest.fixture(scope="session")
def spec(checkpoints: Path) -> DemoSpec:
    request = Request.of(None, checkpoints=str(checkpoints))
    return demo_spec(request, ["ppo", "sft"], Progress(quiet=True))


@pytest.fixture(scope="session")
def session(spec: DemoSpec) -> Session:
    return Session(spec)
