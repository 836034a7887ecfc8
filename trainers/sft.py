"""Supervised fine-tuning on the chosen responses, or on demonstrations of a source of their own (arXiv:2203.02155)."""

from __future__ import annotations

from rlhf_bench.data.demonstrations import Demonstrations
from trainers.engine.models import load_trained_policy
from trainers.engine.stage import Stage, StageResult
from trainers.language_model import encode, fit


def train(stage: Stage) -> StageResult:
    config, data = stage.recipe.sft, stage.recipe.data
    trained = load_trained_policy(stage, config, stage.parent("base"))
    whole = config.loss_on == "sequence"
    if config.source is None:
        rows, held_out = (
            encode(stage, trained.tokenizer, [(pair.prompt, pair.chosen) for pair in pairs])
            for pairs in (stage.pairs("train"), stage.pairs("validation", config.eval_size))
        )
        return fit(stage, config, trained, rows, held_out, whole_sequence=whole)
    shown = Demonstrations(config.source, seed=data.seed, skip_bad=data.skip_bad)
    rows, held_out = (
        encode(stage, trained.tokenizer, [(one.prompt, one.response) for one in found])
        for found in (shown.split("train"), shown.split("validation")[: config.eval_size])
    )
    left_out = f", {shown.empty:,} rows without a prompt or a response are left out" if shown.empty else ""
    left_out += f", {shown.undesirable:,} undesirable responses are left out" if shown.undesirable else ""
    stage.log(f"{len(rows):,} demonstrations of {config.source}{left_out}")
    result = fit(stage, config, trained, rows, held_out, whole_sequence=whole)
    result.record["demonstrations"] = {
        "source": config.source, "fingerprint": shown.fingerprint, "rows": len(rows), "empty": shown.empty,
    }  # fmt: skip
    return result
