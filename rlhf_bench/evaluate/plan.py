"""What an evaluation is made of, before anything is computed: models, prompts, reward models and sampling."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_bench.errors import BadValue, CheckpointError, DataError, UnknownName
from rlhf_bench.evaluate.matching import read_files
from rlhf_bench.evaluate.prompts import Prompts, read_prompts
from rlhf_bench.evaluate.request import DEFAULT_RUN, SEED, Request, under_seed
from rlhf_bench.evaluate.sources import (
    LanguageModelSource,
    ModelSource,
    ResponseSet,
    RewardModelSource,
    ServerModel,
    server_model,
)
from rlhf_bench.evaluate.suite import Suite
from rlhf_bench.files import sha256_file
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
from rlhf_bench.store import ANCHORS
from rlhf_bench.types import HUMAN_TURN, POLICIES, Item

if TYPE_CHECKING:
    from rlhf_bench.modeling.sampling import SamplingConfig

Found = Mapping[tuple[str, int | None], Checkpoint]


@dataclass(frozen=True)
class Plan:
    """What one evaluation is made of, by path and hash; nothing is loaded but the reward models that are given."""

    suite: Suite
    prompts: Prompts
    models: list[ModelSource]
    response_sets: list[ResponseSet]
    reward_models: dict[int, list[RewardModelSource]]  # by seed
    language_models: list[LanguageModelSource]
    reference: str
    sampling: SamplingConfig | None  # None: no model takes part
    missing: dict[tuple[str, str], str]  # (model or "all", metric) -> why it is known beforehand to be missing
    left_out: dict[str, int] = field(default_factory=dict)  # response file -> rows that could not be used
    served: list[ServerModel] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)  # what texts of response files carry besides their answers

    @property
    def items(self) -> list[Item]:
        return self.prompts.items

    @property
    def pool_items(self) -> list[Item]:
        """What the reference's pool is drawn for; the prompts are in the order of a hash."""
        return self.items[: self.suite.pool_prompts]

    @property
    def seeds(self) -> list[int]:
        return sorted({one.seed for one in self.evaluated})

    @property
    def evaluated(self) -> list[ModelSource | ServerModel | ResponseSet]:
        return [*self.models, *self.served, *self.response_sets]

    @property
    def loadable(self) -> list[ModelSource]:
        """The models that are here: those that are sampled here, and the weights of those behind a server."""
        return [*self.models, *(model.weights for model in self.served if model.weights is not None)]

    def reference_model(self, seed: int) -> ModelSource | None:
        """The reference; None where its weights are not here under this seed."""
        return next((m for m in self.loadable if (m.name, m.seed) == (self.reference, seed)), None)

    def sampling_seed(self, seed: int) -> int:
        return self.suite.seed * 1_000_003 + seed


@dataclass(frozen=True)
class _Run:
    """The finished stages of a trained run; none at all where no run takes part."""

    path: Path | None
    found: Found
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


def prepare(request: Request, progress: Progress) -> Plan:
    """Read and check everything that the request names.

    Raises UsageError, CheckpointError and DataError, before anything is computed or written.
    """
    suite, run = request.spec, _open_run(request)
    files = read_files(request, progress)
    names = [*run.stages, *request.models, *files.names]
    _check_names(names)
    if not names:
        raise CheckpointError("nothing to evaluate; give --run NAME, --model NAME=PATH or --responses NAME=FILE")
    reference = suite.reference
    if reference not in names:
        if request.reference is not None or run.path is not None:
            raise UnknownName("reference model", reference, names)
        reference = names[0]
        progress.log(f"reference: {reference}, the first that is given; --reference names another")

    prompts = read_prompts(request, run.config, files, progress)
    sides = {"chosen": [item.chosen for item in prompts.items], "rejected": [item.rejected for item in prompts.items]}
    baselines = [*names, *(name for name, texts in sides.items() if any(text is not None for text in texts))]
    if suite.baseline is not None and suite.baseline not in baselines:
        raise UnknownName("baseline model", suite.baseline, baselines)
    seeds: list[int | None] = run.seeds if run.found else list(files.seeds) or [None]
    texts = [item.prompt for item in prompts.items]
    models, missing = _models(request, run, seeds, texts, progress)
    served = _served(request, run, seeds, texts, progress)
    response_sets = [
        ResponseSet(mine.model or "", run.number(seed), path, sha256_file(path)[:16], mine.by_prompt)
        for seed in seeds
        for path, mine in files.under(run.number(seed))
    ]
    for name in files.names:
        if all(one.name != name for one in response_sets):
            raise DataError(
                f"the file of {name} has responses under the seeds {files.seeds}, none of which is evaluated"
            )
    reward_models = _reward_models(request, run, seeds, missing, texts, progress)
    language_models = _language_models(request, texts, progress)
    missing |= _missing_pool(suite, reference, [(model.name, model.seed) for model in models], reward_models)
    with_torch = models or served or language_models or any(reward_models.values())
    here = [*models, *(model.weights for model in served if model.weights is not None)]
    sampling = _sampling(suite, run, [model.path for model in here]) if with_torch else None
    return Plan(
        suite, prompts, models, response_sets, reward_models, language_models, reference, sampling, missing,
        files.left_out, served, files.carried,
    )  # fmt: skip


def _open_run(request: Request) -> _Run:
    if request.run is None:
        return _Run(None, {}, [])
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
    return _Run(path, found, seeds)


def _check_names(names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in ANCHORS:
            raise BadValue(f"the name {name!r} is the data's own response in every table; choose another for the model")
        if name in names[:i]:
            raise BadValue(f"two models have the name {name!r}; give one of them another: NAME=...")


def _models(
    request: Request, run: _Run, seeds: Sequence[int | None], prompts: Sequence[str], progress: Progress
) -> tuple[list[ModelSource], dict[tuple[str, str], str]]:
    missing: dict[tuple[str, str], str] = {}
    if run.path is not None:
        for stage in POLICIES:
            if stage not in run.stages:
                missing[stage, "everything"] = (
                    f"not trained; make it with: rlhf-bench train {stage} --run {run.path.name}"
                )
    given = {name: path for name, path in request.models.items() if server_model(path) is None}
    if not run.stages and not given:
        return [], missing
    from rlhf_bench.modeling.model_files import check_path

    for seed in seeds:
        for name, path in given.items():
            if seed is None and SEED in path:
                raise BadValue(
                    f"{name}: its path {path} holds {SEED}, and no run of several seeds takes part; name the "
                    "folder, or give --run NAME"
                )
            check_path(under_seed(path, seed))
    sources = []
    for seed in seeds:
        for name in [*run.stages, *given]:
            checkpoint = run.found.get((name, seed))
            if name in given:
                template = request.templates.get(name)
                sources.append(
                    _given(name, run.number(seed), under_seed(given[name], seed), template, prompts, progress)
                )
            elif checkpoint is not None:
                sources.append(
                    ModelSource(
                        name, run.number(seed), checkpoint.path, checkpoint.hash, checkpoint.training,
                        prompt_form(checkpoint.path),
                    )
                )  # fmt: skip
            else:
                missing[name, f"seed {seed}"] = "not trained under this seed"
    return sources, missing


def _given(
    name: str, seed: int, path: str, template: str | None, prompts: Sequence[str], progress: Progress
) -> ModelSource:
    from rlhf_bench.modeling.opening import open_policy

    template = template or prompt_form(path)
    form = open_policy(name, path, template, progress.log, prompts=prompts)
    return ModelSource(name, seed, Path(path), model_hash(path), None, template, form)


def _served(
    request: Request, run: _Run, seeds: Sequence[int | None], prompts: Sequence[str], progress: Progress
) -> list[ServerModel]:
    """The models behind a server, each under every seed: of sampling, where it was not trained here."""
    served = []
    for name, path in request.models.items():
        if (found := server_model(path)) is None:
            continue
        if request.base_url is None and not os.environ.get("OPENAI_BASE_URL"):
            raise BadValue(f"--model {name}={path}: no server given; give --base-url URL")
        from rlhf_bench.judge.client.endpoint import canonical_url

        model, weights = found
        url, template = canonical_url(request.base_url), request.templates.get(name, "chat")
        for seed in seeds:
            number = run.number(seed)
            here = _given(name, number, under_seed(weights, seed), template, prompts, progress) if weights else None
            served.append(ServerModel(name, number, under_seed(model, seed), url, here, template))
    return served


def _reward_models(
    request: Request,
    run: _Run,
    seeds: Sequence[int | None],
    missing: dict[tuple[str, str], str],
    prompts: Sequence[str],
    progress: Progress,
) -> dict[int, list[RewardModelSource]]:
    """Each seed's reward models: those given, the first as "reward"; else the run's own, and the next seed's held out.

    Scoring is cheap beside sampling, so the second one costs little.
    """
    own = {seed: run.found["reward", seed] for seed in seeds if ("reward", seed) in run.found}
    if not own and not request.reward_models:
        make = f"make it with: rlhf-bench train reward --run {run.path.name}, or " if run.path else ""
        why = f"no reward model; {make}give --reward-model PATH"
        missing |= {("all", "reward"): why, ("all", "reward_std"): why}
        return {run.number(seed): [] for seed in seeds}
    from rlhf_bench.modeling.opening import open_reward_model

    given = []
    for i, (name, path) in enumerate(request.reward_models.items()):
        template = request.templates.get(name)
        opened = open_reward_model(name, path, template, progress.log, prompts=prompts)
        column = "reward" if i == 0 else f"{REWARD_PREFIX}{name}"
        given.append(RewardModelSource(column, Path(path), model_hash(path), template, opened.form.name, opened))
    if given:
        return {run.number(seed): given for seed in seeds}
    after = dict(zip(own, [*list(own)[1:], *list(own)[:1]], strict=True))  # each seed's next, the last one's first
    if len(own) == 1:
        missing["all", HELD_OUT_Z] = (
            "one seed has no reward model but the one that was optimised; train with --seeds 2 or more, or give others "
            "with --reward-model"
        )
    found: dict[int, list[RewardModelSource]] = {run.number(seed): [] for seed in seeds}
    for seed, other in after.items():
        found[run.number(seed)].append(_own_reward_model("reward", own[seed]))
        if other != seed:
            found[run.number(seed)].append(_own_reward_model(HELD_OUT, own[other]))
    return found


def _own_reward_model(column: str, checkpoint: Checkpoint) -> RewardModelSource:
    return RewardModelSource(column, checkpoint.path, checkpoint.hash, None, prompt_form(checkpoint.path))


def _language_models(request: Request, prompts: Sequence[str], progress: Progress) -> list[LanguageModelSource]:
    if not request.perplexity_models:
        return []
    from rlhf_bench.modeling.opening import open_policy

    found = []
    for name, path in request.perplexity_models.items():
        template = request.templates.get(name) or prompt_form(path)
        open_policy(name, path, template, progress.log, prompts=prompts)
        found.append(LanguageModelSource(name, Path(path), model_hash(path), template))
    return found


def _missing_pool(
    suite: Suite,
    reference: str,
    sampled: Sequence[tuple[str, int]],
    reward_models: Mapping[int, Sequence[RewardModelSource]],
) -> dict[tuple[str, str], str]:
    """Why there is no pool of the reference's responses though the request names one, by what needs it.

    `sampled`: (name, seed) of the models that are sampled here. Raises BadValue for a pool of one.
    """
    sizes = {"best_of_n": suite.best_of_n, "frontier": suite.frontier}
    for key, size in sizes.items():
        if size == 1:
            raise BadValue(f"{key}: given 1, expected at least 2 responses a prompt, such as 64, or 0 for none")
    why = None
    if any((reference, seed) not in sampled for seed in reward_models):
        why = "the reference is not here under every seed to be sampled"
    elif not all(reward_models.values()):
        why = "no reward model under every seed to choose by"
    return {(reference, key): why for key, size in sizes.items() if size and why}


def _sampling(suite: Suite, run: _Run, models: Sequence[Path]) -> SamplingConfig:
    """Sample as in training; without a run as the suite says, within what the smallest model can read."""
    from rlhf_bench.modeling.sampling import SamplingConfig

    if run.config:
        data = run.config["data"]
        length, prompt = suite.max_new_tokens or int(data["max_response_tokens"]), int(data["max_prompt_tokens"])
        stop = run.config.get("stop", (HUMAN_TURN,))
    else:
        from rlhf_bench.modeling.model_files import readable_tokens

        length, stop = suite.max_new_tokens or 128, (HUMAN_TURN,)
        room = min((readable_tokens(path) for path in models), default=1 << 20)
        prompt = min(1024, room - length)
        if prompt < 1:
            raise BadValue(f"max_new_tokens: given {length}, expected fewer than the {room} that a model can read")
    return SamplingConfig(
        max_new_tokens=length, max_prompt_tokens=prompt, temperature=suite.temperature, top_k=suite.top_k,
        top_p=suite.top_p, stop=tuple(suite.stop if suite.stop is not None else stop),
    )  # fmt: skip
