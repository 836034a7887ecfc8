"""`compare`: the models of two results, matched by prompt and seed."""

from rlhf_bench.compare.results import compare

__all__ = ["compare"]
