"""One judging of a result, from the command line's words to what is stored: `judge plan`, `judge run`, `judge show`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue, StoreError, nearest
from rlhf_bench.judge.budget import PACKAGED, Price, PriceList, dollars, load_prices, nano_dollars
from rlhf_bench.judge.builtin import BUILTIN
from rlhf_bench.judge.endpoint import Endpoint, api_key, canonical_url
from rlhf_bench.judge.ledger import Cap, Ledger
from rlhf_bench.judge.measures import measure
from rlhf_bench.judge.pairs import Pairs, pairs_of
from rlhf_bench.judge.parse import PARSER_VERSION, read_verdict
from rlhf_bench.judge.result import count_statuses, verdict_rows, write_judging
from rlhf_bench.judge.run import Asking, Item, Limits, Outcome, ask, items_of, look_up
from rlhf_bench.judge.show import stored_lines
from rlhf_bench.judge.templates import load_template
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore

__all__ = ["Judging", "check_judge", "prepare"]

NOBODY = "built in"  # the server of a judge that asks nobody


@dataclass
class Judging:
    """A result's pairs, a judge, and the ledger between them. `asking` is None for a judge that asks nobody."""

    folder: Path
    judge: str
    baseline: str
    template: str
    pairs: Pairs
    items: list[Item]
    asking: Asking | None
    prices: PriceList
    retry_unreadable: int

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, *_: object) -> None:
        if self.asking is not None:
            self.asking.ledger.close()

    # plan

    def plan_lines(self) -> list[str]:
        """Pairs, calls, those answered already, tokens and cost of the others."""
        lines = [f"pairs: {len(self.pairs.comparisons)}, each in both orders{self._left_out()}"]
        if self.asking is None:
            return [*lines, f"calls: none; the judge {self.judge} asks nobody and costs nothing"]
        asking, endpoint = self.asking, self.asking.endpoint
        open_items = {o.key: item for item, o in look_up(asking, self.items).items() if o.reading.status == "missing"}
        prompt = completion = 0
        for item in open_items.values():
            tokens = endpoint.estimate(asking.question(item))
            prompt, completion = prompt + tokens[0], completion + tokens[1]
        known = len({asking.key(item) for item in self.items}) - len(open_items)
        spent = asking.ledger.spent(asking.scope)
        lines.append(f"calls: {known + len(open_items)}, of those answered already: {known}, to ask: {len(open_items)}")
        lines.append(f"tokens to come: about {prompt} of prompts, at most {completion} of answers")
        if endpoint.price is None:
            lines.append(f"cost: not known, {self._no_price()}; `judge run` needs --max-calls")
        else:
            cost = dollars(endpoint.price.cost(prompt, completion))
            lines.append(
                f"cost to come: about {cost} (prices as of {self.prices.date}, {self.prices.path.name}: check them)"
            )
        lines.append(f"charged so far to this result and judge: {dollars(spent.cost)}, {spent.calls} calls")
        return lines

    def _left_out(self) -> str:
        alone, empty = self.pairs.alone, self.pairs.empty
        text = f"; {alone} responses have no counterpart" if alone else ""
        return text + (f"; {empty} pairs have an empty response, which is judged as it is" if empty else "")

    def _no_price(self) -> str:
        assert self.asking is not None
        return _no_price(self.judge, self.asking.endpoint.base_url)

    # run

    def run(
        self,
        *,
        max_cost: str | None,
        progress: Progress,
        max_calls: int | None = None,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        attempts: int = 6,
    ) -> None:
        """Ask, and write the verdicts into the folder. Raises BadValue where the cost has no bound."""
        if self.asking is None:
            found = self._decide()
        else:
            asking = self._capped(self.asking, max_cost, max_calls)
            limits = Limits(
                concurrency=concurrency,
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                attempts=attempts,
                retry_unreadable=self.retry_unreadable,
            )
            url = asking.endpoint.base_url
            # Only waits depend on it, and two processes must not wait alike.
            rng = random.Random()
            found = ask(asking, self.items, lambda: api_key(url), limits=limits, rng=rng, progress=progress)
        self._write(found)

    def _capped(self, asking: Asking, max_cost: str | None, max_calls: int | None) -> Asking:
        endpoint = asking.endpoint
        return replace(asking, cap=_cap(self.judge, endpoint.base_url, endpoint.price, max_cost, max_calls))

    def _decide(self) -> dict[Item, Outcome]:
        rule = BUILTIN[self.judge]
        scores = _scores(self.folder, rule.column) if rule.column else {}
        found = {}
        for item in self.items:
            c = self.pairs.comparisons[item.comparison]
            keys = [(name, c.seed, c.prompt_id, c.sample) for name in (c.model, c.baseline)]
            both = (scores.get(keys[0], float("nan")), scores.get(keys[1], float("nan"))) if rule.column else None
            reading = rule.decide(c, item.order, scores=both, repeat=item.repeat)
            found[item] = Outcome("", reading, 1)
        return found

    def _write(self, found: Mapping[Item, Outcome]) -> None:
        url = self.asking.endpoint.base_url if self.asking else NOBODY
        rows = verdict_rows(self.pairs.comparisons, found, judge=self.judge, base_url=url, template=self.template)
        judging: dict[str, Any] = {
            "judge": self.judge,
            "base_url": url,
            "template": self.template,
            "baseline": self.baseline,
            "parser": PARSER_VERSION,
            "pairs": len(self.pairs.comparisons),
            "alone": self.pairs.alone,
            "empty": self.pairs.empty,
            "questions": count_statuses(found.values()),
            **measure(_labelled(rows, self.folder), baseline=self.baseline),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        if self.asking:
            spent = self.asking.ledger.spent(self.asking.scope)
            models = self.asking.ledger.reported_models({outcome.key for outcome in found.values()})
            judging |= {"cost_usd": spent.cost / 1e9, "calls_charged": spent.calls, "reported_models": models}
        write_judging(self.folder, rows, judging)

    def result_lines(self) -> list[str]:
        return stored_lines(self.folder, judge=self.judge, baseline=self.baseline, template=self.template)


def prepare(
    folder: Path,
    *,
    ledger_path: Path,
    results: Path,
    judge_name: str,
    baseline: str,
    timeout: float = 120.0,
    models: Sequence[str] = (),
    template: str = "pairwise",
    base_url: str | None = None,
    samples: int = 1,
    limit: int | None = None,
    again: int = 0,
    temperature: str = "0",
    max_tokens: int | None = None,
    schema: bool = True,
    logprobs: int = 0,
    prices: Path | None = None,
    retry_unreadable: int = 0,
) -> Judging:
    """Read the result and open the ledger; nothing is asked. Raises what the parts raise, each in one line."""
    price_list = load_prices(prices or PACKAGED)
    responses = ResultStore(folder).read_responses()
    pairs = pairs_of(responses, baseline=baseline, models=models, samples=samples, limit=limit)
    items = items_of(pairs.comparisons, again)
    if judge_name in BUILTIN:
        return Judging(folder, judge_name, baseline, "none", pairs, items, None, price_list, 0)
    url = canonical_url(base_url)
    form = load_template(template)
    endpoint = Endpoint(
        url,
        judge_name,
        price_list.find(judge_name, url) or (load_prices().find(judge_name, url) if prices else None),
        temperature=_temperature(temperature),
        structured=schema,
        top_logprobs=logprobs,
        max_tokens=max_tokens,
        seconds=timeout,
    )
    scope = f"{_name(folder, results)} {judge_name} {url}"
    read: Callable[[Mapping[str, Any]], Any] = lambda raw: read_verdict(raw, form)  # noqa: E731
    asking = Asking(
        pairs.comparisons, endpoint, form.render, read, f"{PARSER_VERSION}/{form.hash}", Ledger(ledger_path), scope
    )
    return Judging(folder, judge_name, baseline, form.label, pairs, items, asking, price_list, retry_unreadable)


def check_judge(judge_name: str, *, base_url: str | None, max_cost: str | None, max_calls: int | None) -> None:
    """What can be known before an evaluation that ends with a judging: raises as `prepare` and `run` would."""
    if judge_name in BUILTIN:
        return
    url = canonical_url(base_url)
    cap = _cap(judge_name, url, load_prices().find(judge_name, url), max_cost, max_calls)
    if 0 not in cap:
        api_key(url)


def _cap(judge: str, url: str, price: Price | None, max_cost: str | None, max_calls: int | None) -> Cap:
    """Raises BadValue where nothing bounds what may be asked."""
    cost = None if max_cost is None else nano_dollars("--max-cost", max_cost)
    if price is None and cost != 0 and max_calls is None:
        raise BadValue(f"--max-calls: not given, and {_no_price(judge, url)}; say how many calls may be made")
    if cost is None and max_calls is None:
        raise BadValue(
            f"--max-cost: not given, expected US dollars such as 2.00, the most that {judge!r} may cost; `judge plan` "
            "estimates it for a stored result"
        )
    return Cap(cost, max_calls)


def _no_price(judge: str, url: str) -> str:
    meant = nearest(judge, BUILTIN)
    hint = f"; {meant!r} is the judge that asks nobody" if meant else ""
    return f"there is no price for {judge!r} at {url} (`judge run` takes one with --prices{hint})"


def _temperature(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise BadValue(f"--temperature: given {text!r}, expected a number from 0 to 2, or none to send none")
    return value


def _name(folder: Path, results: Path) -> str:
    """`<suite>/<run>`, so that the account is the same wherever the results folder stands."""
    folder, results = folder.resolve(), results.resolve()
    return folder.relative_to(results).as_posix() if folder.is_relative_to(results) else folder.as_posix()


def _scores(folder: Path, column: str) -> dict[tuple[str, int, str, int], float]:
    table = ResultStore(folder).read_scores()
    if column not in table.columns:
        raise StoreError(f"{folder} has no {column} scores, which this judge needs; use another judge, such as length")
    keys = zip(table["model"], table["seed"], table["prompt_id"], table["sample"], strict=True)
    return {
        (str(model), int(seed), str(prompt), int(sample)): float(value)
        for (model, seed, prompt, sample), value in zip(keys, table[column], strict=True)
    }


def _labelled(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With the column `gold`, 1, 0.5 or 0 for the model by the gold reward, NaN without one; as given if none has."""
    try:
        scores = _scores(folder, "gold")
    except StoreError:  # no gold reward, or no scores at all: nothing to hold the judge against
        return rows

    def lead(row: Any) -> float:
        of = [scores.get((name, row.seed, row.prompt_id, row.sample), math.nan) for name in (row.model, row.baseline)]
        return float(np.sign(of[0] - of[1]))

    keys = rows[["model", "baseline", "seed", "prompt_id", "sample"]]
    gold = [(1 + lead(row)) / 2 for row in keys.itertuples(index=False)]
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows
