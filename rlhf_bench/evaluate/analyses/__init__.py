"""What an evaluation computes beside each model's numbers: comparisons of models, and of one method's checkpoints.

alarms              signs that a reward was over-optimised
phrases             a phrase that most of a model's responses share and the reference's do not
tradeoff            reward against KL: the Pareto front and its hypervolume
equal_kl            the rewards of curves of checkpoints at the same distance from the reference
over_optimisation   gold reward along one method's checkpoints, with the fitted form
best_of_n           the gain from choosing the best of n responses by the reward model
frontier            the most reward that any policy can have at each KL, and each model's share of it
gain                where each model's gain in reward came from: length, style, and the rest
"""
