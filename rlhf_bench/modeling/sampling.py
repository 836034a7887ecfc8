"""Sampling responses: the one sampler of training and evaluation.

Each prompt's prefix is computed once, for all of its samples; finished rows leave the batch; the cache is allocated
once and written in place. Each (seed, prompt id, sample) has a stream of uniform numbers of its own and a token is
drawn by inverting the cumulative distribution, so a response depends neither on the batch it was drawn in nor on what
was drawn before it, but for rounding in the forward pass.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import BadValue, NotFinite
from rlhf_bench.modeling.chunked_logps import log_and_softmax
from rlhf_bench.modeling.decoding import can_group, decode_steps
from rlhf_bench.modeling.packed import on_cpu, packed_weights
from rlhf_bench.modeling.special import continued_text, end_ids
from rlhf_bench.modeling.stops import Stops
from rlhf_bench.modeling.tokens import encode_prompts, length_batches
from rlhf_bench.runtime.pool import Pool
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.runtime.sharding import is_sharded
from rlhf_bench.types import HUMAN_TURN, Completion, FinishReason, Prompt

Made = TypeVar("Made")
DRAW_ELEMENTS = 1 << 19  # logits that tokens are drawn from at once


class SamplingConfig(BaseModel):
    """How responses are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(64, ge=1, description="longest response, in tokens, end-of-text included")
    max_prompt_tokens: int = Field(512, ge=1, description="longer prompts are cut from the left")
    temperature: float = Field(1.0, ge=0, description="divides the logits; 0 takes the likeliest token")
    top_k: int = Field(0, ge=0, description="draw from the k likeliest tokens; 0: from all")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set with at least this probability")
    stop: tuple[str, ...] = Field((HUMAN_TURN,), description="strings that end a response; cut before them")

    @property
    def exact(self) -> bool:
        """True if samples come from the model's own distribution, so that KL and importance ratios are unbiased."""
        return self.temperature == 1.0 and self.top_k == 0 and self.top_p == 1.0


def uniforms(seed: int, prompt_id: str, sample: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) that belong to this sample of this prompt under this seed. (count,) float64."""
    key = hashlib.sha256(f"{seed}/{prompt_id}/{sample}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).random(count)


def next_token(logits: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities that are drawn from: temperature, then top-k, then top-p; -inf and 0 where
    they cut. (B, V) -> (B, V) each; `logits` may be overwritten."""
    logits = logits.float()
    if config.temperature == 0:
        certain = torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        certain.masked_fill_(logits.amax(-1, keepdim=True).isnan(), torch.nan)
        return certain.log(), certain
    if config.temperature != 1.0:
        logits = logits / config.temperature
    if config.top_k and config.top_k < logits.shape[-1]:
        threshold = logits.topk(config.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if config.top_p < 1.0:
        ordered, index = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(-1) - ordered >= config.top_p  # the mass before a token already reaches top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, index, beyond), -torch.inf)
    return log_and_softmax(logits)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: SamplingConfig,
    *,
    samples: int = 1,
    seed: int,
    batch_size: int = 256,
    dtype: torch.dtype = torch.float32,
) -> list[list[Completion]]:
    """Draw `samples` responses to each prompt, in the order of the prompts.

    At most `batch_size` responses are in flight. dtype: of the matrix products
    where weights are packed (`packed_weights`).

    Raises:
        BadValue: prompt and response together exceed what the model can read.
        NotFinite: the model gives NaN where a probability is expected.
    """
    return sample_as(
        lambda completion: completion, model, tokenizer, prompts, config,
        samples=samples, seed=seed, batch_size=batch_size, on_batch=lambda _: None, processes=ALONE, dtype=dtype,
    )  # fmt: skip


def sample_as(
    make: Callable[[Completion], Made],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: SamplingConfig,
    *,
    samples: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None],
    processes: Processes,
    dtype: torch.dtype = torch.float32,
) -> list[list[Made]]:
    """Sample as `sample` does, but hold and exchange what `make` makes of each response, only what is needed.

    `on_batch` receives how many responses each finished batch held, of this process's batches; what the others drew
    comes last.
    """
    encoded = _encode(model, tokenizer, prompts, config)
    stops, ends = Stops(tokenizer, config.stop), _end_tokens(model, tokenizer, config)
    results: list[list[Made]] = [[] for _ in prompts]
    per_batch = max(1, batch_size // samples)
    groups = list(length_batches([len(ids) for ids in encoded], per_batch))

    def work(group: list[int]) -> list[Made]:
        some, ids = [encoded[i] for i in group], [prompts[i].id for i in group]
        drawing = _Drawing(model, tokenizer, some, ids, config, samples=samples, seed=seed)
        with torch.no_grad():
            for _ in drawing.steps(stops, ends):
                pass
        return [make(drawing.completion(row)) for row in range(len(group) * samples)]

    with ready_to_sample(model, dtype):
        drawn = Pool(None, 1, processes).map(work, groups, lambda rows: on_batch(len(rows)))
    for group, rows in zip(groups, drawn, strict=True):
        for k, made in enumerate(rows):
            results[group[k // samples]].append(made)
    if processes.size > 1:
        on_batch(samples * (len(prompts) - sum(map(len, processes.share(groups)))))
    return results


@contextlib.contextmanager
def ready_to_sample(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Packed weights of `dtype`, for all that is sampled while the block lasts; not of a sharded model."""
    if on_cpu(model) and not is_sharded(model):
        can_group(model)  # tried once, in full precision: before weights are packed
    with packed_weights(model, dtype):
        yield


@torch.no_grad()
def stream(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, config: SamplingConfig, *, seed: int
) -> Iterator[Completion]:
    """The response to one prompt while it is drawn: what there is of it after each token, at last what `sample` draws.

    Before the last, a text lacks its end where that may begin a stop string or is part of a character. Raises as
    `sample`.
    """
    (ids,) = _encode(model, tokenizer, [prompt], config)
    drawing = _Drawing(model, tokenizer, [ids], [prompt.id], config, samples=1, seed=seed)
    with ready_to_sample(model):
        for _ in drawing.steps(Stops(tokenizer, config.stop), _end_tokens(model, tokenizer, config)):
            so_far = drawing.completion(0)
            yield so_far if drawing.is_finished else so_far._replace(text=_settled(so_far.text, config.stop))


def _settled(text: str, stop: Sequence[str]) -> str:
    """A text without what the next tokens may still take back: the start of a stop string, or of a character."""
    text = text.rstrip("\ufffd")
    starts = (s[:n] for s in stop for n in range(1, len(s)) if text.endswith(s[:n]))
    return text[: len(text) - max(map(len, starts), default=0)]


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], config: SamplingConfig
) -> list[list[int]]:
    """The prompts as tokens. Raises BadValue where one leaves no room for its response."""
    written = encode_prompts(tokenizer, [p.text for p in prompts], max_prompt=config.max_prompt_tokens)
    encoded = [[*p.ids] or ids or [tokenizer.eos_token_id] for p, (ids, _) in zip(prompts, written, strict=True)]
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max((len(ids) for ids in encoded), default=0)
    if limit is not None and longest + config.max_new_tokens > limit:
        raise BadValue(
            f"a prompt of {longest} tokens and max_new_tokens={config.max_new_tokens} exceed the model's {limit} "
            "positions; lower max_new_tokens or max_prompt_tokens"
        )
    return encoded


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SamplingConfig) -> Tensor:
    return torch.tensor(end_ids(model, tokenizer, config.stop), device=model.device)


class _Drawing:
    """Responses to a batch of prompts while they are drawn, `samples` to each; one row per response."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: list[list[int]],
        ids: list[str],
        config: SamplingConfig,
        *,
        samples: int,
        seed: int,
    ) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.prompts, self.ids, self.samples = prompts, ids, samples
        steps, total = config.max_new_tokens, len(prompts) * samples
        random = [uniforms(seed, ids[r // samples], r % samples, steps) for r in range(total)]
        self.random = torch.from_numpy(np.stack(random)).to(model.device)
        self.drawn = torch.full((total, steps), tokenizer.pad_token_id, dtype=torch.long, device=model.device)
        self.logps = torch.zeros((total, steps), dtype=torch.float32, device=model.device)
        self.n_drawn = 0  # tokens of a row that has not ended
        self.ends: dict[int, tuple[int, int, FinishReason]] = {}  # row -> tokens kept, tokens drawn, why it ended

    @property
    def is_finished(self) -> bool:
        return len(self.ends) == len(self.drawn) or self.n_drawn == self.config.max_new_tokens

    def steps(self, stops: Stops, end_tokens: Tensor) -> Iterator[None]:
        """Draw the next token of all rows that have not ended, and yield; until all have."""
        drawn, steps = self.drawn, self.config.max_new_tokens
        alive = torch.arange(len(drawn), device=drawn.device)
        for next_logits, keep in decode_steps(self.model, self.prompts, self.samples, steps, drawn, alive):
            step, alive = self.n_drawn, keep.alive
            token, logp = _draw_all(next_logits, self.random[alive, step], self.config)
            drawn[alive, step] = token
            self.logps[alive, step] = logp
            self.n_drawn += 1
            finished = torch.isin(token, end_tokens) & keep.running
            for row in alive[finished].tolist():
                self.ends[row] = (step + 1, step + 1, "eos")
            for i in stops.candidates(token, keep.running & ~finished):
                row = int(alive[i])
                kept = stops.find(drawn[row, : step + 1].tolist())
                if kept is not None:
                    self.ends[row] = (kept, step + 1, "stop")
                    finished[i] = True
            keep.drop(finished)
            yield

    def completion(self, row: int) -> Completion:
        """The response of a row, as far as it is drawn."""
        kept, count, reason = self.ends.get(row, (self.n_drawn, self.n_drawn, "length"))
        ids, logps = tuple(self.drawn[row, :count].tolist()), tuple(self.logps[row, :kept].tolist())
        tokens, stop_ids = ids[:kept], ids[kept:]
        text = continued_text(self.tokenizer, tokens[:-1] if reason == "eos" else tokens)
        prompt, sample = divmod(row, self.samples)
        return Completion(self.ids[prompt], sample, text, tokens, logps, reason, stop_ids)


def _draw_all(logits: Tensor, u: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """A token for each row of logits (B, V), and the log-probability that it was drawn with; each (B,).

    A few rows at a time: what they need in between stays in the processor's cache.

    Raises NotFinite as `draw`.
    """
    tokens, logps = [], []
    for rows, numbers in zip(*(t.split(max(1, DRAW_ELEMENTS // logits.shape[1])) for t in (logits, u)), strict=True):
        log_p, p = next_token(rows, config)
        token = draw(p, numbers)
        tokens.append(token)
        logps.append(log_p.gather(1, token[:, None]).squeeze(1))
    return torch.cat(tokens), torch.cat(logps)


def draw(p: Tensor, u: Tensor) -> Tensor:
    """The first token with a cumulative probability above u times the total: never one of probability 0.

    p (B, V), u (B,) float64 -> (B,). Raises NotFinite where a probability is NaN.
    """
    cumulative = p.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    if bool(total.isnan().any()):
        raise NotFinite("the probabilities of the next token are NaN; the weights are damaged or have diverged")
    return torch.searchsorted(cumulative, (u * total)[:, None], right=True).squeeze(1)
