"""Where a reward model is wrong: accuracy by category beside simple rules, calibration, every pair it got wrong."""

from rlhf_bench.audit.calibration import Calibration, calibration
from rlhf_bench.audit.pairs import PairScores, accuracy, audit_pairs, score_pairs
from rlhf_bench.audit.run import audit

__all__ = [
    "Calibration",
    "PairScores",
    "accuracy",
    "audit",
    "audit_pairs",
    "calibration",
    "score_pairs",
]
