"""Suites: short YAML files that say on what and how models are compared."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rlhf_bench.config import Config, load_config, read_yaml, suites_dir
from rlhf_bench.errors import UnknownName
from rlhf_bench.stats import RESAMPLES

__all__ = ["HYPERVOLUME_KL", "Suite", "list_suites", "load_suite"]

HYPERVOLUME_KL = 10.0


class Suite(Config):
    """What a suite file can say."""

    version: int = Field(ge=1, description="goes up when results of the suite stop being comparable")
    description: str = Field("", description="what the suite is for, in one line")
    data: str | None = Field(None, description="data source; null: the one that the run was trained on")
    split: str = Field("test", description="split that the prompts come from")
    prompts: int | None = Field(
        150, ge=1, description="prompts, chosen by a hash of the suite's seed and the prompt; null: all"
    )
    samples: int = Field(4, ge=1, description="responses a prompt")
    seed: int = Field(0, ge=0, description="seed of the prompts' choice, of sampling and of resampling")
    temperature: float = Field(1.0, ge=0, description="sampling temperature")
    top_k: int = Field(0, ge=0, description="draw from the k likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set with this probability")
    max_new_tokens: int | None = Field(None, ge=1, description="longest response; null: as in training")
    stop: tuple[str, ...] | None = Field(None, description="stop strings; null: as in training")
    reference: str = Field("sft", description="model that KL is taken to")
    hypervolume_kl: float = Field(
        HYPERVOLUME_KL,
        gt=0,
        description="nats of KL up to which the hypervolume is taken, above the reference's reward",
    )
    resamples: int = Field(RESAMPLES, ge=100, description="bootstraps that an interval is made from")
    best_of_n: int = Field(
        0,
        ge=0,
        description="responses of the reference to each prompt, at least 2, of which its reward model chooses the best "
        "of n; 0: none",
    )


def list_suites() -> dict[str, str]:
    """Name and description of each shipped suite."""
    return {p.stem: str(read_yaml(p).get("description", "")) for p in sorted(suites_dir().glob("*.yaml"))}


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or a YAML file by path.

    Raises:
        UnknownName: no such suite.
        BadValue: the file says something that a suite cannot say.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else suites_dir() / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName("suite", name, list_suites())
    return load_config(Suite, path, [])
