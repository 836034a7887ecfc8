"""The built-in trainers: base, SFT, reward model, PPO, GRPO and DPO, one file each."""
