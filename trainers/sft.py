"""Supervised fine-tuning on the chosen responses, or on demonstrations of a source of their own (arXiv:2203.02155)."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlhf_bench.data.demonstrations import Demonstrations
from rlhf_bench.modeling.tokens import Encoded
from rlhf_bench.types import PreferencePair
from trainers.engine.batches import encode_rows
from trainers.engine.models import load_trained_policy
from trainers.engine.stage import Stage, StageResult
from trainers.language_model import fit

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config, data = stage.recipe.sft, stage.recipe.data
    trained = load_trained_policy(stage, config, stage.parent("base"))
    whole = config.loss_on == "sequence"
    if config.source is None:
        rows = chosen_rows(stage, trained.tokenizer, stage.pairs("train"))
        held_out = chosen_rows(stage, trained.tokenizer, stage.pairs("validation", config.eval_size))
        return fit(stage, config, trained, rows, held_out, whole_sequence=whole)
    shown = Demonstrations(config.source, seed=data.seed, skip_bad=data.skip_bad)
    rows = demonstrated_rows(stage, trained.tokenizer, shown, "train")
    held_out = demonstrated_rows(stage, trained.tokenizer, shown, "validation")[: config.eval_size]
    left_out = f", {shown.empty:,} rows without a prompt or a response are left out" if shown.empty else ""
    left_out += f", {shown.undesirable:,} undesirable responses are left out" if shown.undesirable else ""
    stage.log(f"{len(rows):,} demonstrations of {config.source}{left_out}")
    result = fit(stage, config, trained, rows, held_out, whole_sequence=whole)
    result.record["demonstrations"] = {
        "source": config.source, "fingerprint": shown.fingerprint, "rows": len(rows), "empty": shown.empty,
    }  # fmt: skip
    return result


def chosen_rows(stage: Stage, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]) -> list[Encoded]:
    return encode_rows(stage.recipe, tokenizer, [p.prompt for p in pairs], [p.chosen for p in pairs])


def demonstrated_rows(
    stage: Stage, tokenizer: PreTrainedTokenizerBase, shown: Demonstrations, split: str
) -> list[Encoded]:
    found = shown.split(split)
    return encode_rows(stage.recipe, tokenizer, [one.prompt for one in found], [one.response for one in found])
