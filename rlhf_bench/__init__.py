"""Evaluation of RLHF checkpoints: reward, KL, gold reward and more, each number with its interval.

Nothing is imported here, so that `import rlhf_bench` costs nothing; take what you need from its modules.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
