"""Supervised fine-tuning on the chosen responses (arXiv:2203.02155)."""

from __future__ import annotations

from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import Encoded
from rlhf_bench.types import PreferencePair
from trainers.language_model import fit
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.sft
    base = stage.parent("base")
    model, tokenizer = load_policy(base, device=stage.device, load_in_4bit=config.load_in_4bit)
    adapter = stage.make_trainable(model, config, base)

    def rows_of(pairs: list[PreferencePair]) -> list[Encoded]:
        return stage.encode(tokenizer, [p.prompt for p in pairs], [p.chosen for p in pairs])

    rows, held_out = rows_of(stage.pairs("train")), rows_of(stage.pairs("validation", config.eval_size))
    whole = config.loss_on == "sequence"
    return fit(stage, config, model, tokenizer, rows, held_out, whole_sequence=whole, adapter=adapter)
