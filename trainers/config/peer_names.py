"""What a recipe's key is called elsewhere, for people who arrive with another project's names.

A name is listed where the key decides the same thing; a note in brackets says where values or units differ. TRL's are
fields of its configuration classes, held against the installed TRL by tests/trainers/test_peer_names.py. PPOConfig is
of the releases that had PPO still (trl/experimental/ppo/ppo_config.py, commit 496cb7f). OpenRLHF's are arguments of
openrlhf/cli/train_sft.py (commit f2afba4), train_dpo.py (a3be906; of adapters 006cd70), train_kto.py (abb0475),
train_rm.py (bdf7dfa) and train_ppo_ray.py (f5b3f08); other versions may call them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

Names = Mapping[str, str]  # dotted key -> name


def _under(section: str, *tables: Names, prefix: str = "") -> dict[str, str]:
    return {f"{section}.{key}": prefix + name for table in tables for key, name in table.items()}


def _same(*keys: str) -> dict[str, str]:
    """Keys that have the same name there."""
    return {key: key for key in keys}


_TRL_OPTIMIZER = {
    "optimizer": "optim",
    "lr": "learning_rate",
    "schedule": "lr_scheduler_type",
    "warmup_ratio": "warmup_steps (below 1 it is a share of the steps)",
    "batch_size": "gradient_accumulation_steps (times per_device_train_batch_size and processes)",
    "micro_batch_size": "per_device_train_batch_size",
    "compile": "torch_compile",
    "eval_every": "eval_steps",
    "keep": "load_best_model_at_end (best: true)",
    **_same(
        "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "gradient_checkpointing",
        "save_steps", "save_total_limit",
    ),
}  # fmt: skip
_TRL_LENGTH = {"epochs": "num_train_epochs", "max_steps": "max_steps"}
_TRL_SFT = {"loss_on": "completion_only_loss (response: true)"}
_TRL_LORA = {
    "lora": "use_peft (null: false)",
    "lora.r": "lora_r",
    "lora.alpha": "lora_alpha",
    "lora.target_modules": "lora_target_modules",
    "lora.load_in_4bit": "load_in_4bit",
}
_TRL_REWARD = {"center_coef": "center_rewards_coefficient"}
_TRL_GRPO = {
    "batch_size": "generation_batch_size (of responses: prompts times num_generations)",
    "steps": "max_steps (of updates, not of rollouts)",
    "max_response_tokens": "max_completion_length",
    "epochs": "num_iterations",
    "minibatches": "steps_per_generation (over gradient_accumulation_steps)",
    "cliprange": "epsilon",
    "cliprange_high": "epsilon_high",
    "ratio": "importance_sampling_level",
    "entropy_target": "entropy_target (use_adaptive_entropy: moves the weight, where ours moves the loss)",
    "advantage": "scale_rewards (group: group, batch: batch, mean: none)",
    **_same("temperature", "top_p", "entropy_coef", "num_generations", "beta", "loss_type"),
}
_TRL_PPO = {
    "max_response_tokens": "response_length",
    "steps": "total_episodes (steps times batch_size)",
    "epochs": "num_ppo_epochs",
    "minibatches": "num_mini_batches",
    **_same(
        "batch_size", "temperature", "missing_eos_penalty", "whiten_rewards", "kl_coef", "cliprange", "vf_coef",
        "cliprange_value", "gamma", "lam",
    ),
}  # fmt: skip
_TRL_DPO = {"loss": "loss_type", "sft_weight": "loss_weights", **_same("beta", "label_smoothing")}

_MODEL, _DATASET = "ModelConfig.model_name_or_path", "ScriptArguments.dataset_name"

TRL: Names = {
    "seed": "GRPOConfig.seed",
    "model": _MODEL,
    "data.source": _DATASET,
    "data.prompt_template": "SFTConfig.chat_template_path (chat: the tokenizer's own)",
    "precision": "GRPOConfig.bf16",
    "data.max_response_tokens": "GRPOConfig.max_completion_length",
    **_under("base", _TRL_OPTIMIZER, _TRL_LENGTH, prefix="SFTConfig."),
    **_under("sft", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_SFT, prefix="SFTConfig."),
    **_under("reward", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_REWARD, prefix="RewardConfig."),
    "sft.source": _DATASET,
    "reward.backbone": _MODEL,
    "reward.weights": "GRPOConfig.reward_weights",
    **_under("ppo", _TRL_OPTIMIZER, _TRL_PPO, prefix="PPOConfig."),
    **_under("grpo", _TRL_OPTIMIZER, _TRL_GRPO, prefix="GRPOConfig."),
    **_under("dpo", _TRL_OPTIMIZER, _TRL_LENGTH, _TRL_DPO, prefix="DPOConfig."),
    "dpo.desirable_weight": "KTOConfig.desirable_weight",
    "dpo.undesirable_weight": "KTOConfig.undesirable_weight",
    **{
        f"{section}.{key}": f"ModelConfig.{name}"
        for section in ("sft", "reward", "ppo", "grpo", "dpo")
        for key, name in _TRL_LORA.items()
    },
}

_OPENRLHF_OPTIMIZER = {
    "weight_decay": "l2",
    "adam_beta1": "adam_betas (the first)",
    "adam_beta2": "adam_betas (the second)",
    "max_grad_norm": "max_norm",
    "micro_batch_size": "micro_train_batch_size",
    "eval_every": "eval_steps",
    "epochs": "max_epochs",
    "save_total_limit": "max_ckpt_num",
    **_same("gradient_checkpointing", "save_steps"),
}
_OPENRLHF_SCHEDULE = {"schedule": "lr_scheduler", "warmup_ratio": "lr_warmup_ratio"}
_OPENRLHF_BATCHES = {"lr": "learning_rate", "batch_size": "train_batch_size"}
_OPENRLHF_SFT = {"compile": "torch_compile"}
_OPENRLHF_DPO = {
    "compile": "deepcompile",
    "loss": "ipo (ipo: set)",
    "desirable_weight": "desirable_loss_weight",
    "undesirable_weight": "undesirable_loss_weight",
    "max_pairs": "max_samples",
    "sft_weight": "nll_loss_coef",
    **_same("beta", "label_smoothing"),
}
_OPENRLHF_ROLLOUT = {
    "lr": "actor_learning_rate",
    "batch_size": "rollout_batch_size",
    "compile": "deepcompile",
    "steps": "num_episodes (passes over the prompts)",
    "minibatches": "train_batch_size (responses of an update)",
    "max_prompt_tokens": "prompt_max_len",
    "max_response_tokens": "generate_max_len",
    "cliprange": "eps_clip",
    "ratio": "policy_loss_type (sequence: gspo)",
    "entropy_coef": "entropy_loss_coef",
    "advantage": "advantage_estimator",
    "kl_in": "use_kl_loss (loss: set)",
    **_same("temperature", "top_p"),
}
_OPENRLHF_PPO = {
    "kl_coef": "init_kl_coef",
    "lam": "lambd",
    "cliprange_value": "value_clip",
    "critic": "critic_pretrain",
    "critic_lr": "critic_learning_rate",
    "whiten_advantages": "no_advantage_std_norm (of the std alone; unset: true)",
    **_same("kl_target", "kl_horizon", "gamma"),
}
_OPENRLHF_GRPO = {
    "num_generations": "n_samples_per_prompt",
    "beta": "init_kl_coef",
    "cliprange_high": "eps_clip_low_high (the second)",
    "loss_type": "advantage_estimator (dr_grpo)",
}

_OPENRLHF_LORA = {
    "lora": "lora_rank (null: 0)",
    "lora.r": "lora_rank",
    "lora.alpha": "lora_alpha",
    "lora.target_modules": "target_modules",
    "lora.load_in_4bit": "load_in_4bit",
}

_OPENRLHF_TUNED = (_OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_BATCHES)

OPENRLHF: Names = {
    "seed": "--seed",
    "model": "--pretrain",
    "data.source": "--dataset (train_ppo_ray: --prompt_data)",
    "data.limit": "--max_samples",
    "data.prompt_template": "--input_template (chat: --apply_chat_template)",
    "precision": "--bf16",
    "data.max_prompt_tokens": "--prompt_max_len",
    "data.max_response_tokens": "--generate_max_len",
    **_under("base", *_OPENRLHF_TUNED, _OPENRLHF_SFT, prefix="--"),
    **_under(
        "sft", *_OPENRLHF_TUNED, _OPENRLHF_SFT, _OPENRLHF_LORA, {"loss_on": "pretrain_mode (sequence: set)"},
        prefix="--",
    ),
    **_under(
        "reward", _OPENRLHF_OPTIMIZER, _OPENRLHF_BATCHES, _OPENRLHF_LORA,
        {"margin": "margin_loss (data: set)", "backbone": "pretrain"},
        prefix="--",
    ),
    "reward.function": "--reward_pretrain (a function: --remote_rm_url)",
    **_under(
        "ppo", _OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_ROLLOUT, _OPENRLHF_PPO, _OPENRLHF_LORA, prefix="--"
    ),
    **_under(
        "grpo", _OPENRLHF_OPTIMIZER, _OPENRLHF_SCHEDULE, _OPENRLHF_ROLLOUT, _OPENRLHF_GRPO, _OPENRLHF_LORA, prefix="--"
    ),
    **_under("dpo", *_OPENRLHF_TUNED, _OPENRLHF_DPO, _OPENRLHF_LORA, prefix="--"),
}  # fmt: skip


def peer_names(key: str) -> str:
    """A dotted key's names in TRL and OpenRLHF as one line: "none" where there is no such thing."""
    return "; ".join(f"{peer}: {names.get(key, 'none')}" for peer, names in (("TRL", TRL), ("OpenRLHF", OPENRLHF)))
