"""What an evaluation is made of, before anything is computed: models, prompts, reward models and sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlhf_bench.errors import BadValue, CheckpointError, DataError, UnknownName
from rlhf_bench.evaluate.matching import read_files
from rlhf_bench.evaluate.named_models import NamedModels, Run, open_run
from rlhf_bench.evaluate.prompts import Prompts, read_prompts
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.sources import (
    LanguageModelSource,
    ModelSource,
    ResponseSet,
    RewardModelSource,
    ServerModel,
    loadable,
)
from rlhf_bench.evaluate.suite import Suite
from rlhf_bench.files import sha256_file
from rlhf_bench.progress import Progress
from rlhf_bench.store import ANCHORS
from rlhf_bench.types import HH_MINI, HUMAN_TURN, Item

if TYPE_CHECKING:
    from rlhf_bench.modeling.sampling import SamplingConfig


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

    def reference_model(self, seed: int) -> ModelSource | None:
        """The reference; None where its weights are not here under this seed."""
        return next((m for m in loadable(self.models, self.served) if (m.name, m.seed) == (self.reference, seed)), None)

    def sampling_seed(self, seed: int) -> int:
        return self.suite.seed * 1_000_003 + seed


def prepare(request: Request, progress: Progress) -> Plan:
    """Read and check everything that the request names.

    Raises UsageError, CheckpointError and DataError, before anything is computed or written.
    """
    suite, run = request.spec, open_run(request)
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
    named = NamedModels(request, run, seeds, texts, progress)
    models, served = named.policies(), named.served()
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
    reward_models, language_models = named.reward_models(), named.language_models()
    if judge := request.judge.get("name"):
        _check_judge(judge, names, suite.baseline or reference, prompts.source, reward_models)
    missing = named.missing | _missing_pool(suite, reference, models, reward_models)
    with_torch = models or served or language_models or any(reward_models.values())
    sampling = _sampling(suite, run, loadable(models, served)) if with_torch else None
    return Plan(
        suite, prompts, models, response_sets, reward_models, language_models, reference, sampling, missing,
        files.left_out, served, files.carried,
    )  # fmt: skip


def _check_names(names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in ANCHORS:
            raise BadValue(f"the name {name!r} is the data's own response in every table; choose another for the model")
        if name in names[:i]:
            raise BadValue(f"two models have the name {name!r}; give one of them another: NAME=...")


def _check_judge(
    judge: str,
    names: Sequence[str],
    baseline: str,
    source: str,
    reward_models: Mapping[int, Sequence[RewardModelSource]],
) -> None:
    """Raise BadValue where the judge at the end could not judge: now, and not when all is sampled."""
    if not set(names) - {baseline}:
        raise BadValue(
            f"--judge: given with one model, {baseline}, expected two, since it compares the responses of a model with "
            "the baseline's; give another --model or --responses, or name another baseline, such as --set "
            "baseline=chosen"
        )
    if judge == "gold" and source != HH_MINI:
        raise BadValue(f"--judge gold: {source} has no known true reward, only {HH_MINI} has; expected another judge")
    if judge == "reward" and not all(reward_models.values()):
        raise BadValue("--judge reward: no reward model under every seed takes part; give one with --reward-model")


def _missing_pool(
    suite: Suite,
    reference: str,
    sampled: Sequence[ModelSource],
    reward_models: Mapping[int, Sequence[RewardModelSource]],
) -> dict[tuple[str, str], str]:
    """Why there is no pool of the reference's responses though the request names one, by what needs it.

    Raises BadValue for a pool of one.
    """
    sizes = {"best_of_n": suite.best_of_n, "frontier": suite.frontier}
    for key, size in sizes.items():
        if size == 1:
            raise BadValue(f"{key}: given 1, expected at least 2 responses a prompt, such as 64, or 0 for none")
    why = None
    if not set(reward_models) <= {source.seed for source in sampled if source.name == reference}:
        why = "the reference is not here under every seed to be sampled"
    elif not all(reward_models.values()):
        why = "no reward model under every seed to choose by"
    return {(reference, key): why for key, size in sizes.items() if size and why}


def _sampling(suite: Suite, run: Run, models: Sequence[ModelSource]) -> SamplingConfig:
    """Sample as in training, without a run as the suite says; within what the smallest model can read."""
    from rlhf_bench.modeling.model_files import readable_tokens
    from rlhf_bench.modeling.sampling import SamplingConfig

    if run.config:
        data = run.config["data"]
        length, most = suite.max_new_tokens or int(data["max_response_tokens"]), int(data["max_prompt_tokens"])
        stop = run.config.get("stop", (HUMAN_TURN,))
    else:
        length, most, stop = suite.max_new_tokens or 128, 1024, (HUMAN_TURN,)
    room = min((readable_tokens(source.path) for source in models), default=1 << 20)
    prompt = min(most, room - length)
    if prompt < 1:
        raise BadValue(f"max_new_tokens: given {length}, expected fewer than the {room} that a model can read")
    return SamplingConfig(
        max_new_tokens=length, max_prompt_tokens=prompt, temperature=suite.temperature, top_k=suite.top_k,
        top_p=suite.top_p, stop=tuple(suite.stop if suite.stop is not None else stop),
    )  # fmt: skip
