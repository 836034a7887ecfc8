"""What a call costs, in nano-dollars, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.judge.client.budget import (
    Price,
    charge,
    dollars,
    estimate_prompt_tokens,
    load_prices,
    most_prompt_tokens,
    nano_dollars,
)

GPT_4O = Price(input=2_500, output=10_000, cached_input=1_250)  # 2.50, 10.00 and 1.25 dollars a million tokens
MESSAGES = ["abcd", "hé"]  # 4 + 3 bytes


def test_cost_of_a_call() -> None:
    """1,000 prompt tokens, 400 of them cached, and 100 of the answer:
    600 * 2,500 + 400 * 1,250 + 100 * 10,000 = 1,500,000 + 500,000 + 1,000,000 = 3,000,000, or $0.0030."""
    assert GPT_4O.cost(1_000, 100, 400) == 3_000_000
    assert dollars(3_000_000) == "$0.0030"
    # More cached than there was, or less than nothing, is a report that cannot be: 100 * 1,250 and 100 * 2,500.
    assert GPT_4O.cost(100, 0, 900) == 125_000
    assert GPT_4O.cost(100, 0, -5) == 250_000


def test_charge_is_the_usage_or_the_worst_case() -> None:
    usage = {"prompt": 20, "completion": 1, "cached": None}
    assert charge(GPT_4O, 99_999, usage) == 20 * 2_500 + 10_000
    assert charge(GPT_4O, 99_999, {**usage, "completion": None}) == 99_999
    assert charge(GPT_4O, 99_999, {**usage, "prompt": None}) == 99_999
    assert charge(None, 99_999, usage) == 0


def test_tokens_are_bounded_by_bytes_and_estimated_at_a_quarter() -> None:
    """7 bytes, and 2 of the schema. Bound: 9 + 16 * (2 + 1) = 57. Estimate: 9 // 4 + 4 * (2 + 1) = 14."""
    assert most_prompt_tokens(MESSAGES, "{}") == 57
    assert estimate_prompt_tokens(MESSAGES, "{}") == 14


@pytest.mark.parametrize(
    ("text", "nano"), [("2.00", 2_000_000_000), ("0", 0), ("0.1", 100_000_000), ("1e-3", 1_000_000)]
)
def test_dollars_are_read_exactly(text: str, nano: int) -> None:
    assert nano_dollars("--max-cost", text) == nano


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "$2", "2,00"])
def test_what_are_no_dollars(text: str) -> None:
    with pytest.raises(BadValue, match=r"^--max-cost: given .*, expected US dollars such as 2.00"):
        nano_dollars("--max-cost", text)


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "$0.0000"), (99_999, "<$0.0001"), (100_000, "$0.0001"), (1_234_567_890_000, "$1,234.5679")],
)
def test_dollars_as_text(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_a_price_file_holds_for_its_servers_alone(tmp_path: Path) -> None:
    """A price of 0.0001 dollars a million tokens is a tenth of a nano-dollar a token: rounded up, never to nothing."""
    path = tmp_path / "prices.yaml"
    path.write_text("date: 2026-01-01\nservers: [http://here/v1/]\nmodels:\n  m: {input: 0.0001, output: 1}\n")
    prices = load_prices(path)
    assert prices.find("m", "http://here/v1") == Price(1, 1_000, 1)
    assert prices.find("m", "http://there/v1") is None
    assert prices.find("other", "http://here/v1") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {}", "lacks its date or its models"),
        ("date: 1\nmodels: {}\nmodel: {}", "unknown key 'model'"),
        ("date: 1\nmodels: {m: 3}", "the price of m is 3"),
        ("date: 1\nmodels: {m: {input: -1, output: 1}}", "input of m is -1"),
        ("date: 1\nservers: here\nmodels: {}", "servers is no list"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_price_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_prices(path)


def test_the_packaged_prices_load() -> None:
    prices = load_prices()
    assert prices.find("gpt-4o", "https://api.openai.com/v1") == GPT_4O
    assert prices.find("gpt-4o", "http://localhost:8000/v1") is None
