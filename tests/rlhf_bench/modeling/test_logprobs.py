"""Log-probabilities, entropy and exact KL, against the full table of logits that the code never makes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from rlhf_bench.modeling import chunked_logps as chunked
from rlhf_bench.modeling import logprobs
from rlhf_bench.modeling.chunked_logps import chunked_logps
from rlhf_bench.modeling.logprobs import LogprobModel, target_mask, token_kl
from rlhf_bench.modeling.tokens import Batch, Encoded, collate

EOS = 0  # end-of-text and pad
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # nats: float32 of numbers around 10; the mistakes are of whole nats

ROWS = [
    Encoded([11, 12, 13], [21, 22, 23, 24, EOS]),
    Encoded([14], [25]),
    Encoded([15, 16, 17, 18, 19], [26, EOS, 27, EOS]),  # end-of-text inside counts like any other token
    Encoded([11, 12], []),  # a response cut to nothing
]


def batch_of(rows: list[Encoded] = ROWS, **options: Any) -> Batch:
    return collate(rows, pad_id=EOS, **options)


def table(model: PreTrainedModel, row: Encoded, temperature: float = 1.0) -> Tensor:
    """log softmax of plain transformers at every position of one text, alone and without padding. (T, V)"""
    logits: Any = model(torch.tensor([row.prompt + row.response])).logits
    return (logits[0] / temperature).log_softmax(-1)


def naive(model: PreTrainedModel, row: Encoded, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy of each response token, (R,)."""
    before = table(model, row, temperature)[len(row.prompt) - 1 : -1]
    picked = before.gather(1, torch.tensor(row.response, dtype=torch.long)[:, None]).squeeze(1)
    return picked, -(before.exp() * before).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_like_a_full_log_softmax(policy: PreTrainedModel, temperature: float) -> None:
    batch = batch_of()
    out = LogprobModel(policy)(batch, temperature)
    for i, row in enumerate(ROWS):
        logps, entropy = naive(policy, row, temperature)
        torch.testing.assert_close(out.logps[i][batch.response_mask[i]], logps, **CLOSE)
        torch.testing.assert_close(out.entropy[i][batch.response_mask[i]], entropy, **CLOSE)
    assert (out.logps[~batch.response_mask] == 0).all()
    assert (out.entropy[~batch.response_mask] == 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("multiple_of", [1, 16, 64])
def test_padding_changes_nothing(policy: PreTrainedModel, side: str, multiple_of: int) -> None:
    """Left padding without positions of its own would move GPT-2's log-probabilities by whole nats."""
    batch = batch_of(side=side, multiple_of=multiple_of)
    out = LogprobModel(policy)(batch)
    for i, row in enumerate(ROWS):
        logps, entropy = naive(policy, row)
        torch.testing.assert_close(out.logps[i][batch.response_mask[i]], logps, **CLOSE)
        torch.testing.assert_close(out.entropy[i][batch.response_mask[i]], entropy, **CLOSE)
    # sums, which a pad that counted would change
    alone = sum(naive(policy, row)[1].sum().item() for row in ROWS)
    assert out.entropy.sum().item() == pytest.approx(alone, rel=1e-5)


def test_positions_matter_to_this_model(policy: PreTrainedModel) -> None:
    """Or the test above would show nothing."""
    batch = batch_of()
    moved = batch._replace(position_ids=batch.position_ids + 5)
    change = (LogprobModel(policy)(moved).logps - LogprobModel(policy)(batch).logps).abs().max()
    assert change.item() > 0.1


def test_whole_sequence(policy: PreTrainedModel) -> None:
    """Every token but the first, which nothing comes before."""
    batch = batch_of(side="left")
    out = LogprobModel(policy)(batch, whole_sequence=True)
    mask = target_mask(batch, whole_sequence=True)
    assert mask.sum(1).tolist() == [7, 1, 8, 1]  # lengths 8, 2, 9 and 2, less one
    for i, row in enumerate(ROWS):
        ids = torch.tensor(row.prompt + row.response)
        expected = table(policy, row)[:-1].gather(1, ids[1:, None]).squeeze(1)
        torch.testing.assert_close(out.logps[i][mask[i]], expected, **CLOSE)
    assert target_mask(batch, whole_sequence=False).sum(1).tolist() == [5, 1, 4, 0]


def test_response_tokens_alone_are_looked_up(policy: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def spy(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float) -> Any:
        seen.append(targets.tolist())
        return chunked_logps(hidden, weight, bias, targets, scale)

    monkeypatch.setattr(logprobs, "chunked_logps", spy)
    LogprobModel(policy)(batch_of())
    assert seen == [[token for row in ROWS for token in row.response]]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kept", [0, 600 * 7], ids=["computed again", "kept"])
@pytest.mark.parametrize("chunk", [7, 256, 1000])
def test_gradient_like_autograd_in_float64(bias: bool, chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of log-probabilities and entropy together, in many chunks, a few, and one, which is kept in any case."""
    monkeypatch.setattr(chunked, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(chunked, "KEPT_ELEMENTS", kept)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    hidden, weight, b = draw(600, 5), draw(7, 5), draw(7) if bias else None
    targets = torch.randint(7, (600,), generator=generator)
    up_logps, up_entropy = draw(600).detach(), draw(600).detach()
    inputs = [t for t in (hidden, weight, b) if t is not None]

    logps, entropy, correct = chunked_logps(hidden, weight, b, targets, 1 / 0.7)
    ours = torch.autograd.grad((logps * up_logps + entropy * up_entropy).sum(), inputs)
    log_p = ((hidden @ weight.T + (0 if b is None else b)) / 0.7).log_softmax(-1)
    picked, entropy_ = log_p.gather(1, targets[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(-1)
    expected = torch.autograd.grad((picked * up_logps + entropy_ * up_entropy).sum(), inputs)

    torch.testing.assert_close(logps, picked, atol=1e-12, rtol=0)
    torch.testing.assert_close(entropy, entropy_, atol=1e-12, rtol=0)
    assert torch.equal(correct, log_p.argmax(-1) == targets)
    assert 0 < int(correct.sum()) < 600
    assert not correct.requires_grad
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-11, rtol=0)


def test_gradient_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((3, 4), (6, 4), (6,))
    )
    targets = torch.tensor([0, 5, 2])
    assert torch.autograd.gradcheck(lambda h, w, b: chunked_logps(h, w, b, targets, 0.5)[:2], (hidden, weight, bias))


def test_correct_is_laid_out_like_the_batch(policy: PreTrainedModel) -> None:
    batch = batch_of()
    with torch.no_grad():
        out = LogprobModel(policy)(batch, whole_sequence=True)
        best = policy(batch.ids, attention_mask=batch.attention_mask.long()).logits.argmax(-1)
    right = torch.zeros_like(batch.response_mask)
    right[:, 1:] = (best[:, :-1] == batch.ids[:, 1:]) & batch.attention_mask[:, 1:]
    assert torch.equal(out.correct, right)


def test_chunk_size_changes_nothing(policy: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ROWS * 30  # 300 response tokens: two chunks of 256
    batch = batch_of(rows)

    def run() -> tuple[Tensor, Tensor, Tensor]:
        policy.zero_grad()
        out = LogprobModel(policy)(batch)
        out.logps.sum().backward()
        return out.logps.detach(), policy.transformer.wte.weight.grad.clone(), token_kl(policy, policy, batch).exact

    at_once = run()
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 11)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 1)
    for whole, parts in zip(at_once, run(), strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-5)


def test_gradient_of_a_whole_model(policy: PreTrainedModel) -> None:
    """Through the backbone and the output layer, which share their weights."""
    model = policy.double()
    batch = batch_of()
    LogprobModel(model)(batch).logps.sum().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sum(naive(model, row)[0].sum() for row in ROWS[:3]).backward()  # type: ignore[union-attr]
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, atol=1e-9, rtol=1e-9, msg=name)


def test_kl_by_enumeration(policy: PreTrainedModel) -> None:
    """sum over the vocabulary of p (log p - log q), at each prefix."""
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        reference.transformer.wte.weight.mul_(0.8)
    batch = batch_of(side="left")
    terms = token_kl(policy, reference, batch)
    for i, row in enumerate(ROWS):
        p, q = (table(model, row)[len(row.prompt) - 1 : -1] for model in (policy, reference))
        expected = torch.tensor([sum((pt.exp() * (pt - qt)).item() for pt, qt in zip(*r, strict=True))
                                 for r in zip(p, q, strict=True)])  # fmt: skip
        mask = batch.response_mask[i]
        torch.testing.assert_close(terms.exact[i][mask], expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(terms.policy_logps[i][mask], naive(policy, row)[0], **CLOSE)
        torch.testing.assert_close(terms.reference_logps[i][mask], naive(reference, row)[0], **CLOSE)
    assert terms.exact.sum() > 0.1  # not a test of nothing
    assert (terms.exact[~batch.response_mask] == 0).all()


def test_kl_of_a_model_to_itself_is_exactly_0(policy: PreTrainedModel) -> None:
    terms = token_kl(policy, copy.deepcopy(policy), batch_of())
    assert (terms.exact == 0).all()
    assert (terms.policy_logps == terms.reference_logps).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_kl_with_more_padding_is_the_same(policy: PreTrainedModel, side: str) -> None:
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        reference.transformer.wte.weight.mul_(0.8)
    near, far = (
        token_kl(policy, reference, batch_of(side=side, multiple_of=multiple)).exact.sum(1) for multiple in (1, 64)
    )
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-5)


def test_a_token_the_policy_cannot_produce_adds_nothing(policy: PreTrainedModel) -> None:
    """0 log 0 = 0, not NaN."""
    batch = batch_of(ROWS[:2])
    blocked = torch.zeros(300)
    blocked[5] = -torch.inf
    layer = torch.nn.Linear(32, 300)
    layer.weight, layer.bias = policy.lm_head.weight, torch.nn.Parameter(blocked)
    other = copy.deepcopy(policy)
    other.set_output_embeddings(layer)
    assert token_kl(other, policy, batch).exact.isfinite().all()


def test_batch_without_a_response_token(policy: PreTrainedModel) -> None:
    batch = batch_of([Encoded([11, 12], [])])
    out = LogprobModel(policy)(batch)
    assert out.logps.eq(0).all()
    assert token_kl(policy, policy, batch).exact.eq(0).all()
    out.logps.sum().backward()  # and it can be learned from: nothing


# wrapped, as several processes train it


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/init", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_gradients_go_through_a_wrapper(policy: PreTrainedModel) -> None:
    """DDP's communication hook sees every gradient, the output layer's too; beside the wrapper it sees none."""
    reference = copy.deepcopy(policy)
    wrapped = DistributedDataParallel(LogprobModel(policy))
    reduced: list[Tensor] = []

    def hook(state, bucket):  # type: ignore[no-untyped-def]  # DDP takes no annotation that is a string
        reduced.append(bucket.buffer())
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(2 * bucket.buffer())  # what the other processes would have added
        return future

    wrapped.register_comm_hook(None, hook)
    wrapped(batch_of()).logps.sum().backward()
    assert sum(len(flat) for flat in reduced) == sum(p.numel() for p in policy.parameters())

    sum(naive(reference, row)[0].sum() for row in ROWS[:3]).backward()  # type: ignore[union-attr]
    for mine, plain in zip(policy.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, 2 * plain.grad, atol=1e-3, rtol=1e-4)

    reduced.clear()
    wrapped.module(batch_of()).logps.sum().backward()
    assert not reduced
