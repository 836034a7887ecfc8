"""Every check of the selftest holds on a sound model, and fails on one that is broken in the way it looks for."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from rlhf_bench import selftest
from rlhf_bench.cli import cli
from rlhf_bench.errors import CheckpointError, ModelError, UnknownName
from rlhf_bench.modeling import decoding, logprobs, reward_model, sampling
from rlhf_bench.modeling import tokens as text
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling_cache import cache_argument
from rlhf_bench.modeling.tokens import Batch, Encoded
from rlhf_bench.selftest import PolicyUnderTest, check_policy, check_reward
from trainers.losses import preference as preference_losses
from trainers.losses.preference import PairLogps, PairTerms

from .tiny import save_policy, save_run

PADDING = "padding changes no log-probability"
RATIO = "ratio is 1 at step 0, temperature 1"
RATIO_07 = "ratio is 1 at step 0, temperature 0.7"
KL = "KL(pi, pi) is 0"
DPO = "DPO loss is ln 2 at the start"
EOS = "end-of-text has a label"
BOUNDARY = "no token straddles prompt and response"
SAMPLES = "same samples whatever the batch"
PLAIN = "plain transformers gives the same log-probabilities"
REWARD_PADDING = "padding changes no reward"
REWARD_PLAIN = "plain transformers, batched, gives the same reward"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("checkpoints") / "mini")


@pytest.fixture
def subject(run: Path) -> PolicyUnderTest:
    return PolicyUnderTest(*load_policy(run / "sft"), run / "sft")


@pytest.fixture
def reward(run: Path) -> RewardModel:
    return RewardModel.load(run / "reward")


def failed(checks: Iterator[selftest.Check]) -> dict[str, str]:
    return {name: detail for name, ok, detail in checks if not ok}


def test_a_sound_run_passes(run: Path) -> None:
    checks = selftest.selftest(run=run.name, checkpoints=run.parent)
    assert [name for name, ok, _ in checks if ok] == [
        PADDING, RATIO, RATIO_07, KL, DPO, EOS, BOUNDARY, SAMPLES, PLAIN, REWARD_PADDING, REWARD_PLAIN,
    ]  # fmt: skip
    assert len(checks) == 11
    details = {name: detail for name, _, detail in checks}
    assert details[KL] == "largest term of k1, k3 and exact 0, must be exactly 0"
    assert details[PADDING].endswith("bound 1e-04")
    assert details[EOS] == "16 of 16 finished responses have the label"


def test_a_model_of_few_positions_passes(tmp_path: Path) -> None:
    """Texts are cut to what it can read."""
    checks = selftest.selftest(str(save_policy(tmp_path / "short", positions=40)))
    assert [name for name, ok, _ in checks if not ok] == []


# broken on purpose


def without_positions(model: Any, batch: Batch, read: Tensor) -> Tensor:
    """The backbone called as if padding moved no position."""
    out = model.base_model(input_ids=batch.ids, attention_mask=batch.attention_mask.long())
    hidden: Tensor = out.last_hidden_state
    return hidden[read]


def test_left_padding_without_positions(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "hidden_states", without_positions)
    found = failed(check_policy(subject))
    assert "left-padded" in found[PADDING]
    assert float(found[PADDING].split()[6].rstrip(",")) > 1e-2


def test_sampler_without_positions(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler pads on the left: at its first step, positions that count the padding are wrong."""

    def wrong(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        at = torch.arange(mask.shape[1] - ids.shape[1], mask.shape[1])[None].expand_as(ids)
        cached = {cache_argument(model): cache}
        out = model(input_ids=ids, attention_mask=mask, position_ids=at, use_cache=True, **cached)
        logits: Tensor = out.logits[:, -1]
        return logits

    monkeypatch.setattr(decoding, "next_logits", wrong)
    assert set(failed(check_policy(subject))) == {RATIO, RATIO_07, SAMPLES}


def test_temperature_missing_from_the_ratio(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = logprobs.LogprobModel.forward
    monkeypatch.setattr(logprobs.LogprobModel, "forward", lambda self, batch, temperature=1.0: forward(self, batch))
    assert set(failed(check_policy(subject))) == {RATIO_07}


def test_dropout_left_on(subject: PolicyUnderTest) -> None:
    for module in subject.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    subject.model.train()
    found = failed(check_policy(subject))
    assert {PADDING, RATIO, RATIO_07, KL, DPO, PLAIN} <= set(found)
    assert EOS not in found


def test_dpo_loss_with_sides_mixed_up(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    right = preference_losses.dpo_loss

    def wrong(policy: PairLogps, reference: PairLogps, *, beta: float) -> PairTerms:
        return right(policy, PairLogps(reference.rejected, reference.chosen), beta=beta)

    monkeypatch.setattr(preference_losses, "dpo_loss", wrong)
    assert set(failed(check_policy(subject))) == {DPO}


def test_mask_rebuilt_from_the_pad_token(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pad is end-of-text: `ids != pad` hides the label of every end."""
    collate = text.collate

    def wrong(rows: Sequence[Encoded], *, pad_id: int, **options: Any) -> Batch:
        batch = collate(rows, pad_id=pad_id, **options)
        return batch._replace(response_mask=batch.response_mask & (batch.ids != pad_id))

    monkeypatch.setattr(text, "collate", wrong)
    found = failed(check_policy(subject))
    assert found[EOS] == "0 of 16 finished responses have the label"


def test_no_end_of_text_added(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = text.encode

    def wrong(tokenizer: Any, prompts: list[str], responses: list[str], **options: Any) -> list[Encoded]:
        return encode(tokenizer, prompts, responses, ended=[False] * len(prompts), **options)

    monkeypatch.setattr(text, "encode", wrong)
    assert {EOS, BOUNDARY} <= set(failed(check_policy(subject)))


def test_prompt_and_response_tokenised_together(subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "hap" + "py" becomes the one token "happy", which is on both sides of the boundary."""

    def wrong(tokenizer: Any, prompts: list[str], responses: list[str], **_: Any) -> list[Encoded]:
        rows = []
        for prompt, response in zip(prompts, responses, strict=True):
            head = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            ids = tokenizer(prompt + response, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            rows.append(Encoded(ids[:head], ids[head:]))
        return rows

    monkeypatch.setattr(text, "encode", wrong)
    found = failed(check_policy(subject))
    assert found[BOUNDARY].startswith("2 of 8 texts differ")


def test_random_numbers_that_depend_on_what_was_drawn_before(
    subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()

    def wrong(seed: int, prompt_id: str, sample: int, count: int) -> np.ndarray:
        return np.random.default_rng(next(calls)).random(count)

    monkeypatch.setattr(sampling, "uniforms", wrong)
    assert set(failed(check_policy(subject))) == {SAMPLES}


def test_stored_weights_that_are_others(subject: PolicyUnderTest) -> None:
    with torch.no_grad():
        next(subject.model.parameters()).mul_(1.1)
    assert set(failed(check_policy(subject))) == {PLAIN}


def test_logprobs_that_are_not_a_number(subject: PolicyUnderTest) -> None:
    with torch.no_grad():
        next(subject.model.parameters())[:] = torch.nan
    found = failed(check_policy(subject))
    assert {PADDING, KL, DPO, PLAIN} <= set(found)


def test_reward_read_at_a_pad_token(reward: RewardModel, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: reward_model.ScoreModel, batch: Batch) -> Tensor:
        hidden = logprobs.plain_hidden_states(self.model, batch)
        score: Tensor = self.model.score(hidden[:, -1]).squeeze(-1)  # the last column, padding or not
        return score

    assert failed(check_reward(reward, run / "reward")) == {}
    monkeypatch.setattr(reward_model.ScoreModel, "forward", wrong)
    assert "right-padded" in failed(check_reward(reward, run / "reward"))[REWARD_PADDING]


def test_reward_checkpoint_that_pads_with_end_of_text(run: Path, tmp_path: Path) -> None:
    """Transformers then reads the score before the end-of-text token."""
    shutil.copytree(run / "reward", tmp_path / "reward")
    config = tmp_path / "reward" / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(values | {"pad_token_id": values["eos_token_id"]}), encoding="utf-8")
    model = RewardModel.load(tmp_path / "reward")
    assert set(failed(check_reward(model, tmp_path / "reward"))) == {REWARD_PLAIN}


def test_a_check_that_cannot_be_carried_out_has_failed(
    subject: PolicyUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(logprobs, "hidden_states", broken)
    found = failed(check_policy(subject))
    assert found[KL] == "could not be carried out: RuntimeError: first line"
    assert BOUNDARY not in found


# bad input


def test_missing_run_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        selftest.selftest(run="nope", checkpoints=tmp_path)
    assert str(caught.value) == "unknown run 'nope'; known: none; make it with: rlhf-bench train all --run nope"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; expected a model folder"):
        selftest.selftest(str(tmp_path / "nothing"))


def test_a_reward_model_is_no_policy(run: Path) -> None:
    with pytest.raises(ModelError, match="is a reward model; expected a causal language model"):
        selftest.selftest(str(run / "reward"))


def test_a_foreign_safetensors_file(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "sft", tmp_path / "sft")
    (tmp_path / "sft" / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        selftest.selftest(str(tmp_path / "sft"))


def test_command(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["selftest", "--run", run.name, "--checkpoints", str(run.parent)]
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 0
    assert done.stdout.count("ok  ") == 11
    monkeypatch.setattr(logprobs, "hidden_states", without_positions)
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 1
    assert f"FAILED  {PADDING}: " in done.stdout
    assert f"of 11 checks failed: {PADDING}" in done.stderr
