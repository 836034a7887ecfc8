"""What bounds a judging before anything is asked: the most that it may cost, or the most calls that it may make."""

from __future__ import annotations

from rlhf_bench.errors import BadValue, nearest
from rlhf_bench.judge.budget import Price, load_prices, nano_dollars
from rlhf_bench.judge.builtin import BUILTIN
from rlhf_bench.judge.calls import Cap
from rlhf_bench.judge.endpoint import api_key, canonical_url

__all__ = ["cap_of", "check_judge", "no_price"]


def check_judge(judge_name: str, *, base_url: str | None, max_cost: str | None, max_calls: int | None) -> None:
    """What can be known before an evaluation that ends with a judging: raises as `prepare` and `run` would."""
    if judge_name in BUILTIN:
        return
    url = canonical_url(base_url)
    cap = cap_of(judge_name, url, load_prices().find(judge_name, url), max_cost, max_calls)
    if 0 not in cap:
        api_key(url)


def cap_of(judge: str, url: str, price: Price | None, max_cost: str | None, max_calls: int | None) -> Cap:
    """Raises BadValue where nothing bounds what may be asked."""
    cost = None if max_cost is None else nano_dollars("--max-cost", max_cost)
    if price is None and cost != 0 and max_calls is None:
        raise BadValue(f"--max-calls: not given, and {no_price(judge, url)}; say how many calls may be made")
    if cost is None and max_calls is None:
        raise BadValue(
            f"--max-cost: not given, expected US dollars such as 2.00, the most that {judge!r} may cost; `judge plan` "
            "estimates it for a stored result"
        )
    return Cap(cost, max_calls)


def no_price(judge: str, url: str) -> str:
    meant = nearest(judge, BUILTIN)
    hint = f"; {meant!r} is the judge that asks nobody" if meant else ""
    return f"there is no price for {judge!r} at {url} (`judge run` takes one with --prices{hint})"
