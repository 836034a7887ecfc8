"""Preference data: sources, filters, splits, and the embedded data set in `mini`."""

from rlhf_bench.data.filters import FILTERS, Filters, apply_filters, named_filters
from rlhf_bench.data.labelled import LabelledResponse
from rlhf_bench.data.prepare import Prepared, prepare
from rlhf_bench.data.ranked import Agreement, RankedResponses, agreement, to_pairs
from rlhf_bench.data.sources import PreferenceData, known_sources, load_preferences
from rlhf_bench.data.splits import SPLITS, Fractions, default_fractions, split_of

__all__ = [
    "FILTERS",
    "SPLITS",
    "Agreement",
    "Filters",
    "Fractions",
    "LabelledResponse",
    "PreferenceData",
    "Prepared",
    "RankedResponses",
    "agreement",
    "apply_filters",
    "default_fractions",
    "known_sources",
    "load_preferences",
    "named_filters",
    "prepare",
    "split_of",
    "to_pairs",
]
