"""What a response does, read off its text: refuse, go along, state an answer, fall apart.

refusal      does a response refuse in full, in part or not at all: a classifier trained on people's labels
claims       which of two answers it gives, and whether it agrees with what the user claimed
degenerate   is it any language at all

Each was checked against responses labelled by hand; docs/suites.md has the agreement and where they fail.
"""

from rlhf_bench.metrics.rules.claims import Answered, answer_given
from rlhf_bench.metrics.rules.degenerate import is_degenerate
from rlhf_bench.metrics.rules.refusal import (
    LABELLER,
    Label,
    Measured,
    Stance,
    complies,
    label_responses,
    measured,
    refusal_label,
    refuses,
    stance,
    stances,
)

__all__ = [
    "LABELLER",
    "Answered",
    "Label",
    "Measured",
    "Stance",
    "answer_given",
    "complies",
    "is_degenerate",
    "label_responses",
    "measured",
    "refusal_label",
    "refuses",
    "stance",
    "stances",
]
