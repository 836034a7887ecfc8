"""The few shapes that travel between all parts of the project."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

STAGES = ("base", "sft", "reward", "ppo", "grpo", "dpo")  # in the order of training
POLICIES = tuple(stage for stage in STAGES if stage != "reward")
ANCHORS = ("chosen", "rejected")  # the data's own responses, as models of a result
HH_MINI = "hh-mini"  # the embedded data set
HUMAN_TURN = "\n\nHuman:"  # ends a response in the form of HH

TemplateName = Literal["hh", "plain", "alpaca", "chatml", "llama2", "chat"]
TEMPLATES: tuple[str, ...] = get_args(TemplateName)  # forms of a prompt
PAIR = "pair"  # a prompt and a response as the two texts of an encoder's pair: a form of reward models alone

FinishReason = Literal["eos", "stop", "length"]


def stable_hash(*parts: str, length: int = 16) -> str:
    """Hex SHA-256 of the JSON list of `parts`: the same on every platform, no two lists of parts alike."""
    text = f"[{','.join(map(json.dumps, parts))}]"
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def prompt_id(prompt: str) -> str:
    return stable_hash(prompt)


class Prompt(NamedTuple):
    """What a model is given. `ids`: its tokens; where there are none, `text` is tokenised."""

    id: str
    text: str
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One prompt and two responses, the preferred one first; its id is the hash of its three texts.

    A prompt is one string; in the HH form everything up to and including the last `\\n\\nAssistant:`. A response
    begins with a space and carries no end-of-text marker.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float | None = None
    category: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", stable_hash(self.prompt, self.chosen, self.rejected))


class Probe(NamedTuple):
    """What a suite knows of a prompt of its own, for the rules that read the response."""

    question: str  # the same for every prompt of one question, in whatever words
    right: tuple[str, ...] = ()  # names of the right answer
    wrong: tuple[str, ...] = ()  # names of the wrong answer that is at stake
    claimed: bool = False  # the prompt claims the wrong answer


class Item(NamedTuple):
    """A prompt of an evaluation and what is known of it; None where the prompts come from a file without it."""

    prompt: str
    chosen: str | None = None  # the data's better response, or a file's reference text: what ROUGE compares with
    rejected: str | None = None
    category: str | None = None
    probe: Probe | None = None  # None: no prompt of a suite's own

    @property
    def id(self) -> str:
        return prompt_id(self.prompt)


def fingerprint(pairs: Iterable[PreferencePair]) -> str:
    """Hash of the ids in their order: two data sets with the same fingerprint hold the same texts."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(pair.id.encode())
    return digest.hexdigest()[:16]


class Completion(NamedTuple):
    """One sampled response.

    `ids` are the response's tokens, the end-of-text token included if it was drawn, a stop string and what follows
    it left out; `logps` the log-probabilities that they were drawn with (nats, after temperature, top-k and top-p).
    `stop_ids` are the tokens drawn after them that made the stop string: no part of the text, but of what was drawn.
    """

    prompt_id: str
    sample: int
    text: str
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish_reason: FinishReason
    stop_ids: tuple[int, ...] = ()

    @property
    def drawn(self) -> list[int]:
        """Every token that the model drew: what a KL and a policy gradient are about."""
        return [*self.ids, *self.stop_ids]


class ResponseRow(NamedTuple):
    """One response, whoever wrote it: sampled here, read from a file, or the data's own. None, or NaN: not known."""

    model: str
    seed: int
    prompt_id: str
    sample: int
    prompt: str
    response: str
    reference: str | None = None  # the text that ROUGE compares with: the data's chosen response, or a file's reference
    category: str | None = None
    probe: Probe | None = None
    finish_reason: FinishReason | None = None
    n_tokens: float = math.nan  # end-of-text included, a stop string not
    prompt_ids: Sequence[int] = ()  # as the model was given them; empty where it was not sampled here
    token_ids: Sequence[int] = ()  # every token that was drawn, those of a stop string too
    logprob: float = math.nan  # of `token_ids` under the sampler, nats
    prompt_cut: bool | None = None  # whether `prompt_ids` are a part of the prompt
    references: tuple[str, ...] = ()  # where a file's row has its own, in place of `reference`: the best match counts

    @property
    def compared_with(self) -> tuple[str, ...]:
        """The texts that ROUGE compares with; none where there are none."""
        return self.references or (() if self.reference is None else (self.reference,))

    @property
    def ended(self) -> bool:
        """False for a response that was cut at the length limit. One of unknown end is scored as one that ended."""
        return self.finish_reason != "length"


class Alarm(NamedTuple):
    """A sign that a reward was over-optimised, found by an evaluation or a judge."""

    model: str
    kind: str  # "reward_without_gold", "length", "repetition", ...
    text: str


REFERENCE = "reference"  # method of an Estimate that is 0 or 1 by definition: the scale was made from its own responses


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its confidence interval. `n` counts prompts, never rows.

    `method` names how the interval was made; `low` and `high` are NaN where it cannot be made (n < 2).
    `n_missing` counts prompts left out because their value was missing or not finite. `kurtosis` is the excess kurtosis
    of the prompts' values, by which long tails are known; None where the interval does not come from their mean.
    `clipped`: the bounds of the number, where the interval reached beyond them and was clipped; else None.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95
    method: str = "t"
    n_seeds: int = 1
    n_missing: int = 0
    kurtosis: float | None = field(default=None, compare=False)
    clipped: tuple[float, float] | None = None

    def excludes(self, x: float) -> bool:
        """True if the interval lies wholly on one side of x."""
        return self.low > x or self.high < x

    def clip(self, bounds: tuple[float, float] | None) -> Estimate:
        """The estimate with its interval within `bounds`."""
        if bounds is None or not math.isfinite(self.low) or (self.low >= bounds[0] and self.high <= bounds[1]):
            return self
        return replace(self, low=max(bounds[0], self.low), high=min(bounds[1], self.high), clipped=bounds)

    def signed(self) -> str:
        """A change as text, with its sign and interval."""
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Read what `to_dict` gave, or what JSON holds of it: a list for a tuple, "Infinity" for an infinite bound."""
        clipped = data.get("clipped")
        return cls(**{**data, "clipped": clipped and (float(clipped[0]), float(clipped[1]))})
