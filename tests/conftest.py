"""What many tests start from: a tokenizer, a policy and a reward model as small as they can be, with random weights.

Fixtures import what they need: pytest-xdist's first process reads this file as well, and runs no test.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .plain import PlainPython
    from .several import Launcher

# Before NumPy is imported: a second thread of its matrix products takes the processor from another worker's tests.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# The files that take longest, longest first, so that no worker is left with one of them at the end.
LONGEST = (
    "trainers/test_pipeline.py",
    "trainers/test_processes.py",
    "trainers/test_invariance.py",
    "rlhf_bench/test_audit.py",
    "trainers/test_lora.py",
    "trainers/test_resume.py",
    "trainers/test_fsdp.py",
    "report/test_report.py",
    "trainers/test_compiling.py",
    "report/test_browser.py",
    "evaluate/test_evaluate_killed.py",
    "evaluate/test_evaluate_processes.py",
    "cli/test_bad_input.py",
    "audit/test_examination.py",
    "cli/test_judge.py",
    "evaluate/test_evaluate_models.py",
    "trainers/test_trl_parity.py",
)

LINES = [
    "\n\nHuman: How do I boil an egg?\n\nAssistant: Put it in boiling water for eight minutes.",
    "\n\nHuman: Are you happy?\n\nAssistant: I am happy to help. What is happening is happily none of my business.",
    "\n\nHuman: Name a colour.\n\nAssistant: Blue.",
]


def pytest_configure(config: pytest.Config) -> None:
    """What is kept on disk, such as hh-mini, is made once for all workers and not in the user's own cache folder."""
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("home"))  # type: ignore[union-attr]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays, and is more than all that tests make: the garbage collector never looks through it, and
    through what tests make less often than by default."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Longest files first. Tests marked `kills` run only where a marker expression names them. Torch gets one thread:
    models of this size only get slower with more."""
    import torch

    torch.set_num_threads(1)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))
    if "kills" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("kills")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("kills")]


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """What a killed process has written is kept without it; only a power cut, which no test makes, would lose it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE of 300 tokens; pads with end-of-text. "happy" is one token, "hap" and "py" are others."""
    from rlhf_bench.modeling.tokenizers import train_tokenizer

    return train_tokenizer([*LINES, *[" happy happening happily"] * 20], vocab_size=300)


@pytest.fixture(scope="session")
def policy_folder(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved GPT-2 of 2 layers and width 32. Its matrices are scaled up."""
    import torch

    from rlhf_bench.modeling.models import new_gpt2

    from .rlhf_bench.tiny import scale_matrices

    path = tmp_path_factory.mktemp("models") / "sft"
    model = new_gpt2(tokenizer, layers=2, heads=2, width=32, positions=128, seed=0)
    scale_matrices(model, 4.0)
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(5.0)  # so that a wrong position shows
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def reward_folder(policy_folder: Path) -> Path:
    """The policy's backbone under a random head, saved beside it."""
    import torch

    from rlhf_bench.modeling.models import to_reward_model

    path = policy_folder.with_name("reward")
    model, tokenizer = to_reward_model(policy_folder, seed=1)
    with torch.no_grad():
        model.score.weight.mul_(10.0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def policy(policy_folder: Path) -> PreTrainedModel:
    """A model of the test's own, free to be changed."""
    from rlhf_bench.modeling.models import load_policy

    return load_policy(policy_folder)[0]


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rlhf-bench eval` draws no plots and no page, which take longer than its numbers."""
    monkeypatch.setattr("rlhf_bench.report.write_report", lambda *_, **__: [])


@pytest.fixture(scope="module")
def plot_training_curve() -> Iterator[Callable[..., None]]:
    """Stages draw no curve, which takes longer than to train them here. Gives the function that draws one."""
    from rlhf_bench.report.plots import curves

    draw = curves.plot_training_curve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plot_training_curve", lambda rows, stage, path: None)
        yield draw


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Runs command lines in processes that work together; torch is imported once for all."""
    from .several import Launcher

    with Launcher(tmp_path_factory.mktemp("launch")) as launcher:
        yield launcher


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainPython]:
    """Runs scripts without this project; torch, transformers and peft are imported once for all."""
    from .plain import PlainPython

    with PlainPython(tmp_path_factory.mktemp("plain")) as run:
        yield run
