"""What a results folder offers to a judge: two models' responses to the same prompt and sample, or single ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.judge.types import Comparison, Single
from rlhf_bench.store import ANCHORS, order_models

__all__ = ["Pairs", "Texts", "pairs_of", "singles_of", "texts_of"]


class Texts(NamedTuple):
    """Responses by model and (prompt id, seed, sample), and the prompts' texts by id."""

    responses: dict[str, dict[tuple[str, int, int], str]]
    prompts: dict[str, str]

    def models(self, named: Sequence[str], *, without: Sequence[str] = ()) -> list[str]:
        """Those named, else all but the data's own responses and `without`. Raises UnknownName."""
        for name in (*without, *named):
            if name not in self.responses:
                raise UnknownName("model", name, self.responses)
        known = order_models(self.responses)
        return list(dict.fromkeys(named)) or [name for name in known if name not in (*without, *ANCHORS)]


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
    texts, prompts = found = texts_of(responses)
    chosen = found.models(models, without=(baseline,))
    known = set(sorted(prompts)[:limit])
    comparisons, alone = [], 0
    for name in chosen:
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


def texts_of(responses: Iterable[Mapping[str, Any]]) -> Texts:
    """The rows of responses.jsonl by model. Raises StoreError where two rows share a prompt's id but not its text."""
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
    return Texts(texts, prompts)


def singles_of(
    responses: Iterable[Mapping[str, Any]],
    *,
    models: Sequence[str] = (),
    samples: int | None = None,
    limit: int | None = None,
) -> list[Single]:
    """Each response by itself, sorted by model, prompt, seed and sample; arguments and errors as in `pairs_of`."""
    texts, prompts = found = texts_of(responses)
    known = set(sorted(prompts)[:limit])
    return [
        Single(prompt, prompts[prompt], seed, sample, name, texts[name][prompt, seed, sample])
        for name in found.models(models)
        for prompt, seed, sample in sorted(texts[name])
        if prompt in known and (samples is None or sample < samples)
    ]
