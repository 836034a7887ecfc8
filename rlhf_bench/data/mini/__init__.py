"""hh-mini: preference pairs in the HH form with a known gold reward. `card()` describes it."""

from rlhf_bench.data.mini.data_card import card
from rlhf_bench.data.mini.gold import COMPONENTS, gold_components, gold_reward
from rlhf_bench.data.mini.pairs import (
    CATEGORIES,
    NEW_TURNS,
    SPLITS,
    UNSEEN_CATEGORIES,
    VERSION,
    ceiling,
    generate,
    load,
)

__all__ = [
    "CATEGORIES",
    "COMPONENTS",
    "NEW_TURNS",
    "SPLITS",
    "UNSEEN_CATEGORIES",
    "VERSION",
    "card",
    "ceiling",
    "generate",
    "gold_components",
    "gold_reward",
    "load",
]
