"""What an evaluation gave, for Python: its tables as pandas frames, its plots as matplotlib figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rlhf_bench.errors import StoreError
from rlhf_bench.report.contents import REPORT, draw, figures, tables
from rlhf_bench.report.render.flat import frame
from rlhf_bench.report.result import Result, load_result
from rlhf_bench.report.tables.pairwise import pairwise_table
from rlhf_bench.report.tables.summary import summary_table
from rlhf_bench.report.verdict import verdict
from rlhf_bench.store import ResultStore

if TYPE_CHECKING:  # what reads no table and no plot does not wait for matplotlib
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """A results folder: `evaluate` returns it, and `Evaluation(folder)` opens one that is stored.

    Each member reads the folder when it is first read. StoreError is raised where a file is missing or broken.
    """

    folder: Path

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> table, as in `tables/`: a number with an interval takes the columns value, _low, _high and _n.

        Tables without a row are left out.
        """
        return {table.name: frame(table) for table in tables(self._result) if table.rows}

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a model, the data's own responses last; see `tables`."""
        return frame(summary_table(self._result))

    @cached_property
    def pairwise(self) -> pd.DataFrame:
        """A row a metric and two models on the same prompts, a minus b; no row where there is one model."""
        return frame(pairwise_table(self._result))

    @cached_property
    def verdict(self) -> list[str]:
        """What the paired tests say of the models, in words: a sentence each on the gold and the learned reward."""
        return verdict(self._result)

    @cached_property
    def missing(self) -> pd.DataFrame:
        """What was not measured, and why: the columns model ("all" for every one), metric and reason."""
        return pd.DataFrame(self._result.metrics.get("missing", []), columns=["model", "metric", "reason"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a response, every number of it; keyed by model, seed, prompt_id and sample."""
        return self._result.scores

    @cached_property
    def responses(self) -> pd.DataFrame:
        """A row a response, its texts: prompt, response, reference, how it ended; keyed as `scores` are."""
        return pd.DataFrame(ResultStore(self.folder).read_responses())

    @property
    def figures(self) -> dict[str, Figure]:
        """Name -> plot, where the result has the numbers for it; drawn at each access."""
        return figures(self._result, REPORT)

    def figure(self, name: str) -> Figure:
        """One plot by its name in `plots/`.

        Raises UnknownName for a name that no plot has, StoreError where the result has not the numbers for it.
        """
        figure = draw(self._result, name)
        if figure is None:
            raise StoreError(
                f"{self.folder} has no numbers for the plot {name!r}; `missing` says what was not measured and why"
            )
        return figure

    @cached_property
    def _result(self) -> Result:
        return load_result(self.folder)
