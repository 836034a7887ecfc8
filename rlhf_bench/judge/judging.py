"""One judging of a result, from the command line's words to what is stored: `judge plan`, `judge run`, `judge show`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rlhf_bench.errors import BadValue, JudgeError
from rlhf_bench.judge.asking import Asking, Item, Outcome, items_of, look_up
from rlhf_bench.judge.batch import ask_in_batches, in_flight
from rlhf_bench.judge.budget import PACKAGED, PriceList, dollars, load_prices
from rlhf_bench.judge.builtin import BUILTIN, NOBODY
from rlhf_bench.judge.caps import cap_of, no_price
from rlhf_bench.judge.designs import Design, PairDesign, RatingDesign
from rlhf_bench.judge.endpoint import Endpoint, api_key, canonical_url
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.pairs import pairs_of, singles_of
from rlhf_bench.judge.parse import PARSER_VERSION, read_verdict
from rlhf_bench.judge.ranking import RANKING_PARSER, RankingTemplate, lineups_of, read_ranking
from rlhf_bench.judge.ranking_design import RankingDesign
from rlhf_bench.judge.rating import RATING_PARSER, RatingTemplate, read_ratings
from rlhf_bench.judge.result import count_statuses
from rlhf_bench.judge.run import Limits, ask
from rlhf_bench.judge.show import stored_lines
from rlhf_bench.judge.templates import AnyTemplate, load_template
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore

__all__ = ["Judging", "prepare"]


@dataclass
class Judging:
    """A result's questions, a judge, and the ledger between them. `asking` is None for a judge that asks nobody."""

    folder: Path
    judge: str
    design: Design
    asking: Asking[Any] | None
    prices: PriceList
    retry_unreadable: int

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, *_: object) -> None:
        if self.asking is not None:
            self.asking.ledger.close()

    # plan

    def plan_lines(self, *, batch: bool = False) -> list[str]:
        """Pairs, calls, those answered already, tokens and cost of the others, by the Batch API if told so.

        Raises BadValue for a batch of a judge that asks nobody.
        """
        lines = [self.design.about()]
        asking = self._in_batches() if batch else self.asking
        if asking is None:
            return [*lines, f"calls: none; the judge {self.judge} asks nobody and costs nothing"]
        endpoint = asking.endpoint
        open_items = {
            o.key: item for item, o in look_up(asking, self.design.items).items() if o.reading.status == "missing"
        }
        prompt = completion = 0
        for item in open_items.values():
            tokens = endpoint.estimate(asking.question(item))
            prompt, completion = prompt + tokens[0], completion + tokens[1]
        known = len({asking.key(item) for item in self.design.items}) - len(open_items)
        spent = asking.ledger.spent(asking.scope)
        lines.append(f"calls: {known + len(open_items)}, of those answered already: {known}, to ask: {len(open_items)}")
        lines.append(f"tokens to come: about {prompt} of prompts, at most {completion} of answers")
        if endpoint.price is None:
            why = no_price(self.judge, endpoint.base_url)
            lines.append(f"cost: not known, {why}; `judge run` needs --max-calls")
        else:
            cost = dollars(endpoint.price.cost(prompt, completion))
            share = f", of which a batch costs {self.prices.batch:%}" if batch else ""
            lines.append(
                f"cost to come: about {cost} (prices as of {self.prices.date}, {self.prices.path.name}{share}: check "
                "them)"
            )
        lines.append(f"charged so far to this result and judge: {dollars(spent.cost)}, {spent.calls} calls")
        return lines

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
            found = self.design.decide(self.judge)
        else:
            asking = self._capped(self.asking, max_cost, max_calls)
            if 0 not in asking.cap and (waiting := in_flight(asking)):
                raise JudgeError(
                    f"{waiting} calls of this result and judge are in a batch; collect it with --batch first"
                )
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
            found = ask(asking, self.design.items, lambda: api_key(url), limits=limits, rng=rng, progress=progress)
        self._write(found)

    def run_batch(
        self, *, max_cost: str | None, max_calls: int | None, wait: bool, poll: float, progress: Progress
    ) -> None:
        """As `run`, by the server's Batch API. Raises BadValue for a judge that asks nobody."""
        asking = self._capped(self._in_batches(), max_cost, max_calls)
        url = asking.endpoint.base_url
        self._write(
            ask_in_batches(asking, self.design.items, lambda: api_key(url), wait=wait, poll=poll, progress=progress)
        )

    def _in_batches(self) -> Asking[Any]:
        """At the share of the prices that a call in a batch costs. Raises BadValue for a judge that asks nobody."""
        if self.asking is None:
            raise BadValue(f"--batch: the judge {self.judge} asks nobody; leave it out")
        endpoint = self.asking.endpoint
        price = endpoint.price and endpoint.price.times(self.prices.batch)
        return replace(self.asking, endpoint=replace(endpoint, price=price))

    def _capped(self, asking: Asking[Any], max_cost: str | None, max_calls: int | None) -> Asking[Any]:
        endpoint = asking.endpoint
        return replace(asking, cap=cap_of(self.judge, endpoint.base_url, endpoint.price, max_cost, max_calls))

    def _write(self, found: Mapping[Item, Outcome]) -> None:
        facts: dict[str, Any] = {
            "judge": self.judge,
            "base_url": self.asking.endpoint.base_url if self.asking else NOBODY,
            **self.design.names,
            "questions": count_statuses(found.values()),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        if self.asking:
            spent = self.asking.ledger.spent(self.asking.scope)
            models = self.asking.ledger.reported_models({outcome.key for outcome in found.values()})
            facts |= {"cost_usd": spent.cost / 1e9, "calls_charged": spent.calls, "reported_models": models}
        self.design.write(found, facts)

    def result_lines(self) -> list[str]:
        lines = stored_lines(self.folder, judge=self.judge, **self.design.names)
        waiting = in_flight(self.asking) if self.asking else 0
        return [*lines, f"{waiting} calls are in a batch; the same command collects it"] if waiting else lines


def prepare(
    folder: Path,
    *,
    ledger_path: Path,
    results: Path,
    judge_name: str,
    baseline: str | None = None,
    timeout: float = 120.0,
    models: Sequence[str] = (),
    template: str = "pairwise",
    base_url: str | None = None,
    samples: int = 1,
    limit: int | None = None,
    again: int = 0,
    order_seed: int = 0,
    temperature: str = "0",
    max_tokens: int | None = None,
    schema: bool | None = None,
    logprobs: int = 0,
    prices: Path | None = None,
    retry_unreadable: int = 0,
) -> Judging:
    """Read the result and open the ledger; nothing is asked. Raises what the parts raise, each in one line.

    The template says which form the judging has; one of pairs needs a `baseline` (None: the suite's), the others none.
    `schema` None: the template's JSON schema is sent unless the ledger says that the server refused it.
    """
    price_list = load_prices(prices or PACKAGED)
    form = load_template(template)
    responses = ResultStore(folder).read_responses()
    nobody = judge_name in BUILTIN
    design: Design
    subjects: Sequence[Any]
    if isinstance(form, RatingTemplate):
        _no_baseline(baseline, form.label)
        subjects = singles_of(responses, models=models, samples=samples, limit=limit)
        items = items_of(subjects, again, orders=("given",))
        design = RatingDesign(folder, subjects, items, form.without_criteria() if nobody else form)
    elif isinstance(form, RankingTemplate):
        _no_baseline(baseline, form.label)
        found = lineups_of(responses, models=models, samples=samples, limit=limit, seed=order_seed)
        subjects = found.lineups
        items = items_of(subjects, again, orders=("given",))
        design = RankingDesign(folder, found, items, form, order_seed)
    else:
        baseline = baseline or ResultStore(folder).read_manifest().get("baseline")
        if baseline is None:
            raise BadValue(f"--baseline: not given, and {form.label} compares with one; name a model of the result")
        pairs = pairs_of(responses, baseline=baseline, models=models, samples=samples, limit=limit)
        subjects = pairs.comparisons
        items = items_of(subjects, again)
        design = PairDesign(folder, pairs, items, baseline, "none" if nobody else form.label)
    if nobody:
        return Judging(folder, judge_name, design, None, price_list, 0)
    url = canonical_url(base_url)
    endpoint = Endpoint(
        url,
        judge_name,
        price_list.find(judge_name, url) or (load_prices().find(judge_name, url) if prices else None),
        temperature=_temperature(temperature),
        structured=schema is not False,
        top_logprobs=logprobs,
        max_tokens=max_tokens,
        seconds=timeout,
    )
    scope = f"{_name(folder, results)} {judge_name} {url}"
    ledger = Ledger(ledger_path)
    asking = _asking(subjects, endpoint, form, ledger, scope)
    if schema is None and ledger.schema_refused(judge_name, url, form.hash):
        asking = asking.without_schema()
    return Judging(folder, judge_name, design, asking, price_list, retry_unreadable)


def _asking(subjects: Sequence[Any], endpoint: Endpoint, form: AnyTemplate, ledger: Ledger, scope: str) -> Asking[Any]:
    """With the form's own parser, whose name changes with the template: a new one reads stored answers anew."""
    if isinstance(form, RatingTemplate):
        parser = f"{RATING_PARSER}/{form.hash}"
        return Asking(subjects, endpoint, form.render, lambda raw: read_ratings(raw, form), parser, ledger, scope)
    if isinstance(form, RankingTemplate):
        shown = len(subjects[0].models)
        parser = f"{RANKING_PARSER}/{shown}/{form.hash}"
        return Asking(subjects, endpoint, form.render, lambda raw: read_ranking(raw, shown), parser, ledger, scope)
    parser = f"{PARSER_VERSION}/{form.hash}"
    return Asking(subjects, endpoint, form.render, lambda raw: read_verdict(raw, form), parser, ledger, scope)


def _no_baseline(baseline: str | None, template: str) -> None:
    if baseline is not None:
        raise BadValue(f"--baseline: given {baseline!r}, but {template} compares with none; leave it out")


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
