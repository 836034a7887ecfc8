"""Losses on preference pairs: DPO and its family, as pure functions of log-probabilities, and one table of their names.

w is the chosen response, l the rejected one; pi and ref are log-probabilities of the policy and of the reference,
summed over response tokens, end-of-text included. Each function gives one loss per pair; a step's loss is their mean:
micro-batches of any size give the gradient of the whole step.

Where TRL and the paper define a loss differently, both are here: `ipo`, `orpo` and `cpo` are TRL's, `ipo_sum`,
`orpo_response`, `cpo_sum` and `slic` the papers'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:  # the options' names alone
    from trainers.config.recipe import DpoConfig


class PairLogps(NamedTuple):
    """One number a response: its log-probability, or how many tokens it has."""

    chosen: Tensor  # (B,)
    rejected: Tensor  # (B,)


class PairTerms(NamedTuple):
    loss: Tensor  # (B,) one a pair
    chosen: Tensor  # (B,) implicit reward of the chosen response, detached: for the log alone
    rejected: Tensor  # (B,)


def dpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PairTerms:
    """DPO, Rafailov et al. 2023 (arXiv:2305.18290), eq. 7.

        loss = -log sigmoid( beta * [(pi_w - ref_w) - (pi_l - ref_l)] )

    All inputs are (B,).
    """
    chosen, rejected = _rewards(policy, reference, beta)
    return PairTerms(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def cdpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float) -> PairTerms:
    """Conservative DPO: the label is wrong with probability e. E. Mitchell, "A note on DPO with noisy preferences and
    relationship to IPO" (2023), eq. 3.

        loss = -(1 - e) log sigmoid(m) - e log sigmoid(-m),   m as in DPO
    """
    chosen, rejected = _rewards(policy, reference, beta)
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
    return PairTerms(loss, chosen.detach(), rejected.detach())


def robust_loss(policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float) -> PairTerms:
    """Robust DPO, Chowdhury et al. 2024 (arXiv:2403.00409): cDPO is biased under flipped labels, this is not.

        loss = [ -(1 - e) log sigmoid(m) + e log sigmoid(-m) ] / (1 - 2e),   e < 1/2

    Its mean over labels that are flipped with probability e is DPO's loss on the true labels. It can be negative.
    """
    chosen, rejected = _rewards(policy, reference, beta)
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * F.logsigmoid(margin) + label_smoothing * F.logsigmoid(-margin)
    return PairTerms(loss / (1 - 2 * label_smoothing), chosen.detach(), rejected.detach())


def ipo_sum_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PairTerms:
    """IPO as in its paper, Azar et al. 2023 (arXiv:2310.12036), eq. 17; beta is the paper's tau.

    loss = ( [(pi_w - ref_w) - (pi_l - ref_l)] - 1 / (2 beta) )^2
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    loss = (chosen - rejected - 1 / (2 * beta)) ** 2
    return PairTerms(loss, (beta * chosen).detach(), (beta * rejected).detach())


def ipo_loss(policy: PairLogps, reference: PairLogps, tokens: PairLogps, *, beta: float) -> PairTerms:
    """IPO as TRL has it: eq. 17 of arXiv:2310.12036 on log-probabilities a token, so that length does not scale it.

        loss = ( [(pi_w - ref_w) / n_w - (pi_l - ref_l) / n_l] - 1 / (2 beta) )^2

    tokens: n, the response's tokens, (B,). The implicit rewards that are logged stay sums.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    loss = (chosen / tokens.chosen - rejected / tokens.rejected - 1 / (2 * beta)) ** 2
    return PairTerms(loss, (beta * chosen).detach(), (beta * rejected).detach())


def hinge_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PairTerms:
    """Hinge on DPO's margin: SLiC's loss on rewards relative to the reference, Liu et al. 2023 (arXiv:2309.06657).

    loss = max( 0, 1 - beta * [(pi_w - ref_w) - (pi_l - ref_l)] )
    """
    chosen, rejected = _rewards(policy, reference, beta)
    return PairTerms(torch.relu(1 - (chosen - rejected)), chosen.detach(), rejected.detach())


def slic_loss(policy: PairLogps, *, beta: float) -> PairTerms:
    """SLiC-HF's calibration term, Zhao et al. 2023 (arXiv:2305.10425); no reference.

        loss = max( 0, delta - pi_w + pi_l ),   delta = 1 / beta

    The paper adds an SFT term, which the table adds.
    """
    loss = torch.relu(1 / beta - policy.chosen + policy.rejected)
    return PairTerms(loss, beta * policy.chosen.detach(), beta * policy.rejected.detach())


def kto_kl(policy: Tensor, reference: Tensor) -> Tensor:
    """KTO's reference point z, Ethayarajh et al. 2024 (arXiv:2402.01306), detached; a scalar.

        z = max( 0, mean over i of pi(y_j | x_i) - ref(y_j | x_i) ),   j = i - 1 modulo n

    policy, reference: (n,) log-probabilities of each prompt with the response of the row before it. This is KTO's one
    number that belongs to a batch and not to a pair: it depends on the rows of a step and on their order. Here
    it is taken over the whole optimiser step before the first micro-batch, so that the micro-batches' size does not
    matter; in TRL and in the paper it is of the micro-batch, and their loss changes with it.
    """
    return (policy - reference).mean().clamp(min=0).detach()


def kto_loss(
    policy: PairLogps,
    reference: PairLogps,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> PairTerms:
    """KTO on pairs, arXiv:2402.01306, eq. 7: the chosen response is a desirable example, the rejected an undesirable.

        loss = 1/2 { d [1 - sigmoid(beta (pi_w - ref_w - z))] + u [1 - sigmoid(beta (z - pi_l + ref_l))] }

    kl: z, a scalar (see `kto_kl`). The half makes the mean over pairs the mean over the 2n examples.
    """
    chosen, rejected = _rewards(policy, reference, beta)
    desirable = desirable_weight * torch.sigmoid(beta * kl - chosen)
    undesirable = undesirable_weight * torch.sigmoid(rejected - beta * kl)
    return PairTerms(0.5 * (desirable + undesirable), chosen.detach(), rejected.detach())


def unpaired_kto_loss(
    log_ratio: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO as in its paper, of single responses with a label, arXiv:2402.01306, eq. 7; (B,), as TRL's KTOTrainer.

        loss = d [1 - sigmoid(beta (r - z))] of a desirable response, u [1 - sigmoid(beta (z - r))] of an undesirable

    log_ratio: r = pi - ref, (B,). desirable: (B,), True = desirable. kl: z, a scalar (see `kto_kl`). d and u balance
    the two kinds where there are not as many of both. The paper's eq. 8 is lambda_y - v; lambda_y has no gradient.
    """
    sign = desirable.to(log_ratio.dtype) * 2 - 1
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * torch.sigmoid(-sign * beta * (log_ratio - kl))


def odds_ratio_loss(policy: PairLogps, tokens: PairLogps, *, beta: float) -> PairTerms:
    """ORPO's odds-ratio term, Hong et al. 2024 (arXiv:2403.07691), eq. 7; beta is the paper's lambda. No reference.

        loss = -beta log sigmoid( log odds_w - log odds_l ),   log odds = a - log(1 - e^a),   a = pi / n

    a is the mean log-probability of a response's n tokens (eq. 3). Eq. 6 adds the SFT term, which the table adds.
    """
    chosen, rejected = policy.chosen / tokens.chosen, policy.rejected / tokens.rejected
    log_odds = (chosen - _log1mexp(chosen)) - (rejected - _log1mexp(rejected))
    return PairTerms(-beta * F.logsigmoid(log_odds), beta * chosen.detach(), beta * rejected.detach())


def cpo_loss(policy: PairLogps, *, beta: float) -> PairTerms:
    """CPO's preference term, Xu et al. 2024 (arXiv:2401.08417), eq. 3: DPO with a uniform reference.

        loss = -log sigmoid( beta * (pi_w - pi_l) )

    The paper adds a behaviour-cloning term, which the table adds.
    """
    chosen, rejected = beta * policy.chosen, beta * policy.rejected
    return PairTerms(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def nll_per_token(nll: Tensor, tokens: Tensor, mean_tokens: float) -> Tensor:
    """SFT term; its mean over the step is the mean over the step's tokens, as TRL's; (B,).

    nll: (B,) negative log-likelihood of the chosen side; mean_tokens: tokens a pair over the whole step, so that a long
    response weighs as much in a small micro-batch as in a large one.
    """
    return nll / mean_tokens


def nll_per_response(nll: Tensor, tokens: Tensor, mean_tokens: float) -> Tensor:
    """SFT term of ORPO's paper (arXiv:2403.07691, eq. 3 and 6): the mean over a response's tokens; (B,)."""
    return nll / tokens


def nll_sum(nll: Tensor, tokens: Tensor, mean_tokens: float) -> Tensor:
    """SFT term of CPO's paper (arXiv:2401.08417) and of SLiC: the sum over a response's tokens; (B,)."""
    return nll


class PairBatch(NamedTuple):
    """What a loss may ask of its pairs."""

    policy: PairLogps
    reference: PairLogps  # 0 for a loss without a reference
    tokens: PairLogps
    kl: Tensor  # () KTO's reference point; 0 for the others


class PreferenceLoss(NamedTuple):
    """One entry of the table: total = preference term + weight * SFT term."""

    terms: Callable[[PairBatch, DpoConfig], PairTerms]
    needs_reference: bool = True
    sft_weight: float = 0.0  # unless the recipe says otherwise
    sft_term: Callable[[Tensor, Tensor, float], Tensor] = nll_per_token
    sft_on_prompt: bool = False  # the SFT term is over prompt and response


PREFERENCE_LOSSES: Mapping[str, PreferenceLoss] = {
    "sigmoid": PreferenceLoss(lambda x, o: dpo_loss(x.policy, x.reference, beta=o.beta)),
    "cdpo": PreferenceLoss(
        lambda x, o: cdpo_loss(x.policy, x.reference, beta=o.beta, label_smoothing=o.label_smoothing)
    ),
    "robust": PreferenceLoss(
        lambda x, o: robust_loss(x.policy, x.reference, beta=o.beta, label_smoothing=o.label_smoothing)
    ),
    "ipo": PreferenceLoss(lambda x, o: ipo_loss(x.policy, x.reference, x.tokens, beta=o.beta)),
    "ipo_sum": PreferenceLoss(lambda x, o: ipo_sum_loss(x.policy, x.reference, beta=o.beta)),
    "hinge": PreferenceLoss(lambda x, o: hinge_loss(x.policy, x.reference, beta=o.beta)),
    "kto": PreferenceLoss(
        lambda x, o: kto_loss(
            x.policy, x.reference, x.kl, beta=o.beta,
            desirable_weight=o.desirable_weight, undesirable_weight=o.undesirable_weight,
        )
    ),
    "slic": PreferenceLoss(lambda x, o: slic_loss(x.policy, beta=o.beta), False, 1.0, nll_sum),
    "cpo": PreferenceLoss(lambda x, o: cpo_loss(x.policy, beta=o.beta), False, 1.0),
    "cpo_sum": PreferenceLoss(lambda x, o: cpo_loss(x.policy, beta=o.beta), False, 1.0, nll_sum),
    # TRL's SFT term is over prompt and response, as in the authors' code; the paper's over the response
    "orpo": PreferenceLoss(
        lambda x, o: odds_ratio_loss(x.policy, x.tokens, beta=o.beta), False, 1.0, sft_on_prompt=True
    ),
    "orpo_response": PreferenceLoss(
        lambda x, o: odds_ratio_loss(x.policy, x.tokens, beta=o.beta), False, 1.0, nll_per_response
    ),
}  # fmt: skip


def _rewards(policy: PairLogps, reference: PairLogps, beta: float) -> tuple[Tensor, Tensor]:
    """DPO's implicit rewards, beta * (pi - ref)."""
    return beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, accurate at both ends; 0 becomes -inf."""
    near = x > -0.693
    return torch.where(near, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(torch.where(near, -1.0, x))))
