"""Work and memory of each stage, from the recipe, the model's shape and the length of the data's texts.

Estimates, to see whether a run takes minutes or days and whether it fits: a rollout's responses count at their longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trainers.config.optimizer import OptimizerConfig, TunedConfig
from trainers.config.recipe import DpoConfig, GrpoConfig, NewModel, PpoConfig, Recipe, RolloutConfig
from trainers.engine.batches import count_steps
from trainers.losses.preference import PREFERENCE_LOSSES

# Bytes a parameter: fp32 weight; with its gradient and AdamW's two moments.
FROZEN, TRAINED = 4, 16
ACTIVATION = {"fp32": 68, "bf16": 34}  # bytes a token, layer and unit of width (arXiv:2205.05198, table 2, no scores)
LOGITS = 12  # bytes a token and entry of the vocabulary: logits, their log-softmax and its gradient in fp32


class Shape(NamedTuple):
    """A model's size."""

    parameters: int
    layers: int
    width: int
    vocabulary: int


class Lengths(NamedTuple):
    """Mean tokens of the data's texts after the cuts."""

    prompt: float
    response: float


class Work(NamedTuple):
    """What a stage computes, in tokens; one row is a document, a pair or a response."""

    steps: int
    rows: int  # over all steps
    trained: float  # tokens through a forward and a backward pass
    read: float  # tokens through a forward pass alone
    drawn: float  # tokens sampled

    @property
    def tokens(self) -> float:
        return self.trained + self.read + self.drawn


class Rates(NamedTuple):
    """Tokens a second of one machine."""

    trained: float
    read: float
    drawn: float

    def hours(self, work: Work) -> float:
        return (work.trained / self.trained + work.read / self.read + work.drawn / self.drawn) / 3600


def stage_work(recipe: Recipe, stage: str, pairs: int, lengths: Lengths) -> Work:
    """What `stage` computes on so many training pairs, or single rows where it learns from these."""
    config = getattr(recipe, stage)
    if stage == "base" and not isinstance(recipe.model, NewModel):
        return Work(0, 0, 0.0, 0.0, 0.0)
    if isinstance(config, RolloutConfig):
        return _rollout_work(recipe, config, lengths)
    available = {"base": 2 * pairs, "dpo": min(pairs, recipe.dpo.max_pairs or pairs)}.get(stage, pairs)
    steps = count_steps(available, config.batch_size, config.epochs, config.max_steps)
    unpaired = stage == "dpo" and recipe.dpo.loss == "kto_unpaired"
    rows, sides = steps * config.batch_size, 2 if stage in ("reward", "dpo") and not unpaired else 1
    row = sides * (lengths.prompt + lengths.response)
    read = _reference_reads(recipe.dpo, rows, available) * row if stage == "dpo" else 0.0
    return Work(steps, rows, rows * row, read, 0.0)


class TimeLeft:
    """Stages that were trained set the pace for the others; those that were complete already count for nothing."""

    def __init__(self, recipe: Recipe, jobs: Sequence[str]) -> None:
        self.recipe, self.left = recipe, list(jobs)
        self.work = self.seconds = 0.0

    def done(self, stage: str, seconds: float, *, pairs: int) -> float | None:
        """Seconds for the rest, once `stage`, the next of the jobs, has taken so many; 0 seconds: it was complete.

        None while nothing is known. `pairs`: of the training split.
        """
        self.left.remove(stage)
        if seconds:
            self.seconds += seconds
            self.work += self._passes(stage, pairs)
        if not self.work:
            return None
        return self.seconds / self.work * sum(self._passes(name, pairs) for name in self.left)

    def _passes(self, stage: str, pairs: int) -> float:
        """Tokens through a forward pass, of texts at their longest: a backward pass is two, a token drawn is four."""
        limits = Lengths(self.recipe.data.max_prompt_tokens, self.recipe.data.max_response_tokens)
        rows = 2 * pairs if stage == "dpo" and self.recipe.dpo.loss == "kto_unpaired" else pairs
        work = stage_work(self.recipe, stage, rows, limits)
        return 3 * work.trained + work.read + 4 * work.drawn


def _reference_reads(config: DpoConfig, rows: int, available: int) -> int:
    """Rows read without a gradient: under the reference, once; KTO's KL under both models, at every step."""
    if config.loss == "kto_unpaired":
        return 3 * rows
    once = min(rows, available) if PREFERENCE_LOSSES[config.loss].needs_reference else 0
    return once + (2 * rows if config.loss == "kto" else 0)


def _rollout_work(recipe: Recipe, config: RolloutConfig, lengths: Lengths) -> Work:
    """Rollouts are drawn, and read by reference, reward model, the policy that drew them and the critic where they are
    needed; policy and critic train on them once an epoch."""
    rows = config.steps * config.batch_size * (config.num_generations if isinstance(config, GrpoConfig) else 1)
    response = config.max_response_tokens or recipe.data.max_response_tokens
    length = min(lengths.prompt, config.max_prompt_tokens or lengths.prompt) + response
    critic = isinstance(config, PpoConfig) and config.advantage != "reward"
    own_critic = isinstance(config, PpoConfig) and critic and config.critic != "shared"
    passes = 3 + critic  # reference, reward model, policy
    return Work(
        config.steps, rows, rows * length * config.epochs * (1 + own_critic), float(rows * length * passes),
        float(rows * response),
    )  # fmt: skip


def peak_memory(recipe: Recipe, stage: str, shape: Shape, precision: str) -> float:
    """Bytes at the peak: weights, gradients, optimiser, frozen models, and one micro-batch of the longest rows."""
    config: OptimizerConfig = getattr(recipe, stage)
    if stage == "base" and not isinstance(recipe.model, NewModel):
        return float(FROZEN * shape.parameters)
    adapter = config.lora if isinstance(config, TunedConfig) else None
    # an adapter of rank r: A and B of each of some 6 layers' matrices
    learned = shape.parameters if adapter is None else 12 * shape.layers * shape.width * adapter.r
    models = FROZEN * shape.parameters + (TRAINED - FROZEN if adapter is None else TRAINED) * learned
    if isinstance(config, RolloutConfig):
        models += 2 * FROZEN * shape.parameters  # reference and reward model
    if isinstance(config, DpoConfig) and config.loss in ("kto", "kto_unpaired"):
        models += FROZEN * shape.parameters  # its reference stays in memory
    if isinstance(config, PpoConfig) and config.advantage != "reward" and config.critic != "shared":
        models += FROZEN * shape.parameters + (TRAINED - FROZEN if adapter is None else TRAINED) * learned
    tokens = config.micro_batch_size * (recipe.data.max_prompt_tokens + recipe.data.max_response_tokens)
    kept = 4 if config.gradient_checkpointing else ACTIVATION[precision]
    return float(models + tokens * (shape.layers * shape.width * kept + LOGITS * shape.vocabulary))
