"""What a stage is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.data import LabelledResponse, PreferenceData
from rlhf_bench.errors import CheckpointError
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.types import PreferencePair
from trainers.config.optimizer import OptimizerConfig
from trainers.config.recipe import Recipe
from trainers.engine.lora import Adapter
from trainers.engine.machine import Machine


def steps_folder(stage: Path) -> Path:
    """Where the checkpoints on the way to a stage's folder are."""
    return stage.with_name(f"{stage.name}-steps")


def step_checkpoint(stage: Path, step: int) -> Path:
    """The checkpoint after `step` on the way to a stage's folder."""
    return steps_folder(stage) / f"checkpoint-{step}"


class Folders(NamedTuple):
    run: Path  # holds the finished stages of this seed
    work: Path  # log and states while the stage trains
    cache: Path | None = None  # holds what can be computed again; None: nothing is kept


class Reporting(NamedTuple):
    """How a stage reports on itself while it trains."""

    progress: Progress
    trackers: tuple[str, ...] = ()  # by name
    stop_on_alarm: bool = False


@dataclass
class Stage:
    """One stage of one seed: its recipe, its parents' folders, its data and the machine to train it on."""

    name: str
    recipe: Recipe
    seed: int
    folders: Folders
    data: Callable[[str], PreferenceData]  # by split, loaded once for all stages
    labelled: Callable[[str], list[LabelledResponse]]  # by split: single responses, a pair is two of them
    machine: Machine
    reporting: Reporting

    @property
    def config(self) -> OptimizerConfig:
        """The stage's own section of the recipe."""
        return cast(OptimizerConfig, getattr(self.recipe, self.name))

    @property
    def writer(self) -> Writer:
        return Writer(self.machine.processes)

    def parent(self, name: str) -> Path:
        return self.folders.run / name

    @property
    def start(self) -> Path:
        """What the policy starts from, which is its reference."""
        return self.parent(self.recipe.start)

    @property
    def reward_model(self) -> Path:
        """The reward model of this run, or its checkpoint that `reward.checkpoint` names. Raises CheckpointError."""
        finished, step = self.parent("reward"), self.recipe.reward.checkpoint
        if step is None:
            return finished
        path = step_checkpoint(finished, step)
        if not path.is_dir():
            raise CheckpointError(
                f"reward.checkpoint={step}: {path} is not there; expected a step that reward.save_steps saved, or the "
                "last: train reward again with --force, or give another step"
            )
        return path

    def pairs(self, split: str, limit: int | None = None) -> list[PreferencePair]:
        return self.data(split).pairs[:limit]

    def log(self, line: str) -> None:
        """One line for the user that begins with the stage's name."""
        self.reporting.progress.log(f"{self.name}: {line}")


class Trained(NamedTuple):
    """A model that a stage trains, and what is saved beside it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: Adapter | None = None  # is saved in the model's place


@dataclass
class StageResult:
    """A trained model and what training.json records of it."""

    trained: Trained
    metrics: dict[str, float] = field(default_factory=dict)
    samples: int = 0  # documents, pairs or responses seen
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # rows cut or dropped
    record: dict[str, Any] = field(default_factory=dict)  # more for training.json, by its name there
    weights: dict[str, Tensor] | None = None  # gathered, of a model that is sharded over processes
