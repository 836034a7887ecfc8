"""Our losses and gradients beside TRL's own trainers: same weights, same texts, fp32.

TRL tokenises the texts, makes the batch and computes the loss, each by its own code; ours come from one step of our own
trainer, whose optimiser keeps the gradients and takes no step. The reference is another model than the policy, or every
loss that compares the two would be at its trivial point.

To add a case: a row in a table. PREFERENCE is keyed by our `dpo.*` settings, POLICY_GRADIENT by a function that makes
our loss from per-token tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokenizers import load_tokenizer
from rlhf_bench.modeling.tokens import Encoded, collate
from trainers import kto, kto_unpaired
from trainers.engine.batches import Pair
from trainers.losses import policy_gradient
from trainers.losses.preference import PREFERENCE_LOSSES

from .conftest import PAIRS, FirstStep, Graded

pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's and datasets' own


def assert_like_trl(ours: Graded, trls: Graded) -> None:
    """Loss to 1e-5 relative, or to the rounding of float32 where terms of about 1 cancel; each gradient to 1e-4 of its
    tensor's norm."""
    assert ours.loss == pytest.approx(trls.loss, rel=1e-5, abs=1e-6)
    assert ours.gradients.keys() == trls.gradients.keys()
    largest = max(float(g.norm()) for g in trls.gradients.values())
    assert largest > 1e-3  # two gradients of 0 would be alike, too
    for name, theirs in trls.gradients.items():
        # a bias that cancels (that of the keys) is rounding in both
        norm = max(float(theirs.norm()), 1e-4 * largest)
        assert float((ours.gradients[name] - theirs).norm()) < 1e-4 * norm, name


def graded(loss: Tensor, model: nn.Module) -> Graded:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return Graded(loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# TRL's side


def trl_arguments(config: Any, tmp_path: Path, **options: Any) -> Any:
    return config(
        output_dir=str(tmp_path / "trl"), bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none",
        per_device_train_batch_size=options.pop("per_device_train_batch_size", len(PAIRS)), **options,
    )  # fmt: skip


def trl_step(trainer: Any, rows: Sequence[int] | None = None) -> Graded:
    """TRL's loss of one batch of its own prepared data set."""
    data = trainer.train_dataset
    batch = trainer.data_collator([data[i] for i in (range(len(data)) if rows is None else rows)])
    trainer.model.train()
    return graded(trainer.compute_loss(trainer.model, batch), trainer.model)


def pair_rows(*columns: str) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{name: getattr(pair, name) for name in columns} for pair in PAIRS])


def causal_lm(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def without_bos(folder: Path) -> PreTrainedTokenizerBase:
    """TRL's ORPO and CPO put a beginning-of-text token before the prompt where the tokenizer has one; ours never do."""
    tokenizer = load_tokenizer(folder)
    tokenizer.bos_token = None
    return tokenizer


# sft and the reward model


@pytest.mark.parametrize("loss_on", ["response", "sequence"])
def test_sft(first_step: FirstStep, policy_folder: Path, tmp_path: Path, loss_on: str) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": pair.prompt, "completion": pair.chosen} for pair in PAIRS]
    arguments = trl_arguments(SFTConfig, tmp_path, completion_only_loss=loss_on == "response")
    trainer = SFTTrainer(causal_lm(policy_folder), arguments, train_dataset=Dataset.from_list(rows),
                         processing_class=load_tokenizer(policy_folder))  # fmt: skip
    assert_like_trl(first_step("sft", loss_on=loss_on)[0], trl_step(trainer))


@pytest.mark.parametrize("margin", ["none", "data"])
@pytest.mark.parametrize("center", [None, 0.3])
def test_reward(first_step: FirstStep, tmp_path: Path, margin: str, center: float | None) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    pairs = [replace(pair, margin=0.5 * i - 0.7) for i, pair in enumerate(PAIRS)]
    ours, result = first_step("reward", pairs=pairs, margin=margin, center_coef=center or 0.0)
    rows: list[dict[str, Any]] = [{"chosen": p.prompt + p.chosen, "rejected": p.prompt + p.rejected} for p in pairs]
    if margin == "data":
        rows = [row | {"margin": pair.margin} for row, pair in zip(rows, pairs, strict=True)]
    arguments = trl_arguments(RewardConfig, tmp_path, center_rewards_coefficient=center)
    trainer = RewardTrainer(result.trained.model, arguments, train_dataset=Dataset.from_list(rows),
                            processing_class=result.trained.tokenizer)  # fmt: skip
    assert_like_trl(ours, trl_step(trainer))


# the DPO family

# our dpo.* -> TRL's DPOConfig
PREFERENCE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"loss_type": ["sigmoid"]}),
    ({"beta": 0.5}, {"loss_type": ["sigmoid"], "beta": 0.5}),
    ({"loss": "robust", "label_smoothing": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
    ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    ({"loss": "hinge", "beta": 0.02}, {"loss_type": ["hinge"], "beta": 0.02}),
    ({"sft_weight": 0.7}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}),
    ({"loss": "ipo", "sft_weight": 2.0}, {"loss_type": ["ipo", "sft"], "loss_weights": [1.0, 2.0]}),
]


def dpo_trainer(policy_folder: Path, reference_folder: Path, tmp_path: Path, **options: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(
        causal_lm(policy_folder), causal_lm(reference_folder), trl_arguments(DPOConfig, tmp_path, **options),
        train_dataset=pair_rows("prompt", "chosen", "rejected"), processing_class=load_tokenizer(policy_folder),
    )  # fmt: skip


@pytest.mark.usefixtures("under_the_reference")
@pytest.mark.parametrize(("ours", "theirs"), PREFERENCE, ids=lambda case: "-".join(map(str, case.values())))
def test_dpo_losses(
    first_step: FirstStep, policy_folder: Path, reference_folder: Path, tmp_path: Path,
    ours: dict[str, Any], theirs: dict[str, Any],
) -> None:  # fmt: skip
    trainer = dpo_trainer(policy_folder, reference_folder, tmp_path, **theirs)
    assert_like_trl(first_step("dpo", **ours)[0], trl_step(trainer))


@pytest.mark.usefixtures("under_the_reference")
def test_cdpo(first_step: FirstStep, policy_folder: Path, reference_folder: Path, tmp_path: Path) -> None:
    """TRL's DPO has no loss of that name, but its `aot_unpaired` sorts within a batch: of one pair it is cDPO."""
    ours, _ = first_step("dpo", loss="cdpo", label_smoothing=0.2)
    trainer = dpo_trainer(policy_folder, reference_folder, tmp_path, loss_type=["aot_unpaired"], label_smoothing=0.2)
    single = [trl_step(trainer, [i]) for i in range(len(PAIRS))]
    mean = {name: torch.stack([g.gradients[name] for g in single]).mean(0) for name in single[0].gradients}
    assert_like_trl(ours, Graded(sum(g.loss for g in single) / len(single), mean))


@pytest.mark.parametrize("weights", [{}, {"desirable_weight": 1.5, "undesirable_weight": 0.5}])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_kto(
    first_step: FirstStep, under_the_reference: list[Sequence[Pair]], policy_folder: Path, reference_folder: Path,
    tmp_path: Path, weights: dict[str, float], beta: float, tokenizer: PreTrainedTokenizerBase,
) -> None:  # fmt: skip
    """TRL rotates the responses of its rows itself; they are given to it in the order of our step."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    ours, _ = first_step("dpo", loss="kto", beta=beta, **weights)
    sides = [(pair[i], i == 0) for i in (0, 1) for pair in under_the_reference[0]]
    rows = [
        {"prompt": tokenizer.decode(s.prompt), "completion": tokenizer.decode(s.response[:-1]), "label": label}
        for s, label in sides
    ]
    arguments = trl_arguments(KTOConfig, tmp_path, per_device_train_batch_size=len(rows), beta=beta, **weights)
    trainer = KTOTrainer(
        causal_lm(policy_folder), causal_lm(reference_folder), arguments,
        train_dataset=Dataset.from_list(rows), processing_class=load_tokenizer(policy_folder),
    )  # fmt: skip
    theirs = trl_step(trainer)
    # private to TRL, which logs it at the end of a step only
    assert trainer._metrics["train"]["kl"][0] > 0.1  # or z would be clamped to 0 and any z would do
    assert_like_trl(ours, theirs)


@pytest.mark.parametrize("weights", [{}, {"desirable_weight": 1.5, "undesirable_weight": 0.5}])
def test_unpaired_kto(
    first_step: FirstStep, policy_folder: Path, reference_folder: Path, tmp_path: Path,
    weights: dict[str, float], monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase,
) -> None:  # fmt: skip
    """Three desirable responses and one undesirable, in the order of our step."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    monkeypatch.setattr(kto, "load_reference", lambda *given: load_policy(reference_folder)[0])
    steps: list[tuple[Sequence[Encoded], Sequence[bool]]] = []
    step = kto_unpaired.UnpairedTrainer.step
    monkeypatch.setattr(
        kto_unpaired.UnpairedTrainer, "step", lambda self, *given: (steps.append(given), step(self, *given))[1]
    )
    pairs = PAIRS[:2]
    ours, _ = first_step(
        "dpo", pairs=pairs, labels=[True, True, True, False], loss="kto_unpaired", batch_size=4, beta=0.1, **weights
    )
    rows = [
        {"prompt": tokenizer.decode(row.prompt), "completion": tokenizer.decode(row.response[:-1]), "label": label}
        for row, label in zip(*steps[0], strict=True)
    ]
    arguments = trl_arguments(KTOConfig, tmp_path, per_device_train_batch_size=4, beta=0.1, **weights)
    trainer = KTOTrainer(
        causal_lm(policy_folder), causal_lm(reference_folder), arguments,
        train_dataset=Dataset.from_list(rows), processing_class=load_tokenizer(policy_folder),
    )  # fmt: skip
    theirs = trl_step(trainer)
    assert trainer._metrics["train"]["kl"][0] > 0.1
    assert sum(row["label"] for row in rows) == 3
    assert_like_trl(ours, theirs)


def orpo_trainer(policy_folder: Path, tmp_path: Path, **options: Any) -> Any:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer(
        causal_lm(policy_folder), trl_arguments(ORPOConfig, tmp_path, remove_unused_columns=False, **options),
        train_dataset=pair_rows("prompt", "chosen", "rejected"), processing_class=without_bos(policy_folder),
    )  # fmt: skip


def cpo_trainer(policy_folder: Path, tmp_path: Path, **options: Any) -> Any:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return CPOTrainer(
        causal_lm(policy_folder), trl_arguments(CPOConfig, tmp_path, remove_unused_columns=False, **options),
        train_dataset=pair_rows("prompt", "chosen", "rejected"), processing_class=without_bos(policy_folder),
    )  # fmt: skip


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_orpo(first_step: FirstStep, policy_folder: Path, tmp_path: Path, beta: float) -> None:
    trainer = orpo_trainer(policy_folder, tmp_path, beta=beta)
    assert_like_trl(first_step("dpo", loss="orpo", beta=beta)[0], trl_step(trainer))


@pytest.mark.parametrize(("ours", "theirs"), [
    ({"loss": "cpo"}, {}),
    ({"loss": "cpo", "beta": 0.3, "sft_weight": 0.25}, {"beta": 0.3, "cpo_alpha": 0.25}),
    ({"loss": "cpo", "sft_weight": 0.0}, {"cpo_alpha": 0.0}),
])  # fmt: skip
def test_cpo(
    first_step: FirstStep, policy_folder: Path, tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert_like_trl(first_step("dpo", **ours)[0], trl_step(cpo_trainer(policy_folder, tmp_path, **theirs)))


def test_slic(first_step: FirstStep, policy_folder: Path, tmp_path: Path) -> None:
    """TRL's CPO with its hinge is 1 - beta (pi_w - pi_l): beta times the paper's delta - pi_w + pi_l, delta 1/beta."""
    ours, _ = first_step("dpo", loss="slic", beta=0.02, sft_weight=0.0)
    theirs = trl_step(cpo_trainer(policy_folder, tmp_path, loss_type="hinge", beta=0.02, cpo_alpha=0.0))
    scaled = Graded(theirs.loss / 0.02, {name: gradient / 0.02 for name, gradient in theirs.gradients.items()})
    assert_like_trl(ours, scaled)


@pytest.mark.usefixtures("under_the_reference")
@pytest.mark.parametrize(("paper", "trls"), [("ipo_sum", "ipo"), ("orpo_response", "orpo"), ("cpo_sum", "cpo")])
def test_the_papers_definitions_are_others(first_step: FirstStep, paper: str, trls: str) -> None:
    """Where both are here, their names lead to different losses; on one response of one token they would not."""
    first = first_step("dpo", loss=paper)[0].loss
    assert first_step("dpo", loss=trls)[0].loss != pytest.approx(first, rel=1e-2)


def test_every_loss_has_a_parity_case() -> None:
    """Those whose definition is a paper's alone are worked by hand in test_preference_losses.py."""
    here = {case.get("loss", "sigmoid") for case, _ in PREFERENCE} | {"cdpo", "kto", "orpo", "cpo", "slic"}
    assert set(PREFERENCE_LOSSES) - here == {"ipo_sum", "orpo_response", "cpo_sum"}


# policy gradient

MAX_RESPONSE = 8
PROMPT = [11, 12, 13]  # one prompt: TRL pads prompts on the left, where GPT-2's positions would be wrong
RESPONSES = [[21, 22, 23, 0], [24, 0], [25, 26, 27, 28, 29, 30, 31, 0], [32, 33, 0]]
ADVANTAGES = torch.tensor([1.5, -0.5, -1.0, 0.25])
Normalise = Callable[[Tensor, Tensor], Tensor]  # per-token loss and mask, (B, T)
TOKENS = sum(len(response) for response in RESPONSES)

# TRL's loss_type -> ours
POLICY_GRADIENT: dict[str, Normalise] = {
    "grpo": lambda x, mask: policy_gradient.normalise_grpo(x, mask, sequences=len(RESPONSES)),
    "dr_grpo": lambda x, mask: policy_gradient.normalise_dr_grpo(
        x, mask, sequences=len(RESPONSES), max_length=MAX_RESPONSE
    ),
    "dapo": lambda x, mask: policy_gradient.normalise_dapo(x, mask, tokens=TOKENS),
    "bnpo": lambda x, mask: policy_gradient.normalise_bnpo(x, mask, micro_batches=1),
}


@pytest.mark.parametrize("loss_type", POLICY_GRADIENT)
@pytest.mark.parametrize(("beta", "high"), [(0.0, 0.2), (0.3, 0.2), (0.3, 0.5)])
def test_grpo_losses(policy_folder: Path, tmp_path: Path, loss_type: str, beta: float, high: float) -> None:
    """On the same tensors; the old policy is not the new one, so that some ratios are clipped."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    arguments = trl_arguments(
        GRPOConfig, tmp_path, per_device_train_batch_size=4, num_generations=4, loss_type=loss_type, beta=beta,
        epsilon=0.2, epsilon_high=high, max_completion_length=MAX_RESPONSE, use_bias_correction_kl=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        causal_lm(policy_folder), lambda completions, **_: [0.0] * len(completions), arguments,
        train_dataset=Dataset.from_list([{"prompt": "why"}]), processing_class=load_tokenizer(policy_folder),
    )  # fmt: skip
    model = load_policy(policy_folder)[0]
    batch = collate([Encoded(PROMPT, response) for response in RESPONSES], pad_id=0, multiple_of=1)
    mask = batch.response_mask
    logps = LogprobModel(model)(batch).logps
    generator = torch.Generator().manual_seed(0)
    old, reference = (logps.detach() + 0.4 * torch.randn(mask.shape, generator=generator) * mask for _ in range(2))
    terms = policy_gradient.clipped_policy_terms(logps, old, ADVANTAGES[:, None], mask, low=0.2, high=high)
    assert 0 < terms.clipped.sum() < TOKENS
    per_token = terms.loss + beta * policy_gradient.k3(logps, reference, mask)
    ours = graded(POLICY_GRADIENT[loss_type](per_token, mask), model)

    width = len(PROMPT)
    inputs = {
        "prompt_ids": batch.ids[:, :width],
        "prompt_mask": batch.attention_mask[:, :width].long(),
        "completion_ids": batch.ids[:, width:],
        "completion_mask": mask[:, width:].long(),
        "advantages": ADVANTAGES,
        "old_per_token_logps": old[:, width:],
        "ref_per_token_logps": reference[:, width:],
        "num_items_in_batch": mask.sum(),
    }
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    assert_like_trl(ours, graded(trainer.compute_loss(trainer.model, inputs), trainer.model))
