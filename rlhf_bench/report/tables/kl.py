"""KL in full: every estimate of it by response and by token, and the forward one, a row a model."""

from __future__ import annotations

from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables.metrics import MODEL, mark_notes, metric_column, model_rows
from rlhf_bench.scorers import metrics_for

__all__ = ["kl_table"]


def kl_table(result: Result) -> Table:
    """Without rows where no model has a KL per token: no model was sampled."""
    names = [metric.name for metric in metrics_for("kl", result.metric_names) if result.has(metric.name)]
    of_token = [name for name in names if name.endswith("_token")]
    models = [model for model in result.models if any(known(result.estimate(model, name)) for name in of_token)]
    columns = [metric_column(result, name) for name in names]
    notes = [
        f"KL(model || {result.reference}) in nats, of responses that the model drew: summed over a response, and the "
        "mean of its tokens. exact: over the whole vocabulary at each token; k1: log pi - log ref of the token drawn; "
        "k3: r - 1 - log r of it, r = ref / pi. "
        f"forward: KL({result.reference} || model) along the data's chosen responses.",
        "By token the three need not agree, as they do by response: each sum is divided by a length that depends on "
        "the tokens drawn, before responses are averaged.",
        *mark_notes(result, columns),
    ]
    title = f"KL to {result.reference} on {result.data_label}"
    return Table("kl", title, [MODEL, *columns], model_rows(result, columns, models), notes, section="KL in full")
