"""Rewards from Python functions: what they may be, the errors of those that are not, and where it is recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue, ModelError
from rlhf_bench.files import sha256_file
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from trainers import grpo
from trainers.config.ancestry import configuration, parents_of
from trainers.config.recipe import Recipe
from trainers.engine.rewards import check_reward_functions, checked, ensemble, gold_source, load_function, weighted_sum

from . import test_invariance

folder, make_stage, one_step = test_invariance.folder, test_invariance.make_stage, test_invariance.one_step

PROMPTS, RESPONSES, ENDED = ["\n\nHuman: a\n\nAssistant:", "b", "c"], [" one", " three", " two words"], [True] * 3
MODULE = """
import math

calls = []

def length(prompts, responses):
    calls.append((list(prompts), list(responses)))
    return [float(len(response)) for response in responses]

def broken(prompts, responses):
    return [math.nan if "o" in response else 1.0 for response in responses]

class Rewards:
    @staticmethod
    def one(prompts, responses):
        return [1.0] * len(responses)

number = 3
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's own in the current folder, which a console script does not search."""
    (tmp_path / "my_rewards.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "fails_on_import.py").write_text("import nothing_of_that_name", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    assert sys.path == before
    sys.modules.pop("my_rewards", None)


def message(function: Any) -> str:
    with pytest.raises(ModelError) as error:
        checked(function, "m:f")(PROMPTS, RESPONSES, ENDED)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_function_from_the_current_folder(tmp_path: Path) -> None:
    score, source_hash = load_function("my_rewards:length")
    scores = score(PROMPTS, RESPONSES, ENDED)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [4, 6, 10]
    assert sys.modules["my_rewards"].calls == [(PROMPTS, RESPONSES)]  # once, with all of them
    assert source_hash == sha256_file(tmp_path / "my_rewards.py")[:16]
    assert load_function("my_rewards:Rewards.one")[0](PROMPTS, RESPONSES, ENDED).tolist() == [1, 1, 1]


@pytest.mark.parametrize("values", [[1, 2.5, -3], np.array([1, 2.5, -3]), torch.tensor([1, 2.5, -3]), (1, 2.5, -3)])
def test_what_a_function_may_return(values: Any) -> None:
    assert checked(lambda prompts, responses: values, "m:f")(PROMPTS, RESPONSES, ENDED).tolist() == [1, 2.5, -3]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("no_such_module:f", "importing no_such_module gives ModuleNotFoundError: No module named 'no_such_module'; "),
        ("fails_on_import:f", "importing fails_on_import gives ModuleNotFoundError: No module named 'nothing_of_that"),
        ("my_rewards:lenght", "my_rewards has no function lenght; expected one of prompts and responses"),
        ("my_rewards:number", "my_rewards has no function number; expected one of prompts and responses"),
        ("my_rewards:Rewards.two", "my_rewards has no function Rewards.two; "),
    ],
)
def test_a_function_that_is_not_there(name: str, printed: str) -> None:
    with pytest.raises(BadValue) as error:
        load_function(name)
    assert str(error.value).startswith(f"reward.function={name}: {printed}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, None, "high", [1.0, 2.0]])
def test_a_value_that_is_no_finite_number_names_the_row(value: Any) -> None:
    printed = message(lambda prompts, responses: [0.0, value, 1.0])
    assert printed.startswith(f"reward.function=m:f gave {value!r} for row 1 of 3 (prompt 'b', response ' three')")


def test_the_wrong_number_of_values() -> None:
    expected = "reward.function=m:f returned {} values for 3 responses; expected one for each"
    assert message(lambda prompts, responses: [1.0]) == expected.format(1)
    assert message(lambda prompts, responses: [1.0] * 4) == expected.format(4)
    assert message(lambda prompts, responses: []) == expected.format(0)


def test_what_is_raised_names_the_row() -> None:
    def fails_on_two(prompts: list[str], responses: list[str]) -> list[float]:
        return [1 / (len(response) - 10) for response in responses]

    assert message(fails_on_two).startswith(
        "reward.function=m:f raised ZeroDivisionError: division by zero for row 2 of 3 (prompt 'c', response"
    )

    def fails_together(prompts: list[str], responses: list[str]) -> list[float]:
        if len(responses) > 1:
            raise ValueError("one\nat a time")
        return [0.0]

    assert message(fails_together).startswith(
        "reward.function=m:f raised ValueError: one at a time for 3 responses together, for none of them alone; "
    )
    assert "returned" not in message(lambda prompts, responses: 3.0)  # a float is no list


def test_long_texts_are_shortened() -> None:
    with pytest.raises(ModelError) as error:
        checked(lambda p, r: [float("nan")], "m:f")(["x" * 5000], ["y" * 5000], [True])
    assert len(str(error.value)) < 300


def test_gold_and_a_weighted_sum() -> None:
    pair = mini.generate("train", n=1)[0]
    prompts, responses, ended = [pair.prompt] * 2, [pair.chosen, pair.rejected], [True, False]
    gold = gold_source("hh-mini")(prompts, responses, ended)
    assert gold.tolist() == pytest.approx(
        [mini.gold_reward(pair.prompt, pair.chosen), mini.gold_reward(pair.prompt, pair.rejected, ended=False)]
    )
    length, _ = load_function("my_rewards:length")
    total = weighted_sum([gold_source("hh-mini"), length], [2.0, -0.5])(prompts, responses, ended)
    expected = [2 * g - 0.5 * len(r) for g, r in zip(gold.tolist(), responses, strict=True)]
    assert total.tolist() == pytest.approx(expected, abs=1e-5)
    assert weighted_sum([length], [1.0]) is length


# in a stage


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_a_stage_learns_from_a_function_without_a_reward_model(
    make_stage: Any, one_step: Any, folder: Path, tmp_path: Path, name: str
) -> None:
    stage = make_stage(name, shared={"reward": {"function": ["my_rewards:length"], "weights": [0.5]}})
    stage.folders = stage.folders._replace(run=tmp_path / "run")
    stage.folders.run.mkdir()
    (stage.folders.run / "sft").symlink_to(folder / "sft")  # and nothing else
    step = one_step(stage)
    (_, responses), *_ = sys.modules["my_rewards"].calls
    assert len(responses) == (4 if name == "ppo" else 12)
    assert step.row["reward"] == pytest.approx(np.mean([len(r) for r in responses]) / 2)
    assert step.gradient.abs().max() > 1e-4
    assert step.result.record["reward"] == {
        "function": ["my_rewards:length"],
        "weights": [0.5],
        "source_hashes": {"my_rewards:length": sha256_file(tmp_path / "my_rewards.py")[:16]},
    }


def test_a_function_that_fails_stops_the_stage(make_stage: Any) -> None:
    stage = make_stage("grpo", shared={"reward": {"function": "my_rewards:broken"}})
    with pytest.raises(ModelError, match=r"^reward\.function=my_rewards:broken gave nan for row \d+ of 12 \(prompt "):
        grpo.train(stage)


def test_the_model_and_a_function_are_summed(make_stage: Any, one_step: Any) -> None:
    """The reward model's part is what it is alone."""
    weights = {"function": ["model", "my_rewards:length"], "weights": [1.0, 10.0]}
    alone, both = one_step(make_stage("grpo")).row, one_step(make_stage("grpo", shared={"reward": weights})).row
    (_, responses), *_ = sys.modules["my_rewards"].calls
    assert both["reward"] == pytest.approx(alone["reward"] + 10 * np.mean([len(r) for r in responses]), rel=1e-5)


def test_which_stages_are_trained_from_the_reward_model() -> None:
    def parents(stage: str, function: Any, **section: Any) -> tuple[str, ...]:
        return parents_of(stage, Recipe.model_validate({"reward": {"function": function}, "ppo": section}))

    assert parents("ppo", "model") == parents("grpo", ["m:f", "model"]) == ("sft", "reward")
    assert parents("ppo", "m:f") == parents("grpo", ["m:f", "gold"]) == ("sft",)
    assert parents("ppo", "gold", critic="reward") == ("sft", "reward")  # its backbone is needed
    assert parents("reward", "gold") == ("sft",)


def test_where_rewards_come_from_decides_what_ppo_and_grpo_become() -> None:
    recipe = Recipe.model_validate({"reward": {"function": "m:f"}})
    source = {"function": "m:f", "weights": None, "checkpoint": None, "ensemble": None}
    for name in ("ppo", "grpo"):
        assert configuration(recipe, name)["reward"] == source
    for name in ("sft", "dpo"):
        assert "reward" not in configuration(recipe, name)
    assert configuration(recipe, "reward") == configuration(Recipe(), "reward")  # it is trained all the same


# ensembles


def test_an_ensemble_worked_by_hand() -> None:
    """Each reward in its own standard deviations of three calibrating responses of 3, 5 and 10 letters.

    length: 4, 6, 10 (with the space): mean 20 / 3, squares 7.1111 + 0.4444 + 11.1111 over 2: sd sqrt(9.3333) = 3.05505.
    ten times as much: the same. less 100 a response: mean shifted, the same sd. In these units they agree, whatever the
    scale; against the negative of the length the worst is the lower of x and -x.
    """
    length = checked(lambda p, r: [float(len(x)) for x in r], "m:length")
    scaled = checked(lambda p, r: [10.0 * len(x) - 100 for x in r], "m:scaled")
    against = checked(lambda p, r: [-float(len(x)) for x in r], "m:against")
    given = (PROMPTS, RESPONSES, ENDED)  # 4, 6 and 10 letters
    z = [(4 - 20 / 3) / 3.05505, (6 - 20 / 3) / 3.05505, (10 - 20 / 3) / 3.05505]
    agree = ensemble([length, scaled], "mean", *given)(*given)
    assert agree.tolist() == pytest.approx(z, abs=1e-5)
    assert ensemble([length, against], "mean", *given)(*given).tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert ensemble([length, against], "min", *given)(*given).tolist() == pytest.approx([-abs(x) for x in z], abs=1e-5)
    # the scale is that of the calibration, not of what is scored: 1 letter
    assert agree.dtype == torch.float32
    one = ensemble([length, scaled], "min", *given)(["p"], ["x"], [True])
    assert one.tolist() == pytest.approx([(1 - 20 / 3) / 3.05505], abs=1e-5)


def test_a_member_that_says_nothing_is_an_error() -> None:
    constant = checked(lambda p, r: [1.0] * len(r), "m:constant")
    with pytest.raises(ModelError, match="reward 2 of 2 is the same for all 3 responses of the validation split"):
        ensemble([gold_source("hh-mini"), constant], "min", [mini.generate("test", n=3)[i].prompt for i in range(3)],
                 [mini.generate("test", n=3)[i].chosen for i in range(3)], ENDED)  # fmt: skip


def test_two_reward_models_as_an_ensemble(make_stage: test_invariance.MakeStage, one_step: Any, tmp_path: Path) -> None:
    """The same reward model twice is one: the worst of both is either, and the record has the folder's hash."""
    other = make_stage("grpo").parent("reward")
    sections = {"function": ["model", str(other)], "ensemble": "min"}
    stage = make_stage("grpo", shared={"reward": sections})
    maker_record = grpo.train(stage).record["reward"]
    assert maker_record["ensemble"] == "min"
    assert maker_record["source_hashes"] == {str(other): checkpoint_hash(other)}


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(BadValue, match=r"reward\.function: gone/reward is no model folder"):
        check_reward_functions(["model", "gone/reward"])


@pytest.mark.parametrize("status", [0, 3])
def test_a_function_that_leaves_the_program_is_an_error(status: int) -> None:
    """Else training would end with that status, without a message."""

    def leave(prompts: Any, responses: Any) -> list[float]:
        sys.exit(status)

    with pytest.raises(ModelError, match=rf"reward.function=m:f raised SystemExit: {status} for row 0 of 2 "):
        checked(leave, "m:f")(["p", "q"], ["a", "b"], [True, True])


def test_keys_are_no_rewards() -> None:
    def keyed(prompts: Any, responses: Any) -> Any:
        return {1.0: "a", 2.0: "b"}

    with pytest.raises(ModelError, match=r"reward.function=m:f returned a dict"):
        checked(keyed, "m:f")(["p", "q"], ["a", "b"], [True, True])
