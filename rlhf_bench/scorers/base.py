"""What a scorer is: a family of metrics, from the numbers of each response to where the tables show them.

A scorer's file imports no torch at module level, so that summaries and reports can read its metrics without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.types import ResponseRow as ResponseRow  # what every scorer reads

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rlhf_bench.modeling.perplexity_model import LanguageModel
    from rlhf_bench.modeling.reward_model import RewardModel
    from rlhf_bench.modeling.sampling import SamplingConfig
    from rlhf_bench.modeling.templates import Template

Kind = Literal["mean", "share", "std", "perplexity", "bits_per_byte"]
# who wrote the responses: a model that was sampled here, or behind a server, a file, the data
Origin = Literal["model", "server", "file", "data"]
Values = npt.NDArray[np.float64]
CUT = "cut:"  # a column of 1 where what its name names was too long and read in part


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """When a change against the reference is reported as a sign of reward over-optimisation."""

    check: str  # what is checked, in a few words for a list
    bad: Literal[1, -1]  # the direction that is a bad sign: 1 up, -1 down
    may_mean: str  # in a few words, for the end of the line
    least: float = 0.0  # a significant change of less is too small to matter; the interval has to lie beyond
    with_reward: bool = False  # reported only where the reward went up; the change itself has to be beyond `least`


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number is, and where it is shown.

    A `detail` is shown beside another metric, for which alone it is listed that it is missing.
    `tables` maps a table ("summary", "per_seed", "gold", "kl", "rouge") to the metric's place in it; equal places keep
    the order of the registry. `expected`: its column is shown even where no model has it, with the reason below it.
    """

    name: str
    title: str  # short column header
    unit: str  # "" where a number has none
    higher_is_better: bool | None  # None: neither, or it depends
    digits: int  # decimals worth printing
    description: str
    kind: Kind = "mean"
    columns: tuple[str, ...] = ()  # columns of the scores that it is made from; its own name if empty
    needs_model: bool = False  # has no meaning for the data's own responses, which no model wrote
    bounds: tuple[float, float] | None = None  # the number and its interval lie between them
    compared: bool = False  # pairs of models are compared by it
    paired: bool = False  # a difference of two shares on the same questions: -1, 0 or 1 for a response
    standardises: str = ""  # the raw metric that it puts on a common scale, so that seeds can be pooled
    alarm: AlarmRule | None = None
    tables: Mapping[str, int] = field(default_factory=dict)
    expected: bool = False
    detail: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return self.columns or (self.name,)


class Missing(NamedTuple):
    """Why numbers are not there, in one line."""

    reason: str


Columns = Mapping[str, Values | Missing]
"""Column of the scores -> a number for each row, or why there is none. NaN: none for that row."""


LogRatios = Sequence[Values | None] | Missing
"""Of each response log pi - log ref of its tokens, by servers; None where the tokens of the two differ."""


class Corpus(NamedTuple):
    """One response a prompt of one model under one seed: what a number of all responses together is made of.

    Every model of an evaluation has the same prompts, in the same order. `n_bytes` is the number of UTF-8 bytes that
    every one of them has, for numbers that depend on how much text there is.
    """

    texts: Sequence[str]
    n_bytes: int


class LoadedModel(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: Template


@dataclass(frozen=True)
class EvalContext:
    """What the responses of one model under one seed are scored with.

    Of several processes each computes its share of the batches that one process would compute, and has all results.
    """

    origin: Origin
    source: str  # the data source of the prompts
    suite_metrics: Sequence[str] = ()  # the metrics that the suite names for its own prompts
    rouge_tokenizer: str = "english"  # or "unicode": with ROUGE of words in any script
    sampling: SamplingConfig | None = None  # None where no model takes part
    model: LoadedModel | None = None  # from which the responses were sampled; None where its weights are not here
    log_ratios: LogRatios | None = None  # of a model behind a server, without its weights; None: not known
    reference: LoadedModel | None = None  # None where the reference's weights are not here
    reward_models: Sequence[tuple[str, RewardModel]] = ()  # each with the column that it fills
    language_models: Sequence[tuple[str, LanguageModel]] = ()  # by name: what scores every response for its perplexity
    processes: Processes = ALONE


class Scorer:
    """A family of metrics. A subclass overrides what differs from "nothing to compute"."""

    order: int = 0  # the place of its metrics among those of the others
    metrics: tuple[Metric, ...] = ()

    def needs(self, context: EvalContext) -> Missing | None:
        """Why nothing can be computed in this context; None where it can."""
        return None

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        """Numbers of each response of one model under one seed."""
        return {}

    def corpus(self, corpus: Corpus) -> Columns:
        """A number of all responses together, as a linearised value a text.

        The mean of the values is the number and their spread that of the number, so that it is pooled over seeds and
        compared between models as every other metric is. Empty where the family has none.
        """
        return {}

    def describe(self, name: str) -> Metric | None:
        """A metric of a name that is made up for models, categories or components; None for a name of no such form."""
        return None

    def found(self, columns: Collection[str]) -> list[Metric]:
        """The metrics that the columns of the scores allow, in the order of the tables; those of made-up names last."""
        own = [metric for metric in self.metrics if all(column in columns for column in metric.sources)]
        return [*own, *(metric for name in columns if (metric := self.describe(name)))]
