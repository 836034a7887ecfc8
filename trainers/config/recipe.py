"""What a recipe can say: every key, its type, its bounds and its meaning.

A recipe is a YAML file in trainers/recipes (or anywhere, given by path). Keys that a recipe leaves out take the
defaults below, which are those of `mini`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlhf_bench.config import Config
from rlhf_bench.data.filters import FILTERS
from rlhf_bench.types import HH_MINI, HUMAN_TURN, TemplateName
from trainers.config.optimizer import OptimizerConfig, TunedConfig

LossName = Literal[
    "sigmoid", "cdpo", "robust", "ipo", "ipo_sum", "hinge", "kto", "kto_unpaired", "slic", "cpo", "cpo_sum", "orpo",
    "orpo_response",
]  # fmt: skip


class NewModel(Config):
    """A GPT-2 to initialise at random."""

    n_layer: int = Field(4, ge=1, description="layers")
    n_head: int = Field(4, ge=1, description="attention heads; divides n_embd")
    n_embd: int = Field(128, ge=8, description="width")
    n_positions: int = Field(256, ge=16, description="longest sequence the model can read, in tokens")
    vocab_size: int = Field(1200, ge=257, le=65536, description="tokens of the byte-level BPE trained on the data")


class DataConfig(Config):
    source: str = Field(HH_MINI, description=f"{HH_MINI}, a hub data set, a file or a folder")
    seed: int = Field(0, ge=0, description="seed of the split (and of the grammar of hh-mini)")
    limit: int | None = Field(None, ge=1, description="use only the first N training pairs")
    prompt_template: TemplateName = "hh"
    """form of the prompts in training and evaluation; hh: as the data; chat: the tokenizer's own"""
    filters: str = Field("none", description=f"filter of the training pairs: {', '.join(FILTERS)}")
    skip_bad: bool = Field(False, description="leave out rows that cannot be used, and count them; else an error")
    validation: float | None = Field(None, gt=0, lt=0.5)
    """share of the prompts that validates, where the source has no split for it; null: 0.05, or 0.1 of fewer than 5,000
    rows"""
    max_prompt_tokens: int = Field(128, ge=1, description="longer prompts are cut from the left")
    max_response_tokens: int = Field(64, ge=2, description="longer responses are cut from the right")


class BaseConfig(OptimizerConfig):
    epochs: float = Field(1.0, gt=0, description="passes over the documents")
    max_steps: int | None = Field(None, ge=1, description="so many optimiser steps, whatever epochs says")


class SftConfig(TunedConfig):
    epochs: float = Field(1.0, gt=0, description="passes over the chosen responses")
    max_steps: int | None = Field(None, ge=1, description="so many optimiser steps, whatever epochs says")
    source: str | None = None
    """demonstrations to learn from in place of the data's chosen responses: a file, a folder or a hub data set of
    instruction[/input] and output, or prompt and response"""
    loss_on: Literal["response", "sequence"] = Field("response", description="tokens that are learned")


class RewardConfig(TunedConfig):
    epochs: float = Field(2.0, gt=0, description="passes over the pairs")
    max_steps: int | None = Field(None, ge=1, description="so many optimiser steps, whatever epochs says")
    backbone: str = Field("sft", description="what the reward model starts from: sft, base, a folder or a hub name")
    head_lr: float = Field(1e-3, gt=0, description="learning rate of the new scalar head")
    margin: Literal["none", "data"] = "none"
    """data: each pair's own margin is what its scores are to differ by (arXiv:2307.09288)"""
    center_coef: float = Field(0.0, ge=0)
    """weight of the squared sum of a pair's scores, which centres scores about 0"""
    function: str | tuple[str, ...] = "model"
    """what ppo and grpo are rewarded by: model (this stage's), gold (where it is known), the folder of another reward
    model, a Python function package.module:name of prompts and responses that returns floats, or a list of them to be
    summed"""
    weights: tuple[float, ...] | None = None
    """weight of each reward in the list of reward.function; null: 1 each"""
    checkpoint: int | None = Field(None, ge=1)
    """step of the reward model's checkpoint on the way (reward.save_steps) that ppo and grpo are rewarded by and ppo's
    critic starts from; null: the finished reward model"""
    ensemble: Literal["mean", "min"] | None = None
    """the rewards in the list as an ensemble: the mean, or the worst of them, each in standard deviations of what it
    gives the chosen responses of the validation split; null: their weighted sum"""


class DpoConfig(TunedConfig):
    epochs: float = Field(1.0, gt=0, description="passes over the pairs")
    max_steps: int | None = Field(None, ge=1, description="so many optimiser steps, whatever epochs says")
    max_pairs: int | None = Field(None, ge=1)
    """use only so many training pairs (kto_unpaired: labelled responses)"""
    loss: LossName = "sigmoid"
    """which loss of the family: trainers/losses/preference.py has each; kto_unpaired learns from single responses with
    labels, batch_size counts these"""
    beta: float = Field(0.1, gt=0)
    """strength of the KL regularisation; ipo: tau, orpo: lambda, slic: 1/delta"""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="cdpo, robust: share of labels taken to be wrong")
    sft_weight: float | None = Field(None, ge=0)
    """weight of an SFT term on the chosen; null: 0, and 1 for cpo, cpo_sum and slic"""
    desirable_weight: float = Field(1.0, gt=0, description="kto: weight of the chosen, or desirable, responses")
    undesirable_weight: float = Field(1.0, gt=0, description="kto: weight of the rejected, or undesirable, responses")

    @model_validator(mode="after")
    def _options_fit_the_loss(self) -> DpoConfig:
        """Raises ValueError, which the configuration's reader turns into one line."""
        smooths = self.loss in ("cdpo", "robust")
        if smooths and not self.label_smoothing:
            raise ValueError(
                f"dpo.loss={self.loss} with dpo.label_smoothing=0 is dpo.loss=sigmoid; set dpo.label_smoothing, such "
                "as 0.1, or use sigmoid"
            )
        if self.label_smoothing and not smooths:
            raise ValueError(
                f"dpo.label_smoothing: given {self.label_smoothing:g} with dpo.loss={self.loss}, which has no label "
                "smoothing; only cdpo and robust do"
            )
        if self.sft_weight is not None and self.loss in ("orpo", "orpo_response"):
            raise ValueError(
                f"dpo.sft_weight: given {self.sft_weight:g} with dpo.loss={self.loss}, which is an SFT loss with an "
                "odds-ratio term; weigh that term with dpo.beta and leave sft_weight out"
            )
        is_kto = self.loss in ("kto", "kto_unpaired")
        if self.sft_weight is not None and self.loss == "kto_unpaired":
            raise ValueError(
                f"dpo.sft_weight: given {self.sft_weight:g} with dpo.loss=kto_unpaired, which has no chosen response "
                "for an SFT term; leave it out, or use kto on pairs"
            )
        if not is_kto and (self.desirable_weight, self.undesirable_weight) != (1.0, 1.0):
            raise ValueError(
                f"dpo.desirable_weight and dpo.undesirable_weight are kto's; given with dpo.loss={self.loss}: leave "
                "them out"
            )
        if is_kto and self.batch_size == 1:
            other = "pair's" if self.loss == "kto" else "prompt's"
            raise ValueError(
                f"dpo.batch_size: given 1 with dpo.loss={self.loss}; its KL pairs each prompt with another {other} "
                "response; expected at least 2"
            )
        return self


class RolloutConfig(TunedConfig):
    """What PPO and GRPO share."""

    steps: int = Field(40, ge=1, description="rollouts, each followed by its updates")
    temperature: float = Field(1.0, gt=0, description="sampling temperature, also of the policy ratio")
    top_p: float = Field(1.0, gt=0, le=1)
    """draw from the smallest set of tokens with this probability; ratio and KL stay those of the whole distribution,
    and the log says how far the samples are from it"""
    max_prompt_tokens: int | None = Field(None, ge=1, description="limit of a rollout's prompts; null: that of data")
    max_response_tokens: int | None = Field(None, ge=2)
    """longest response of a rollout, in tokens; null: that of data"""
    missing_eos_penalty: float = Field(0.0, ge=0, description="taken from the reward of a response that never ended")
    epochs: int = Field(1, ge=1, description="passes over each rollout")
    minibatches: int = Field(1, ge=1, description="optimiser steps of one pass over a rollout")
    cliprange: float = Field(0.2, gt=0, lt=1, description="clipping of the policy ratio (GSPO: some 3e-4)")
    ratio: Literal["token", "sequence", "product", "none"] = "token"
    """policy ratio of each token, of the response as the geometric mean (sequence, GSPO) or the product (product, RLOO)
    of its tokens', or REINFORCE's form without one (none)"""
    entropy_coef: float = Field(0.0, ge=0)
    """weight of the entropy bonus, or of the target-entropy loss with entropy_target"""
    entropy_target: float | None = Field(None, ge=0)
    """target of the mean entropy, nats a token; null: a bonus, the more the better"""

    @property
    def upper_cliprange(self) -> float:
        return self.cliprange


class PpoConfig(RolloutConfig):
    advantage: Literal["gae", "reward", "reward_minus_value"] = "gae"
    """GAE per token; or one a response: its reward (no critic), or its reward less its mean value"""
    whiten_advantages: bool = Field(True, description="advantages of a rollout to mean 0 and std 1")
    kl_coef: float = Field(0.1, ge=0, description="weight of the KL to the reference")
    kl_in: Literal["reward", "loss"] = "reward"
    """KL per token inside the reward (k1) or added to the loss (k3)"""
    kl_target: float | None = Field(None, gt=0, description="adapt kl_coef towards this KL, nats per response")
    kl_horizon: float = Field(10_000, gt=0, description="responses over which kl_coef adapts")
    gamma: float = Field(1.0, ge=0, le=1, description="discount of GAE")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of GAE")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
    cliprange_value: float = Field(0.2, gt=0, description="clipping of the value's change")
    critic: Literal["reward", "policy", "shared"] | None = None
    """weights the critic's backbone starts from, or shared: a head on the policy's own backbone; null: reward where the
    reward model gives the reward, else policy"""
    critic_lr: float = Field(5e-4, gt=0, description="learning rate of the critic (of its head, where it is shared)")
    target_kl: float | None = Field(None, gt=0)
    """no more updates of a rollout once a minibatch's approximate KL, nats a token, is above"""
    whiten_rewards: bool = Field(False, description="divide per-token rewards by their std over the rollout")


class GrpoConfig(RolloutConfig):
    num_generations: int = Field(8, ge=1, description="responses a prompt (the group), at least 2")
    advantage: Literal["group", "batch", "mean", "rloo", "rank_linear", "rank_exponential", "rank_tournament"] = "group"
    """reward less the group's mean over the group's std, or (batch) over the std of all rewards of the rollout; less
    the mean; less the mean of the others (leave one out); or by rank in the group: linear, exponential, wins minus
    losses"""
    rank_decay: float | None = Field(None, gt=0, description="lambda of rank_exponential, a rank; null: 1")
    beta: float = Field(0.05, ge=0, description="weight of the KL to the reference")
    kl_in: Literal["loss", "reward"] = "loss"
    """KL per token added to the loss (k3) or, summed, inside the reward (k1)"""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "grpo"
    """length normaliser of the loss: each response's own, a constant, the tokens of the step (dapo), or those of each
    micro-batch (bnpo)"""
    cliprange_high: float | None = Field(None, gt=0, description="upper clipping (DAPO's clip-higher); null: cliprange")

    @property
    def upper_cliprange(self) -> float:
        return self.cliprange_high or self.cliprange


class Recipe(Config):
    """One training pipeline, from nothing (or a pretrained model) to six checkpoints."""

    description: str = Field("", description="what this recipe is for, in one line")
    toy: bool = Field(False, description="its numbers mean nothing: every table that shows its checkpoints marks them")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of weights, data order and sampling")
    model: str | NewModel = Field(default_factory=NewModel)
    """hub name or folder of a pretrained model, or a GPT-2 to initialise"""
    stages: tuple[Literal["base", "sft", "reward", "ppo", "grpo", "dpo"], ...] | None = Field(None, min_length=1)
    """what `train all` trains, with what it starts from; null: every stage"""
    start: Literal["sft", "base"] = "sft"
    """what ppo, grpo and dpo start from, and their reference; base: without SFT"""
    data: DataConfig = Field(default_factory=DataConfig, description="preference pairs")
    stop: tuple[str, ...] = Field((HUMAN_TURN,), description="strings that end a sampled response; cut before them")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: training's passes and rewards under autocast, its weights, optimiser and samples in fp32; faster and in
    less memory, each number rounded to some 3 digits on the way; auto: bf16 where the hardware is good at it"""
    save_seconds: float = Field(30.0, ge=0, description="seconds between saved states for resuming; 0: every step")
    base: BaseConfig = Field(default_factory=BaseConfig, description="language model on whole dialogues")
    sft: SftConfig = Field(default_factory=SftConfig, description="supervised fine-tuning on chosen responses")
    reward: RewardConfig = Field(default_factory=RewardConfig, description="Bradley-Terry reward model")
    ppo: PpoConfig = Field(default_factory=PpoConfig, description="proximal policy optimisation")
    grpo: GrpoConfig = Field(default_factory=GrpoConfig, description="group relative policy optimisation")
    dpo: DpoConfig = Field(default_factory=DpoConfig, description="direct preference optimisation")
