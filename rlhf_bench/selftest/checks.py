"""The checks of a causal language model and of a reward model. They call the functions that training and evaluation
call."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from rlhf_bench.modeling import logprobs
from rlhf_bench.modeling import tokens as text
from rlhf_bench.modeling.heads import max_positions
from rlhf_bench.modeling.logprobs import LogprobModel, token_kl
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig, sample, uniforms
from rlhf_bench.modeling.special import prefix_ids
from rlhf_bench.modeling.tokens import Batch, Encoded
from rlhf_bench.progress import Progress
from rlhf_bench.selftest import common
from rlhf_bench.types import Completion, Prompt, prompt_id

BETA = 0.1
NEW_TOKENS = 16
EDGE = 1e-4  # of the unit interval that draws are made in: what rounding in float32 may move an edge by


@dataclass(frozen=True)
class PolicyUnderTest:
    """A policy under test, in evaluation mode, and the texts it is tested with."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    path: str | Path

    @property
    def limit(self) -> int:
        """Longest prompt and longest response: half of what the model can read, and no more than the texts need."""
        return min(max_positions(self.model) // 2, 96)

    @property
    def pad_id(self) -> int:
        pad: int = self.tokenizer.pad_token_id
        return pad

    def rows(self) -> list[Encoded]:
        """Chosen and rejected of each pair in turn, tokenised."""
        prompts, responses = common.texts()
        return self.encode(prompts, responses)

    def encode(self, prompts: list[str], responses: list[str]) -> list[Encoded]:
        return text.encode(self.tokenizer, prompts, responses, max_prompt=self.limit, max_response=self.limit)

    def logps(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """(B, T) on the CPU, 0 outside the response."""
        with torch.no_grad():
            logps: Tensor = LogprobModel(self.model)(batch.to(self.model.device), temperature).logps
        return logps.cpu()


def check_policy(subject: PolicyUnderTest, progress: Progress | None = None) -> Iterator[common.Check]:
    """All checks of a causal language model, in order."""
    yield from common.run_all(
        {
            "padding changes no log-probability": lambda: padding(subject),
            "ratio is 1 at step 0, temperature 1": lambda: ratio(subject, 1.0),
            "ratio is 1 at step 0, temperature 0.7": lambda: ratio(subject, 0.7),
            "KL(pi, pi) is 0": lambda: kl_to_itself(subject),
            "DPO loss is ln 2 at the start": lambda: dpo_start(subject),
            "end-of-text has a label": lambda: end_of_text(subject),
            "no token straddles prompt and response": lambda: boundary(subject),
            "same samples whatever the batch": lambda: same_samples(subject),
            "plain transformers gives the same log-probabilities": lambda: plain_logps(subject),
        },
        progress,
    )


def padding(subject: PolicyUnderTest) -> common.Result:
    """Token log-probabilities of each text alone, and in a batch padded right, left and further."""
    rows = subject.rows()
    alone = [common.of_response(subject.logps(batch), batch, 0) for batch in common.one_by_one(rows, subject.pad_id)]
    worst = common.Worst()
    for name, batch in common.paddings(rows, subject.pad_id).items():
        logps = subject.logps(batch)
        for i, expected in enumerate(alone):
            worst.see(common.of_response(logps, batch, i), expected, name)
    return worst.within(common.TOLERANCE, "largest difference of a token's log-probability")


def ratio(subject: PolicyUnderTest, temperature: float) -> common.Result:
    """pi / pi_old of each token: the sampler's own log-probabilities against a training forward's."""
    config = SamplingConfig(
        max_new_tokens=min(NEW_TOKENS, subject.limit),
        max_prompt_tokens=subject.limit,
        temperature=temperature,
        stop=(),
    )
    groups = sample(subject.model, subject.tokenizer, _prompts(), config, samples=2, seed=0)
    completions = [completion for group in groups for completion in group]
    heads = subject.encode([p.text for p in _prompts() for _ in range(2)], [""] * len(completions))
    rows = [Encoded(head.prompt, list(c.ids)) for head, c in zip(heads, completions, strict=True)]
    batch = text.collate(rows, pad_id=subject.pad_id)
    # with gradients, as in training: some kernels differ
    logps = LogprobModel(subject.model)(batch.to(subject.model.device), temperature).logps.detach().cpu()
    worst = common.Worst()
    for i, completion in enumerate(completions):
        drawn = torch.tensor(completion.logps)
        worst.see((common.of_response(logps, batch, i) - drawn).exp(), torch.ones_like(drawn), f"response {i}")
    return worst.within(common.TOLERANCE, f"{len(completions)} responses, largest |ratio - 1| of a token")


def kl_to_itself(subject: PolicyUnderTest) -> common.Result:
    """Every estimator of the KL of the model to itself; not small, but 0."""
    batch = text.collate(subject.rows(), pad_id=subject.pad_id).to(subject.model.device)
    terms = token_kl(subject.model, subject.model, batch)
    log_ratio = terms.reference_logps - terms.policy_logps
    worst = max(float(t.abs().max()) for t in (terms.exact, log_ratio, log_ratio.exp() - 1 - log_ratio))
    return worst == 0, f"largest term of k1, k3 and exact {worst:.2g}, must be exactly 0"


def dpo_start(subject: PolicyUnderTest) -> common.Result:
    """The policy in one batch, the reference one text at a time, as where it was computed before training."""
    from trainers.losses.preference import PairLogps, dpo_loss

    rows = subject.rows()
    batch = text.collate(rows, pad_id=subject.pad_id)
    policy = LogprobModel(subject.model)(batch.to(subject.model.device)).logps.detach().cpu().sum(-1)
    reference = torch.cat([subject.logps(one).sum(-1) for one in common.one_by_one(rows, subject.pad_id)])
    sides = [PairLogps(chosen=logps[0::2], rejected=logps[1::2]) for logps in (policy, reference)]
    loss = dpo_loss(*sides, beta=BETA).loss
    return common.measured(float((loss - math.log(2)).abs().max()), common.TOLERANCE, "largest |loss - ln 2| of a pair")


def end_of_text(subject: PolicyUnderTest) -> common.Result:
    """A finished response ends with end-of-text, and that token is among those to predict, whatever the padding."""
    eos = subject.tokenizer.eos_token_id
    rows = [row for row in subject.rows() if not row.response_cut]
    counted = 0
    for batch in (text.collate(rows, pad_id=subject.pad_id, side=side) for side in ("left", "right")):
        counts = logprobs.target_mask(batch, whole_sequence=False)
        for i, row in enumerate(rows):
            at = int(batch.attention_mask[i].nonzero()[-1])
            counted += row.response[-1] == eos == int(batch.ids[i, at]) and bool(counts[i, at])
    return counted == 2 * len(rows) > 0, f"{counted} of {2 * len(rows)} finished responses have the label"


def boundary(subject: PolicyUnderTest) -> common.Result:
    """What the model is trained on is the prompt's tokens, after what the tokenizer puts in front of a text by itself,
    and then the response's, each tokenised alone."""
    prompts, responses = common.texts()
    wrong = 0
    tokenize = subject.tokenizer
    front = prefix_ids(tokenize)
    batch = text.collate(rows := subject.rows(), pad_id=subject.pad_id, side="left")
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids = tokenize(prompt, add_special_tokens=False)["input_ids"]
        head = text.cut_left([*front, *ids], subject.limit, kept=len(front))
        tail = tokenize(response, add_special_tokens=False)["input_ids"] + [tokenize.eos_token_id]
        tail = tail[: subject.limit]
        ids, mask = batch.ids[i, -rows[i].length :].tolist(), batch.response_mask[i, -rows[i].length :].tolist()
        wrong += ids != head + tail or mask != [False] * len(head) + [True] * len(tail)
    return wrong == 0, f"{wrong} of {len(prompts)} texts differ from tokens(prompt) + tokens(response), must be 0"


def same_samples(subject: PolicyUnderTest) -> common.Result:
    """Each (seed, prompt, sample) draws its own numbers: alone, or with all the others.

    Rounding differs with the batch. Where a number lies that close to the edge between two tokens, either may be drawn.
    """
    config = SamplingConfig(max_new_tokens=min(NEW_TOKENS, subject.limit), max_prompt_tokens=subject.limit)
    one, all_at_once = (
        sample(subject.model, subject.tokenizer, _prompts(), config, samples=2, seed=1, batch_size=size)
        for size in (1, 64)
    )
    pairs = [(a, b) for x, y in zip(one, all_at_once, strict=True) for a, b in zip(x, y, strict=True)]
    distances = [_distance_to_edge(subject, a, b) for a, b in pairs if a.drawn != b.drawn]
    unexplained = sum(not distance <= EDGE for distance in distances)
    detail = f"{unexplained} of {len(pairs)} responses differ with the batch, must be 0"
    if distances:
        detail += f" ({len(distances) - unexplained} more by rounding, at a draw within {EDGE:.0e} of an edge)"
    return unexplained == 0, detail


def _distance_to_edge(subject: PolicyUnderTest, one: Completion, other: Completion) -> float:
    """How far the number of the first draw that differs lies outside the interval of one of the two tokens."""
    both = enumerate(zip(one.drawn, other.drawn, strict=False))
    step = next((i for i, (a, b) in both if a != b), None)
    if step is None:  # one goes on where the other has ended
        return math.inf
    prompt = next(prompt for prompt in _prompts() if prompt.id == one.prompt_id)
    head = subject.encode([prompt.text], [""])[0].prompt
    row = Encoded(head + one.drawn[:step], [])
    batch = text.collate([row], pad_id=subject.pad_id).to(subject.model.device)
    with torch.no_grad():
        last = batch.attention_mask & (batch.position_ids == row.length - 1)
        hidden = logprobs.hidden_states(subject.model, batch, last)
        p = logprobs.logits_of(subject.model, hidden)[0].double().softmax(-1).cpu()
    u = float(uniforms(1, one.prompt_id, one.sample, step + 1)[step])
    upper = p.cumsum(0)
    outside = [
        max(0.0, float(upper[token] - p[token]) - u, u - float(upper[token]))
        for token in (one.drawn[step], other.drawn[step])
    ]
    return max(outside)


def plain_logps(subject: PolicyUnderTest) -> common.Result:
    """The stored checkpoint in transformers alone, no code of this project: the same log-probabilities."""
    with common.plain_folder(subject.path) as folder:
        plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    plain = plain.to(subject.model.device).eval()
    worst = common.Worst()
    for i, (row, batch) in enumerate(zip(rows := subject.rows(), common.one_by_one(rows, subject.pad_id), strict=True)):
        ids = torch.tensor([row.prompt + row.response], device=plain.device)
        with torch.no_grad():
            logps = plain(ids).logits.float().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1).cpu()
        worst.see(common.of_response(subject.logps(batch), batch, 0), logps[-len(row.response) :], f"text {i}")
    return worst.within(common.TOLERANCE, "largest difference of a token's log-probability")


def _prompts() -> list[Prompt]:
    return [Prompt(prompt_id(prompt), prompt) for prompt in dict.fromkeys(common.texts()[0])]


def check_reward(model: RewardModel, path: str | Path, progress: Progress | None = None) -> Iterator[common.Check]:
    """All checks of a reward model."""
    yield from common.run_all(
        {
            "padding changes no reward": lambda: reward_padding(model),
            "plain transformers, batched, gives the same reward": lambda: plain_reward(model, path),
        },
        progress,
    )


def reward_padding(model: RewardModel) -> common.Result:
    """Rewards of each text alone, and in a batch padded right, left and further."""
    rows, pad = model.encode(*common.texts()), model.tokenizer.pad_token_id
    with torch.no_grad():
        alone = torch.cat([model.model(batch.to(model.model.model.device)) for batch in common.one_by_one(rows, pad)])
        worst = common.Worst()
        for name, batch in common.paddings(rows, pad).items():
            worst.see(model.model(batch.to(model.model.model.device)), alone, name)
    return worst.within(common.TOLERANCE * max(1.0, float(alone.abs().max())), "largest difference of a reward")


def plain_reward(model: RewardModel, path: str | Path) -> common.Result:
    """The stored checkpoint in transformers alone, padded on the right in one batch: the same rewards."""
    with common.plain_folder(path) as folder:
        plain: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    plain = plain.to(model.model.model.device).eval()
    batch = text.collate(model.encode(*common.texts()), pad_id=model.tokenizer.pad_token_id).to(plain.device)
    with torch.no_grad():
        scores = plain(input_ids=batch.ids, attention_mask=batch.attention_mask.long()).logits[:, 0].float().cpu()
    ours = model.score(*common.texts())
    worst = common.Worst()
    worst.see(scores, ours, "batched")
    return worst.within(common.TOLERANCE * max(1.0, float(ours.abs().max())), "largest difference of a reward")
