"""The name of a file of reference log-probabilities: another for everything that its numbers depend on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlhf_bench.modeling.tokens import Encoded
from trainers.engine.batches import Pair
from trainers.engine.machine import Machine
from trainers.engine.reference import reference_key


def pairs(*sides: tuple[list[int], list[int]]) -> list[Pair]:
    """Pairs of the same rejected side."""
    return [(Encoded(prompt, response), Encoded([1], [2])) for prompt, response in sides]


def test_a_key_is_of_everything_that_the_numbers_depend_on(
    policy_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(
        given: list[Pair],
        *,
        model: Path = policy_folder,
        precision: str = "fp32",
        device: str = "cpu",
        compiled: bool = False,
    ) -> str:
        return reference_key(Machine(torch.device(device), precision), model, given, compiled=compiled)

    plain = pairs(([1, 2], [3]), ([4], [5, 6]))
    keys = [
        key(plain),
        key(plain, model=reference_folder),
        key(plain, precision="bf16"),
        key(plain, device="cuda"),
        key(plain, compiled=True),
        key(plain[::-1]),
        key(plain[:1]),
        key(pairs(([1], [2, 3]), ([4], [5, 6]))),  # the same tokens, cut elsewhere
        key(pairs(([1, 2], [3]), ([4, 5], [6]))),
        key(pairs(([9, 2], [3]), ([4], [5, 6]))),  # another prompt
        key(pairs(([1, 2], [9]), ([4], [5, 6]))),  # another response
        key([(plain[0][1], plain[0][0]), plain[1]]),  # chosen and rejected changed over
    ]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    keys.append(key(plain))
    monkeypatch.setattr(torch, "__version__", "0.0")
    keys.append(key(plain))
    assert len(set(keys)) == len(keys)
    assert key(plain) == keys[-1]
