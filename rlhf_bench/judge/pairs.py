"""The comparisons of a results folder: two models' responses to the same prompt, of the same seed and sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.judge.types import Comparison
from rlhf_bench.store import ANCHORS, order_models

__all__ = ["Pairs", "pairs_of"]


class Pairs(NamedTuple):
    """`alone` counts responses without a counterpart, `empty` pairs with an empty response, judged as it is."""

    comparisons: list[Comparison]
    alone: int
    empty: int


def pairs_of(
    responses: Iterable[Mapping[str, Any]],
    *,
    baseline: str,
    models: Sequence[str] = (),
    samples: int | None = None,
    limit: int | None = None,
) -> Pairs:
    """Each model's responses against the baseline's, sorted by model, prompt, seed and sample.

    No `models` given: every one but the baseline and the data's own responses. `samples` and `limit`: at most so many
    samples a prompt, and prompts. Raises UnknownName for a model that is not there, StoreError where two responses
    share a prompt's id but not its text, or no response has a counterpart.
    """
    texts: dict[str, dict[tuple[str, int, int], str]] = {}
    prompts: dict[str, str] = {}
    for row in responses:
        key = (str(row["prompt_id"]), int(row["seed"]), int(row["sample"]))
        if prompts.setdefault(key[0], row["prompt"]) != row["prompt"]:
            raise StoreError(
                f"two responses to prompt {key[0]} have different prompts ({row['model']}, seed {key[1]}); expected "
                "one text an id: evaluate these models together with `rlhf-bench eval`"
            )
        texts.setdefault(str(row["model"]), {})[key] = str(row["response"])
    for name in (baseline, *models):
        if name not in texts:
            raise UnknownName("model", name, texts)
    chosen = models or [name for name in order_models(texts) if name not in (baseline, *ANCHORS)]
    known = set(sorted(prompts)[:limit])
    comparisons, alone = [], 0
    for name in dict.fromkeys(chosen):
        for key in sorted(texts[name]):
            prompt, seed, sample = key
            if prompt not in known or (samples is not None and sample >= samples):
                continue
            other = texts[baseline].get(key)
            if other is None:
                alone += 1
                continue
            comparisons.append(
                Comparison(prompt, prompts[prompt], seed, sample, name, baseline, texts[name][key], other)
            )
    if not comparisons:
        raise StoreError(
            f"no response of {', '.join(chosen) or 'any other model'} has a counterpart by {baseline}: the same "
            "prompt, seed and sample; name another --baseline or --model"
        )
    empty = sum(not (c.model_response.strip() and c.baseline_response.strip()) for c in comparisons)
    return Pairs(comparisons, alone, empty)
