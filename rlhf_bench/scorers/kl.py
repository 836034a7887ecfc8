"""KL to the reference of what a model drew, and the reference's KL along the data's chosen responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rlhf_bench.errors import ModelError
from rlhf_bench.scorers.base import Columns, EvalContext, LoadedModel, Metric, Missing, ResponseRow, Scorer, Values
from rlhf_bench.scorers.perplexity import encode_chosen, needs_the_model

if TYPE_CHECKING:
    from rlhf_bench.modeling.tokens import Encoded

KL_COLUMNS = ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token")  # of what a model drew
TOKEN_KL = "token_kl"  # a list a response: the exact KL of each token
TOKEN_ENDS = "token_ends"  # a list a response: where each token ends in the response, in characters
BATCH = 64
WHOLE_DISTRIBUTION = Missing(
    "a server gives log-probabilities of the response's tokens alone: this needs the weights; give "
    "NAME=server:MODEL,weights=PATH"
)
OTHER_TOKENS = Missing("no response has the same tokens under the model and the reference")


def _kl(name: str, title: str, description: str, *, place: int, row: int, compared: bool = False) -> list[Metric]:
    # k1 alone can be negative on a finite sample, and so can its interval
    bounds = None if name == "kl_k1" else (0.0, math.inf)
    return [
        Metric(
            name, title, "nats/response", None, 2, f"{description}, summed over a response", needs_model=True,
            bounds=bounds, compared=compared, tables={"summary": place, "per_seed": place, "kl": row}, expected=True,
        ),
        Metric(
            f"{name}_token", f"{title}/token", "nats/token", None, 4, f"{description}, mean of a response's tokens",
            needs_model=True, bounds=bounds, tables={"kl": row + 1},
        ),
    ]  # fmt: skip


class KlScorer(Scorer):
    order = 30
    metrics = (
        *_kl(
            "kl_exact", "KL exact", "KL to the reference, over the whole vocabulary at each prefix drawn",
            place=50, row=0, compared=True,
        ),
        *_kl("kl_k1", "KL k1", "KL to the reference by log pi - log ref of the drawn tokens", place=51, row=2),
        *_kl(
            "kl_k3", "KL k3", "KL to the reference by r - 1 - log r of the drawn tokens, r = ref / pi", place=52, row=4
        ),
        Metric(
            "kl_forward", "KL forward", "nats/response", None, 2,
            "KL(reference || model) over the whole vocabulary at each prefix of the chosen response, summed over it",
            needs_model=True, bounds=(0.0, math.inf), tables={"summary": 100, "kl": 6},
        ),
        Metric(
            "perplexity_reference", "Ref. perplexity", "", None, 2,
            "of the model's own responses under the reference, by token, end-of-text included",
            kind="perplexity", columns=("reference_logprob", "n_drawn"), needs_model=True, tables={"summary": 101},
        ),
    )  # fmt: skip

    def needs(self, context: EvalContext) -> Missing | None:
        if context.log_ratios is not None:
            return context.log_ratios if isinstance(context.log_ratios, Missing) else None
        return needs_the_model(context) or _incomparable(context)

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        if context.log_ratios is not None:
            assert not isinstance(context.log_ratios, Missing)
            return _of_server(context.log_ratios)
        assert context.model is not None
        assert context.reference is not None
        columns = _of_drawn(rows, context.model, context.reference, context)
        if context.model.model is context.reference.model and (columns["kl_exact"] != 0).any():
            raise ModelError(
                f"{rows[0].model}: KL of the reference to itself is not 0; expected 0: report this as a bug"
            )
        return {**columns, "kl_forward": _forward(rows, context.model, context.reference, context)}


SCORER = KlScorer()


def _incomparable(context: EvalContext) -> Missing | None:
    """Why the model and the reference cannot be compared token by token."""
    model, reference = context.model, context.reference
    if reference is None:
        return Missing("the reference is a response file, or behind a server without its weights")
    assert model is not None
    if reference.template.name != model.template.name:
        return Missing("another prompt template than the reference's")
    if reference.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        return Missing("another tokenizer than the reference's")
    return None


def _of_server(log_ratios: Sequence[Values | None]) -> Columns:
    """k1 and k3 of each response by log-probabilities of its tokens; the rest needs the whole distribution."""
    found = [ratios for ratios in log_ratios if ratios is not None]
    columns: dict[str, Values | Missing] = dict.fromkeys(
        ("kl_exact", "kl_exact_token", "kl_forward", "reference_logprob", "n_drawn"), WHOLE_DISTRIBUTION
    )
    if not found:
        return columns | dict.fromkeys(("kl_k1", "kl_k3", "kl_k1_token", "kl_k3_token"), OTHER_TOKENS)
    nothing = np.full(1, math.nan)
    terms = {"kl_k1": [nothing if x is None else x for x in log_ratios]}
    terms["kl_k3"] = [np.expm1(-x) + x for x in terms["kl_k1"]]  # r - 1 - log r, log r = -x
    for name, of_tokens in terms.items():
        columns[name] = np.array([values.sum() for values in of_tokens])
        columns[f"{name}_token"] = np.array([values.mean() for values in of_tokens])
    return columns


def _of_drawn(
    rows: Sequence[ResponseRow], policy: LoadedModel, reference: LoadedModel, context: EvalContext
) -> dict[str, Values]:
    """KL of each response to the reference, and its log-probability under it, by the same forward on the same batch.

    The tokens of a stop string count: where they were left out, each model's chance to draw them would be in the exact
    terms but never among those that were drawn, and k1 would be biased.
    """
    import torch

    from rlhf_bench.modeling.logprobs import kl_k1, kl_k3, token_kl
    from rlhf_bench.modeling.token_text import token_ends
    from rlhf_bench.modeling.tokens import Encoded, collate
    from rlhf_bench.modeling.trees import grouped_batches
    from rlhf_bench.runtime.pool import workers_for

    lengths = np.array([len(row.token_ids) for row in rows])
    # Allocated once: thousands of small results that outlive their batch would keep the allocator from using the room
    # of the batch's large ones again, and the process would grow by it with every shard.
    ends = np.cumsum(lengths)
    per_token, numbers = np.zeros(ends[-1]), np.zeros((len(rows), 4))

    def work(group: list[int]) -> None:
        """The sums of each response into `numbers`, the exact terms of its tokens into `per_token`."""
        batch = collate([drawn[i] for i in group], pad_id=policy.tokenizer.pad_token_id).to(policy.model.device)
        terms = token_kl(policy.model, reference.model, batch)
        log_ratio = (terms.policy_logps - terms.reference_logps).double()
        terms_of = (kl_k1(log_ratio), kl_k3(log_ratio), terms.exact.double(), terms.reference_logps.double())
        numbers[group] = torch.stack([term.sum(1) for term in terms_of], dim=1).cpu().numpy()
        for i, exact, mask in zip(group, terms.exact.cpu(), batch.response_mask.cpu(), strict=True):
            per_token[ends[i] - lengths[i] : ends[i]] = exact[mask].double().numpy()

    drawn = [Encoded(list(row.prompt_ids), list(row.token_ids)) for row in rows]
    with workers_for(policy.model, context.processes) as pool:
        pool.map(work, grouped_batches(policy.model, drawn, BATCH))
    context.processes.add_up([torch.from_numpy(numbers), torch.from_numpy(per_token)])  # 0 where another computed it
    columns: dict[str, Values] = {}
    for i, name in enumerate(("kl_k1", "kl_k3", "kl_exact")):
        columns[name] = numbers[:, i]
        columns[f"{name}_token"] = numbers[:, i] / lengths.clip(min=1)
    places = token_ends(policy.tokenizer, [row.token_ids for row in rows], [row.response for row in rows])
    lists = {TOKEN_KL: np.split(per_token, ends[:-1]), TOKEN_ENDS: [np.array(place, np.int32) for place in places]}
    return {**columns, "n_drawn": lengths.astype(float), "reference_logprob": numbers[:, 3], **_as_objects(lists)}


def _as_objects(lists: Mapping[str, Sequence[npt.NDArray[Any]]]) -> dict[str, Values]:
    """Columns of one array a response."""
    columns: dict[str, Values] = {}
    for name, arrays in lists.items():
        column = np.empty(len(arrays), dtype=object)
        column[:] = arrays
        columns[name] = column
    return columns


def _forward(
    rows: Sequence[ResponseRow], policy: LoadedModel, reference: LoadedModel, context: EvalContext
) -> Values | Missing:
    """KL(reference || model) along each prompt's chosen response, summed, nats; on the rows of sample 0."""
    from rlhf_bench.modeling.logprobs import token_kl
    from rlhf_bench.modeling.tokens import collate, length_batches

    chosen = encode_chosen(rows, policy, context)
    if not chosen.at:
        return Missing("no reference texts to score")
    encoded: list[Encoded] = chosen.encoded

    def work(group: list[int]) -> Values:
        batch = collate([encoded[i] for i in group], pad_id=policy.tokenizer.pad_token_id).to(policy.model.device)
        sums: Values = token_kl(reference.model, policy.model, batch).exact.double().sum(1).cpu().numpy()
        return sums

    groups = list(length_batches([row.length for row in encoded], BATCH))
    total = np.full(len(encoded), np.nan)
    for group, sums in zip(groups, context.processes.map(work, groups), strict=True):
        total[group] = sums
    return chosen.spread(total)
