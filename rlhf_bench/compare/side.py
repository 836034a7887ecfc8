"""One of two results that are compared: what was evaluated, and whether its numbers share a scale with the other's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.store import ANCHORS, ResultStore, order_models


@dataclass(frozen=True)
class Side:
    """One of the two results."""

    path: Path
    manifest: dict[str, Any]
    scores: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Side:
        store = ResultStore(path)
        manifest, scores = store.read_manifest(), store.read_scores()
        store.check_responses()
        return cls(Path(path), manifest, scores)

    @property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for seed in self.scores["seed"]})

    @property
    def models(self) -> list[str]:
        """Models that answered; the data's own responses are the same in both and say nothing."""
        return [m for m in order_models(self.scores["model"].astype(str)) if m not in ANCHORS]

    @property
    def sampled(self) -> bool:
        """Every response was sampled here, and none read from a file."""
        return all(entry.get("kind") == "checkpoint" for found in self.manifest["models"].values() for entry in found)

    def other_texts(self, other: Side) -> bool:
        """Whether the two hold different references of one prompt."""
        texts = [
            {row["prompt_id"]: row.get("reference") for row in ResultStore(side.path).read_responses()}
            for side in (self, other)
        ]
        return any(texts[0][prompt] != texts[1][prompt] for prompt in texts[0].keys() & texts[1].keys())

    def other_counts(self, other: Side) -> bool:
        """Whether the two count the tokens of one chosen response differently: their tokenizers are not the same."""
        both = pd.concat([_chosen_counts(self.scores), _chosen_counts(other.scores)], axis=1, join="inner").dropna()
        # one that was cut at the limit of either says nothing
        limits = [(side.manifest.get("sampling") or {}).get("max_new_tokens") for side in (self, other)]
        whole = (both < min((limit for limit in limits if limit), default=math.inf)).all(axis=1)
        return bool((both.iloc[:, 0] != both.iloc[:, 1])[whole].any())

    def hash_of(self, entries: Sequence[Mapping[str, Any]], seed: int) -> str | None:
        """The hash of the entry of `seed`; a single entry is that of all seeds."""
        found = [entry for entry in entries if int(entry.get("seed", seed)) == seed]
        if not found and len(entries) == 1:
            found = list(entries)
        return found[0].get("hash") if found else None

    def reward_hash(self, seed: int) -> str | None:
        return self.hash_of(self.manifest.get("reward_model") or [], seed)

    def model_hash(self, model: str, seed: int) -> str | None:
        return self.hash_of(self.manifest["models"].get(model) or [], seed)

    @property
    def prompts(self) -> set[str]:
        return set(self.scores["prompt_id"])

    @property
    def drawn_from(self) -> tuple[Any, ...]:
        """The data that the prompts were chosen from."""
        return tuple(self.manifest["data"].get(key) for key in ("source", "split", "seed"))

    def describe(self, name: str) -> list[str]:
        """The folder, and what was evaluated."""
        data = self.manifest["data"]
        seeds = ", ".join(map(str, self.seeds))
        about = f"({data.get('source')}, {data.get('split')}; seed{'s' * (len(self.seeds) > 1)} {seeds})"
        return [f"{name}  {self.path}", f"   {about}"]


def _chosen_counts(scores: pd.DataFrame) -> pd.Series:
    """(model, prompt_id) -> tokens of the chosen response by the model's tokenizer; of `chosen`, the reference's."""
    counts = scores.get("chosen_tokens", pd.Series(math.nan, scores.index))
    counts = counts.where(scores["model"] != "chosen", scores.get("n_tokens", counts))
    return counts.groupby([scores["model"].astype(str), scores["prompt_id"].astype(str)]).first()
