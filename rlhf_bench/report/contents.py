"""What a report holds: one list of tables and plots, in the order of the page. Every renderer is a loop over it.

A new table is a function `Result -> Table` and an entry here; a new plot is a function `Result -> Figure | None` in
plots/ and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from rlhf_bench.errors import check_known
from rlhf_bench.report.notes import with_common_notes
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables import (
    audit,
    audit_examination,
    gain,
    in_full,
    judge,
    judge_forms,
    pairwise,
    summary,
    tradeoff,
)

if TYPE_CHECKING:  # matplotlib takes seconds to import: what prints a table does not wait for it
    from matplotlib.figure import Figure


class Plot(NamedTuple):
    """A plot is drawn by the function of its name in a module of plots/."""

    name: str
    module: str
    caption: str
    section: str = "Plots"
    wide: bool = False  # as wide as the page
    front: str = ""  # the metric of its Pareto front: the caption gives the hypervolume

    def draw(self, result: Result) -> Figure | None:
        """The figure; None where the result has not the numbers for it."""
        from rlhf_bench.report.plots.style import drawing

        function = getattr(import_module(f"rlhf_bench.report.plots.{self.module}"), self.name)
        with drawing():
            return cast("Callable[[Result], Figure | None]", function)(result)


REPORT: tuple[Callable[[Result], Table] | Plot, ...] = (
    summary.summary_table,
    Plot(
        "suite_metrics", "panels", "The metrics of this suite's own prompts: each model with its interval.", wide=True
    ),
    Plot(
        "reward_vs_kl",
        "tradeoff",
        "How much learned reward each model gains at how much KL to the reference.",
        front="reward",
    ),
    Plot(
        "gold_vs_reward",
        "tradeoff",
        "The gold reward against the learned reward: whether the one grows with the other.",
    ),
    Plot(
        "gold_vs_kl",
        "tradeoff",
        "The gold reward against KL: where it falls as the learned reward rises, the reward model is over-optimised.",
        front="gold",
    ),
    Plot(
        "gold_vs_sqrt_kl",
        "tradeoff",
        "A method's checkpoints, or best of n, with the fit of arXiv:2210.10760; dotted, upright: where gold turns.",
    ),
    Plot(
        "held_out_vs_reward",
        "tradeoff",
        "Below the line, a model gains more by the reward model it was optimised against than by another seed's: part "
        "of what it learned are the errors of the first.",
    ),
    Plot("reward_distribution", "distributions", "The learned reward of every response."),
    Plot("win_rates", "panels", "Win rates against the baseline, which is the line at one half.", wide=True),
    Plot("judge_ratings", "panels", "Mean ratings by criterion.", wide=True),
    Plot(
        "rouge",
        "distributions",
        "How near responses come to the data's chosen ones: by words, pairs of words, longest common subsequence.",
    ),
    Plot("length", "distributions", "How long responses are; 'chosen' and 'rejected' are the data's own."),
    Plot("length_vs_reward", "distributions", "Whether the reward model prefers longer responses."),
    Plot("kl_by_position", "distributions", "At which tokens of the response a model differs from the reference."),
    Plot(
        "gain_parts",
        "panels",
        "Where each model's gain over the reference came from: what the reference's samples pay for its length and "
        "style, and the rest.",
        "Where a gain came from",
        wide=True,
    ),
    gain.gain_table,
    tradeoff.pareto_table,
    tradeoff.frontier_table,
    tradeoff.overoptimisation_table,
    tradeoff.equal_kl_table,
    tradeoff.best_of_n_table,
    pairwise.pairwise_table,
    judge.win_rate_table,
    judge.judge_audit_table,
    judge.people_table,
    judge.strengths_table,
    judge_forms.ranking_table,
    judge_forms.ranking_audit_table,
    judge_forms.rating_table,
    judge_forms.rating_pairs_table,
    judge_forms.rating_audit_table,
    in_full.per_seed_table,
    in_full.gold_table,
    in_full.rouge_table,
    in_full.kl_table,
    Plot("training_curves", "curves", "One line a seed. Scales differ between panels.", "Training", wide=True),
    in_full.training_table,
    audit.accuracy_table,
    audit_examination.findings_table,
    Plot(
        "audit_features",
        "audit",
        "What the first reward model pays for a standard deviation of each feature; hollow: what the labels pay.",
        "Reward model",
    ),
    Plot(
        "audit_slices",
        "audit",
        "Accuracy on the slices that are furthest from what margins promise (the short upright line).",
        "Reward model",
    ),
    Plot(
        "audit_probes",
        "audit",
        "Change of the reward by an edit of the chosen response; hollow: the reward should fall.",
        "Reward model",
    ),
    Plot("audit_reliability", "audit", "How often the preferred side is the chosen one.", "Reward model"),
    audit.category_table,
    audit.lists_table,
    audit.styles_table,
    audit.style_matrix_table,
    audit.rewardbench_table,
    audit.versus_table,
    audit.versus_slices_table,
    audit_examination.prices_table,
    audit_examination.slices_table,
    audit_examination.probes_table,
    audit_examination.safety_table,
    audit_examination.safety_worst_table,
    audit_examination.teacher_table,
    audit_examination.groups_table,
    audit.category_calibration_table,
    audit.calibration_table,
)


def contents(result: Result) -> list[Table | Plot]:
    """The report's entries in their order, tables with the notes that all tables have."""
    return [entry if isinstance(entry, Plot) else with_common_notes(result, entry(result)) for entry in REPORT]


def tables(result: Result, *, section: str | None = None) -> list[Table]:
    """Every table, or those of one section; some may have no row."""
    made = [entry for entry in contents(result) if isinstance(entry, Table)]
    return [table for table in made if section in (None, table.section)]


def audit_contents() -> list[Callable[[Result], Table] | Plot]:
    """The entries that need nothing but an audit."""
    start = REPORT.index(audit_examination.findings_table)
    return list(REPORT[start:])


def figures(result: Result, entries: Iterable[object]) -> dict[str, Figure]:
    """Name -> plot, of the plots among `entries` for which the result has the numbers."""
    drawn = {entry.name: entry.draw(result) for entry in entries if isinstance(entry, Plot)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def draw(result: Result, name: str) -> Figure | None:
    """One plot by its name; None where the result has not the numbers for it. Raises UnknownName."""
    found = {plot.name: plot for plot in plots()}
    check_known("plot", [name], found)
    return found[name].draw(result)


def plots() -> list[Plot]:
    return [entry for entry in REPORT if isinstance(entry, Plot)]
