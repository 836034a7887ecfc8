"""Losses on preference pairs, worked by hand."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from rlhf_bench.errors import BadValue
from trainers.config.loading import load_recipe
from trainers.config.recipe import LossName
from trainers.losses.preference import (
    PREFERENCE_LOSSES,
    PairLogps,
    cdpo_loss,
    cpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    ipo_sum_loss,
    kto_kl,
    kto_loss,
    nll_per_response,
    nll_per_token,
    nll_sum,
    odds_ratio_loss,
    robust_loss,
    slic_loss,
    unpaired_kto_loss,
)

# log-ratios pi - ref: chosen 1 and -1, rejected 0 and 2; their differences 1 and -3
POLICY = PairLogps(torch.tensor([-1.0, -5.0]), torch.tensor([-3.0, -2.0]))
REFERENCE = PairLogps(torch.tensor([-2.0, -4.0]), torch.tensor([-3.0, -4.0]))


def test_dpo_loss_worked_by_hand() -> None:
    policy = PairLogps(torch.tensor([-1.0, -5.0]), torch.tensor([-3.0, -2.0]))
    reference = PairLogps(torch.tensor([-2.0, -4.0]), torch.tensor([-3.0, -4.0]))
    terms = dpo_loss(policy, reference, beta=0.5)
    assert terms.chosen.tolist() == [0.5, -0.5]  # .5 (-1 + 2), .5 (-5 + 4)
    assert terms.rejected.tolist() == [0.0, 1.0]  # .5 (-3 + 3), .5 (-2 + 4)
    # margins .5 and -1.5: log(1 + e^-0.5) = 0.474077, log(1 + e^1.5) = 1.701413
    assert terms.loss.tolist() == pytest.approx([0.474077, 1.701413], abs=1e-6)


def test_dpo_gradient_worked_by_hand() -> None:
    """arXiv:2305.18290, section 4: -beta sigmoid(-margin) on the chosen, the opposite on the rejected."""
    chosen, rejected = (torch.tensor([x], requires_grad=True) for x in (-1.0, -3.0))
    terms = dpo_loss(PairLogps(chosen, rejected), PairLogps(torch.tensor([-2.0]), torch.tensor([-3.0])), beta=0.5)
    terms.loss.sum().backward()
    weight = 0.5 / (1 + math.exp(0.5))  # margin .5
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-weight)
    assert rejected.grad.item() == pytest.approx(weight)
    assert not terms.chosen.requires_grad  # for the log alone


def test_dpo_loss_of_the_reference_is_ln_2() -> None:
    same = PairLogps(torch.tensor([-3.0, -70.0]), torch.tensor([-8.0, -2.0]))
    assert dpo_loss(same, same, beta=0.1).loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-7)


def test_cdpo_loss_worked_by_hand() -> None:
    # margins .5 and -1.5; log(1 + e^-0.5) = .474077 and log(1 + e^0.5) = .974077: .9 * .474077 + .1 * .974077;
    # log(1 + e^1.5) = 1.701413 and log(1 + e^-1.5) = .201413: .9 * 1.701413 + .1 * .201413
    terms = cdpo_loss(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)
    assert terms.loss.tolist() == pytest.approx([0.524077, 1.551413], abs=1e-6)
    assert terms.chosen.tolist() == [0.5, -0.5]
    assert terms.rejected.tolist() == [0.0, 1.0]


def test_robust_loss_worked_by_hand() -> None:
    # the same four logarithms: (.9 * .474077 - .1 * .974077) / .8 and (.9 * 1.701413 - .1 * .201413) / .8
    terms = robust_loss(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)
    assert terms.loss.tolist() == pytest.approx([0.411577, 1.888913], abs=1e-6)


def test_robust_loss_is_unbiased_under_flipped_labels() -> None:
    """Its mean over labels of which .3 are flipped is DPO's loss on the true ones; cDPO's is not."""
    flipped = [PairLogps(x.rejected, x.chosen) for x in (POLICY, REFERENCE)]

    def mean(loss):  # type: ignore[no-untyped-def]
        right, wrong = (loss(*x, beta=0.5, label_smoothing=0.3).loss for x in ((POLICY, REFERENCE), flipped))
        return 0.7 * right + 0.3 * wrong

    true = dpo_loss(POLICY, REFERENCE, beta=0.5).loss.tolist()
    assert mean(robust_loss).tolist() == pytest.approx(true, abs=1e-6)
    assert mean(cdpo_loss).tolist() != pytest.approx(true, abs=1e-2)


def test_ipo_losses_worked_by_hand() -> None:
    # 1 / (2 * .5) = 1: (1 - 1)^2 and (-3 - 1)^2
    assert ipo_sum_loss(POLICY, REFERENCE, beta=0.5).loss.tolist() == [0.0, 16.0]
    # a token: 1/2 - 0/4 - 1 = -.5 and -1/1 - 2/4 - 1 = -2.5
    tokens = PairLogps(torch.tensor([2, 1]), torch.tensor([4, 4]))
    terms = ipo_loss(POLICY, REFERENCE, tokens, beta=0.5)
    assert terms.loss.tolist() == [0.25, 6.25]
    assert terms.chosen.tolist() == [0.5, -0.5]  # logged as sums


def test_hinge_losses_worked_by_hand() -> None:
    assert hinge_loss(POLICY, REFERENCE, beta=0.5).loss.tolist() == [0.5, 2.5]  # 1 - .5, 1 + 1.5
    assert hinge_loss(POLICY, REFERENCE, beta=2.0).loss.tolist() == [0.0, 7.0]  # 1 - 2 is below 0; 1 + 6
    # delta 2: 2 + 1 - 3 and 2 + 5 - 2
    assert slic_loss(POLICY, beta=0.5).loss.tolist() == [0.0, 5.0]


def test_kto_loss_worked_by_hand() -> None:
    # sigmoid(.5 - .5) = .5 with sigmoid(0 - .5) = .377541; sigmoid(.5 + .5) = .731059 with sigmoid(1 - .5) = .622459
    terms = kto_loss(POLICY, REFERENCE, torch.tensor(1.0), beta=0.5)
    assert terms.loss.tolist() == pytest.approx([0.4387704, 0.6767589], abs=1e-6)
    # (2 * .5 + .377541) / 2 and (.5 + 3 * .377541) / 2
    assert kto_loss(POLICY, REFERENCE, torch.tensor(1.0), beta=0.5, desirable_weight=2).loss[0].item() == (
        pytest.approx(0.6887704, abs=1e-6)
    )
    assert kto_loss(POLICY, REFERENCE, torch.tensor(1.0), beta=0.5, undesirable_weight=3).loss[0].item() == (
        pytest.approx(0.8163111, abs=1e-6)
    )


def test_unpaired_kto_loss_worked_by_hand() -> None:
    """Log-ratios 1, -1 and 3 of a desirable, an undesirable and an undesirable response, z = 1, beta = .5:
    1 - sigmoid(0) = .5; 1 - sigmoid(.5 (1 + 1)) = 1 - .731059 = .268941; 1 - sigmoid(.5 (1 - 3)) = .731059."""
    ratio, desirable = torch.tensor([1.0, -1.0, 3.0]), torch.tensor([True, False, False])
    loss = unpaired_kto_loss(ratio, desirable, torch.tensor(1.0), beta=0.5)
    assert loss.tolist() == pytest.approx([0.5, 0.268941, 0.731059], abs=1e-6)
    weighed = unpaired_kto_loss(
        ratio, desirable, torch.tensor(1.0), beta=0.5, desirable_weight=2.0, undesirable_weight=3.0
    )
    assert weighed.tolist() == pytest.approx([1.0, 0.806824, 2.193176], abs=1e-6)


def test_unpaired_kto_of_both_sides_is_kto_of_the_pairs() -> None:
    both = torch.cat([POLICY.chosen - REFERENCE.chosen, POLICY.rejected - REFERENCE.rejected])
    weights = {"beta": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    single = unpaired_kto_loss(both, torch.tensor([True, True, False, False]), torch.tensor(1.0), **weights)
    paired = kto_loss(POLICY, REFERENCE, torch.tensor(1.0), **weights).loss
    assert single.mean().item() == pytest.approx(paired.mean().item(), abs=1e-7)


def test_kto_kl_is_a_detached_mean_that_is_never_negative() -> None:
    policy = torch.tensor([-1.0, -2.0], requires_grad=True)
    kl = kto_kl(policy, torch.tensor([-2.0, -4.0]))
    assert kl.item() == 1.5  # (1 + 2) / 2
    assert not kl.requires_grad
    assert kto_kl(torch.tensor([-2.0, -4.0]), policy).item() == 0.0


def test_odds_ratio_loss_worked_by_hand() -> None:
    # a = log .5 and log .2: odds 1 and 1/4, log odds ratio log 4; -.5 log(4 / 5) = .111572
    policy = PairLogps(torch.tensor([2 * math.log(0.5)]), torch.tensor([3 * math.log(0.2)]))
    terms = odds_ratio_loss(policy, PairLogps(torch.tensor([2]), torch.tensor([3])), beta=0.5)
    assert terms.loss.item() == pytest.approx(0.111572, abs=1e-6)
    assert terms.chosen.item() == pytest.approx(0.5 * math.log(0.5))


def test_odds_ratio_loss_at_both_ends() -> None:
    """A response that is almost certain (1 - e^a would be 0) beside one that is almost impossible, in float32."""
    policy = PairLogps(torch.tensor([-1e-6], requires_grad=True), torch.tensor([-90.0], requires_grad=True))
    one = PairLogps(torch.tensor([1]), torch.tensor([1]))
    terms = odds_ratio_loss(PairLogps(policy.rejected, policy.chosen), one, beta=1.0)
    # log odds -90 and -log(1e-6) = 13.815511: the loss is their distance
    assert terms.loss.item() == pytest.approx(103.815511, abs=1e-3)
    terms.loss.sum().backward()
    assert policy.rejected.grad is not None
    assert policy.rejected.grad.item() == pytest.approx(-1.0)


def test_cpo_loss_worked_by_hand() -> None:
    # margins .5 (-1 + 3) = 1 and .5 (-5 + 2) = -1.5
    assert cpo_loss(POLICY, beta=0.5).loss.tolist() == pytest.approx([0.313262, 1.701413], abs=1e-6)


def test_sft_terms_worked_by_hand() -> None:
    nll, tokens = torch.tensor([6.0, 1.0]), torch.tensor([3, 1])
    assert nll_per_token(nll, tokens, 2.0).mean().item() == 1.75  # 7 nats over 4 tokens, 2 a pair
    assert nll_per_response(nll, tokens, 2.0).mean().item() == 1.5  # (6/3 + 1/1) / 2
    assert nll_sum(nll, tokens, 2.0).mean().item() == 3.5  # 7 nats over 2 pairs


def test_the_recipe_knows_every_loss_by_its_name() -> None:
    assert set(get_args(LossName)) == {*PREFERENCE_LOSSES, "kto_unpaired"}  # which is of no pair


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss=ipo", "label_smoothing=0.1"],
         "dpo.label_smoothing: given 0.1 with dpo.loss=ipo, which has no label smoothing; only cdpo and robust do"),
        (["loss=cdpo"],
         "dpo.loss=cdpo with dpo.label_smoothing=0 is dpo.loss=sigmoid; set dpo.label_smoothing, such as 0.1, or use "
         "sigmoid"),
        (["loss=orpo", "sft_weight=0.5"],
         "dpo.sft_weight: given 0.5 with dpo.loss=orpo, which is an SFT loss with an odds-ratio term; weigh that term "
         "with dpo.beta and leave sft_weight out"),
        (["desirable_weight=2"],
         "dpo.desirable_weight and dpo.undesirable_weight are kto's; given with dpo.loss=sigmoid: leave them out"),
        (["loss=kto", "batch_size=1"],
         "dpo.batch_size: given 1 with dpo.loss=kto; its KL pairs each prompt with another pair's response; expected "
         "at least 2"),
        (["loss=kto_unpaired", "sft_weight=1"],
         "dpo.sft_weight: given 1 with dpo.loss=kto_unpaired, which has no chosen response for an SFT term; leave it "
         "out, or use kto on pairs"),
        (["loss=robust", "label_smoothing=0.5"], "dpo.label_smoothing: given 0.5, expected less than 0.5"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_loss(settings: list[str], message: str) -> None:
    with pytest.raises(BadValue) as error:
        load_recipe("mini", [f"dpo.{setting}" for setting in settings])
    assert str(error.value) == message


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(BadValue, match=r"dpo\.loss: given \"dpo\", expected 'sigmoid', 'cdpo'"):
        load_recipe("mini", ["dpo.loss=dpo"])
