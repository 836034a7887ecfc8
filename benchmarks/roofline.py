"""What share of the processor's matrix peak each stage of training reaches, and the tokens a second of sampling.

    python benchmarks/roofline.py                       # the default recipe, shortened
    python benchmarks/roofline.py --model gpt2-124M     # 4 texts, pairs, or 8 responses a step; add --precision bf16

The peak is measured in the same process before and after each stage, since a processor's speed changes: the fastest of
some large matrix products, and of both measurements the mean. A stage's operations are those of
its tokens: no padding, each distinct prefix of a batch once, backward twice the forward, optimiser and everything that
is not a matrix product counted as nothing. A second share does not count what the last layer leaves out, for tokens
whose hidden state is not read. Its time is that of its steps from the third to the last but one, which ends in an
evaluation: optimiser, reference, rewards and logging included, without start-up and sampling. DPO's reference, which is
computed before the first step, is left out of both.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from sizes import MODELS, make_pairs, options, peak, write_inputs
from torch import Tensor

from rlhf_bench.modeling import logprobs, reward_model
from rlhf_bench.modeling.heads import backbone_of
from rlhf_bench.modeling.last_layer import can_leave_out, parts_of_last_layer
from rlhf_bench.modeling.models import best_precision, default_device, load_policy
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.modeling.tokens import Batch
from rlhf_bench.modeling.tree_attention import cost_of_tree
from rlhf_bench.types import Prompt
from trainers.engine import critic
from trainers.engine.loop import Loop
from trainers.engine.rollout import RolloutMaker
from trainers.pipeline import train

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SKIPPED = 2  # first steps of a stage
STAGES = ("base", "sft", "reward", "ppo", "grpo", "dpo")
MINI_STEPS = {
    "base.max_steps": 40, "sft.max_steps": 20, "reward.max_steps": 40, "ppo.steps": 6, "grpo.steps": 6,
    "dpo.max_steps": 20,
}  # fmt: skip


@dataclass
class Recorder:
    """What the forward passes of a stage were given, and when its steps ended."""

    passes: list[tuple[Any, Batch, Tensor, bool]] = field(default_factory=list)  # model, batch, read, gradient
    outputs: list[tuple[int, int, bool]] = field(default_factory=list)  # rows, elements of the output layer, gradient
    sampling: float = 0.0
    steps: list[tuple[float, float, int, int]] = field(default_factory=list)  # time, sampling, passes, outputs
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end_step(self) -> None:
        self.steps.append((time.perf_counter(), self.sampling, len(self.passes), len(self.outputs)))

    def share(self, of: float) -> tuple[float, float, float]:
        """Seconds a step without sampling, and the share of the peak `of` that they reach: counting all layers for all
        tokens, and without what the last layer leaves out."""
        (t0, s0, p0, o0), (t1, s1, p1, o1) = self.steps[SKIPPED - 1], self.steps[-2]  # the last one evaluates
        whole, left_out = 0.0, 0.0
        for model, batch, read, grad in self.passes[p0:p1]:
            operations, spared = forward_operations(model, batch, read)
            whole += (3 if grad else 1) * operations
            left_out += (3 if grad else 1) * spared
        whole += sum((3 if grad else 1) * 2 * rows * elements for rows, elements, grad in self.outputs[o0:o1])
        seconds = (t1 - t0) - (s1 - s0)
        return seconds / (len(self.steps) - SKIPPED - 1), whole / seconds / of, (whole - left_out) / seconds / of


def forward_operations(model: Any, batch: Batch, read: Tensor) -> tuple[float, float]:
    """Operations of the matrix products of one pass over the distinct prefixes of a batch, without the output layer;
    and how many of them the last layer leaves out for tokens that are not read."""
    config = model.config
    layers, width = config.num_hidden_layers, config.hidden_size
    seen: dict[tuple[int, int], int] = {}
    contexts, reads = list[int](), set[int]()  # how many tokens each prefix's last attends to; prefixes that are read
    for ids, real, is_read in zip(*(x.tolist() for x in (batch.ids, batch.attention_mask, read)), strict=True):
        node, depth = 0, 0
        for token, counts, needed in zip(ids, real, is_read, strict=True):
            if not counts:
                continue
            depth += 1
            if (node, token) not in seen:
                seen[node, token] = len(seen) + 1
                contexts.append(depth)
            node = seen[node, token]
            reads |= {node} if needed else set()
    weights = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and any(c.isdigit() for c in name))
    parts = parts_of_last_layer(backbone_of(model)) if can_leave_out(model) else []
    of_parts = sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 2)
    spared = 2.0 * (len(seen) - len(reads)) * of_parts
    if parts and cost_of_tree(model) is not None:
        spared += 4.0 * (sum(contexts) - sum(contexts[node - 1] for node in reads)) * width
    return 2.0 * len(seen) * weights + 4.0 * sum(contexts) * width * layers, spared


@contextlib.contextmanager
def watched(recorder: Recorder) -> Iterator[None]:
    """Record what the stages' passes are given, while the block lasts."""
    hidden_states, chunked_logps = logprobs.hidden_states, logprobs.chunked_logps
    end_row, draw = Loop.end_row, RolloutMaker.sample

    def watched_pass(model: Any, batch: Batch, read: Tensor) -> Tensor:
        with recorder.lock:
            recorder.passes.append((model, batch, read, torch.is_grad_enabled()))
        return hidden_states(model, batch, read)

    def watched_output(hidden: Tensor, weight: Tensor, *rest: Any) -> Any:
        with recorder.lock:
            recorder.outputs.append((len(hidden), weight.numel(), torch.is_grad_enabled()))
        return chunked_logps(hidden, weight, *rest)

    def watched_row(loop: Loop) -> Any:
        alarms = end_row(loop)
        recorder.end_step()
        return alarms

    def watched_sampling(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        drawn = draw(*args, **kwargs)
        recorder.sampling += time.perf_counter() - began
        return drawn

    with contextlib.ExitStack() as stack:
        for module in (logprobs, reward_model, critic):
            stack.enter_context(mock.patch.object(module, "hidden_states", watched_pass))
        stack.enter_context(mock.patch.object(logprobs, "chunked_logps", watched_output))
        stack.enter_context(mock.patch.object(Loop, "end_row", watched_row))
        stack.enter_context(mock.patch.object(RolloutMaker, "sample", watched_sampling))
        yield


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="of another model than mini; default: all")
    parser.add_argument("--model", default="mini", choices=list(MODELS))
    parser.add_argument("--precision", choices=list(DTYPES), help="default: bf16 where the hardware is good at it")
    parser.add_argument("--rows", type=int, default=4, help="texts or pairs of a step; not of mini")
    parser.add_argument("--steps", type=int, default=6, help="at least 4; not of mini")
    parser.add_argument("--tokens", type=int, default=48, help="of a sampled response; not of mini")
    given = parser.parse_args()
    if given.steps < SKIPPED + 2:
        parser.error(f"--steps {given.steps}: the first {SKIPPED} and the last are not measured; give at least 4")
    given.precision = given.precision or best_precision(default_device())
    return given


def main() -> None:
    given, device = arguments(__doc__), default_device()
    print(
        f"{given.model}, {given.precision} on {device}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        flush=True,
    )
    before = peak(DTYPES[given.precision], device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for stage, run in stages(given, root).items():
            recorder = Recorder()
            with watched(recorder):
                run()
            after = peak(DTYPES[given.precision], device)
            of, before = (before + after) / 2, after
            seconds, share, done = recorder.share(of)
            rollouts = recorder.sampling / len(recorder.steps)
            also = f", sampling {1000 * rollouts:.0f} ms" if rollouts else ""
            shares = f"{share:4.0%} of {of / 1e9:.0f} GFLOP/s ({done:.0%} done)"
            print(f"{stage:7} {1000 * seconds:8.1f} ms a step, {shares}{also}", flush=True)
        print_sampling(root, given)


def stages(given: argparse.Namespace, root: Path) -> dict[str, Callable[[], Any]]:
    """Each stage, to be run in this order."""
    return mini_stages(given, root) if given.model == "mini" else plain_stages(given, root)


def mini_stages(given: argparse.Namespace, root: Path) -> dict[str, Callable[[], Any]]:
    """The stages of the default recipe, each a few steps long, in the order in which they need each other."""
    overrides = [f"{key}={value}" for key, value in MINI_STEPS.items()]
    overrides += [f"{stage}.eval_every=0" for stage in STAGES] + [f"{stage}.eval_size=32" for stage in STAGES]
    overrides += [f"precision={given.precision}", "save_seconds=1e6"]
    names = ("base", "sft", "reward", "ppo", "grpo", "dpo")
    return {name: lambda name=name: train([name], run="mini", overrides=overrides, root=root) for name in names}


def plain_stages(given: argparse.Namespace, root: Path) -> dict[str, Callable[[], Any]]:
    write_inputs(root, given.model, given.rows * given.steps)
    work = {}
    for stage in given.stages or STAGES[1:]:
        overrides = options(
            root, stage, rows=given.rows, steps=given.steps, samples=4, tokens=given.tokens, precision=given.precision
        )
        work[stage] = lambda stage=stage, overrides=overrides: train(
            [stage], run=stage, overrides=overrides, root=root
        )  # fmt: skip
    return work


def print_sampling(root: Path, given: argparse.Namespace) -> None:
    """Prefill and decoding of 8 prompts, 4 responses each: tokens a second."""
    folder = root / "mini" / "sft" if given.model == "mini" else root / "policy"
    model, tokenizer = load_policy(folder)
    if given.model == "mini":
        from rlhf_bench.data import Reader

        prompts = Reader("hh-mini").load("validation").prompts[:8]
    else:
        prompts = [Prompt(pair.id, pair.prompt) for pair in make_pairs(8, given.model)]
    lengths = [len(tokenizer(prompt.text)["input_ids"]) for prompt in prompts]

    def seconds(tokens: int) -> tuple[float, int]:
        config = SamplingConfig(max_new_tokens=tokens, max_prompt_tokens=512)
        sample(model, tokenizer, prompts, config, samples=4, seed=0)
        began = time.perf_counter()
        groups = sample(model, tokenizer, prompts, config, samples=4, seed=0)
        return time.perf_counter() - began, sum(len(one.drawn) for group in groups for one in group)

    (first, _), (whole, drawn) = seconds(1), seconds(given.tokens)
    print(
        f"sampling 8 prompts x 4: prefill {sum(lengths) / first:,.0f} tokens/s, decoding "
        f"{(drawn - 32) / (whole - first):,.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
