"""The models of one seed, each loaded once, when it is first needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_bench.evaluate.plan import Plan
from rlhf_bench.evaluate.sources import LanguageModelSource, ModelSource
from rlhf_bench.runtime.processes import Processes
from rlhf_bench.scorers.base import EvalContext, LoadedModel, Origin

if TYPE_CHECKING:
    from rlhf_bench.modeling.perplexity_model import LanguageModel
    from rlhf_bench.modeling.reward_model import RewardModel


class SeedModels:
    """Reference, reward models and language models of one seed, and the policy that is evaluated at the moment.

    Without a model of any kind nothing is loaded, torch included.
    """

    def __init__(self, plan: Plan, seed: int, processes: Processes) -> None:
        self.plan, self.seed, self.processes = plan, seed, processes
        self._last: tuple[Path, LoadedModel] | None = None

    @cached_property
    def reference(self) -> LoadedModel | None:
        source = self.plan.reference_model(self.seed)
        return None if source is None else self._load(source)

    @cached_property
    def reward_models(self) -> list[tuple[str, RewardModel]]:
        sources, sampling = self.plan.reward_models[self.seed], self.plan.sampling
        if not sources or sampling is None:
            return []
        from rlhf_bench.modeling.models import default_device
        from rlhf_bench.modeling.reward_model import RewardModel

        # responses of files may be longer than what is sampled here
        longest = None if self.plan.response_sets else sampling.max_new_tokens
        limits = {"max_prompt": sampling.max_prompt_tokens, "max_response": longest}
        loaded = [s.opened or RewardModel.load(s.path, device=default_device(), template=s.template) for s in sources]
        return [(s.column, model.within(**limits)) for s, model in zip(sources, loaded, strict=True)]

    @cached_property
    def language_models(self) -> list[tuple[str, LanguageModel]]:
        return [(source.name, self._language_model(source)) for source in self.plan.language_models]

    def policy(self, source: ModelSource) -> LoadedModel:
        """The policy is loaded once for all of its shards, and released when the next one is loaded."""
        loaded = self._reference_at(source.path)
        if loaded is None:
            if self._last is None or self._last[0] != source.path:
                self._last = None
                self._last = source.path, self._load(source)
            loaded = self._last[1]
        return self._with_template(loaded, source)

    def context(self, of: ModelSource | None, *, origin: Origin = "model", chooser: bool = False) -> EvalContext:
        """What responses are scored with: those of the model `of`, or by `origin` those of a file or of the data.

        `chooser`: with the reward model that best-of-n chooses by, and no other model that scores.
        """
        return EvalContext(
            origin=origin, source=self.plan.prompts.source, suite_metrics=self.plan.suite.metrics,
            rouge_tokenizer=self.plan.suite.rouge_tokenizer,
            sampling=self.plan.sampling, model=None if of is None else self.policy(of), reference=self.reference,
            reward_models=self.reward_models[:1] if chooser else self.reward_models,
            language_models=[] if chooser else self.language_models, processes=self.processes,
        )  # fmt: skip

    def _reference_at(self, path: Path) -> LoadedModel | None:
        """The reference where it is the model at `path`: it is not loaded twice."""
        source = self.plan.reference_model(self.seed)
        return self.reference if source is not None and source.path == path else None

    def _load(self, source: ModelSource) -> LoadedModel:
        from rlhf_bench.modeling.models import default_device, load_policy
        from rlhf_bench.modeling.templates import Template

        model, tokenizer = load_policy(source.path, device=default_device())
        return LoadedModel(model, tokenizer, Template.of(source.template, tokenizer, name=source.name))

    def _with_template(self, loaded: LoadedModel, source: ModelSource) -> LoadedModel:
        if loaded.template.name == source.template:
            return loaded
        from rlhf_bench.modeling.templates import Template

        return loaded._replace(template=Template.of(source.template, loaded.tokenizer, name=source.name))

    def _language_model(self, source: LanguageModelSource) -> LanguageModel:
        from rlhf_bench.modeling.models import default_device
        from rlhf_bench.modeling.perplexity_model import LanguageModel

        if (reference := self._reference_at(source.path)) is not None:
            return LanguageModel(*reference[:2], template=source.template, name=str(source.path))
        return LanguageModel.load(source.path, device=default_device(), template=source.template)
