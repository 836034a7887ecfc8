"""Result folders that many tests read; a test that changes one makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .make_result import make_result


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_result(tmp_path_factory.mktemp("results") / "one", nasty=True)


@pytest.fixture(scope="session")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_result(tmp_path_factory.mktemp("results") / "three", seeds=(0, 1, 2))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, no gold reward, no audit."""
    return make_result(tmp_path_factory.mktemp("results") / "bare", models=("sft",), gold=False, audit=False)
