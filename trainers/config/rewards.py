"""The names in reward.function: what PPO and GRPO are rewarded by."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_bench.errors import BadValue

MODEL, GOLD = "model", "gold"


def parse_sources(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names in reward.function, each `model`, `gold`, a folder (with a slash in it) or `package.module:name`.

    Raises:
        BadValue: none, one twice, or one that is none of these.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    expected = f"expected {MODEL}, {GOLD}, a reward model's folder or package.module:name, or a list of them"
    if not names:
        raise BadValue(f"reward.function: given an empty list, {expected}")
    for i, name in enumerate(names):
        module, colon, function = name.partition(":")
        dotted = all(part.isidentifier() for part in (*module.split("."), *function.split(".")))
        if name not in (MODEL, GOLD) and not is_folder(name) and not (colon and dotted):
            raise BadValue(f"reward.function: given {name!r}, {expected}")
        if name in names[:i]:
            raise BadValue(
                f"reward.function: {name!r} is given twice; name it once and set its weight in reward.weights"
            )
    return names


def is_folder(name: str) -> bool:
    """Whether a name in reward.function is the folder of a reward model."""
    return "/" in name and ":" not in name
