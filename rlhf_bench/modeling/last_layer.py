"""The last layer's work for the tokens with a hidden state that is read, and for no others.

A reward model reads the hidden state of one token of a sequence, a loss over responses those of no prompt. The last
layer's keys and values are needed of all tokens, since the others attend to them. Its queries, its attention and its
feed-forward part are needed only where the result is read: for a model of few layers that is a third of its products.
Attention leaves tokens out where it goes by tree or by row (`tree_attention`, `row_attention`), queries where they have
a projection of their own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import (
    REFUSALS,
    OtherForm,
    Replacement,
    attending,
    close_states,
    replacement,
    warn_of_own_fault,
)
from rlhf_bench.modeling.heads import backbone_of
from rlhf_bench.modeling.kernels import remembers_shapes
from rlhf_bench.runtime.sharding import is_sharded

# Parts of a layer that treat each token by itself, as transformers' architectures name them.
FEED_FORWARD = {"mlp", "feed_forward", "ffn"}
PROJECTIONS = {"q_proj", "o_proj", "out_proj", "c_proj", "dense"}  # beside the feed-forward part
WORTH = 0.9  # of the tokens; where more of them are computed, all are
ROUND = 256  # the number of computed tokens is a multiple of it where products are faster in shapes that came before


class _Read(NamedTuple):
    places: Tensor  # (n,): of the tokens that are computed, in the flattened rows
    queries: int  # of these the first, for which attention is computed
    shape: tuple[int, int]  # rows, tokens of each
    attention: nn.Module | None  # of the last layer


_read: ContextVar[_Read | None] = ContextVar("_read", default=None)
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # backbone -> whether it can
_lock = threading.Lock()


@contextlib.contextmanager
def reading(model: PreTrainedModel, read: Tensor) -> Iterator[None]:
    """Passes of the backbone over rows of read's shape, (R, W) bool, give right hidden states where it is True, and
    anything elsewhere, while the block lasts."""
    found = _places(read.flatten(), model) if can_leave_out(model) else None
    if found is None or len(found[0]) > WORTH * read.numel():
        yield
        return
    token = _read.set(_Read(*found, (read.shape[0], read.shape[1]), _attention_of(backbone_of(model))))
    try:
        yield
    finally:
        _read.reset(token)


def _places(read: Tensor, model: PreTrainedModel) -> tuple[Tensor, int]:
    """Those that are read, (N,) bool, and after them some that are not, to make up a number that comes again; and how
    many are read."""
    places = read.nonzero().squeeze(1)
    extra = -len(places) % ROUND if remembers_shapes(model.dtype, read.device) else 0
    return torch.cat([places, (~read).nonzero().squeeze(1)[:extra]]) if extra else places, len(places)


def queries_read(module: Any) -> Tensor | None:
    """The tokens for which the last layer's attention is computed, as places in the flattened rows, (n,); None, and for
    every other attention module: all."""
    read = _read.get()
    return read.places[: read.queries] if read is not None and read.attention is module else None


def can_leave_out(model: PreTrainedModel) -> bool:
    """Whether the model's last layer can leave tokens out: tried once, on a small batch.

    Compiled and sharded models compute all tokens.
    """
    backbone = backbone_of(model)
    if "forward" in vars(backbone) or is_sharded(backbone):
        return False
    with _lock:
        if backbone not in _known:
            handles = _hook(backbone)
            _known[backbone] = bool(parts_of_last_layer(backbone)) and Context().run(_tries, backbone)
            for handle in handles if not _known[backbone] else ():
                handle.remove()
        return _known[backbone]


def recomputing() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of torch.utils.checkpoint: a layer that is computed again in the backward pass attends as it did
    before, and leaves out the same tokens."""
    return contextlib.nullcontext(), _Again(_read.get(), replacement())


class _Again(AbstractContextManager[None]):
    """It can be entered once for each backward pass of a graph."""

    def __init__(self, read: _Read | None, attention: Replacement | None) -> None:
        self.read, self.attention = read, attention

    def __enter__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.stack.callback(_read.reset, _read.set(self.read))
        self.stack.enter_context(attending(self.attention))

    def __exit__(self, *error: object) -> None:
        self.stack.close()


def _hook(backbone: nn.Module) -> list[RemovableHandle]:
    handles = []
    for module in parts_of_last_layer(backbone):
        if _pick not in module._forward_pre_hooks.values():  # a copy has them already
            handles.append(module.register_forward_pre_hook(_pick))
            handles.append(module.register_forward_hook(_put_back))
    return handles


def parts_of_last_layer(backbone: nn.Module) -> list[nn.Module]:
    """The last layer's parts that treat each token by itself, none of them inside another."""
    return list(_parts(backbone).values())


def _parts(backbone: nn.Module) -> dict[str, nn.Module]:
    """These parts by their names within the last layer."""
    found: dict[str, nn.Module] = {}
    for name, module in _last_layer(backbone).named_modules():
        own = name.rpartition(".")[2]
        within = any(name.startswith(f"{outer}.") for outer in found)
        if not within and (own in FEED_FORWARD or own in PROJECTIONS):
            found[name] = module
    has_feed_forward = any(name.rpartition(".")[2] in FEED_FORWARD for name in found)
    return found if has_feed_forward else {}  # else a projection may be inside what is not known


def _attention_of(backbone: nn.Module) -> nn.Module | None:
    """The last layer's attention, where what it gives goes through a projection that leaves out tokens."""
    outputs = PROJECTIONS - {"q_proj"}
    name = next((name for name in _parts(backbone) if name.rpartition(".")[2] in outputs), None)
    return None if name is None else _last_layer(backbone).get_submodule(name.rpartition(".")[0])


def _last_layer(backbone: nn.Module) -> nn.Module:
    """A module without parts, where the backbone has no list of layers."""
    layers = next((m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m)), None)
    return nn.Identity() if layers is None else layers[-1]


def _pick(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    read = None if torch.compiler.is_compiling() else _read.get()
    if read is None:
        return None
    if not inputs:
        raise OtherForm(f"{type(module).__name__} is given its input by name")
    return (inputs[0].flatten(0, 1).index_select(0, read.places)[None], *inputs[1:])


def _put_back(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
    read = None if torch.compiler.is_compiling() else _read.get()
    if read is None:
        return None
    if not isinstance(output, Tensor):
        raise OtherForm(f"{type(module).__name__} gives a {type(output).__name__}")
    rows, width = read.shape
    whole = output.new_zeros(rows * width, output.shape[-1]).index_copy_(0, read.places, output[0])
    return whole.view(rows, width, -1)


@torch.no_grad()
def _tries(backbone: Any) -> bool:
    ids = torch.tensor([[1, 2, 3, 3], [2, 1, 2, 3]], device=backbone.device)
    read = torch.tensor([[False, True, False, True], [False, False, True, False]], device=backbone.device)
    with torch.autocast(backbone.device.type, enabled=False):
        try:
            whole = backbone(input_ids=ids, use_cache=False).last_hidden_state[read]
            _read.set(_Read(read.flatten().nonzero().squeeze(1), 0, (2, 4), None))
            found = backbone(input_ids=ids, use_cache=False).last_hidden_state[read]
        except REFUSALS as error:
            warn_of_own_fault(backbone, error)
            return False  # a part of another form: of several outputs, or called by other names
    return close_states(found, whole)
