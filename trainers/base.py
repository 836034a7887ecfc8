"""The base model: next-token prediction on whole dialogues, good and bad.

With a pretrained model in the recipe nothing is trained: base is an untouched copy.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from rlhf_bench.logprobs import LogprobModel
from rlhf_bench.models import load_policy, new_gpt2, train_tokenizer
from rlhf_bench.text import Encoded, encode
from rlhf_bench.types import PreferencePair
from trainers.batches import Order, count_steps
from trainers.language_model import evaluate_nll, nll_step
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.recipe import NewModel
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    spec, config = stage.recipe.model, stage.recipe.base
    if not isinstance(spec, NewModel):
        model, tokenizer = load_policy(spec, device=stage.device)
        return StageResult(model, tokenizer)

    pairs = stage.pairs("train")
    tokenizer = train_tokenizer(_documents(pairs), vocab_size=spec.vocab_size)
    rows = _encode(stage, tokenizer, pairs)
    held_out = _encode(stage, tokenizer, stage.pairs("validation", config.eval_size))
    model = new_gpt2(
        tokenizer, layers=spec.n_layer, heads=spec.n_head, width=spec.n_embd, positions=spec.n_positions,
        seed=stage.seed,
    ).to(stage.device)  # fmt: skip
    policy = LogprobModel(model)
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)])

    steps = count_steps(len(rows), config.batch_size, config.epochs, config.max_steps)
    order = Order([row.length for row in rows], config.batch_size, seed=stage.seed)
    pad = tokenizer.pad_token_id
    loop = stage.loop(
        config, steps=steps, modules={"policy": model}, optimizer=optimizer,
        evaluate=lambda: evaluate_nll(policy, held_out, pad, whole_sequence=True),
    )  # fmt: skip
    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        nll_step(stage, policy, optimizer, config, [rows[i] for i in order[step]], pad, loop, whole_sequence=True)
    return StageResult.of(model, tokenizer, loop, {})


def _documents(pairs: list[PreferencePair]) -> list[str]:
    """Each dialogue with each of its responses, once."""
    return list(dict.fromkeys(p.prompt + response for p in pairs for response in (p.chosen, p.rejected)))


def _encode(stage: Stage, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair]) -> list[Encoded]:
    texts = list(dict.fromkeys((p.prompt, response) for p in pairs for response in (p.chosen, p.rejected)))
    data = stage.recipe.data
    return encode(
        tokenizer, [p for p, _ in texts], [r for _, r in texts],
        max_prompt=data.max_prompt_tokens, max_response=data.max_response_tokens,
    )  # fmt: skip
