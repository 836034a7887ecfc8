"""Where a reward model is wrong, on what, and what it pays for: `audit(...)` gives an `Audit`, its tables and figures.

run             the audit of a run or of any reward models, from checkpoints to files (folder)
scores_run      the audit of scores that were made elsewhere, from a file (scores_file)
subjects        what can be audited; implicit: the reward of a DPO policy
pairs           accuracy by category beside simple rules
mistakes        every pair that a model got wrong, with its tags and slices
words           what words alone decide
calibration     is it as sure as it is right
regression      what the model pays for, beside what the labels pay for; discovered_words: single words
slices          on which pairs it is right less often than its margins promise; promise: that accuracy
probes, edits   edits of responses that should, or should not, change a reward
findings        all of these in one family, corrected together
listwise        several responses to a prompt: top-1, reciprocal rank, Kendall's tau; lists: those of pairs, styles
versus          two reward models on the same pairs
safety          pairs in which one side refuses a harmful request
near_duplicates mistakes between two sides that hardly differ; mistake_groups: what distinguishes mistakes
teacher         what a policy will learn from it, by the policy's own samples
stored          all of this as audit.json holds it

This module is what notebooks import. It alone knows the report; the modules beside it do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_bench.errors import BadValue

if TYPE_CHECKING:
    from rlhf_bench.audit.subjects import Given
    from rlhf_bench.report.audit import Audit

__all__ = ["Audit", "audit"]


def audit(
    reward_model: Given | Mapping[str, Given] | None = None,
    *,
    scores: str | Path | Mapping[str, str | Path] | None = None,
    results: str | Path = "results",
    **options: Any,
) -> Audit:
    """Audit a run's reward model, or others, or scores alone; gives what is stored, as frames and figures.

    reward_model: a path, dpo:POLICY,REFERENCE, mean:PATH,PATH or a function of prompts and responses (`subjects`), or
    several by name; by default that of the run
    scores: a file of scores in place of a reward model (`scores_file`), or several by name; torch is not imported
    options: run, data, limit, checkpoints, progress, as `run.run_audit` has them; none with `scores`

    Raises what `run.run_audit` and `scores_run.run_scores` raise.
    """
    from rlhf_bench.report.audit import Audit

    if scores is not None:
        if reward_model is not None or options:
            raise BadValue("scores were given with another option on what to audit; give scores alone")
        from rlhf_bench.audit.scores_run import run_scores

        files = scores if isinstance(scores, Mapping) else {Path(scores).name.partition(".")[0]: scores}
        return Audit(run_scores({name: Path(path) for name, path in files.items()}, results=Path(results)))
    from rlhf_bench.audit.run import run_audit

    given = reward_model if isinstance(reward_model, Mapping) or reward_model is None else {"given": reward_model}
    if "checkpoints" in options:
        options["checkpoints"] = Path(options["checkpoints"])
    return Audit(run_audit(reward_models=given, results=Path(results), **options))


def __getattr__(name: str) -> Any:
    """`Audit`, when it is first used: the modules beside this one are imported without the report."""
    if name == "Audit":
        from rlhf_bench.report.audit import Audit

        return Audit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
