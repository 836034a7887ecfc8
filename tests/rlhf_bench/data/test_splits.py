from __future__ import annotations

from rlhf_bench.data.splits import Fractions, default_fractions, order_key, split_of

PROMPTS = [f"\n\nHuman: question {n}\n\nAssistant:" for n in range(4_000)]


def test_golden_places() -> None:
    # The first 16 digits of: printf '["0","a"]' | sha256sum. A prompt must not change its split between versions.
    assert order_key(0, "a") == 0xD6034F807CAA1BB6
    assert order_key(1, "a") == 0x5C0C071518E801BE
    place = 0xD6034F807CAA1BB6 / 2**64  # 0.8360
    assert split_of("a", 0, Fractions(0.8, 0.2, 0.0)) == "validation"  # 0.8360 >= 1 - 0.2
    assert split_of("a", 0, Fractions(0.9, 0.1, 0.0)) == "train"  # 0.8360 < 1 - 0.1
    assert split_of("a", 0, Fractions(0.1, 0.0, 0.9)) == "test"  # 0.8360 < 0.9
    assert split_of("a", 0, Fractions(1 - place, 0.0, place)) == "train"  # test's end is open


def test_shares_are_near_the_fractions() -> None:
    fractions = Fractions(0.8, 0.1, 0.1)
    found = [split_of(prompt, 0, fractions) for prompt in PROMPTS]
    # Binomial: sd of 4,000 at 0.1 is 19, so 400 +- 76 is 4 sd.
    assert abs(found.count("test") - 400) < 76
    assert abs(found.count("validation") - 400) < 76


def test_seed_matters() -> None:
    fractions = Fractions(0.5, 0.0, 0.5)
    same = sum(split_of(p, 0, fractions) == split_of(p, 1, fractions) for p in PROMPTS)
    assert abs(same - 2_000) < 130  # 4 sd of an even coin: unrelated


def test_smaller_shares_only_give_back_to_train() -> None:
    wide, narrow = Fractions(0.8, 0.1, 0.1), Fractions(0.9, 0.05, 0.05)
    moves = {(split_of(p, 0, wide), split_of(p, 0, narrow)) for p in PROMPTS}
    assert moves == {
        ("train", "train"),
        ("test", "test"),
        ("validation", "validation"),
        ("test", "train"),
        ("validation", "train"),
    }


def test_default_fractions() -> None:
    assert default_fractions(4_999) == (0.8, 0.1, 0.1)
    assert default_fractions(5_000) == (0.9, 0.05, 0.05)
