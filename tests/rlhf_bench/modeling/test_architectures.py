"""Log-probabilities, their gradients and KL of every architecture, against transformers' own forward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.heads import is_linear
from rlhf_bench.modeling.logits_check import check_logits
from rlhf_bench.modeling.logprobs import LogprobModel, token_kl
from rlhf_bench.modeling.tokens import Batch, Encoded, collate

from .architectures import CONFIGS, rows_of_tokens, tiny_model

SCALED = {"gemma2", "granite", "cohere", "falcon_h1", "recurrent_gemma", "electra", "roberta"}


def make_batch() -> Batch:
    tokens = rows_of_tokens(9, 6, 12)
    return collate([Encoded(ids[:3], ids[3:]) for ids in tokens], pad_id=0)


def own_logps(model: PreTrainedModel, batch: Batch, temperature: float = 1.0) -> list[Tensor]:
    """log softmax of plain transformers' logits of each row alone, without padding: (V,) before each response token."""
    tables = []
    for ids, real, response in zip(batch.ids, batch.attention_mask, batch.response_mask, strict=True):
        row = ids[real]
        table = (model(input_ids=row[None], use_cache=False).logits[0] / temperature).log_softmax(-1)
        tables.append(table[:-1][response[real][1:]])
    return tables


@pytest.mark.parametrize("kind", CONFIGS)
def test_log_probabilities_are_those_of_the_models_own_forward(kind: str) -> None:
    model, batch = tiny_model(kind), make_batch()
    ours = LogprobModel(model)(batch, 0.7)
    with torch.no_grad():
        tables = own_logps(model, batch, 0.7)
    for table, ids, logps, entropy, mask in zip(tables, batch.ids, *ours[:2], batch.response_mask, strict=True):
        torch.testing.assert_close(logps[mask], table.gather(1, ids[mask][:, None])[:, 0], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(entropy[mask], -(table.exp() * table).sum(-1), atol=2e-4, rtol=1e-4)
    assert is_linear(model) is (kind not in SCALED)
    check_logits(model, kind)  # raises nothing


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite"])
def test_gradients_are_those_of_the_models_own_forward(kind: str) -> None:
    batch = make_batch()
    grads = []
    for own in (True, False):
        model = tiny_model(kind)
        if own:
            tables = own_logps(model, batch)
            picked = [
                t.gather(1, ids[m][:, None]) for t, ids, m in zip(tables, batch.ids, batch.response_mask, strict=True)
            ]
            torch.cat(picked).sum().backward()
        else:
            LogprobModel(model)(batch).logps.sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in grads[0].items():
        assert expected is not None
        torch.testing.assert_close(grads[1][name], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", sorted(SCALED))
def test_exact_kl_is_that_of_the_models_own_distributions(kind: str) -> None:
    policy, reference, batch = tiny_model(kind), tiny_model(kind, seed=1), make_batch()
    terms = token_kl(policy, reference, batch)
    with torch.no_grad():
        p, q = (torch.cat(own_logps(model, batch)) for model in (policy, reference))
    expected = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(terms.exact[batch.response_mask], expected, atol=1e-4, rtol=1e-3)
    assert token_kl(policy, policy, batch).exact.abs().max() == 0


def test_kl_over_the_common_tokens_of_a_padded_output_layer() -> None:
    """Of 120 and 137 tokens the KL is that of the distributions over the first 120, each made to sum to 1."""
    policy, reference, batch = tiny_model("llama", vocab_size=137), tiny_model("llama", seed=1), make_batch()
    for first, second in ((policy, reference), (reference, policy)):
        terms = token_kl(first, second, batch)
        with torch.no_grad():
            sides = [torch.cat(own_logps(model, batch))[:, :120].log_softmax(-1) for model in (first, second)]
        expected = (sides[0].exp() * (sides[0] - sides[1])).sum(-1)
        torch.testing.assert_close(terms.exact[batch.response_mask], expected, atol=1e-4, rtol=1e-3)
        assert (terms.exact >= -1e-6).all()
    beyond = Encoded([5, 6], [130, 7])  # token 130 is the policy's alone
    terms = token_kl(policy, reference, collate([beyond], pad_id=0))
    assert terms.policy_logps[0, 2] == terms.reference_logps[0, 2] == 0
    assert terms.policy_logps.isfinite().all()


def test_logits_that_differ_from_the_models_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("granite")
    monkeypatch.setattr("rlhf_bench.modeling.logprobs.is_linear", lambda _: True)
    with pytest.raises(ModelError, match=r"mine: the logits computed here differ .* by \d"):
        check_logits(model, "mine")


def test_a_scale_that_is_learned_beside_the_output_layer_has_its_gradient() -> None:
    """At 1 it changes no logit, and d(sum of log-probabilities) / d(scale) is not 0."""

    class Scaled(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(32, 120, bias=False)
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, hidden: Tensor) -> Tensor:
            return super().forward(hidden) * self.scale

    model, batch = tiny_model("llama"), make_batch()
    model.set_output_embeddings(Scaled())
    LogprobModel(model)(batch).logps.sum().backward()
    (ours,) = [p.grad for name, p in model.named_parameters() if name.endswith("scale")]
    model.zero_grad()
    tables = own_logps(model, batch)
    sum(
        t.gather(1, ids[m][:, None]).sum() for t, ids, m in zip(tables, batch.ids, batch.response_mask, strict=True)
    ).backward()  # type: ignore[union-attr]
    (own,) = [p.grad for name, p in model.named_parameters() if name.endswith("scale")]
    assert ours is not None
    torch.testing.assert_close(ours, own, atol=1e-3, rtol=1e-3)


def test_a_model_that_does_not_leave_out_padding_is_refused() -> None:
    """CPM-Ant's attention has no mask for padding: a text beside a longer one has other logits than alone."""
    small = {"vocab_size": 120, "hidden_size": 32, "num_attention_heads": 4, "dim_head": 8, "dim_ff": 48}
    config = AutoConfig.for_model("cpmant", **small, num_hidden_layers=2)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ModelError, match=r"cpmant model cannot|differ from"):
        check_logits(model, "mine")
