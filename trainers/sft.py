"""Supervised fine-tuning on the chosen responses (arXiv:2203.02155)."""

from __future__ import annotations

from rlhf_bench.logprobs import LogprobModel
from rlhf_bench.models import load_policy
from rlhf_bench.text import Encoded, count_truncated, encode
from rlhf_bench.types import PreferencePair
from trainers.batches import Order, count_steps
from trainers.language_model import evaluate_nll, nll_step
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config, data = stage.recipe.sft, stage.recipe.data
    whole = config.loss_on == "sequence"
    model, tokenizer = load_policy(stage.parent("base"), device=stage.device)
    policy = LogprobModel(model)

    def rows_of(pairs: list[PreferencePair]) -> list[Encoded]:
        return encode(
            tokenizer, [p.prompt for p in pairs], [p.chosen for p in pairs],
            max_prompt=data.max_prompt_tokens, max_response=data.max_response_tokens,
        )  # fmt: skip

    rows, held_out = rows_of(stage.pairs("train")), rows_of(stage.pairs("validation", config.eval_size))
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)])
    steps = count_steps(len(rows), config.batch_size, config.epochs, config.max_steps)
    order = Order([row.length for row in rows], config.batch_size, seed=stage.seed)
    pad = tokenizer.pad_token_id
    loop = stage.loop(
        config, steps=steps, modules={"policy": model}, optimizer=optimizer,
        evaluate=lambda: evaluate_nll(policy, held_out, pad, whole_sequence=whole),
    )  # fmt: skip
    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        nll_step(stage, policy, optimizer, config, [rows[i] for i in order[step]], pad, loop, whole_sequence=whole)
    return StageResult.of(model, tokenizer, loop, count_truncated(rows))
