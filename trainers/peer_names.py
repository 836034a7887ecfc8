"""What a recipe's key is called elsewhere, for people who arrive with another project's names.

A name stands here where the key decides the same thing; a note in brackets says where values or units differ. TRL's are
fields of its configuration classes, held against the installed TRL by tests/trainers/test_peer_names.py; a section
without a class (ppo since TRL 1.0) has none. OpenRLHF's are arguments of openrlhf/cli/train_dpo.py (commit a3be906;
of adapters 006cd70), train_rm.py (bdf7dfa) and train_ppo_ray.py (f5b3f08); other versions may call them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OPENRLHF", "TRL", "peer_names"]

Names = Mapping[str, str]  # dotted key -> name


def _under(section: str, *tables: Names, prefix: str = "") -> dict[str, str]:
    return {f"{section}.{key}": prefix + name for table in tables for key, name in table.items()}


_TRL_OPTIMIZER = {
    "optimizer": "optim",
    "lr": "learning_rate",
    "schedule": "lr_scheduler_type",
    "warmup_ratio": "warmup_steps (below 1 it is a share of the steps)",
    "weight_decay": "weight_decay",
    "adam_beta1": "adam_beta1",
    "adam_beta2": "adam_beta2",
    "max_grad_norm": "max_grad_norm",
    "micro_batch_size": "per_device_train_batch_size",
    "gradient_checkpointing": "gradient_checkpointing",
    "compile": "torch_compile",
    "eval_every": "eval_steps",
    "keep": "load_best_model_at_end (best: true)",
    "save_steps": "save_steps",
    "save_total_limit": "save_total_limit",
}
_TRL_LENGTH = {"epochs": "num_train_epochs", "max_steps": "max_steps"}
_TRL_PACKING = {"packing": "packing (of batch_size documents, not of as many packs)"}
_TRL_SFT = {"loss_on": "completion_only_loss (response: true)"}
_TRL_LORA = {
    "lora.r": "lora_r",
    "lora.alpha": "lora_alpha",
    "lora.target_modules": "lora_target_modules",
    "lora.load_in_4bit": "load_in_4bit",
}
_TRL_REWARD = {"center_coef": "center_rewards_coefficient"}
_TRL_GRPO = {
    "temperature": "temperature",
    "epochs": "num_iterations",
    "minibatches": "steps_per_generation (over gradient_accumulation_steps)",
    "cliprange": "epsilon",
    "cliprange_high": "epsilon_high",
    "ratio": "importance_sampling_level",
    "entropy_coef": "entropy_coef",
    "num_generations": "num_generations",
    "advantage": "scale_rewards (group: group, mean: none)",
    "beta": "beta",
    "loss_type": "loss_type",
}
_TRL_DPO = {"loss": "loss_type", "beta": "beta", "label_smoothing": "label_smoothing", "sft_weight": "loss_weights"}

TRL: Names = {
    "seed": "GRPOConfig.seed",
    "precision": "GRPOConfig.bf16",
    "data.max_response_tokens": "GRPOConfig.max_completion_length",
    **_under("base", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_PACKING, prefix="SFTConfig."),
    **_under("sft", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_PACKING, _TRL_SFT, prefix="SFTConfig."),
    **_under("reward", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_REWARD, prefix="RewardConfig."),
    "reward.weights": "GRPOConfig.reward_weights",
    **_under("grpo", _TRL_OPTIMIZER, _TRL_GRPO, prefix="GRPOConfig."),
    **_under("dpo", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_DPO, prefix="DPOConfig."),
    **{
        f"{section}.{key}": f"ModelConfig.{name}"
        for section in ("sft", "reward", "grpo", "dpo")
        for key, name in _TRL_LORA.items()
    },
}

_OPENRLHF_OPTIMIZER = {
    "weight_decay": "l2",
    "adam_beta1": "adam_betas (the first)",
    "adam_beta2": "adam_betas (the second)",
    "max_grad_norm": "max_norm",
    "micro_batch_size": "micro_train_batch_size",
    "gradient_checkpointing": "gradient_checkpointing",
    "eval_every": "eval_steps",
    "epochs": "max_epochs",
    "save_steps": "save_steps",
    "save_total_limit": "max_ckpt_num",
}
_OPENRLHF_SCHEDULE = {"schedule": "lr_scheduler", "warmup_ratio": "lr_warmup_ratio"}
_OPENRLHF_PAIRS = {"lr": "learning_rate", "batch_size": "train_batch_size"}
_OPENRLHF_DPO = {
    "max_pairs": "max_samples",
    "beta": "beta",
    "label_smoothing": "label_smoothing",
    "sft_weight": "nll_loss_coef",
}
_OPENRLHF_ROLLOUT = {
    "lr": "actor_learning_rate",
    "batch_size": "rollout_batch_size",
    "temperature": "temperature",
    "cliprange": "eps_clip",
    "ratio": "policy_loss_type (sequence: gspo)",
    "entropy_coef": "entropy_loss_coef",
    "advantage": "advantage_estimator",
    "kl_in": "use_kl_loss (loss: set)",
}
_OPENRLHF_PPO = {
    "kl_coef": "init_kl_coef",
    "kl_target": "kl_target",
    "kl_horizon": "kl_horizon",
    "gamma": "gamma",
    "lam": "lambd",
    "cliprange_value": "value_clip",
    "critic": "critic_pretrain",
    "critic_lr": "critic_learning_rate",
}
_OPENRLHF_GRPO = {
    "num_generations": "n_samples_per_prompt",
    "beta": "init_kl_coef",
    "cliprange_high": "eps_clip_low_high (the second)",
}

_OPENRLHF_LORA = {
    "lora.r": "lora_rank",
    "lora.alpha": "lora_alpha",
    "lora.target_modules": "target_modules",
    "lora.load_in_4bit": "load_in_4bit",
}

OPENRLHF: Names = {
    "seed": "--seed",
    "precision": "--bf16",
    "data.max_prompt_tokens": "--prompt_max_len",
    "data.max_response_tokens": "--generate_max_len",
    **_under("reward", _OPENRLHF_OPTIMIZER, _OPENRLHF_PAIRS, {"margin": "margin_loss (data: set)"}, prefix="--"),
    **_under("ppo", _OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_ROLLOUT, _OPENRLHF_PPO, prefix="--"),
    **_under("grpo", _OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_ROLLOUT, _OPENRLHF_GRPO, prefix="--"),
    **_under(
        "dpo", _OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_PAIRS, _OPENRLHF_DPO, _OPENRLHF_LORA, prefix="--"
    ),
}


def peer_names(key: str) -> str:
    """A dotted key's names in TRL and OpenRLHF as one line; empty where neither has one."""
    peers = (("TRL", TRL.get(key)), ("OpenRLHF", OPENRLHF.get(key)))
    return "; ".join(f"{peer}: {name}" for peer, name in peers if name)
