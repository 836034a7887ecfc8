"""Where a reward model is wrong, on what, and what it pays for.

run             the audit of a run or of any reward model, from checkpoints to files (it needs torch)
pairs           accuracy by category beside simple rules; every pair that it got wrong
calibration     is it as sure as it is right
features        what a response is like, as numbers that need no model
regression      what the model pays for, beside what the labels pay for
slices          on which pairs it is right less often than its margins promise
findings        all of these in one family, corrected together
listwise        several responses to a prompt: top-1, reciprocal rank, Kendall's tau
scores_file     an audit of scores that were made elsewhere
versus          two reward models on the same pairs
probes          edits of responses that should, or should not, change a reward
safety          pairs in which one side refuses a harmful request
near_duplicates mistakes whose two sides hardly differ
"""

from rlhf_bench.audit.calibration import Calibration, calibration
from rlhf_bench.audit.findings import Examination, Finding, examine
from rlhf_bench.audit.listwise import ListScores, Listwise, listwise
from rlhf_bench.audit.pairs import PairScores, accuracy, audit_pairs, score_pairs
from rlhf_bench.audit.scores_file import read_scores
from rlhf_bench.audit.versus import Versus, versus

__all__ = [
    "Calibration",
    "Examination",
    "Finding",
    "ListScores",
    "Listwise",
    "PairScores",
    "Versus",
    "accuracy",
    "audit_pairs",
    "calibration",
    "examine",
    "listwise",
    "read_scores",
    "score_pairs",
    "versus",
]
