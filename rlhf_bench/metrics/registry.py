"""The registry under its former names, until its importers use rlhf_bench.scorers."""

from rlhf_bench.scorers import METRICS, Metric, describe
from rlhf_bench.scorers.kl import KL_COLUMNS
from rlhf_bench.scorers.perplexity import PERPLEXITY_PREFIXES as READ_PREFIXES
from rlhf_bench.scorers.perplexity import language_model_columns as reader_columns
from rlhf_bench.scorers.reward import HELD_OUT, REWARD_PREFIX
from rlhf_bench.scorers.rouge import ROUGE_PARTS
from rlhf_bench.scorers.rules import suite_metrics as probe_names

GOLD_PREFIX = "gold_"
COMPARED = tuple(name for name, metric in METRICS.items() if metric.compared and name not in probe_names(METRICS))
__all__ = [
    "COMPARED", "GOLD_PREFIX", "HELD_OUT", "KL_COLUMNS", "METRICS", "READ_PREFIXES", "REWARD_PREFIX", "ROUGE_PARTS",
    "Metric", "describe", "probe_names", "reader_columns",
]  # fmt: skip
