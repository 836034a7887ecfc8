"""What gives a response a number: reward models, language models, and the known gold reward of embedded data."""

from rlhf_bench.scoring.gold import GoldReward, gold_reward_for
from rlhf_bench.scoring.likelihood import LanguageModel, Likelihoods, sequence_logprobs
from rlhf_bench.scoring.reward import RewardModel, ScoreModel

__all__ = [
    "GoldReward",
    "LanguageModel",
    "Likelihoods",
    "RewardModel",
    "ScoreModel",
    "gold_reward_for",
    "sequence_logprobs",
]
