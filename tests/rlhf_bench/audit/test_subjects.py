"""Other reward models than a run's: a policy's implicit reward, an ensemble, a function, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_bench.audit.implicit import ImplicitReward
from rlhf_bench.audit.run import run_audit
from rlhf_bench.audit.subjects import Ensemble, FunctionReward, subject_of
from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue, NotFinite
from rlhf_bench.files import write_jsonl
from rlhf_bench.report.audit import Audit
from rlhf_bench.stats.resample import resampling

from ..tiny import save_policy

PROMPT, RESPONSE = "\n\nHuman: Tea?\n\nAssistant:", " Green tea."


def plain_logprob(path: Path) -> float:
    """The response's log-probability with its end of text, by transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path).eval()
    prompt, response = (tokenizer(text, add_special_tokens=False).input_ids for text in (PROMPT, RESPONSE))
    ids = torch.tensor([[*prompt, *response, tokenizer.eos_token_id]])
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    return float(logps[len(prompt) - 1 :].sum())


def test_an_implicit_reward_is_beta_times_the_log_ratio(tmp_path: Path) -> None:
    policy, reference = save_policy(tmp_path / "policy"), save_policy(tmp_path / "reference", seed=1)
    found = ImplicitReward.load(str(policy), str(reference), beta=0.3).score([PROMPT], [RESPONSE])
    assert found.tolist() == pytest.approx([0.3 * (plain_logprob(policy) - plain_logprob(reference))], abs=1e-4)
    # end to end, beside a function
    pairs = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in mini.generate("test", n=200))
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    subjects = {"dpo": f"dpo:{policy},{reference},0.3", "words": lambda prompts, texts: list(map(len, texts))}
    with resampling(100):
        folder = run_audit(
            reward_models=subjects, data=str(tmp_path / "pairs.jsonl"), checkpoints=tmp_path,
            results=tmp_path / "results",
        )  # fmt: skip
    audit = Audit(folder)
    assert set(audit.tables["audit"]["model"]) == {"dpo", "words"}
    of_length = audit.report["models"]["words"]["overall"]
    assert of_length["accuracy"]["value"] == of_length["longer"]["value"]
    assert audit.report["versus"][0]["a"] == "dpo"


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [
        FunctionReward("a", lambda prompts, texts: [1.0, 2.0]),
        FunctionReward("b", lambda prompts, texts: [3, 6]),
    ]
    assert Ensemble(members).score(["p", "p"], ["x", "y"]).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dpo:only", "expected dpo:POLICY,REFERENCE"),
        ("dpo:a,b", "the beta of a is not known"),
        ("dpo:a,b,-1", "expected a number above 0"),
        ("mean:a", "expected two or more"),
    ],
)
def test_a_form_that_is_none_of_these(given: str, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        subject_of("x", given)


def test_what_a_function_returns_is_checked() -> None:
    def short(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        return [0.0]

    with pytest.raises(BadValue, match=r"shape \(1,\) for 2 responses"):
        FunctionReward("short", short).score(["p"] * 2, ["x"] * 2)
    with pytest.raises(NotFinite, match="gave nan for response 0"):
        FunctionReward("nan", lambda prompts, texts: [float("nan")]).score(["p"], ["x"])
