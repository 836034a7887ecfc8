"""What a stage is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.data import PreferenceData
from rlhf_bench.errors import DataError
from rlhf_bench.modeling.models import autocast, best_precision
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import Encoded, collate, count_truncated, encode
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.pool import Pool
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.types import PreferencePair
from trainers.compiling import compile_backbone
from trainers.gradient_checkpointing import checkpoint_layers
from trainers.loop import Loop
from trainers.lora import Adapter, adapt
from trainers.recipe import OptimizerConfig, Recipe, TunedConfig
from trainers.states import check_same_weights, gathered_weights
from trainers.step_checkpoints import StepCheckpoints
from trainers.tracking import Tracking

__all__ = ["EncodedPairs", "Stage", "StageResult"]

Root = TypeVar("Root", bound=nn.Module)


class EncodedPairs(NamedTuple):
    """Preference pairs as tokens, those left out that are equal after truncation."""

    pairs: list[tuple[Encoded, Encoded]]  # chosen, rejected
    margins: list[float | None]  # the data's own, one a pair; None where it has none
    counts: dict[str, int]  # of rows cut or dropped


@dataclass
class Stage:
    """Everything one stage of one seed needs: the recipe, its data, its parents' folders and where to work."""

    name: str
    recipe: Recipe
    seed: int
    folder: Path  # holds the finished stages of this seed
    work: Path  # log and states while training
    progress: Progress
    data: Callable[[str], PreferenceData]  # by split, loaded once for all stages
    device: torch.device
    processes: Processes = ALONE
    pool: Pool = field(default_factory=lambda: Pool(None, 1))
    cache: Path | None = None  # holds what can be computed again and need not be; None: nowhere
    stop_on_alarm: bool = False
    fsdp: bool = False  # models are divided over the processes
    report_to: tuple[str, ...] = ()  # trackers, by name

    @property
    def precision(self) -> str:
        return best_precision(self.device) if self.recipe.precision == "auto" else self.recipe.precision

    def autocast(self) -> Any:
        return autocast(self.precision, self.device)

    def parent(self, name: str) -> Path:
        return self.folder / name

    def pairs(self, split: str, limit: int | None = None) -> list[PreferencePair]:
        return self.data(split).pairs[:limit]

    def make_trainable(self, model: PreTrainedModel, config: TunedConfig, base: str | Path) -> Adapter | None:
        """An adapter, checkpointed and compiled layers, in place, where `config` asks for them; `model` was loaded from
        `base`.

        Raises BadValue and ModelError as `adapt` and `checkpoint_layers` do.
        """
        adapter = adapt(model, config.lora, base, seed=self.seed, section=self.name)
        self.prepare(model, config)
        return adapter

    def prepare(self, model: PreTrainedModel, config: OptimizerConfig) -> None:
        """Checkpointed and compiled layers, in place, where `config` asks for them. Raises ModelError."""
        if config.gradient_checkpointing:
            checkpoint_layers(model, self.name)
        self.compile(model, config)

    def compile(self, model: PreTrainedModel, config: OptimizerConfig) -> None:
        """Compiled layers, in place, where `config` asks for them: of a frozen model too, or a policy that is still its
        reference would differ from it."""
        if config.compile:
            data = self.recipe.data
            width = data.max_prompt_tokens + data.max_response_tokens
            compile_backbone(model, rows=config.micro_batch_size, width=width)

    def divide(self, root: Root) -> Root:
        """What training calls, its models divided over the processes where the stage is asked to; before an optimiser
        is made. Raises ModelError where processes hold different weights."""
        if self.fsdp:
            check_same_weights(self.processes, {"model": root}, where=self.name)
        example = collate([Encoded([0], [0])], pad_id=0).to(self.device)
        return self.pool.divide(root, example)

    def template(self, tokenizer: PreTrainedTokenizerBase) -> Template:
        """The form of the prompts. Raises ModelError where the tokenizer does not have it."""
        name = self.recipe.model if isinstance(self.recipe.model, str) else "the model"
        return Template.of(self.recipe.data.prompt_template, tokenizer, name=name)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], responses: Sequence[str]
    ) -> list[Encoded]:
        """Prompts and responses of the data in the recipe's form, as tokens, within the recipe's limits."""
        data, template = self.recipe.data, self.template(tokenizer)
        return encode(
            tokenizer, [template.prompt(p) for p in prompts], [template.response(r) for r in responses],
            max_prompt=data.max_prompt_tokens, max_response=data.max_response_tokens,
        )  # fmt: skip

    def encode_pairs(self, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair]) -> EncodedPairs:
        """Chosen and rejected of each pair as tokens; what is equal after truncation is dropped and counted.

        Raises DataError where nothing is left.
        """
        prompts = [p.prompt for p in pairs]
        chosen, rejected = (
            self.encode(tokenizer, prompts, side) for side in ([p.chosen for p in pairs], [p.rejected for p in pairs])
        )
        kept = [i for i, (w, r) in enumerate(zip(chosen, rejected, strict=True)) if w.response != r.response]
        if pairs and not kept:
            raise DataError(
                f"{self.name}: all {len(pairs):,} pairs of {self.data('train').source} have equal responses once they "
                f"are cut to data.max_response_tokens={self.recipe.data.max_response_tokens}, expected one that "
                "differs; raise it, or give other data"
            )
        counts = count_truncated([*chosen, *rejected]) | {"equal_after_truncation": len(pairs) - len(kept)}
        return EncodedPairs([(chosen[i], rejected[i]) for i in kept], [pairs[i].margin for i in kept], counts)

    def loop(
        self,
        config: OptimizerConfig,
        *,
        modules: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        adapter: Adapter | None = None,
        **arguments: Any,
    ) -> Loop:
        """The first of `modules` is what the stage becomes; `tokenizer` and `adapter` are its own."""
        checkpoints = StepCheckpoints(
            self.folder / self.name, self.seed, config.save_steps, config.save_total_limit,
            next(iter(modules.values())), tokenizer, adapter, self.recipe.data.prompt_template,
        )  # fmt: skip
        tracking = Tracking(self.report_to, self.folder, self.name, config.model_dump(mode="json"), self.progress)
        return Loop(
            self.name, self.work, config, self.progress, modules=modules, checkpoints=checkpoints, tracking=tracking,
            save_seconds=self.recipe.save_seconds, stop_on_alarm=self.stop_on_alarm, processes=self.processes,
            **arguments,
        )  # fmt: skip


@dataclass
class StageResult:
    """A trained model, and what training.json will say of it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    metrics: dict[str, float] = field(default_factory=dict)
    samples: int = 0  # documents, pairs or responses seen
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # rows cut or dropped
    record: dict[str, Any] = field(default_factory=dict)  # more for training.json, by its name there
    adapter: Adapter | None = None  # saved in the model's place
    weights: dict[str, Tensor] | None = None  # gathered, of a model that is divided over processes

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        loop: Loop,
        counts: dict[str, int],
        record: dict[str, Any] | None = None,
        adapter: Adapter | None = None,
    ) -> StageResult:
        return cls(
            model, tokenizer, loop.final, loop.samples, loop.tokens, loop.seconds, loop.steps, counts, record or {},
            adapter, gathered_weights(model),
        )  # fmt: skip
