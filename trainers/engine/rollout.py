"""Rollouts: what PPO and GRPO learn from, made once for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_bench.errors import NotFinite
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from rlhf_bench.modeling.logprobs import LogprobModel, token_kl
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig, ready_to_sample, sample
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Batch, Encoded, collate
from rlhf_bench.modeling.trees import can_pack
from rlhf_bench.types import Completion, Prompt
from trainers.config.recipe import RolloutConfig
from trainers.config.rewards import GOLD, MODEL, is_folder, parse_sources
from trainers.engine.batches import report_cut, template_of
from trainers.engine.loop import LOWER
from trainers.engine.rewards import Score, ensemble, gold_source, load_function, weighted_sum
from trainers.engine.stage import Stage

IN_FLIGHT = 128  # responses that are drawn at once
CALIBRATION = 256  # pairs of the validation split whose chosen responses give an ensemble's members their scales


class Rollout(NamedTuple):
    """Responses to some prompts, `samples` of each in a row, and their rewards. B = prompts x samples."""

    rows: list[Encoded]
    batch: Batch  # (B, T)
    scores: Tensor  # (B,) raw reward
    ended: Tensor  # (B,) bool: ended itself, by end-of-text or a stop string
    reference_logps: Tensor  # (B, T) at the sampling temperature
    nucleus: dict[str, float]  # how far top-p drew it from the policy's own distribution; empty without top-p

    @property
    def lengths(self) -> Tensor:
        return self.batch.response_mask.sum(1)

    def statistics(self) -> dict[str, float]:
        lengths = self.lengths.float()
        return {
            "reward": self.scores.mean().item(),
            "completions/mean_length": lengths.mean().item(),
            "completions/clipped_ratio": 1.0 - self.ended.float().mean().item(),
            **self.nucleus,
        }


def with_unique_ids(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, each with an id of its own: responses are drawn by it, and copies would be answered alike."""
    seen: Counter[str] = Counter()
    each = []
    for prompt in prompts:
        copies = seen[prompt.id]
        seen[prompt.id] += 1
        each.append(Prompt(f"{prompt.id}+{copies}", prompt.text) if copies else prompt)
    return each


def select(batch: Batch, index: Tensor | Sequence[int]) -> Batch:
    """Some rows of a batch, without the columns that are padding in all of them."""
    part = Batch(*(tensor[index] for tensor in batch))
    width = -(-int(part.attention_mask.sum(1).max()) // ROUND_WIDTH) * ROUND_WIDTH  # few distinct shapes, as in collate
    return Batch(*(tensor[:, :width] for tensor in part))


def nucleus_numbers(drawn: Tensor, logps: Tensor, mask: Tensor) -> dict[str, float]:
    """How far the distribution that top-p draws from is from the policy, for the log.

    A token of the nucleus is drawn with its probability over the nucleus's mass, so that drawn - logps = -log mass:
    what the policy ratio leaves out. Summed over a response its mean is KL(drawn || policy), which the k1 estimate of
    the KL to the reference lacks on such samples. drawn, logps, mask: (B, T).
    """
    difference = (drawn - logps) * mask
    return {
        "sampling/nucleus_mass": ((-difference).exp() * mask).sum().item() / max(1, int(mask.sum())),
        "sampling/nucleus_kl": difference.sum(1).mean().item(),
    }


class RolloutMaker:
    """Draws prompts in an order that depends on the seed alone, samples, scores, and computes log-probabilities."""

    def __init__(
        self,
        stage: Stage,
        config: RolloutConfig,
        policy: LogprobModel,
        reference: LogprobModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        recipe = stage.recipe
        self.stage, self.config, self.tokenizer = stage, config, tokenizer
        self.policy, self.reference = policy, reference
        self.score, self.reward_record = self._rewards()
        self.template = template_of(recipe, tokenizer)
        self.sampling = SamplingConfig(
            max_new_tokens=config.max_response_tokens or recipe.data.max_response_tokens,
            max_prompt_tokens=config.max_prompt_tokens or recipe.data.max_prompt_tokens,
            temperature=config.temperature, top_p=config.top_p, stop=(*recipe.stop, *self.template.stop),
        )  # fmt: skip
        self.prompts = stage.data("train").prompts
        self.held_out = stage.data("validation").prompts[: config.eval_size]
        if config.top_p < 1.0:
            stage.log(
                f"top_p={config.top_p:g}: responses are drawn from the nucleus, while ratio, KL and entropy are those "
                "of the whole distribution; sampling/nucleus_mass and sampling/nucleus_kl log the difference"
            )
        self._epoch, self._order = -1, np.arange(0)

    def make(self, step: int, *, samples: int) -> Rollout:
        """The rollout of one step: `batch_size` prompts, `samples` responses each.

        Raises:
            NotFinite: the policy or the reward model gives NaN; the message names the step.
            ModelError: a reward function raised, or did not return a finite number for each row.
        """
        prompts = with_unique_ids([self.prompts[i] for i in self._indices(step)])
        seed = self.stage.seed * 1_000_003 + step  # a prompt that returns in a later step is answered again
        texts = [prompt.text for prompt in prompts for _ in range(samples)]
        try:
            groups = self.sample(prompts, samples=samples, seed=seed)
            completions = [completion for group in groups for completion in group]
            ended = [completion.finish_reason != "length" for completion in completions]
            scores = self.score(texts, [self.template.read(completion.text) for completion in completions], ended)
        except NotFinite as error:
            raise NotFinite(f"{self.stage.name}, step {step + 1} of {self.config.steps}: {error}{LOWER}") from error
        rows = self.rows(texts, completions)
        batch = collate(rows, pad_id=self.tokenizer.pad_token_id).to(self.stage.machine.device)
        return Rollout(
            rows, batch, scores.to(self.stage.machine.device), torch.tensor(ended, device=self.stage.machine.device),
            self.logps(self.reference, batch), self._nucleus(batch, completions),
        )  # fmt: skip

    def _nucleus(self, batch: Batch, completions: Sequence[Completion]) -> dict[str, float]:
        """With top-p, `nucleus_numbers` of a rollout's tokens, without those of a stop string."""
        if self.config.top_p == 1.0:
            return {}
        logps = self.logps(self.policy, batch).cpu()
        drawn, mask = torch.zeros_like(logps), torch.zeros_like(logps, dtype=torch.bool)
        for row, completion in enumerate(completions):
            places = batch.response_mask[row].nonzero().squeeze(1).cpu()[: len(completion.logps)]
            drawn[row, places], mask[row, places] = torch.tensor(completion.logps), True
        return nucleus_numbers(drawn, logps, mask)

    def rows(self, texts: Sequence[str], completions: Sequence[Completion]) -> list[Encoded]:
        """The data's prompts in the model's form with what it drew, a stop string's tokens too: to end is an action."""
        heads = self.template.encode_prompts(texts, max_prompt=self.sampling.max_prompt_tokens)
        return [
            Encoded(head or [self.tokenizer.eos_token_id], completion.drawn)
            for (head, _), completion in zip(heads, completions, strict=True)
        ]

    def sample(self, prompts: Sequence[Prompt], *, samples: int, seed: int) -> list[list[Completion]]:
        """Responses to each prompt. On a CPU with bf16 the products of packed layers are in bf16; all else of sampling
        is in float32, since many small products of ever new shapes gain nothing."""
        ordered = sorted(range(len(prompts)), key=lambda i: len(prompts[i].text))

        def draw(part: Sequence[int]) -> list[list[Completion]]:
            chosen = self.template.encoded([prompts[i] for i in part], max_prompt=self.sampling.max_prompt_tokens)
            return sample(
                self.policy.model, self.tokenizer, chosen, self.sampling, samples=samples, seed=seed,
                dtype=self.stage.machine.dtype,
            )  # fmt: skip

        groups: list[list[Completion]] = [[] for _ in prompts]
        with (
            self.stage.machine.pool.one_at_a_time() as pool,
            ready_to_sample(self.policy.model, self.stage.machine.dtype),
        ):
            pieces = pool.split(ordered, max(1, IN_FLIGHT // samples))
            parts = pool.map(draw, pieces)
        for part, drawn in zip(pieces, parts, strict=True):
            for i, group in zip(part, drawn, strict=True):
                groups[i] = group
        return groups

    def prompts_cut(self) -> dict[str, float]:
        """`report_cut` of the prompts that the stage's steps use."""
        used = sorted({i for step in range(self.config.steps) for i in self._indices(step)})
        texts = [self.prompts[i].text for i in used]
        heads = self.template.encode_prompts(texts, max_prompt=self.sampling.max_prompt_tokens)
        limit = f"{self.stage.name}.max_prompt_tokens={self.config.max_prompt_tokens}"
        return report_cut(
            self.stage, prompts=sum(cut for _, cut in heads), responses=0, rows=len(used),
            prompt_limit=limit if self.config.max_prompt_tokens else None,
        )  # fmt: skip

    def evaluate(self) -> dict[str, float]:
        """One response to each held-out prompt: reward, gold where it is known, exact KL, share ended."""
        from rlhf_bench.scorers.gold import gold_reward_for  # pandas and scipy come with it

        prompts, stage = self.held_out, self.stage
        groups = self.sample(prompts, samples=1, seed=stage.seed)
        completions = [group[0] for group in groups]
        texts, responses = [p.text for p in prompts], [self.template.read(c.text) for c in completions]
        ended = [c.finish_reason != "length" for c in completions]
        numbers = {
            "eval_reward": self.score(texts, responses, ended).mean().item(),
            "eval_ended": float(np.mean(ended)),
            "eval_length": float(np.mean([len(c.ids) for c in completions])),
        }
        batch = collate(self.rows(texts, completions), pad_id=self.tokenizer.pad_token_id).to(stage.machine.device)
        exact = self.per_token(batch, lambda part: token_kl(self.policy.model, self.reference.model, part).exact)
        numbers["eval_kl_exact"] = exact.sum().item() / len(prompts)
        gold = gold_reward_for(stage.recipe.data.source, texts, responses, ended)
        if gold is not None:
            numbers["eval_gold"] = float(gold.total.mean())
        return numbers

    def _rewards(self) -> tuple[Score, dict[str, Any]]:
        """The raw reward of each response, (N,) on the CPU, and what training.json records of where it comes from."""
        section = self.stage.recipe.reward
        names = parse_sources(section.function)
        weights = section.weights or (1.0,) * len(names)
        sources: list[Score] = []
        hashes: dict[str, str | None] = {}  # of what no parent's hash covers
        for name in names:
            if name == MODEL:
                model = self.stage.reward_model
                sources.append(self._model_source(model))
                if section.checkpoint is not None:
                    hashes[model.name] = checkpoint_hash(model)
            elif name == GOLD:
                sources.append(gold_source(self.stage.recipe.data.source))
            elif is_folder(name):
                sources.append(self._model_source(Path(name)))
                hashes[name] = checkpoint_hash(Path(name))
            else:
                function, hashes[name] = load_function(name)
                sources.append(self._called_once(function))
        record = {"function": list(names), "weights": list(weights), "source_hashes": hashes}
        if section.ensemble is None:
            return weighted_sum(sources, weights), record
        pairs = self.stage.pairs("validation", CALIBRATION)
        prompts, chosen = [pair.prompt for pair in pairs], [pair.chosen for pair in pairs]
        score = ensemble(sources, section.ensemble, prompts, chosen, [True] * len(pairs))
        return score, {**record, "ensemble": section.ensemble}

    def _called_once(self, function: Score) -> Score:
        """A user's function sees the whole rollout, in the first process: it may call a server, or draw at random."""

        def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
            return self.stage.writer.look(function, prompts, responses, ended)

        return score

    def _model_source(self, folder: Path) -> Score:
        machine, data = self.stage.machine, self.stage.recipe.data
        reward = RewardModel.load(folder, device=machine.device).within(
            max_prompt=data.max_prompt_tokens, max_response=data.max_response_tokens
        )

        def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
            def work(part: Sequence[int]) -> Tensor:
                with machine.autocast():
                    return reward.score(
                        [prompts[i] for i in part], [responses[i] for i in part], [ended[i] for i in part]
                    )

            ordered = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
            return machine.pool.fill(torch.empty(len(prompts)), work, machine.pool.split(ordered, 64))

        return score

    def logps(self, model: LogprobModel, batch: Batch) -> Tensor:
        """Log-probabilities of the response tokens, by the same forward as training's, in micro-batches. (B, T)"""
        return self.per_token(batch, lambda part: model(part, self.config.temperature).logps)

    def entropy(self, batch: Batch) -> float:
        """Mean entropy of the policy over the response tokens, at the sampling temperature, nats a token."""
        per_token = self.per_token(batch, lambda part: self.policy(part, self.config.temperature).entropy)
        return per_token.sum().item() / max(1, int(batch.response_mask.sum()))

    def per_token(self, batch: Batch, function: Callable[[Batch], Tensor]) -> Tensor:
        """`function` of every micro-batch, without gradients, put together. (B, T)"""
        out = torch.zeros(batch.ids.shape, device=batch.ids.device)

        def work(index: Tensor) -> Tensor:
            with torch.no_grad(), self.stage.machine.autocast():
                return function(select(batch, index))

        pieces = self.micro_batches(batch)
        for index, values in zip(pieces, self.stage.machine.pool.map(work, pieces), strict=True):
            out[index, : values.shape[1]] = values.to(out)
        return out

    def micro_batches(self, batch: Batch, index: Tensor | None = None) -> list[Tensor]:
        """Rows `index` (default: all) in micro-batches: responses to one prompt side by side, where the model computes
        a prompt once, else rows of similar length."""
        index = torch.arange(len(batch.ids)) if index is None else index
        keys = index if can_pack(self.policy.model) else batch.attention_mask.sum(1).cpu()[index]
        ordered = index[keys.argsort(stable=True)].tolist()
        return [torch.tensor(part) for part in self.stage.machine.pool.split(ordered, self.config.micro_batch_size)]

    def _indices(self, step: int) -> list[int]:
        size, count = self.config.batch_size, len(self.prompts)
        indices = []
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, count)
            indices.append(int(self._permutation(epoch)[place]))
        return indices

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch != epoch:
            self._epoch = epoch
            rng = np.random.Generator(np.random.Philox(key=self.stage.seed, counter=epoch))
            self._order = rng.permutation(len(self.prompts))
        return self._order
