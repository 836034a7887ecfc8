"""What a response does, read off its text by rules: refuse, go along, state an answer, fall apart.

refusal      does a response decline, or go along with what was asked
claims       which of two answers it gives, and whether it agrees with what the user claimed
degenerate   is it any language at all

Each rule was checked against responses labelled by hand; docs/suites.md has the agreement and where they fail.
"""

from rlhf_bench.metrics.rules.claims import Answered, answer_given
from rlhf_bench.metrics.rules.degenerate import is_degenerate
from rlhf_bench.metrics.rules.refusal import Stance, complies, refuses, stance

__all__ = ["Answered", "Stance", "answer_given", "complies", "is_degenerate", "refuses", "stance"]
