"""A recipe as small as it can be, and what its whole pipeline leaves."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlhf_bench.cli import cli
from rlhf_bench.data import mini

TOY = Path(__file__).with_name("toy.yaml")


def call(*words: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module", autouse=True)
def _generate_once() -> Iterator[None]:
    """hh-mini is a function of its arguments; making it takes longer than training on it here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "generate", functools.cache(mini.generate))
        yield
