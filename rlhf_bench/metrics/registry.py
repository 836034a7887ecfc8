"""What each metric is: its column header, unit, direction, digits, and the per-response columns it is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from rlhf_bench.errors import UnknownName
from rlhf_bench.metrics.probes import CATEGORY, PAIRED, RULES

__all__ = [
    "COMPARED",
    "GOLD_PREFIX",
    "HELD_OUT",
    "KL_COLUMNS",
    "METRICS",
    "READ_PREFIXES",
    "REWARD_PREFIX",
    "ROUGE_PARTS",
    "Metric",
    "describe",
    "probe_names",
    "reader_columns",
]

Kind = Literal["mean", "share", "std", "perplexity", "bits_per_byte"]

GOLD_PREFIX = "gold_"
HELD_OUT = "reward_held_out"  # another training seed's reward model, which nothing was optimised against
KL_COLUMNS = ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token")  # of what a model drew
REWARD_PREFIX = "reward:"  # a reward model that scores beside the first
READ_PREFIXES = ("perplexity:", "bits_per_byte:")  # a language model that reads every response


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    title: str  # short column header
    unit: str  # "" where a number has none
    higher_is_better: bool | None  # None: neither, or it depends
    digits: int  # decimals worth printing
    description: str
    kind: Kind = "mean"
    columns: tuple[str, ...] = ()  # columns of the scores it is made from; its own name if empty
    needs_model: bool = False  # has no meaning for the data's own responses, which no model was asked for

    @property
    def sources(self) -> tuple[str, ...]:
        return self.columns or (self.name,)

    @property
    def paired(self) -> bool:
        """A difference of two shares on the same questions, a response being -1, 0 or 1."""
        return self.name.partition(CATEGORY)[0] in PAIRED

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between what the number lies, and so the limits of its interval; None where nothing bounds it."""
        if self.paired:
            return -1.0, 1.0
        if self.unit in ("F", "share", "precision", "recall") or self.name == "self_bleu":
            return 0.0, 1.0
        # k1 alone can be negative on a finite sample, and its interval says so
        positive = self.name.startswith(("kl_exact", "kl_k3", "kl_forward")) or self.name in ("n_tokens", "n_words")
        return (0.0, math.inf) if positive else None


def _kl(name: str, title: str, description: str) -> list[Metric]:
    return [
        Metric(name, title, "nats/response", None, 2, f"{description}, summed over a response", needs_model=True),
        Metric(
            f"{name}_token", f"{title}/token", "nats/token", None, 4, f"{description}, mean of a response's tokens",
            needs_model=True,
        ),
    ]  # fmt: skip


_ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}


def _rouge_parts() -> list[Metric]:
    over = {"precision": ("P", "the response's words"), "recall": ("R", "the chosen response's words")}
    return [
        Metric(f"{name}_{part}", f"{title} {letter}", part, None, 3, f"{title} as a share of {words}")
        for name, title in _ROUGE.items()
        for part, (letter, words) in over.items()
    ]


_ALL = [
    Metric("reward", "Reward", "", True, 3, "the reward model's scalar at the last token, raw"),
    Metric(
        "reward_std", "Reward std", "", None, 3, "standard deviation of the raw reward over responses (ddof 1)",
        kind="std", columns=("reward",),
    ),
    Metric(
        "reward_z", "Reward (z)", "reference sd", True, 3,
        "reward minus the mean of the reference's responses, over their standard deviation, within each seed",
    ),
    Metric(
        "reward_z_std", "Reward std (z)", "reference sd", None, 3,
        "standard deviation of reward_z over each seed's responses (ddof 1), geometric mean over seeds",
        kind="std", columns=("reward_z",),
    ),
    Metric(
        f"{HELD_OUT}_z", "Held out (z)", "reference sd", True, 3,
        "as reward_z, by the reward model of another training seed, which the model was not optimised against",
    ),
    Metric("gold", "Gold", "", True, 3, "the known true reward of data that have one"),
    *_kl("kl_exact", "KL exact", "KL to the reference, over the whole vocabulary at each prefix drawn"),
    *_kl("kl_k1", "KL k1", "KL to the reference by log pi - log ref of the drawn tokens"),
    *_kl("kl_k3", "KL k3", "KL to the reference by r - 1 - log r of the drawn tokens, r = ref / pi"),
    Metric(
        "kl_forward", "KL forward", "nats/response", None, 2,
        "KL(reference || model) over the whole vocabulary at each prefix of the chosen response, summed over it",
        needs_model=True,
    ),
    Metric("rouge1", "ROUGE-1", "F", True, 3, "words shared with the chosen response, stemmed"),
    Metric("rouge2", "ROUGE-2", "F", True, 3, "pairs of words shared with the chosen response, stemmed"),
    Metric("rougeL", "ROUGE-L", "F", True, 3, "longest common subsequence with the chosen response, stemmed"),
    Metric("rougeLsum", "ROUGE-Lsum", "F", True, 3, "as ROUGE-L, line by line"),
    *_rouge_parts(),
    Metric("n_tokens", "Tokens", "tokens", None, 1, "tokens of a response, end-of-text included"),
    Metric("n_words", "Words", "words", None, 1, "words of a response"),
    Metric(
        "ended", "Ended", "share", True, 3, "share of responses that ended by themselves (end-of-text or stop string)",
        kind="share",
    ),
    Metric("distinct1", "Distinct-1", "share", True, 3, "distinct words of a response; falls with its length"),
    Metric("distinct2", "Distinct-2", "share", True, 3, "distinct pairs of words of a response; falls with its length"),
    Metric(
        "self_bleu", "Self-BLEU", "", False, 3,
        "BLEU-4 of each response against those to other prompts, one a prompt; grows with their number",
    ),
    Metric("repetition", "Repetition", "share", False, 3, "4-grams of words that repeat an earlier one"),
    Metric("copied", "Copied", "share", None, 3, "4-grams of words that stand in the prompt"),
    Metric("refused", "Refused", "share", None, 3, "share of responses that decline what was asked", kind="share"),
    Metric("refused:harmful", "Refused harmful", "share", True, 3, "share of harmful requests declined", kind="share"),
    Metric(
        "refused:harmless", "Refused harmless", "share", False, 3, "share of harmless requests declined", kind="share",
    ),
    Metric(
        "complied", "Complied", "share", None, 3, "share of responses that go along with what was asked", kind="share",
    ),
    Metric("complied:harmful", "Complied harmful", "share", False, 3, "share of harmful requests gone along with",
           kind="share"),
    Metric("right", "Right answer", "share", True, 3, "share of responses that give the right answer", kind="share"),
    Metric("agreed", "Wrong answer", "share", False, 3, "share of responses that give the wrong answer in question, or "
           "agree with it", kind="share"),
    Metric("sycophancy", "Sycophancy", "share", False, 3, "the wrong answer given with the user's claim of it, minus "
           "without, on the same questions"),
    Metric("right_change", "Right by claim", "share", True, 3, "the right answer given with the user's wrong "
           "claim, minus without, on the same questions"),
    Metric("degenerate", "Degenerate", "share", False, 3, "share of responses that are empty, no words, or a loop",
           kind="share"),
    Metric(
        "perplexity", "Perplexity", "", False, 2, "of the chosen responses, by token, end-of-text included",
        kind="perplexity", columns=("chosen_logprob", "chosen_tokens"), needs_model=True,
    ),
    Metric(
        "perplexity_reference", "Ref. perplexity", "", None, 2,
        "of the model's own responses under the reference, by token, end-of-text included",
        kind="perplexity", columns=("reference_logprob", "n_drawn"), needs_model=True,
    ),
    Metric(
        "bits_per_byte", "Bits/byte", "bits/byte", False, 3, "of the chosen responses; comparable between tokenizers",
        kind="bits_per_byte", columns=("chosen_logprob", "chosen_bytes"), needs_model=True,
    ),
]  # fmt: skip

ROUGE_PARTS: dict[str, tuple[str, str]] = {name: (f"{name}_precision", f"{name}_recall") for name in _ROUGE}
"""ROUGE's F -> its precision and recall, which have a table of their own."""

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

# The metrics that pairs of models are compared by; of the two rewards only the one that may be pooled.
COMPARED = ("reward", "reward_z", f"{HELD_OUT}_z", "gold", "kl_exact", "rougeL", "n_tokens", "ended")


def probe_names(columns: Iterable[str]) -> list[str]:
    """The columns that a suite asked for of its own prompts, in their order; `refused` alone is every suite's."""
    return [c for c in columns if c != "refused" and c.partition(CATEGORY)[0] in {*RULES, *PAIRED}]


def reader_columns(model: str) -> tuple[str, str, str]:
    """The columns of the scores that a language model fills: log-probability, tokens and bytes of each response."""
    return f"logprob:{model}", f"tokens:{model}", f"bytes:{model}"


def describe(name: str) -> Metric:
    """The metric called `name`; `gold_<component>`, `reward:<model>`, `perplexity:<model>`, `bits_per_byte:<model>` and
    `<rule>:<category>` are made up for any.

    Raises UnknownName.
    """
    if name in METRICS:
        return METRICS[name]
    scorer = name.removeprefix(REWARD_PREFIX)
    if scorer and scorer != name:
        return Metric(name, f"Reward: {scorer}", "", True, 3, f"the scalar of the further reward model {scorer}, raw")
    rule, colon, category = name.partition(CATEGORY)
    if category and f"{rule}{colon}" in READ_PREFIXES:
        return _of_reader(METRICS[rule], category)
    if colon and rule in RULES:
        whole, kind = METRICS[rule], category.replace("_", " ")
        described = f"{whole.description}, of the prompts: {kind}"
        return replace(whole, name=name, title=f"{whole.title} {kind}", description=described)
    component = name.removeprefix(GOLD_PREFIX)
    if component and component != name:
        title = component.replace("_", " ")
        return Metric(name, f"Gold: {title}", "", True, 3, f"the part of the gold reward that is for: {title}")
    raise UnknownName("metric", name, METRICS)


def _of_reader(metric: Metric, model: str) -> Metric:
    """`metric`, which is of the chosen responses under the model in question, of the responses under `model`."""
    logprob, tokens, n_bytes = reader_columns(model)
    end = ", by token, end-of-text included" if metric.kind == "perplexity" else "; comparable between tokenizers"
    return replace(
        metric, name=f"{metric.name}{CATEGORY}{model}", title=f"{metric.title}: {model}", higher_is_better=None,
        description=f"of the responses under the language model {model}{end}", needs_model=False,
        columns=(logprob, tokens if metric.kind == "perplexity" else n_bytes),
    )  # fmt: skip
