"""Peak memory of one process that takes one SFT step, 16 rows of 256 tokens in one micro-batch, fp32.

    python benchmarks/activation_memory.py MODEL keep
    python benchmarks/activation_memory.py MODEL recompute

MODEL is a folder or a hub name. `recompute` is gradient_checkpointing. Both print the same gradient norm.
"""

from __future__ import annotations

import resource
import sys

import torch

from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import Encoded, collate
from trainers.config.recipe import SftConfig
from trainers.engine.models import checkpoint_layers
from trainers.engine.optim import make_optimizer
from trainers.losses.language_model import nll_loss

ROWS, PROMPT, RESPONSE = 16, 128, 128


def main(path: str, how: str) -> None:
    model, tokenizer = load_policy(path, device=torch.device("cpu"))
    if how == "recompute":
        checkpoint_layers(model, "sft")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(tokenizer), (ROWS, PROMPT + RESPONSE), generator=generator).tolist()
    batch = collate([Encoded(row[:PROMPT], row[PROMPT:]) for row in ids], pad_id=tokenizer.pad_token_id)
    optimizer = make_optimizer(SftConfig(), [(model.named_parameters(), 1e-4)])
    nll_loss(LogprobModel(model)(batch).logps, batch.response_mask, tokens=ROWS * RESPONSE).backward()
    norm = optimizer.step(where="the only step")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts it in KiB
    print(f"{how}: peak {peak:.2f} GiB, gradient norm {norm:.9g}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in ("keep", "recompute"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
