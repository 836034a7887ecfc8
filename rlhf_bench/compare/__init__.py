"""`compare`: the models of two results, matched by prompt and seed, as `ComparedResults`; `compare_published`: means
of a published table; `prompts_for`: what a difference would need."""

from rlhf_bench.compare.compared import ComparedResults
from rlhf_bench.compare.published import compare_published
from rlhf_bench.compare.results import compare, prompts_for

__all__ = ["ComparedResults", "compare", "compare_published", "prompts_for"]
