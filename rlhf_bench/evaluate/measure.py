"""Every per-response number of one model: sample, score, compare with the reference."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.evaluate.measure_base import Measure
from rlhf_bench.evaluate.measure_kl import AGAINST_REFERENCE, chosen_columns, comparable_reference, drawn_columns
from rlhf_bench.evaluate.measure_text import Answered, Texts, answered, pool_rows, text_rows
from rlhf_bench.evaluate.sources import Source
from rlhf_bench.metrics.registry import reader_columns
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import sample_as
from rlhf_bench.modeling.templates import Template
from rlhf_bench.types import Completion, FinishReason, Prompt

__all__ = ["measure_anchors", "measure_model", "measure_pool", "measure_texts"]

POOL_COLUMNS = ("model", "seed", "prompt_id", "sample", "reward", "gold", "logprob", "first")


class Drawn(NamedTuple):
    """Of a sampled response what is counted: many are held together."""

    sample: int
    text: str
    finish_reason: FinishReason
    n_tokens: int
    tokens: array[int]  # every one that was drawn, the stop string's too; of a pool a digest of them in their place
    logprob: float  # under the sampler, of all that was drawn; NaN where a stop string ended it, whose part is not kept


def _with_tokens(completion: Completion) -> Drawn:
    c = completion
    logprob = np.nan if c.stop_ids else float(np.sum(c.logps, dtype=np.float64))
    return Drawn(c.sample, c.text, c.finish_reason, len(c.ids), array("i", c.drawn), logprob)


def _with_digest(completion: Completion) -> Drawn:
    """As `_with_tokens`, with 8 bytes that tell its tokens from others'."""
    drawn = _with_tokens(completion)
    digest = hashlib.blake2b(drawn.tokens.tobytes(), digest_size=8).digest()
    return drawn._replace(tokens=array("B", digest))


def measure_model(measure: Measure, source: Source, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """A row a (prompt, sample): the response and every number of it. `attrs["reasons"]` says what is missing and why.

    Raises:
        ModelError: the model answers nothing at all.
        NotFinite: its probabilities are NaN.
    """
    reference = measure.reference
    is_reference = reference is not None and (source.path, source.template) == (reference.path, reference.template)
    _, tokenizer = measure.model(source)
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, prompts, template, measure.samples, _with_tokens, on_batch)
    if not any(drawn.text.strip() for group in groups for drawn in group):
        raise ModelError(
            f"{source.name} ({source.path}): all {sum(map(len, groups))} responses are empty; expected text: check "
            "that its tokenizer belongs to it and that it was trained on prompts of this form (--prompt-template)"
        )
    rows = _answers(measure, template, groups)
    texts = text_rows(source.name, source.seed, rows, source=measure.source, metrics=measure.metrics)
    table = add_scores(measure, texts)
    held_against, why = comparable_reference(measure, source)
    drawn = drawn_columns(measure, source, prompts, [[d.tokens for d in group] for group in groups], held_against)
    table = table.assign(**drawn, **chosen_columns(measure, source, template, held_against))
    if is_reference and not (table["kl_exact"] == 0).all():
        raise ModelError(f"{source.name}: KL of the reference to itself is not 0; expected 0: report this as a bug")
    table.attrs["reasons"] = dict.fromkeys(AGAINST_REFERENCE, why) if why else {}
    return table


def measure_pool(measure: Measure, n: int, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """`n` responses of the reference to each prompt: model, seed, prompt_id, sample, reward, gold where known, and by
    what its responses can be summed over: logprob, NaN where it is not known at temperature 1, and `first`, the first
    sample of the prompt with the same tokens.

    Sample k is that of `measure_model`, which draws from the same stream, so a pool goes on where the table stops.
    """
    source = measure.reference
    assert source is not None
    _, tokenizer = measure.reference_model
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, prompts, template, n, _with_digest, on_batch)
    rows = pool_rows(source.name, source.seed, _answers(measure, template, groups), source=measure.source)
    table = add_rewards(measure, rows, measure.reward_models[:1])  # the one that chooses
    seen: list[dict[bytes, int]] = [{} for _ in groups]
    table["first"] = [
        known.setdefault(d.tokens.tobytes(), d.sample) for known, group in zip(seen, groups, strict=True) for d in group
    ]
    table["logprob"] = [d.logprob if measure.sampling.exact else np.nan for group in groups for d in group]
    return table[[column for column in POOL_COLUMNS if column in table.columns]]


def _groups(
    measure: Measure,
    source: Source,
    prompts: Sequence[Prompt],
    template: Template,
    samples: int,
    make: Callable[[Completion], Drawn],
    on_batch: Callable[[int], None],
) -> list[list[Drawn]]:
    """`samples` responses to each prompt. Raises NotFinite, with the model's name."""
    sampling = measure.sampling.model_copy(update={"stop": (*measure.sampling.stop, *template.stop)})
    try:
        return sample_as(
            make, *measure.model(source), prompts, sampling,
            samples=samples, seed=measure.seed, batch_size=128, on_batch=on_batch, processes=measure.processes,
        )  # fmt: skip
    except NotFinite as error:
        raise NotFinite(f"{source.name} ({source.path}): {error}") from error


def _answers(measure: Measure, template: Template, groups: Sequence[Sequence[Drawn]]) -> list[Answered]:
    return [
        Answered(item, d.sample, template.read(d.text), d.finish_reason, float(d.n_tokens))
        for item, group in zip(measure.items, groups, strict=True)
        for d in group
    ]


def measure_texts(measure: Measure, texts: Texts) -> pd.DataFrame:
    """The responses of a file, by everything that needs no model of theirs."""
    rows = answered(texts, measure.items)
    table = text_rows(texts.name, texts.seed, rows, source=measure.source, metrics=measure.metrics)
    if table["n_tokens"].isna().any():
        table["n_tokens"] = table["n_tokens"].fillna(_token_counts(measure, table["response"]))
    return add_scores(measure, table)


def measure_anchors(measure: Measure, name: str, seed: int, rows: Sequence[Answered]) -> pd.DataFrame:
    """The data's own responses of one name, by every measure that needs no sampling."""
    table = text_rows(name, seed, rows, source=measure.source)
    return add_scores(measure, table.assign(n_tokens=_token_counts(measure, table["response"])))


def add_scores(measure: Measure, table: pd.DataFrame) -> pd.DataFrame:
    """The table with what reward models and language models think of each response.

    A response of unknown end is scored as one that ended.
    """
    table = add_rewards(measure, table)
    if not measure.language_models:
        return table
    prompts, texts = list(table["prompt"]), list(table["response"])
    ended = [reason != "length" for reason in table["finish_reason"]]
    sizes = np.array([float(len(text.encode())) for text in texts])
    columns: dict[str, np.ndarray] = {}
    for name, model in measure.language_models:
        logprob, tokens = (part.numpy() for part in model.score(prompts, texts, ended, processes=measure.processes))
        values = (logprob, tokens, np.where(np.isnan(tokens), np.nan, sizes))
        columns |= dict(zip(reader_columns(name), values, strict=True))
    return table.assign(**columns)


def add_rewards(
    measure: Measure, table: pd.DataFrame, models: Sequence[tuple[str, RewardModel]] | None = None
) -> pd.DataFrame:
    """The table with a column for each reward model, or for `models` of them alone.

    A response of unknown end is scored as one that ended.
    """
    models = measure.reward_models if models is None else models
    prompts, texts = list(table["prompt"]), list(table["response"])
    ended = [reason != "length" for reason in table["finish_reason"]]
    columns = {
        column: reward.score(prompts, texts, ended, processes=measure.processes).double().numpy()
        for column, reward in models
    }
    return table.assign(**columns)


def _token_counts(measure: Measure, texts: pd.Series[str]) -> pd.Series[float]:
    """Tokens of responses as the reference's tokenizer counts them, end-of-text included; NaN without a reference."""
    if measure.reference is None or texts.empty:
        return pd.Series(np.nan, index=texts.index)
    _, tokenizer = measure.reference_model
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return pd.Series([float(len(row) + 1) for row in rows], index=texts.index)
