"""Best-of-n of the reference as a table: what choosing by the reward model gives without training."""

from __future__ import annotations

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells
from rlhf_bench.report.tables.metrics import metric_column

_READ_OFF = ("reward", "reward_z", "gold")


def best_of_n_table(result: Result) -> Table:
    """A row an n; without rows where the result has no pool."""
    found = result.metrics.get("best_of_n", [])
    names = [name for name in _READ_OFF if any(name in row for row in found)]
    exact = any("kl_true" in row for row in found)
    columns = [Column("n", "n", 0), Column("kl_bound", "KL, upper bound (nats)", 2)]
    columns += [Column("kl_true", "KL, true (nats)", 2, interval=True)] if exact else []
    columns += [metric_column(result, name)._replace(digits=3) for name in names]
    rows: list[list[Cell]] = [[str(row["n"]), *cells(row, columns[1:])] for row in found]
    notes = [
        f"The best of n responses of {result.reference} by the reward; n = 1 is {result.reference} itself. Each number "
        "is the mean over all choices of n from one pool of samples a prompt.",
        f"KL: the upper bound log n - (n - 1) / n, not a measurement. {_truth(result, exact)}",
        "value [low, high]: 95% confidence interval over prompts, and seeds where there are several",
    ]
    title = f"Best of n of {result.reference} on {result.data_label}"
    return Table("best_of_n", title, columns, rows, notes, section="Best of n")


def _truth(result: Result, exact: bool) -> str:
    """Why the true KL is given beside the bound, or why not."""
    if exact:
        return "The true KL is summed over all responses that the reference can give: the pool holds every one."
    held = result.metrics.get("best_of_n_held")
    why = (
        "the probabilities of its responses are not known (drawn at another temperature than 1, from the likeliest "
        "tokens alone, or ended by a stop string)"
        if held is None
        else f"the pool's distinct responses to a prompt hold as little as {held:.2%} of the probability"
    )
    return f"The true KL is not known: {why}, and it is a sum over all that the reference can generate."
