"""One optimiser step of the language-model stages on hh-mini, four ways, in turn: ms a step, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from rlhf_bench.data import load_preferences
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import autocast, new_gpt2
from rlhf_bench.modeling.tokenizers import train_tokenizer
from rlhf_bench.modeling.tokens import Encoded, collate, encode
from rlhf_bench.runtime.pool import Pool, worker_pool
from trainers.config.loading import load_recipe
from trainers.engine.batches import Order
from trainers.engine.optim import make_optimizer
from trainers.losses.language_model import nll_loss

ROUNDS, STEPS = 5, 12


def main() -> None:
    recipe = load_recipe("mini")
    spec, config = recipe.model, recipe.base
    assert not isinstance(spec, str)
    pairs = load_preferences("hh-mini", "train").pairs[:4000]
    tokenizer = train_tokenizer([p.prompt + p.chosen for p in pairs], vocab_size=spec.vocab_size)
    rows = encode(tokenizer, [p.prompt for p in pairs], [p.chosen for p in pairs], max_prompt=128, max_response=64)
    model = new_gpt2(tokenizer, layers=spec.n_layer, heads=spec.n_head, width=spec.n_embd, positions=256, seed=0)
    policy, device = LogprobModel(model), torch.device("cpu")
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)])
    order = Order([row.length for row in rows], config.batch_size, seed=0)

    def run(pool: Pool, precision: str) -> float:
        optimizer.pool = pool
        began = time.perf_counter()
        for step in range(STEPS):
            batch_rows = [rows[i] for i in order[step]]
            tokens = sum(row.length - 1 for row in batch_rows)

            def forward(part: list[Encoded], tokens: int = tokens) -> tuple[torch.Tensor, dict[str, float]]:
                batch = collate(part, pad_id=tokenizer.pad_token_id)
                with autocast(precision, device):
                    out = policy(batch, whole_sequence=True)
                return nll_loss(out.logps, batch.attention_mask, tokens=tokens), {}

            pool.accumulate(forward, pool.split(batch_rows, config.micro_batch_size), optimizer.parameters)  # type: ignore[arg-type]
            optimizer.step(where="benchmark")
        return (time.perf_counter() - began) / STEPS * 1000

    def plain(precision: str) -> float:
        return run(Pool(None, 1), precision)

    def side_by_side(precision: str) -> float:
        with worker_pool(1, device) as pool:
            return run(pool, precision)

    ways: dict[str, Callable[[], float]] = {
        f"{name}, {precision}": (lambda way=way, precision=precision: way(precision))  # type: ignore[misc]
        for name, way in (("torch's threads", plain), ("side by side", side_by_side))
        for precision in ("fp32", "bf16")
    }
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(way())
    first = statistics.median(times["torch's threads, fp32"])
    print(
        f"{torch.get_num_threads()} threads, batches of {config.batch_size} dialogues, {ROUNDS} rounds of {STEPS} steps"
    )
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:24} {median:7.1f} ms a step   {first / median:4.2f} x")


if __name__ == "__main__":
    main()
