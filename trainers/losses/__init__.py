"""Losses, advantages and rewards as pure functions of tensors: the paper, its equation, the shapes."""
