"""The models that a request names, and those of its run: found and checked, each under every seed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_bench.errors import BadValue, CheckpointError
from rlhf_bench.evaluate.request import DEFAULT_RUN, SEED, Request, under_seed
from rlhf_bench.evaluate.sources import LanguageModelSource, ModelSource, RewardModelSource, ServerModel, server_model
from rlhf_bench.modeling.checkpoints import (
    Checkpoint,
    find_run,
    model_hash,
    open_checkpoint,
    prompt_form,
    read_training,
    run_seeds,
    stage_path,
)
from rlhf_bench.progress import Progress
from rlhf_bench.scorers.reward import HELD_OUT, HELD_OUT_Z, REWARD_PREFIX
from rlhf_bench.types import POLICIES


@dataclass(frozen=True)
class Run:
    """The finished stages of a trained run; none at all where no run takes part."""

    path: Path | None
    found: Mapping[tuple[str, int | None], Checkpoint]  # by stage and seed
    seeds: list[int | None]

    @property
    def config(self) -> dict[str, Any] | None:
        return next(iter(self.found.values())).training["config"] if self.found else None

    @property
    def stages(self) -> list[str]:
        return [stage for stage in POLICIES if any(name == stage for name, _ in self.found)]

    def number(self, seed: int | None) -> int:
        """The seed of a run without seed folders is that of its checkpoints."""
        if seed is not None:
            return seed
        return next(iter(self.found.values())).seed if self.found else 0


def open_run(request: Request) -> Run:
    """The run of a request. Raises CheckpointError where there is none, or where it holds no checkpoint."""
    if request.run is None:
        return Run(None, {}, [])
    path = find_run(request.checkpoints, request.run)
    seeds = run_seeds(path)
    found = {
        (stage, seed): open_checkpoint(stage_path(path, stage, seed))
        for seed in seeds
        for stage in (*POLICIES, "reward")
        if read_training(stage_path(path, stage, seed)) is not None
    }
    if not found:
        named = "" if path.name == DEFAULT_RUN else f" --run {path.name}"
        raise CheckpointError(f"{path} holds no checkpoint; make them with: rlhf-bench train all{named}")
    return Run(path, found, seeds)


@dataclass(frozen=True)
class NamedModels:
    """Finds each kind of model, and notes in `missing` why one is not there; `prompts` are those it has to write."""

    request: Request
    run: Run
    seeds: Sequence[int | None]
    prompts: Sequence[str]
    progress: Progress
    missing: dict[tuple[str, str], str] = field(default_factory=dict)  # (model or "all", metric) -> why

    def policies(self) -> list[ModelSource]:
        """The run's policies and the models that are given by path, each under every seed."""
        run = self.run
        if run.path is not None:
            for stage in POLICIES:
                if stage not in run.stages:
                    why = f"not trained; make it with: rlhf-bench train {stage} --run {run.path.name}"
                    self.missing[stage, "everything"] = why
        given = {name: path for name, path in self.request.models.items() if server_model(path) is None}
        self._check_paths(given)
        sources = []
        for seed in self.seeds:
            for name in [*run.stages, *given]:
                checkpoint = run.found.get((name, seed))
                if name in given:
                    template = self.request.templates.get(name)
                    sources.append(self._given(name, run.number(seed), under_seed(given[name], seed), template))
                elif checkpoint is not None:
                    path, form = checkpoint.path, prompt_form(checkpoint.path)
                    number, training = run.number(seed), checkpoint.training
                    sources.append(ModelSource(name, number, path, checkpoint.hash, training, form))
                else:
                    self.missing[name, f"seed {seed}"] = "not trained under this seed"
        return sources

    def _check_paths(self, given: Mapping[str, str]) -> None:
        if not given:
            return
        from rlhf_bench.modeling.model_files import check_path

        for seed in self.seeds:
            for name, path in given.items():
                if seed is None and SEED in path:
                    raise BadValue(
                        f"{name}: its path {path} holds {SEED}, and no run of several seeds takes part; name the "
                        "folder, or give --run NAME"
                    )
                check_path(under_seed(path, seed))

    def _given(self, name: str, seed: int, path: str, template: str | None) -> ModelSource:
        from rlhf_bench.modeling.opening import open_policy

        template = template or prompt_form(path)
        form = open_policy(name, path, template, self.progress.log, prompts=self.prompts)
        return ModelSource(name, seed, Path(path), model_hash(path), None, template, form)

    def served(self) -> list[ServerModel]:
        """The models behind a server, each under every seed: of sampling, where it was not trained here."""
        served = []
        for name, path in self.request.models.items():
            if (found := server_model(path)) is None:
                continue
            if self.request.base_url is None and not os.environ.get("OPENAI_BASE_URL"):
                raise BadValue(f"--model {name}={path}: no server given; give --base-url URL")
            from rlhf_bench.judge.client.endpoint import canonical_url

            model, weights = found
            url, template = canonical_url(self.request.base_url), self.request.templates.get(name, "chat")
            for seed in self.seeds:
                number = self.run.number(seed)
                here = self._given(name, number, under_seed(weights, seed), template) if weights else None
                served.append(ServerModel(name, number, under_seed(model, seed), url, here, template))
        return served

    def reward_models(self) -> dict[int, list[RewardModelSource]]:
        """Each seed's: those given, the first as "reward"; else the run's own, and the next seed's held out.

        Scoring is cheap beside sampling, so the second one costs little.
        """
        run = self.run
        own = {seed: run.found["reward", seed] for seed in self.seeds if ("reward", seed) in run.found}
        found: dict[int, list[RewardModelSource]] = {run.number(seed): [] for seed in self.seeds}
        if self.request.reward_models:
            return dict.fromkeys(found, self._given_reward_models())
        if not own:
            make = f"make it with: rlhf-bench train reward --run {run.path.name}, or " if run.path else ""
            why = f"no reward model; {make}give --reward-model PATH"
            self.missing.update({("all", "reward"): why, ("all", "reward_std"): why})
        if len(own) == 1:
            self.missing["all", HELD_OUT_Z] = (
                "one seed has no reward model but the one that was optimised; train with --seeds 2 or more, or give "
                "others with --reward-model"
            )
        after = dict(zip(own, [*list(own)[1:], *list(own)[:1]], strict=True))  # each seed's next, the last one's first
        for seed, other in after.items():
            found[run.number(seed)].append(_own_reward_model("reward", own[seed]))
            if other != seed:
                found[run.number(seed)].append(_own_reward_model(HELD_OUT, own[other]))
        return found

    def _given_reward_models(self) -> list[RewardModelSource]:
        from rlhf_bench.modeling.opening import open_reward_model

        given = []
        for i, (name, path) in enumerate(self.request.reward_models.items()):
            template = self.request.templates.get(name)
            opened = open_reward_model(name, path, template, self.progress.log, prompts=self.prompts)
            column = "reward" if i == 0 else f"{REWARD_PREFIX}{name}"
            given.append(RewardModelSource(column, Path(path), model_hash(path), template, opened.form.name, opened))
        return given

    def language_models(self) -> list[LanguageModelSource]:
        """The models that score every response."""
        found = []
        for name, path in self.request.perplexity_models.items():
            source = self._given(name, 0, path, self.request.templates.get(name))
            found.append(LanguageModelSource(name, source.path, source.hash, source.template))
        return found


def _own_reward_model(column: str, checkpoint: Checkpoint) -> RewardModelSource:
    return RewardModelSource(column, checkpoint.path, checkpoint.hash, None, prompt_form(checkpoint.path))
