"""The code on a reward model's card gives what the project's own reward model gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.modeling.models import load_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.templates import Template
from rlhf_bench.report.model_card import model_card

from ..rlhf_bench.modeling.chat import make_spaced_tokenizer

PROMPT, RESPONSE = "\n\nHuman: What is the time?\n\nAssistant:", " Eight minutes past."


@pytest.mark.parametrize(("template", "spaced"), [("hh", False), ("chatml", False), ("plain", False), ("hh", True)])
def test_the_code_of_a_reward_models_card(reward_folder: Path, tmp_path: Path, template: str, spaced: bool) -> None:
    """`spaced`: of a tokenizer that puts a space before every text."""
    if spaced:
        reward_folder = Path(shutil.copytree(reward_folder, tmp_path / "spaced"))
        make_spaced_tokenizer(legacy=True).save_pretrained(reward_folder)
    model, tokenizer = load_reward_model(reward_folder)
    write = Template.of(template, tokenizer)
    training: dict[str, Any] = {
        "stage": "reward", "seed": 0, "data": {"source": "tests", "pairs": 1, "fingerprint": "f"}, "parents": {},
        "steps": 1, "samples": 1, "tokens": 1, "seconds": 1.0, "precision": "fp32", "metrics": {}, "config": {},
        "prompt_form": template, "form": write.describe(),
    }  # fmt: skip
    code = model_card(training, name=str(reward_folder)).split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    expected = RewardModel(model, tokenizer, template=template).score([PROMPT], [RESPONSE]).item()
    assert names["reward"](write.prompt(PROMPT), write.response(RESPONSE)) == pytest.approx(expected, abs=1e-5)
    assert names["reward"](write.prompt(PROMPT), "") != pytest.approx(expected, abs=1e-3)
