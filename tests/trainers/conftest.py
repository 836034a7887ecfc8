"""A recipe as small as it can be, and the first step of a stage: its loss and its gradients."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from rlhf_bench.cli import cli
from rlhf_bench.data import LabelledResponse, PreferenceData
from rlhf_bench.data.labelled import both_sides
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy, new_gpt2
from rlhf_bench.progress import Progress
from rlhf_bench.types import PreferencePair, fingerprint
from trainers import kto
from trainers.config.recipe import Recipe
from trainers.engine import models, reference
from trainers.engine.batches import Pair
from trainers.engine.loop import Loop
from trainers.engine.machine import Machine
from trainers.engine.optim import Optimizer
from trainers.engine.pairs import PairTrainer
from trainers.engine.stage import Folders, Reporting, Stage, StageResult
from trainers.losses.preference import PairLogps

from ..rlhf_bench.tiny import scale_matrices

TOY = Path(__file__).with_name("toy.yaml")

ANSWERS = [" Blue.", " I am happy to help.", " Eight minutes.", " no", " What is happening is none of my business."]
PAIRS = [
    PreferencePair(
        f"\n\nHuman: {'why ' * (i % 4)}now?\n\nAssistant:", ANSWERS[i % 5], ANSWERS[(2 * i + 1) % 5] + "!" * i
    )
    for i in range(5)
]


class Graded(NamedTuple):
    """A loss and the gradient of each parameter, by name."""

    loss: float
    gradients: dict[str, Tensor]


FirstStep = Callable[..., tuple[Graded, StageResult]]


def stage_in(
    folder: Path, name: str, recipe: Recipe, pairs: Sequence[PreferencePair] = (), *, cache: Path | None = None,
    labels: Sequence[bool] | None = None,
) -> Stage:  # fmt: skip
    """A stage on the CPU whose parents are in `folder` and whose every split holds `pairs`. `labels` replace those of
    the pairs' sides, which are desirable and undesirable in turn."""

    def data(split: str) -> PreferenceData:
        return PreferenceData("tests", split, list(pairs), {"read": len(pairs)}, [], fingerprint(pairs))

    folders = Folders(folder, folder / f".{name}.work", cache)
    machine = Machine(torch.device("cpu"), "fp32" if recipe.precision == "auto" else recipe.precision)

    def labelled(split: str) -> list[LabelledResponse]:
        sides = both_sides(pairs)
        given = [side.desirable for side in sides] if labels is None else labels
        return [side._replace(desirable=label) for side, label in zip(sides, given, strict=True)]

    return Stage(name, recipe, 0, folders, data, labelled, machine, Reporting(Progress(quiet=True)))


def call(*words: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module", autouse=True)
def undrawn(plot_training_curve: Callable[..., None]) -> None:
    """No stage that is trained here draws its curve."""


@pytest.fixture
def first_step(
    policy_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> FirstStep:
    """Runs a stage for one step over all pairs. Gives the logged loss with the gradients, and the stage's result, whose
    weights are those that it began with: the optimiser takes no step. In float64 with `double`."""

    def run(
        name: str,
        *,
        pairs: list[PreferencePair] = PAIRS,
        sft: Path = policy_folder,
        cache: Path | None = None,
        double: bool = False,
        labels: Sequence[bool] | None = None,
        **section: Any,
    ) -> tuple[Graded, StageResult]:
        recipe = Recipe.model_validate(
            {
                "precision": "fp32",
                "data": {"source": "tests", "max_prompt_tokens": 60, "max_response_tokens": 60},
                name: {"warmup_ratio": 0.0, "batch_size": len(pairs), "micro_batch_size": 4, "epochs": 1, **section},
            }
        )
        folder = tmp_path_factory.mktemp("run")
        for parent in ("base", "sft"):
            (folder / parent).symlink_to(sft)
        stage = stage_in(folder, name, recipe, pairs, cache=cache, labels=labels)
        losses: list[float] = []
        gradients: dict[int, Tensor] = {}

        def keep(self: Optimizer, *, where: str) -> float:
            gradients.update({id(p): p.grad.clone() for p in self.parameters if p.grad is not None})
            for part in self.parts:
                part.zero_grad(set_to_none=True)
            return 0.0

        def spy(self: Loop, row: dict[str, float], **counts: int) -> None:
            losses.extend([row["loss"]] if "loss" in row else [])
            log(self, row, **counts)

        module = "kto_unpaired" if section.get("loss") == "kto_unpaired" else name
        trainer, log = importlib.import_module(f"trainers.{module}"), Loop.log
        with monkeypatch.context() as patch:
            patch.setattr(Optimizer, "step", keep)
            patch.setattr(Loop, "log", spy)
            if double:
                patch.setattr(models, "load_policy", lambda *a, **k: load_policy(*a, **k, dtype=torch.float64))
                torch.set_default_dtype(torch.float64)
            try:
                result = trainer.train(stage)
            finally:
                torch.set_default_dtype(torch.float32)
        assert len(losses) == 1
        named = {n: gradients[id(p)] for n, p in result.trained.model.named_parameters() if id(p) in gradients}
        return Graded(losses[0], named), result

    return run


@pytest.fixture(scope="module")
def reference_folder(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the policy's shape."""
    path = tmp_path_factory.mktemp("models") / "reference"
    model = new_gpt2(tokenizer, layers=2, heads=2, width=32, positions=128, seed=7)
    scale_matrices(model, 6.0)  # far from uniform, so that KTO's KL is not clamped
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def under_the_reference(reference_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Pair]]:
    """Our DPO with another reference than the weights it starts from; the pairs of KTO's KL, as they were requested."""
    other = LogprobModel(load_policy(reference_folder)[0])
    pair_logps, mismatched_kl = reference.pair_logps, kto.mismatched_kl
    asked: list[Sequence[Pair]] = []

    def kl(trainer: PairTrainer, frozen: Any, pairs: Sequence[Pair]) -> Tensor:
        asked.append(pairs)
        return mismatched_kl(trainer, other.to(torch.get_default_dtype()), pairs)

    def under_other(policy: Any, pairs: Sequence[Pair], pad: int) -> PairLogps:
        return pair_logps(other.to(torch.get_default_dtype()), pairs, pad)

    monkeypatch.setattr(reference, "pair_logps", under_other)
    monkeypatch.setattr(kto, "mismatched_kl", kl)
    return asked


def llama() -> Any:
    """A Llama of 2 layers and width 32 in float64, its weights large enough that mistakes show."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()
