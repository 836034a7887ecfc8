"""A published table of means: the numbers by hand, and files that hold something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_bench.cli import cli
from rlhf_bench.compare.published import published_table, read_published
from rlhf_bench.errors import DataError
from rlhf_bench.stats.published import PublishedMean, correlation_needed, published_difference

SHIPPED = Path(__file__).parents[2] / "docs" / "published" / "hh-sft-ppo-grpo-dpo.csv"
SFT, GRPO = PublishedMean("sft", 5.407, 1.341, 100), PublishedMean("grpo", 5.578, 1.207, 100)


def test_a_difference_worked_by_hand() -> None:
    """se^2 = (1.341^2 + 1.207^2) / 100 = (1.798281 + 1.456849) / 100 = .0325513, se = .180420; z = .171 / .180420 =
    .94779, p = 2 (1 - .82838) = .34324; half of the interval 1.959964 x .180420 = .353616."""
    found = published_difference(GRPO, SFT)
    assert found.estimate.value == pytest.approx(0.171)
    assert found.se == pytest.approx(0.180420, abs=1e-6)
    assert found.p == pytest.approx(0.34324, abs=1e-5)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-0.182616, 0.524616), abs=1e-5)


def test_the_correlation_at_which_it_is_significant_worked_by_hand() -> None:
    """(.171 / 1.959964)^2 = .00761190; (3.255130 - .761190) / (2 x 1.341 x 1.207 = 3.237174) = 2.493940 / 3.237174
    = .77041: there the paired se is .171 / 1.959964 = .087246."""
    r = correlation_needed(GRPO, SFT)
    assert r == pytest.approx(0.77041, abs=1e-5)
    paired = (1.341**2 + 1.207**2 - 2 * r * 1.341 * 1.207) / 100
    assert paired**0.5 == pytest.approx(0.087246, abs=1e-6)
    assert correlation_needed(GRPO, SFT._replace(n=99)) is None  # not the same prompts
    assert correlation_needed(GRPO, SFT._replace(sd=0.0)) is None


def test_the_published_pipeline() -> None:
    """Of the ten differences none is below .05 once they are corrected for being ten."""
    table = published_table(read_published(SHIPPED))
    rows = {str(row[0]): row for row in table.rows}
    assert list(rows) == [
        "sft - base", "ppo - base", "grpo - base", "dpo - base", "ppo - sft", "grpo - sft", "dpo - sft", "grpo - ppo",
        "dpo - ppo", "dpo - grpo",
    ]  # fmt: skip
    assert rows["grpo - sft"][5] == pytest.approx(0.77, abs=0.005)
    assert rows["grpo - base"][3] == pytest.approx(0.00504, abs=1e-5)  # z = .555 / .197882 = 2.8047
    assert rows["grpo - base"][4] == pytest.approx(0.0504, abs=1e-4)  # ten times that
    assert all(isinstance(row[4], float) and row[4] > 0.05 for row in table.rows)


def test_few_prompts_are_noted() -> None:
    def notes(n: int) -> list[str]:
        return published_table([SFT._replace(n=n), GRPO]).notes

    assert len(notes(29)) == len(notes(30)) + 1
    assert "29 prompts" in notes(29)[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,mean,n\na,1,10\n", "has the columns model, mean, n and lacks sd; expected model, mean, sd, n"),
        ("model,mean,sd,n\na,1,1,10\na,2,1,10\n", "holds the model 'a' twice"),
        ("model,mean,sd,n\na,1,1,10\n", "holds one model"),
        ("model,mean,sd,n\na,1,-1,10\nb,1,1,10\n", "has sd -1, expected 0 or more"),
        ("model,mean,sd,n\na,1,1,1.5\nb,1,1,10\n", "has n 1.5, expected a whole number of at least 2 prompts"),
        ("model,mean,sd,n\na,x,1,10\nb,1,1,10\n", "has 'x' as 'mean', expected a number"),
        ("model,mean,sd,n\n,1,1,10\nb,1,1,10\n", "has no model"),
    ],
)
def test_what_is_no_such_table(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_published(path)
    assert message in str(error.value)


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["compare", "--published", str(SHIPPED)])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 100
    for words in (["compare"], ["compare", "a"], ["compare", "a", "b", "--published", str(SHIPPED)]):
        assert CliRunner().invoke(cli, words).exit_code == 2
