"""torch.compile (Ansel et al. 2024, doi:10.1145/3620665.3640366) of what training's forward passes go through.

Compiled is a model's backbone, from token ids to the last hidden state: in training, in evaluation, and for old and
reference log-probabilities. Sampling, with its cache and a new shape at every token, stays as it is; so do the output
layer, which keeps no logits, and the losses.

Code is generated for any shape, but by the shapes that are seen first. What an interrupted stage sees first is another
batch than the first, and other code would round otherwise; so each kind of pass is compiled by an example, and the bits
of a step depend on the configuration alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.heads import backbone_of, max_positions

BACKEND = "inductor"
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compile_backbone(model: PreTrainedModel, *, rows: int, width: int) -> None:
    """Compile the backbone's forward, in place, by an example of (rows, width) tokens; names and weights stay.

    A pass that caches keys and values is not compiled, nor is one of a single row, for which code of its own would be
    generated. Whatever cannot be compiled raises at the first pass: see `compiling`.
    """
    backbone: Any = backbone_of(model)
    rows, width = max(2, rows), min(width, max_positions(model))
    rows += rows == width  # equal sizes would be taken for one and the same
    backbone.forward = _CompiledForward(backbone.forward, rows, width)


class _CompiledForward:
    """`forward` as it was, or compiled."""

    def __init__(self, forward: Callable[..., Any], rows: int, width: int) -> None:
        self.plain, self.shape = forward, (rows, width)
        self.compiled = torch.compile(forward, dynamic=True, backend=BACKEND)
        self.kinds: set[tuple[bool, ...]] = set()

    def __call__(self, *positional: Any, **inputs: Any) -> Any:
        """Compiled where it is called as by `hidden_states`: input_ids, attention_mask and position_ids, (B, T)
        each, by name, and use_cache=False."""
        if positional or inputs.get("use_cache") is not False or len(inputs["input_ids"]) == 1:
            return self.plain(*positional, **inputs)
        self._see_example(inputs["input_ids"].device)
        return self.compiled(**inputs)

    def _see_example(self, device: torch.device) -> None:
        """Run the example before the first pass of its kind."""
        kind = (torch.is_grad_enabled(), torch.is_autocast_enabled(device.type))
        if kind in self.kinds:
            return
        self.kinds.add(kind)
        ids = torch.ones(self.shape, dtype=torch.long, device=device)
        # One tensor for ids and mask would be another kind of pass.
        self.compiled(input_ids=ids, attention_mask=ids.clone(), position_ids=ids.cumsum(1) - 1, use_cache=False)


@contextmanager
def compiling(stage: str) -> Iterator[None]:
    """What is compiled within is compiled again, and is never left uncompiled in silence.

    Raises:
        ModelError: the model cannot be compiled here, or only for so few shapes that torch would give it up.
    """
    from torch._dynamo import config
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    torch.compiler.reset()
    try:
        with config.patch(fail_on_recompile_limit_hit=True), _cache_of_this_processor():
            yield
    except FailOnRecompileLimitHit as error:
        raise ModelError(
            f"{stage}.compile: the model had to be compiled more than {config.recompile_limit} times, where torch "
            f"would go on without; leave {stage}.compile out"
        ) from error
    except TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)  # of a backend
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise ModelError(
            f"{stage}.compile: torch.compile failed ({reason}); on a CPU it needs a C++ compiler: leave "
            f"{stage}.compile out"
        ) from error


@contextmanager
def _cache_of_this_processor() -> Iterator[None]:
    """A folder of its own for the code that is generated here, in torch's folder of generated code.

    torch finds code again whatever instructions it was made for: a process that is held to AVX2 ran code for AVX-512
    that was made before, and had gradients of NaN.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    before = cache_dir()  # which writes it into the environment, and reads it there
    os.environ[CACHE] = os.path.join(before, torch.backends.cpu.get_cpu_capability())
    try:
        yield
    finally:
        os.environ[CACHE] = before
