"""Supervised fine-tuning on the chosen responses (arXiv:2203.02155)."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlhf_bench.modeling.tokens import Encoded
from rlhf_bench.types import PreferencePair
from trainers.engine.batches import encode_rows
from trainers.engine.models import load_trained_policy
from trainers.engine.stage import Stage, StageResult
from trainers.language_model import fit

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.sft
    trained = load_trained_policy(stage, config, stage.parent("base"))
    rows = chosen_rows(stage, trained.tokenizer, stage.pairs("train"))
    held_out = chosen_rows(stage, trained.tokenizer, stage.pairs("validation", config.eval_size))
    return fit(stage, config, trained, rows, held_out, whole_sequence=config.loss_on == "sequence")


def chosen_rows(stage: Stage, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]) -> list[Encoded]:
    return encode_rows(stage.recipe, tokenizer, [p.prompt for p in pairs], [p.chosen for p in pairs])
