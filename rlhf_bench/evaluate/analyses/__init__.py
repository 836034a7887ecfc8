"""What an evaluation finds beside the number of each model: comparisons of models, and of one method's checkpoints.

alarms              signs that a reward was over-optimised
tradeoff            reward against KL: the Pareto front and its hypervolume
equal_kl            the rewards of curves of checkpoints at one distance from the reference
over_optimisation   gold reward along one method's checkpoints, with the fitted form
best_of_n           what choosing the best of n responses by the reward model gives
"""
