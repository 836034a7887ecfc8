"""Preference data: sources, filters, splits, and the embedded data set in `mini`."""

from rlhf_bench.data.filters import Filters, named_filters
from rlhf_bench.data.labelled import LabelledResponse
from rlhf_bench.data.prepare import prepare
from rlhf_bench.data.sources import PreferenceData, Reader, known_sources

__all__ = [
    "Filters",
    "LabelledResponse",
    "PreferenceData",
    "Reader",
    "known_sources",
    "named_filters",
    "prepare",
]
