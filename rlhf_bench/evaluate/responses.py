"""Responses as rows, whoever wrote them: sampled from a model, read from a file, or the data's own."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_bench.data.responses import Answer
from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.evaluate.models import SeedModels
from rlhf_bench.evaluate.sources import ModelSource, ResponseSet
from rlhf_bench.store import ANCHORS
from rlhf_bench.types import Completion, FinishReason, Item, Prompt, ResponseRow

BATCH = 128  # responses in flight at a time


def sampled_rows(
    source: ModelSource,
    models: SeedModels,
    items: Sequence[Item],
    *,
    samples: int,
    on_batch: Callable[[int], None],
) -> list[ResponseRow]:
    """`samples` responses to each prompt, in the order of the prompts.

    Sample k of a prompt is the same for any number of samples, so that a pool begins with the table's responses.

    Raises:
        ModelError: every response is empty.
        NotFinite: the model's probabilities are NaN.
    """
    from rlhf_bench.modeling.sampling import sample_as

    plan = models.plan
    assert plan.sampling is not None
    model, tokenizer, template = models.policy(source)
    encoded = template.encode_prompts([item.prompt for item in items], max_prompt=plan.sampling.max_prompt_tokens)
    prompts = [Prompt(item.id, item.prompt, tuple(ids)) for item, (ids, _) in zip(items, encoded, strict=True)]
    first = (tokenizer.eos_token_id,)  # of an empty prompt
    given = {item.id: (item, tuple(ids) or first, cut) for item, (ids, cut) in zip(items, encoded, strict=True)}

    def row(completion: Completion) -> ResponseRow:
        item, prompt_ids, prompt_cut = given[completion.prompt_id]
        # of a stop string's tokens the sampler keeps no probability
        logprob = math.nan if completion.stop_ids else float(np.sum(completion.logps, dtype=np.float64))
        return response_row(
            source.name, source.seed, item, completion.sample, template.read(completion.text),
            completion.finish_reason, float(len(completion.ids)),
        )._replace(
            prompt_ids=prompt_ids, prompt_cut=prompt_cut, token_ids=array("i", completion.drawn), logprob=logprob
        )  # fmt: skip

    sampling = plan.sampling.model_copy(update={"stop": (*plan.sampling.stop, *template.stop)})
    try:
        groups = sample_as(
            row, model, tokenizer, prompts, sampling, samples=samples, seed=plan.sampling_seed(source.seed),
            batch_size=BATCH, on_batch=on_batch, processes=models.processes,
        )  # fmt: skip
    except NotFinite as error:
        raise NotFinite(f"{source.name} ({source.path}): {error}") from error
    rows = [row for group in groups for row in group]
    if not any(row.response.strip() for row in rows):
        raise ModelError(
            f"{source.name} ({source.path}): all {len(rows)} responses are empty; expected text: check that its "
            "tokenizer belongs to it and that it was trained on prompts of this form (--prompt-template)"
        )
    return rows


def file_rows(texts: ResponseSet, items: Sequence[Item]) -> list[ResponseRow]:
    """The responses of a file to `items`, in their order."""
    return [
        _file_row(texts, item, sample, answer)
        for item in items
        for sample, answer in enumerate(texts.by_prompt.get(item.prompt, ()))
    ]


def _file_row(texts: ResponseSet, item: Item, sample: int, answer: Answer) -> ResponseRow:
    """For pairs the data's chosen response is the reference of every model; else a row's own reference texts count."""
    row = response_row(texts.name, texts.seed, item, sample, answer.text, answer.finish_reason, answer.n_tokens)
    if not answer.references or item.rejected is not None or item.probe is not None:
        return row
    return row._replace(reference=answer.references[0], references=answer.references)


def anchor_names(items: Sequence[Item]) -> list[str]:
    """ "chosen" and "rejected", as far as any prompt has such a response."""
    return [name for name in ANCHORS if any(_text(item, name) is not None for item in items)]


def anchor_rows(name: str, seed: int, items: Sequence[Item]) -> list[ResponseRow]:
    """The data's own responses called `name`.

    Those of pairs end by definition; of a file's reference text alone it is not known.
    """
    return [
        response_row(name, seed, item, 0, text, None if item.rejected is None else "eos", math.nan)
        for item in items
        if (text := _text(item, name)) is not None
    ]


def _text(item: Item, name: str) -> str | None:
    return item.chosen if name == "chosen" else item.rejected


def response_row(
    model: str, seed: int, item: Item, sample: int, text: str, finish_reason: FinishReason | None, n_tokens: float
) -> ResponseRow:
    return ResponseRow(
        model, seed, item.id, sample, item.prompt, text, reference=item.chosen, category=item.category,
        probe=item.probe, finish_reason=finish_reason, n_tokens=n_tokens,
    )  # fmt: skip
