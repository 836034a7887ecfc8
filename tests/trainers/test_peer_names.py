"""Names in other projects: each key is ours, and each TRL name is a field of the installed TRL."""

from __future__ import annotations

import dataclasses
import warnings

import pytest

from rlhf_bench.config_keys import dotted_keys
from trainers.peer_names import OPENRLHF, TRL, peer_names
from trainers.recipe import Recipe

from .conftest import call


def test_every_key_that_has_a_name_elsewhere_is_one_of_ours() -> None:
    assert set(TRL) | set(OPENRLHF) <= set(dotted_keys(Recipe))


@pytest.mark.filterwarnings("ignore")
def test_every_trl_name_is_a_field_of_the_installed_trl() -> None:
    trl = pytest.importorskip("trl")
    with warnings.catch_warnings(action="ignore"):
        fields = {
            f"{name}.{field.name}"
            for name in ("SFTConfig", "RewardConfig", "GRPOConfig", "DPOConfig", "ModelConfig")
            for field in dataclasses.fields(getattr(trl, name))
        }
    unknown = {key: name for key, name in TRL.items() if name.partition(" (")[0] not in fields}
    assert unknown == {}


def test_explain_prints_the_names_below_the_meaning() -> None:
    lines = call("train", "dpo", "--explain").stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("dpo.beta "))
    assert lines[at + 2] == "    TRL: DPOConfig.beta; OpenRLHF: --beta"
    assert peer_names("ppo.gamma") == "OpenRLHF: --gamma"
    assert peer_names("base.max_steps") == "TRL: SFTConfig.max_steps"
    assert peer_names("save_seconds") == ""
