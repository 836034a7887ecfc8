"""What trainers share: the step loop and its states, the optimiser, batches, rollouts, saving."""
