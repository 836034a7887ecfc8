"""What a demo is made of: models, reference and reward model by path, and how they are sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf_bench.config import Config, load_config
from rlhf_bench.data.hh import form_prompt, split_turns
from rlhf_bench.errors import BadValue, check_known
from rlhf_bench.evaluate.plan import prepare
from rlhf_bench.evaluate.request import Request
from rlhf_bench.modeling.sampling import SamplingConfig
from rlhf_bench.progress import Progress

EXAMPLES = 6


class DemoModel(Config):
    path: str
    """a folder or a name on the hub"""
    template: str | None
    """of its prompts; null: a reward model's own"""


class DemoSpec(Config):
    title: str
    """what the page is called"""
    models: dict[str, DemoModel]
    """by the name that is shown; each answers every prompt"""
    reference: str
    """the name of the model that KL is taken to and perplexity is of"""
    reference_model: DemoModel
    """the same model, which may be one of those that answer"""
    reward_model: DemoModel | None
    """null: answers have no reward"""
    max_new_tokens: int
    """longest answer at the start, in tokens"""
    max_prompt_tokens: int
    """longer prompts lose their oldest turns"""
    stop: tuple[str, ...]
    """strings that end an answer"""
    examples: tuple[str, ...]
    """prompts to begin with"""

    def placed(self, place: Callable[[str, DemoModel], DemoModel]) -> DemoSpec:
        """The same demo, its models as `place` gives them for each name."""
        return self.model_copy(
            update={
                "models": {name: place(name, model) for name, model in self.models.items()},
                "reference_model": place(self.reference, self.reference_model),
                "reward_model": self.reward_model and place("reward", self.reward_model),
            }
        )

    def sampling(self) -> SamplingConfig:
        return SamplingConfig(
            max_new_tokens=self.max_new_tokens, max_prompt_tokens=self.max_prompt_tokens, stop=self.stop
        )


def demo_spec(request: Request, names: Sequence[str], progress: Progress) -> DemoSpec:
    """The models of an evaluation that are called `names`, or all; of several training seeds those of the first.

    Raises UnknownName for a name that no model has, BadValue for a model behind a server, and as `prepare`.
    """
    plan = prepare(request, progress)
    if plan.served:
        raise BadValue(f"{plan.served[0].name} is behind a server; the demo needs the weights: give NAME=PATH")
    seed = plan.seeds[0]
    if len(plan.seeds) > 1:
        progress.log(f"demo: checkpoints of seed {seed}, the first of {', '.join(map(str, plan.seeds))}")
    sources = {source.name: source for source in plan.models if source.seed == seed}
    check_known("model", names, sources)
    if plan.reference not in sources:
        raise BadValue(f"the reference {plan.reference} is no model that is here; name another with --reference")
    models = {name: DemoModel(path=str(one.path), template=one.template) for name, one in sources.items()}
    reward = next(iter(plan.reward_models[seed]), None)
    assert plan.sampling is not None
    return DemoSpec(
        title=request.label,
        models={name: models[name] for name in dict.fromkeys(names or models)},
        reference=plan.reference,
        reference_model=models[plan.reference],
        reward_model=None if reward is None else DemoModel(path=str(reward.path), template=reward.template),
        max_new_tokens=plan.sampling.max_new_tokens,
        max_prompt_tokens=plan.sampling.max_prompt_tokens,
        stop=plan.sampling.stop,
        examples=tuple(_as_typed(item.prompt) for item in plan.items[:EXAMPLES]),
    )


def _as_typed(prompt: str) -> str:
    """What a user would type for this prompt: of a single turn its text alone. The inverse of `form_prompt`."""
    turns = split_turns(prompt)
    return turns[0].content if form_prompt(turns[0].content) == prompt else prompt.strip()


def read_spec(folder: Path) -> DemoSpec:
    """The spec of an exported folder; paths in it are as seen from there. Raises BadValue, UnknownName."""

    def place(_: str, model: DemoModel) -> DemoModel:
        inside = folder / model.path
        return model.model_copy(update={"path": str(inside)}) if inside.is_dir() else model

    return load_config(DemoSpec, folder / "demo.json", ()).placed(place)
