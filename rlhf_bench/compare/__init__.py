"""`compare`: the models of two results, matched by prompt and seed; `prompts_for`: what a difference would need."""

from rlhf_bench.compare.needed import prompts_for
from rlhf_bench.compare.results import compare

__all__ = ["compare", "prompts_for"]
