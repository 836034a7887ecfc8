"""The implicit reward of a policy that was trained against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.modeling.checkpoints import prompt_form
from rlhf_bench.modeling.perplexity_model import LanguageModel
from rlhf_bench.stats import FloatArray


@dataclass(frozen=True)
class ImplicitReward:
    """beta (log pi(y|x) - log ref(y|x)), Rafailov et al. 2023 (arXiv:2305.18290), eq. 5 without beta log Z(x).

    Log-probabilities are summed over the response, end-of-text included. Z(x) is not known, so only differences between
    responses to one prompt mean anything.
    """

    policy: LanguageModel
    reference: LanguageModel
    beta: float

    @classmethod
    def load(cls, policy: str, reference: str, *, beta: float) -> ImplicitReward:
        """Load both models. Raises CheckpointError and ModelError, also where the two tokenizers differ."""
        form = prompt_form(policy)
        found = cls(LanguageModel.load(policy, template=form), LanguageModel.load(reference, template=form), beta)
        if found.policy.tokenizer.get_vocab() != found.reference.tokenizer.get_vocab():
            raise ModelError(
                f"{policy} and {reference} have different tokenizers; an implicit reward needs a policy and the "
                "reference that it was trained from"
            )
        return found

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """(N,), up to a constant of each prompt. Raises NotFinite for a response that is too long for a model."""
        ended = [True] * len(responses)
        policy, reference = (
            model.score(prompts, responses, ended).logprob.numpy() for model in (self.policy, self.reference)
        )
        found: FloatArray = self.beta * (policy - reference)
        if not np.isfinite(found).all():
            at = int(np.flatnonzero(~np.isfinite(found))[0])
            raise NotFinite(f"response {at} of {len(found)} is longer than {self.policy.name} can read; leave it out")
        return found
