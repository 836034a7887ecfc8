"""Numbers with error bars: pure functions, float64 arrays in, `Estimate` out.

Prompts are the unit that is resampled, never rows. All randomness comes from the
`seed` argument, used through a generator of its own: the global state of NumPy is neither read nor changed.
"""

from rlhf_bench.stats.compare import Difference, benjamini_hochberg, detectable_difference, difference, holm
from rlhf_bench.stats.correlation import correlation_estimate
from rlhf_bench.stats.counts import kappa_estimate, mcnemar_p, odds_ratio
from rlhf_bench.stats.crossed import crossed, crossed_difference
from rlhf_bench.stats.estimates import mean_estimate, ratio_estimate, share_estimate, std_estimate
from rlhf_bench.stats.linearised import (
    crossed_ratio,
    crossed_share,
    crossed_std,
    reference_z_cells,
    resampled_scale,
    scale_influence,
    scaled_cells,
)
from rlhf_bench.stats.paired_shares import crossed_share_difference, share_difference
from rlhf_bench.stats.power import prompts_needed
from rlhf_bench.stats.resample import RESAMPLES, FloatArray, prompt_means, resampling

__all__ = [
    "RESAMPLES",
    "Difference",
    "FloatArray",
    "benjamini_hochberg",
    "correlation_estimate",
    "crossed",
    "crossed_difference",
    "crossed_ratio",
    "crossed_share",
    "crossed_share_difference",
    "crossed_std",
    "detectable_difference",
    "difference",
    "holm",
    "kappa_estimate",
    "mcnemar_p",
    "mean_estimate",
    "odds_ratio",
    "prompt_means",
    "prompts_needed",
    "ratio_estimate",
    "reference_z_cells",
    "resampled_scale",
    "resampling",
    "scale_influence",
    "scaled_cells",
    "share_difference",
    "share_estimate",
    "std_estimate",
]
