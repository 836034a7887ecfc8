"""How long the stages that are still to be trained may take, from the time that the earlier ones took."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_bench.types import STAGES
from trainers.config.recipe import NewModel, Recipe, RolloutConfig
from trainers.engine.batches import count_steps

# In forward passes over one sequence; a backward pass counts as two. A rollout samples (some four), scores and reads
# the reference; PPO reads its critic as well.
TRAINED, ROLLOUT, CRITIC = 3.0, 6.0, 1.0


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
            self.work += stage_work(self.recipe, stage, pairs)
        if not self.work:
            return None
        return self.seconds / self.work * sum(stage_work(self.recipe, name, pairs) for name in self.left)


def stage_work(recipe: Recipe, stage: str, pairs: int) -> float:
    """Forward passes over a sequence, roughly."""
    assert stage in STAGES
    config = getattr(recipe, stage)
    if stage == "base" and not isinstance(recipe.model, NewModel):
        return 0.0
    if isinstance(config, RolloutConfig):
        samples = config.batch_size * getattr(config, "num_generations", 1)
        critic = CRITIC + TRAINED * config.epochs if stage == "ppo" else 0.0
        return config.steps * samples * (ROLLOUT + TRAINED * config.epochs + critic)
    rows = {"base": 2 * pairs, "dpo": min(pairs, recipe.dpo.max_pairs or pairs)}.get(stage, pairs)
    steps = count_steps(rows, config.batch_size, config.epochs, config.max_steps)
    sides = 2 if stage in ("reward", "dpo") else 1
    return float(steps * config.batch_size * sides * (TRAINED + (stage == "dpo")))
