"""What gives a response a number: reward models, and the known gold reward of embedded data."""

from rlhf_bench.scoring.gold import GoldReward, gold_reward_for
from rlhf_bench.scoring.reward import RewardModel, ScoreModel

__all__ = ["GoldReward", "RewardModel", "ScoreModel", "gold_reward_for"]
