"""The keys that every stage has: optimiser, schedule, evaluation while training, which checkpoint is kept, adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf_bench.config import Config


class LoraConfig(Config):
    """An adapter: W x becomes W x + (alpha / r) B A x, with only A (r, in) and B (out, r) trained.

    Dropout is off in every model of this project, so there is no key for an adapter's.
    """

    r: int = Field(16, ge=1, description="rank of the update")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / r")
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """layers that get an adapter, by the ends of their names; all-linear: each but the head"""
    load_in_4bit: bool = False
    """QLoRA: the frozen weights, the reference's and the critic's too, in 4 bits (extra quant)"""


class OptimizerConfig(Config):
    """What every stage shares: optimiser, schedule, evaluation while training, which checkpoint is kept."""

    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: for the matrices of the layers only")
    lr: float = Field(1e-3, gt=0)
    """peak learning rate of AdamW; beside muon: of embeddings, norms and heads alone"""
    muon_lr: float = Field(0.02, gt=0, description="peak learning rate of Muon, for the matrices of the layers")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="after the warm-up, down to 0")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="share of the steps that warm up linearly")
    warmup_steps: int | None = Field(None, ge=0, description="steps that warm up linearly; null: by warmup_ratio")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay, on matrices only")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment")
    adam_beta2: float = Field(0.98, ge=0, lt=1, description="AdamW's second moment")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this global norm")
    batch_size: int = Field(64, ge=1, description="rows of an optimiser step: documents, pairs or prompts")
    micro_batch_size: int = Field(32, ge=1, description="sequences of one forward pass; lower it to save memory")
    gradient_checkpointing: bool = False
    """compute activations again in the backward pass: the same gradients in less memory, slower"""
    compile: bool = False
    """torch.compile of the layers: other last bits, a minute or so to begin with, and micro-batches one after another
    on all cores; sampling stays as it is"""
    eval_every: int = Field(100, ge=0, description="steps between evaluations on the validation split; 0: at the end")
    eval_size: int = Field(256, ge=1, description="validation rows of such an evaluation")
    keep: Literal["last", "best"] = Field("last", description="which checkpoint is kept: the last or the best so far")
    save_steps: int = Field(0, ge=0)
    """steps between checkpoints kept on the way, in <stage>-steps/checkpoint-<step>; 0: none"""
    save_total_limit: int | None = Field(None, ge=1)
    """keep only so many of the checkpoints on the way, the newest; null: all"""

    def warmup_share(self, steps: int) -> float:
        """The share of so many steps that warms up: `warmup_steps` of them where it is given."""
        return self.warmup_ratio if self.warmup_steps is None else self.warmup_steps / steps


class TunedConfig(OptimizerConfig):
    """A stage that starts from the weights of another."""

    lora: LoraConfig | None = Field(None, description="train an adapter (extra peft); null: all weights")

    @property
    def load_in_4bit(self) -> bool:
        return self.lora is not None and self.lora.load_in_4bit
