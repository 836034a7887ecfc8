"""KL in full: every estimate of it by response and by token, and the forward one, a row a model."""

from __future__ import annotations

from rlhf_bench.report.cautions import cautions
from rlhf_bench.report.cells import Cell, Column, Table
from rlhf_bench.report.result import Result, known
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.kl import KL_COLUMNS

__all__ = ["kl_table"]

_KEYS = ("kl_exact", "kl_exact_token", "kl_k1", "kl_k1_token", "kl_k3", "kl_k3_token", "kl_forward")


def kl_table(result: Result) -> Table:
    """Without rows where no model has a KL per token: no model was sampled, or the result is older."""
    of_token = [key for key in KL_COLUMNS if key.endswith("_token")]
    models = [m for m in result.models if any(known(result.estimate(m, key)) for key in of_token)]
    keys = [key for key in _KEYS if any(known(result.estimate(m, key)) for m in models)]
    marks: dict[str, str] = result.metrics.get("marks", {})
    numbers = [Column(key, _title(key, key in marks), describe(key).digits, interval=True) for key in keys]
    columns = [Column("model", "Model"), *numbers]
    rows: list[list[Cell]] = [[model, *(result.estimate(model, key) for key in keys)] for model in models]
    notes = [
        f"KL(model || {result.reference}) in nats, of responses that the model drew: summed over a response, and the "
        "mean of its tokens. exact: over the whole vocabulary at each token; k1: log pi - log ref of the token drawn; "
        "k3: r - 1 - log r of it, r = ref / pi. "
        f"forward: KL({result.reference} || model) along the data's chosen responses.",
        "By token the three need not agree, as they do by response: each sum is divided by a length that depends on "
        "the tokens drawn, before responses are averaged.",
        *(f"† {why}" for why in dict.fromkeys(marks[key] for key in keys if key in marks)),
        *cautions(columns, rows),
    ]
    title = f"KL to {result.reference} on {result.data_label}"
    return Table("kl", title, columns, rows, notes)


def _title(key: str, marked: bool) -> str:
    return f"{describe(key).title} †" if marked else describe(key).title
