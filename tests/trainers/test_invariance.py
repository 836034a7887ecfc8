"""What must not change the answer, checked on the trainers themselves.

Every stage is run for one step from the tiny checkpoints; the gradient that its optimiser is given, and the row that
it logs, are kept and compared. The checkpoints' configurations set dropout, which no trainer may apply.

What is added up in another order is compared in float64, each gradient tensor by itself and to 1e-5 of its own norm.
Rounding leaves some 1e-14 there, so what is found is no rounding; and a small tensor is not lost behind a large one.
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import trainers.engine.rollout
from rlhf_bench.errors import DataError
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling import logprobs, models
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.modeling.tokens import Encoded, collate
from rlhf_bench.runtime.pool import Pool
from rlhf_bench.types import Completion, PreferencePair
from trainers import language_model, ppo, reward, sft
from trainers.config.recipe import Recipe
from trainers.engine import compiling
from trainers.engine import pairs as pairs_module
from trainers.engine.critic import ActorCritic, make_critic
from trainers.engine.loop import Loop
from trainers.engine.optim import Optimizer
from trainers.engine.policy_update import policy_step
from trainers.engine.rollout import RolloutMaker
from trainers.engine.stage import Stage, StageResult
from trainers.losses.advantages import GROUP_ADVANTAGES, group_advantages
from trainers.losses.policy_gradient import POLICY_TERMS, clipped_policy_terms

from .conftest import stage_in

WORDS = ["Blue.", "I am happy to help.", "Eight minutes.", "no", "What is happening is none of my business."]
PAIRS = [
    PreferencePair(
        f"\n\nHuman: {WORDS[i % 5]} {'why ' * (i % 4)}?\n\nAssistant:",
        " " + WORDS[(2 * i + 1) % 5],
        " " + WORDS[(2 * i + 2) % 5] + "!" * (i % 3),
    )
    for i in range(10)
]
MAX_RESPONSE = 12

Section = dict[str, Any]
MakeStage = Callable[..., Stage]


class Step(NamedTuple):
    """One optimiser step: the gradient it was given, a tensor a parameter, and the row that was logged."""

    gradients: list[Tensor]
    row: dict[str, Any]
    result: StageResult

    @property
    def gradient(self) -> Tensor:
        """In one piece."""
        return torch.cat([gradient.flatten() for gradient in self.gradients])


@pytest.fixture(scope="module")
def folder(policy_folder: Path, reward_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, sft and reward, with dropout in their configurations."""
    parent = tmp_path_factory.mktemp("run")
    for name, source in (("base", policy_folder), ("sft", policy_folder), ("reward", reward_folder)):
        config = Path(shutil.copytree(source, parent / name)) / "config.json"
        values = json.loads(config.read_text(encoding="utf-8"))
        assert values["resid_pdrop"] == 0
        config.write_text(json.dumps(values | {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}))
    return parent


@pytest.fixture(scope="module")
def first_layers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models without their second layer."""
    parent = tmp_path_factory.mktemp("first-layers")
    for name in ("base", "sft", "reward"):
        kind = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
        kind.from_pretrained(folder / name, n_layer=1).save_pretrained(parent / name)
        AutoTokenizer.from_pretrained(folder / name).save_pretrained(parent / name)
    return parent


@pytest.fixture
def make_stage(folder: Path, tmp_path: Path) -> MakeStage:
    def make(
        name: str,
        pairs: list[PreferencePair] = PAIRS,
        shared: Section | None = None,
        folder: Path = folder,
        **section: Any,
    ) -> Stage:
        """A stage whose step holds all pairs, or 4 prompts of 3 answers."""
        sizes = {"batch_size": 4} if name in ("ppo", "grpo") else {"batch_size": len(pairs)}
        if name in ("ppo", "grpo"):
            sizes["steps"] = 1
        if name == "grpo":
            sizes["num_generations"] = 3
        recipe = Recipe.model_validate(
            {
                "precision": "fp32",
                "data": {"source": "tests", "max_prompt_tokens": 40, "max_response_tokens": MAX_RESPONSE},
                **(shared or {}),
                name: {"warmup_ratio": 0.0, **sizes, **section},
            }
        )
        stage = stage_in(folder, name, recipe, pairs)
        stage.folders = stage.folders._replace(work=tmp_path / f".{name}.work")
        return stage

    return make


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage], Step]:
    """Run a stage with an optimiser that keeps its first gradient and takes no step."""

    def run(stage: Stage) -> Step:
        kept: list[list[Tensor]] = []

        def keep(self: Optimizer, *, where: str) -> float:
            # a parameter that nothing depends on has no gradient
            kept.append([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
            for part in self.parts:
                part.zero_grad(set_to_none=True)
            return float(torch.stack([gradient.norm() for gradient in kept[-1]]).norm())

        monkeypatch.setattr(Optimizer, "step", keep)
        unpaired = stage.name == "dpo" and stage.recipe.dpo.loss == "kto_unpaired"
        module = "kto_unpaired" if unpaired else stage.name
        result = importlib.import_module(f"trainers.{module}").train(stage)
        return Step(kept[0], read_jsonl(stage.folders.work / "log.jsonl")[0], result)

    return run


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models are loaded in float64, all by `load_as`, and what a stage makes is float64 as well."""
    load = models.load_as

    def load_double(kind: Any, path: Any, device: Any, dtype: torch.dtype, *rest: Any) -> Any:
        return load(kind, path, device, torch.float64, *rest)

    monkeypatch.setattr(models, "load_as", load_double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def stirred(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trained matrix begins at 0: behind a critic's head or an adapter's B of zeros every gradient would be 0."""

    restore = Loop.restore

    def stir(self: Loop) -> None:
        restore(self)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for module in self.modules.values():
                for p in module.parameters():
                    if p.requires_grad and p.ndim == 2 and not p.any():
                        p.normal_(std=0.1, generator=generator)

    monkeypatch.setattr(Loop, "restore", stir)


exactly = pytest.mark.usefixtures("in_float64", "stirred")


def close(found: Step, expected: Step) -> None:
    """Each gradient tensor to 1e-5 of its norm, in float64; every number of the log.

    A tensor that has no gradient by construction (the last layer norm's bias, which both scores of a pair share) holds
    rounding: some 1e-16 of the largest tensor a sum, so 1e-12 of it is what such a tensor may hold, and no other.
    """
    norms = [gradient.norm().item() for gradient in expected.gradients]
    floor = 1e-12 * max(norms)
    assert max(norms) > 1e-3  # two gradients of 0 would be alike, too
    assert sum(norm <= floor for norm in norms) <= 1, norms
    for i, (ours, theirs) in enumerate(zip(found.gradients, expected.gradients, strict=True)):
        assert ours.dtype == theirs.dtype == torch.float64
        assert (ours - theirs).norm().item() <= 1e-5 * norms[i] + floor, (i, tuple(ours.shape), norms[i])
    for key, value in expected.row.items():
        # at the first step every margin of DPO is 0 but for its last bit, and accuracies are the bit's sign
        if key not in ("seconds", "rewards/accuracies"):
            assert found.row[key] == pytest.approx(value, rel=1e-9, abs=1e-9), key


# gradient accumulation

STAGES: list[tuple[str, Section]] = [
    ("sft", {}),
    ("sft", {"loss_on": "sequence"}),
    ("sft", {"lora": {"r": 3}, "optimizer": "muon"}),
    ("reward", {}),
    ("dpo", {}),
    ("ppo", {}),
    ("ppo", {"whiten_rewards": True, "entropy_coef": 0.1, "temperature": 0.7, "critic": "policy"}),
    ("ppo", {"minibatches": 2, "epochs": 2}),
    ("grpo", {}),
    ("ppo", {"critic": "shared", "entropy_coef": 0.1, "entropy_target": 1.0}),
    ("ppo", {"kl_in": "loss", "whiten_advantages": False, "target_kl": 1.0, "minibatches": 2}),
    ("ppo", {"advantage": "reward", "epochs": 2}),
    ("ppo", {"advantage": "reward_minus_value", "ratio": "product"}),
    ("grpo", {"loss_type": "dr_grpo", "advantage": "mean"}),
    ("grpo", {"ratio": "sequence", "cliprange": 4e-4, "minibatches": 2, "epochs": 2}),
    ("grpo", {"advantage": "rloo", "ratio": "product", "kl_in": "reward", "minibatches": 2}),
    ("grpo", {"advantage": "rank_exponential", "rank_decay": 2.0, "ratio": "none", "kl_in": "reward"}),
    ("grpo", {"advantage": "rank_tournament", "entropy_coef": 0.1, "entropy_target": 1.0}),
    ("grpo", {"loss_type": "dapo", "cliprange_high": 0.3, "temperature": 0.7}),
    ("grpo", {"minibatches": 2, "epochs": 2}),
    ("dpo", {"lora": {"r": 3}, "loss": "kto"}),
    ("ppo", {"lora": {"r": 3}}),
    ("ppo", {"lora": {"r": 3}, "critic": "shared"}),
    ("grpo", {"lora": {"r": 3}}),
]


@exactly
@pytest.mark.parametrize(("name", "section"), STAGES)
def test_micro_batches_give_the_gradient_of_the_whole(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str, section: Section
) -> None:
    """Token means, whitening and groups are of the whole step; so is everything that is logged."""
    whole = one_step(make_stage(name, micro_batch_size=64, **section))
    for size in (3,) if section else (1, 3):
        close(one_step(make_stage(name, micro_batch_size=size, **section)), whole)


@exactly
@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo", "grpo"])
def test_workers_give_the_gradient_of_the_whole(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str
) -> None:
    whole = one_step(make_stage(name, micro_batch_size=64))
    with ThreadPoolExecutor(2) as executor:
        stage = make_stage(name, micro_batch_size=3)
        stage.machine = replace(stage.machine, pool=Pool(executor, 2))
        close(one_step(stage), whole)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("sft", {}),
        ("sft", {"lora": {"r": 3}, "optimizer": "muon"}),
        ("reward", {}),
        ("dpo", {}),
        ("ppo", {"critic": "policy", "entropy_coef": 0.1}),
        ("ppo", {"critic": "shared", "minibatches": 2, "epochs": 2}),
        ("grpo", {}),
        ("dpo", {"lora": {"r": 3}, "loss": "kto"}),
        ("ppo", {"lora": {"r": 3}}),
        ("ppo", {"lora": {"r": 3}, "critic": "shared"}),
        ("grpo", {"lora": {"r": 3}}),
    ],
)
def test_activations_computed_twice_give_the_gradient_of_the_whole(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str, section: Section
) -> None:
    """To the last bit: the same products of the same numbers; the critic's too. Of each kind of pass through a model;
    what is made of its outputs does not matter."""
    plain = one_step(make_stage(name, **section))
    ours = one_step(make_stage(name, gradient_checkpointing=True, **section))
    assert torch.equal(ours.gradient, plain.gradient)
    assert {k: v for k, v in ours.row.items() if k != "seconds"} == {
        k: v for k, v in plain.row.items() if k != "seconds"
    }


@exactly
@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("sft", {"lora": {"r": 3}}),
        ("sft", {"gradient_checkpointing": True}),
        pytest.param("ppo", {}, marks=pytest.mark.slow),  # a policy and a critic, with and without gradients
        pytest.param("sft", {}, marks=pytest.mark.kills),
        pytest.param("reward", {}, marks=pytest.mark.kills),
        pytest.param("dpo", {"loss": "kto"}, marks=pytest.mark.kills),
        pytest.param("grpo", {"gradient_checkpointing": True}, marks=pytest.mark.kills),
    ],
)
def test_compiled_layers_give_the_gradient_of_the_plain_ones(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    first_layers: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    section: Section,
) -> None:
    """As they are captured, of one layer, which has every operation of two; what a generator makes of them is in
    test_compiling.py."""
    shared = {"folder": first_layers, "micro_batch_size": 4, **section}
    plain = one_step(make_stage(name, **shared))
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    with compiling.compiling(name):
        close(one_step(make_stage(name, compile=True, **shared)), plain)


# padding


@exactly
@pytest.mark.parametrize("name", ["sft", "reward", "dpo"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    side: Any,
) -> None:
    plain = one_step(make_stage(name))
    module = {"sft": language_model, "reward": reward, "dpo": pairs_module}[name]
    monkeypatch.setattr(module, "collate", lambda rows, pad_id: collate(rows, pad_id=pad_id, side=side, multiple_of=97))
    close(one_step(make_stage(name)), plain)


@exactly
@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_padding_of_a_rollout_changes_nothing(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whitening, KL, entropy and explained variance are over the mask."""
    plain = one_step(make_stage(name))
    monkeypatch.setattr(
        trainers.engine.rollout, "collate", lambda rows, pad_id: collate(rows, pad_id=pad_id, multiple_of=97)
    )
    monkeypatch.setattr(trainers.engine.rollout, "ROUND_WIDTH", 97)
    close(one_step(make_stage(name)), plain)


# the first step


ADAPTER = [None, {"r": 4}]  # beside all weights: of an adapter the reference is the parent, too


@pytest.mark.parametrize("lora", ADAPTER)
def test_dpo_starts_at_ln_2(make_stage: MakeStage, one_step: Callable[[Stage], Step], lora: Section | None) -> None:
    row = one_step(make_stage("dpo", micro_batch_size=4, lora=lora)).row
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert row["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert row[key] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("lora", ADAPTER)
def test_kl_starts_at_0(make_stage: MakeStage, one_step: Callable[[Stage], Step], lora: Section | None) -> None:
    row = one_step(make_stage("ppo", micro_batch_size=3, lora=lora)).row
    assert row["objective/kl"] == 0
    assert row["eval_kl_exact"] == 0
    row = one_step(make_stage("grpo", micro_batch_size=64, lora=lora)).row
    assert row["kl"] == pytest.approx(0, abs=1e-9)
    assert row["eval_kl_exact"] == 0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("name", "epochs"), [("ppo", 1), ("grpo", 1), ("grpo", 2)])
def test_ratio_starts_at_1(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    epochs: int,
    temperature: float,
) -> None:
    """At each token; and the log-probabilities are those that the sampler drew with, at its temperature."""
    terms: list[tuple[Tensor, Tensor, Tensor]] = []
    drawn: list[list[list[Completion]]] = []

    def spy_terms(logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, **options: Any) -> Any:
        terms.append((logps.detach(), old, mask))
        return clipped_policy_terms(logps, old, advantages, mask, **options)

    def spy_sample(*arguments: Any, **options: Any) -> list[list[Completion]]:
        drawn.append(sample(*arguments, **options))
        return drawn[-1]

    monkeypatch.setitem(POLICY_TERMS, "token", spy_terms)
    monkeypatch.setattr(trainers.engine.rollout, "sample", spy_sample)
    row = one_step(make_stage(name, epochs=epochs, temperature=temperature, micro_batch_size=64)).row
    logps, old, mask = terms[0]
    ratio = (logps - old)[mask].exp()
    assert ratio.tolist() == pytest.approx([1.0] * len(ratio), abs=1e-5)
    if name == "ppo":
        assert row["val/ratio"] == pytest.approx(1, abs=1e-5)
        assert row["policy/approxkl_avg"] == pytest.approx(0, abs=1e-9)
    sampled = sorted(logp for group in drawn[0] for completion in group for logp in completion.logps)
    assert sorted(old[mask].tolist()) == pytest.approx(sampled, abs=1e-4)
    assert len(sampled) > 40


# what is learned from


def seen_by(stage: Stage, one_step: Callable[[Stage], Step], monkeypatch: pytest.MonkeyPatch) -> list[Encoded]:
    """Every sequence that a stage has put into a batch."""
    rows: list[Encoded] = []

    def spy(part: Any, **options: Any) -> Any:
        rows.extend(part)
        return collate(part, **options)

    monkeypatch.setattr({"sft": language_model, "reward": reward, "dpo": pairs_module}[stage.name], "collate", spy)
    one_step(stage)
    return rows


@pytest.mark.parametrize("name", ["sft", "reward", "dpo"])
def test_trainers_see_prompt_and_response_tokenised_separately(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
) -> None:
    """ "hap" + "py" joined would be one token; and each response ends with end-of-text, which has a label."""
    pair = PreferencePair("\n\nHuman: ?\n\nAssistant: I am hap", "py now.", "pening.")
    head, chosen, rejected = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (pair.prompt, pair.chosen, pair.rejected)
    )
    assert tokenizer(pair.prompt + pair.chosen)["input_ids"] != head + chosen
    eos = tokenizer.eos_token_id
    wanted = {(tuple(head), (*chosen, eos)), (tuple(head), (*rejected, eos))}
    seen = {(tuple(r.prompt), tuple(r.response)) for r in seen_by(make_stage(name, [pair]), one_step, monkeypatch)}
    assert seen == ({next(w for w in wanted if w[1][: len(chosen)] == tuple(chosen))} if name == "sft" else wanted)


@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_chosen_equal_to_rejected_after_truncation_is_dropped_and_counted(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str
) -> None:
    long = " a b c d e f g h i j k l m n"  # 12 tokens are kept
    twins = [PreferencePair("p", long + " one", long + " two"), PreferencePair("q", " same", " same")]
    step = one_step(make_stage(name, [*PAIRS, *twins], epochs=1))
    assert step.result.counts["equal_after_truncation"] == 2
    assert step.result.samples == len(PAIRS)
    assert torch.equal(step.gradient, one_step(make_stage(name, epochs=1)).gradient)


@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_pairs_that_are_all_equal_after_truncation_are_an_error(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str
) -> None:
    long = " a b c d e f g h i j k l m n"  # 12 tokens are kept
    twins = [PreferencePair(prompt, long + " one", long + " two") for prompt in "pq"]
    with pytest.raises(DataError, match=r"all 2 pairs of .* data\.max_response_tokens=12"):
        one_step(make_stage(name, twins, epochs=1))


def test_sft_learns_to_stop(make_stage: MakeStage, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Where pad = end-of-text hid the label, the model would never learn to end."""
    pairs = [PreferencePair(f"\n\nHuman: {word}\n\nAssistant:", " Blue.", " no") for word in WORDS]
    stage = make_stage("sft", pairs, epochs=60, lr=3e-3)
    prompts = stage.data("train").prompts
    config = SamplingConfig(max_new_tokens=12, stop=())

    def ended(model: PreTrainedModel) -> int:
        groups = sample(model, tokenizer, prompts, config, samples=4, seed=0)
        return sum(completion.finish_reason == "eos" for group in groups for completion in group)

    assert ended(policy) <= 2
    assert ended(sft.train(stage).trained.model) >= 18  # of 20


def test_dpo_sums_over_response_tokens_alone(policy: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidden states that know positions but no tokens, a prompt's tokens are labels and nothing else."""

    def positions_only(model: Any, batch: Any, read: Tensor) -> Tensor:
        hidden: Tensor = 40 * model.transformer.wpe(batch.position_ids)
        return hidden[read]

    monkeypatch.setattr(logprobs, "hidden_states", positions_only)
    pairs = [(Encoded([11, 12, 13], [21, 22, 0]), Encoded([11, 12, 13], [23, 0]))]
    changed = [tuple(side._replace(prompt=[91, 92, 93]) for side in pair) for pair in pairs]
    other = [tuple(side._replace(response=[94, *side.response[1:]]) for side in pair) for pair in pairs]
    model = LogprobModel(policy)
    before, after, moved = (pairs_module.pair_logps(model, p, 0) for p in (pairs, changed, other))  # type: ignore[arg-type]
    assert torch.equal(before.chosen, after.chosen)
    assert torch.equal(before.rejected, after.rejected)
    assert not torch.equal(before.chosen, moved.chosen)


def test_dpo_log_probabilities_are_plain_sums(policy: PreTrainedModel) -> None:
    prompt, chosen, rejected = [11, 12, 13], [21, 22, 0], [23, 0]

    def total(response: list[int]) -> float:
        with torch.no_grad():
            table = policy(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        return sum(table[len(prompt) + i - 1, token].item() for i, token in enumerate(response))

    pairs = [(Encoded(prompt, chosen), Encoded(prompt, rejected))]
    logps = pairs_module.pair_logps(LogprobModel(policy), pairs, 0)
    assert logps.chosen.item() == pytest.approx(total(chosen), abs=1e-4)
    assert logps.rejected.item() == pytest.approx(total(rejected), abs=1e-4)


# rewards of a rollout


def test_missing_end_of_text_is_penalised_and_counted(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some responses end at a stop string, the others at the limit."""
    shared = {"stop": ("a", "e", "i")}
    rows = [one_step(make_stage("ppo", shared=shared, missing_eos_penalty=p)).row for p in (0.0, 8.0)]
    cut = rows[0]["completions/clipped_ratio"]
    assert 0 < cut < 1
    assert cut != 0.5  # or the penalty could be taken from the wrong ones
    assert rows[0]["objective/rlhf_reward"] - rows[1]["objective/rlhf_reward"] == pytest.approx(8 * cut, abs=1e-4)
    assert rows[0]["objective/scores"] == rows[1]["objective/scores"]  # the reward model's own is logged as it is

    groups: list[Tensor] = []
    monkeypatch.setitem(
        GROUP_ADVANTAGES, "group", lambda rewards: (groups.append(rewards), group_advantages(rewards))[1]
    )
    rows = [one_step(make_stage("grpo", shared=shared, missing_eos_penalty=p)).row for p in (0.0, 8.0)]
    taken = (groups[0] - groups[1]).flatten()
    assert sorted(set(taken.round().tolist())) == [0, 8]
    assert (taken.round() == 8).float().mean().item() == pytest.approx(rows[0]["completions/clipped_ratio"])


def test_groups_without_spread_are_counted_and_teach_nothing(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards of 1.7, whose float32 mean of 3 is another number."""
    monkeypatch.setattr(RewardModel, "score", lambda self, prompts, *_: torch.full((len(prompts),), 1.7))
    for prompts in (1, 4):
        step = one_step(make_stage("grpo", batch_size=prompts))
        assert step.row["frac_reward_zero_std"] == 1
        assert step.gradient.abs().max().item() < 1e-6

    def one_group_differs(self: RewardModel, prompts: list[str], *_: Any) -> Tensor:
        return torch.arange(float(len(prompts))).clamp(max=2)  # 0 1 2, 2 2 2, 2 2 2, 2 2 2 in the scorer's order

    monkeypatch.setattr(RewardModel, "score", one_group_differs)
    step = one_step(make_stage("grpo"))
    assert step.row["frac_reward_zero_std"] == 0.75
    assert step.gradient.abs().max().item() > 1e-3


# randomness


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo", "grpo"])
def test_a_dirtied_global_generator_changes_nothing(
    make_stage: MakeStage, one_step: Callable[[Stage], Step], name: str
) -> None:
    steps = []
    for seed in (1, 999):
        torch.manual_seed(seed)
        np.random.seed(seed)
        steps.append(one_step(make_stage(name)))
    assert torch.equal(steps[0].gradient, steps[1].gradient)
    assert {**steps[0].row, "seconds": 0} == {**steps[1].row, "seconds": 0}


# several processes


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/init", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def watched(model: torch.nn.Module) -> tuple[Any, list[int]]:
    """The model under DDP, and how many numbers its hook has been given, bucket by bucket."""
    wrapped = DistributedDataParallel(model)
    sizes: list[int] = []

    def hook(state, bucket):  # type: ignore[no-untyped-def]  # DDP takes no annotation that is a string
        sizes.append(len(bucket.buffer()))
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, hook)
    return wrapped, sizes


@pytest.mark.usefixtures("one_process")
def test_language_model_step_goes_through_ddp(make_stage: MakeStage, policy: PreTrainedModel) -> None:
    stage = make_stage("sft", micro_batch_size=64)
    wrapped, sizes = watched(LogprobModel(policy))
    rows = [Encoded([11, 12], [13, 0]), Encoded([14], [15, 16, 0])]
    step = language_model.NllStep(stage.machine, wrapped, whole_sequence=False, tokens=5)
    pieces = [collate(part, pad_id=0) for part in stage.machine.pool.split(rows, 64)]
    stage.machine.pool.accumulate(partial(language_model.nll_step_loss, step), pieces, list(policy.parameters()))
    assert sum(sizes) == sum(p.numel() for p in policy.parameters())


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("critic", ["reward", "shared"])
def test_ppo_update_goes_through_ddp(make_stage: MakeStage, policy: PreTrainedModel, folder: Path, critic: str) -> None:
    stage = make_stage("ppo", micro_batch_size=64, critic=critic)
    config = stage.recipe.ppo
    reference, tokenizer = load_policy(folder / "sft")
    model = ActorCritic(LogprobModel(policy), make_critic(stage, config, policy))
    maker = RolloutMaker(stage, config, LogprobModel(policy), LogprobModel(reference), tokenizer)
    rollout = maker.make(0, samples=1)
    targets, _ = ppo.prepare(config, maker, model.critic, rollout, 0.1)
    wrapped, sizes = watched(model)
    parameters = list(model.parameters())
    step = policy_step(maker, wrapped, config, rollout, targets, torch.arange(len(rollout.rows)))
    stage.machine.pool.accumulate(partial(ppo.ppo_loss, step), step.pieces, parameters)
    assert sum(sizes) == sum(p.numel() for p in parameters)
