"""Suites: short YAML files that name the prompts, and how models are compared on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rlhf_bench.config import Config, load_config, read_yaml, suites_dir
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.evaluate.analyses.tradeoff import HYPERVOLUME_KL
from rlhf_bench.stats import RESAMPLES

IN_FOLDER = "suite.yaml"  # the suite of a folder, beside its prompts
MOST_SAMPLES = 100_000  # of one prompt
OWN_PROMPTS = "own prompts"  # what a manifest names as the data of a suite that brings its prompts
Wording = Literal["mini", "natural"]


class Suite(Config):
    """The keys of a suite's file."""

    version: int = Field(ge=1, description="goes up when results of the suite stop being comparable")
    description: str = Field("", description="what the suite is for, in one line")
    data: str | None = Field(None, description="data source; null: the one that the run was trained on")
    own_prompts: str | None = None
    """file of the suite's own prompts, in place of data: a path from the suite's file; {wording} in it is replaced by
    the wording"""
    wording: Wording | None = None
    """of the suite's own prompts: mini, in the words of hh-mini, or natural; null: mini for a run that was trained on
    hh-mini"""
    split: str = Field("test", description="split that the prompts come from")
    prompts: int | None = Field(150, ge=1)
    """prompts, chosen by a hash of the suite's seed and the prompt; null: all"""
    samples: int = Field(4, ge=1, le=MOST_SAMPLES, description="responses a prompt")
    seed: int = Field(0, ge=0, description="seed of the prompts' choice, of sampling and of resampling")
    temperature: float = Field(1.0, ge=0, description="sampling temperature")
    top_k: int = Field(0, ge=0, description="draw from the k likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set with this probability")
    max_new_tokens: int | None = Field(None, ge=1, description="longest response; null: as in training")
    stop: tuple[str, ...] | None = Field(None, description="stop strings; null: as in training")
    reference: str = Field("sft", description="model that KL is taken to")
    baseline: str | None = None
    """model that a judge compares the others with: one that takes part, chosen or rejected; null: the reference"""
    hypervolume_kl: float = Field(HYPERVOLUME_KL, gt=0)
    """nats of KL up to which the hypervolume is taken, above the reference's reward"""
    metrics: tuple[str, ...] = ()
    """rules that score responses beside what every suite measures; NAME:CATEGORY for some prompts"""
    rouge_tokenizer: Literal["english", "unicode"] = "english"
    """english: the words that rouge_score reads, of a-z and 0-9; unicode: beside it a ROUGE of words in any script, as
    rouge1_unicode and so on"""
    resamples: int = Field(RESAMPLES, ge=100, description="bootstraps that an interval is made from")
    best_of_n: int = Field(0, ge=0, le=MOST_SAMPLES)
    """responses of the reference to each prompt, at least 2, of which its reward model chooses the best of n; 0:
    none"""
    frontier: int = Field(0, ge=0, le=MOST_SAMPLES)
    """responses of the reference to each prompt from which the optimal frontier is estimated, such as 64; one pool of
    the larger number serves best_of_n too; 0: none"""
    pool_prompts: int | None = Field(None, ge=2)
    """prompts, the first by the hash, that the pool of best_of_n and frontier is drawn for; null: all, as where
    --best-of-n or --frontier is given"""

    @property
    def pool(self) -> int:
        """Responses of the reference to each prompt beside those of the table; 0: none."""
        return max(self.best_of_n, self.frontier)

    @model_validator(mode="after")
    def _one_source(self) -> Suite:
        if self.data is not None and self.own_prompts is not None:
            raise ValueError(f"data {self.data!r} given to a suite with prompts of its own; expected one of the two")
        return self


def list_suites() -> dict[str, str]:
    """Name and description of each shipped suite."""
    return {p.stem: str(read_yaml(p).get("description", "")) for p in sorted(suites_dir().glob("*.yaml"))}


def suite_path(name: str) -> Path:
    """The file of a shipped suite by name, or by path any file, or the suite.yaml of any folder. Raises UnknownName."""
    shipped, given = suites_dir() / f"{name}.yaml", Path(name)
    if not name.endswith((".yaml", ".yml")) and shipped.is_file():
        return shipped
    path = given / IN_FOLDER if given.is_dir() else given
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        advice = "or the path of a YAML file that exists (.yaml), or of a folder with a suite.yaml"
        raise UnknownName("suite", name, list_suites(), advice=advice)
    return path


def suite_name(name: str) -> str:
    """What results are filed under: the name of a shipped suite, of a file without its ending, or of a folder."""
    path = suite_path(name)
    return path.parent.resolve().name if path.name == IN_FOLDER else path.stem


def load_suite(name: str, overrides: Sequence[str] = ()) -> Suite:
    """A shipped suite by name, or a YAML file or a folder with a suite.yaml by path, with `key=value` overrides.

    Raises:
        UnknownName: no such suite, or an override of a key that a suite does not have.
        BadValue: the file or an override has a value that a suite cannot have.
    """
    if not (file := read_yaml(path := suite_path(name))):
        raise BadValue(f"{path} is empty; expected the keys of a suite, such as version and prompts")
    return load_config(Suite, file, overrides)


def needs(suite: Suite) -> str:
    """What a suite needs beside the models, in a few words for a list."""
    if suite.own_prompts is not None:
        return "nothing, it has prompts of its own"
    if suite.data is not None:
        return f"{suite.data} from the hub, or --data FILE with the same columns"
    if suite.prompts is None:
        return "--responses FILE"
    return "a run, or --data SOURCE"
