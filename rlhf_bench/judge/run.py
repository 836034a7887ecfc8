"""One run of a judge over a result, from the options of the command line to the stored numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_bench.errors import BadValue, JudgeError, nearest
from rlhf_bench.files import timestamp
from rlhf_bench.judge.client import JudgeClient, Limits, ask, look_up
from rlhf_bench.judge.client.batch import ask_in_batches, in_flight
from rlhf_bench.judge.client.budget import PACKAGED, Price, PriceList, dollars, load_prices, nano_dollars
from rlhf_bench.judge.client.endpoint import SCHEMA, Endpoint, api_key, canonical_url
from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.forms.base import FormRequest, JudgeForm
from rlhf_bench.judge.forms.builtin import BUILT_IN, BUILTIN
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Cap
from rlhf_bench.judge.questions import Outcome, QuestionId, Selection
from rlhf_bench.judge.results import count_statuses
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore


@dataclass
class JudgeRun:
    """A result's questions, a judge, and the ledger between them. `client` is None for a built-in judge."""

    folder: Path
    judge: str
    form: JudgeForm
    client: JudgeClient | None
    prices: PriceList

    def __enter__(self) -> JudgeRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.client is not None:
            self.client.ledger.close()

    # plan

    def plan_lines(self, *, batch: bool = False) -> list[str]:
        """Pairs, calls, stored answers, tokens and cost of the other calls; `batch`: at the price of the Batch API.

        Raises BadValue for a batch of a built-in judge.
        """
        lines = [self.form.about()]
        client = self._in_batches() if batch else self.client
        if client is None:
            return [*lines, f"calls: none; the judge {self.judge} is built in (no API calls) and costs nothing"]
        endpoint = client.endpoint
        open_items = {
            o.key: item for item, o in look_up(client, self.form.items).items() if o.reading.status == "missing"
        }
        prompt = completion = 0
        for item in open_items.values():
            tokens = endpoint.estimate(client.question(item))
            prompt, completion = prompt + tokens[0], completion + tokens[1]
        known = len({client.key(item) for item in self.form.items}) - len(open_items)
        spent = client.ledger.spent(client.scope)
        lines.append(
            f"calls: {known + len(open_items)}, of those answered already: {known}, to send: {len(open_items)}"
        )
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
        limits: Limits | None = None,
    ) -> None:
        """Put the questions to the judge, and write the verdicts. Raises BadValue where the cost has no bound."""
        if self.client is None:
            found = self.form.decide(self.judge)
        else:
            client = self._capped(self.client, max_cost, max_calls)
            if 0 not in client.cap and (waiting := in_flight(client)):
                raise JudgeError(
                    f"{waiting} calls of this result and judge are in a batch; collect it with --batch first"
                )
            url = client.endpoint.base_url
            # Only waits depend on it, and two processes must not wait alike.
            rng = random.Random()
            found = ask(
                client, self.form.items, lambda: api_key(url), limits=limits or Limits(), rng=rng, progress=progress
            )
        self._write(found)

    def run_batch(
        self, *, max_cost: str | None, max_calls: int | None, wait: bool, poll: float, progress: Progress
    ) -> None:
        """Do as `run`, by the server's Batch API. Raises BadValue for a built-in judge."""
        client = self._capped(self._in_batches(), max_cost, max_calls)
        url = client.endpoint.base_url
        self._write(
            ask_in_batches(client, self.form.items, lambda: api_key(url), wait=wait, poll=poll, progress=progress)
        )

    def _in_batches(self) -> JudgeClient:
        """The client at the share of the prices that a call in a batch costs. Raises BadValue for a built-in judge."""
        if self.client is None:
            raise BadValue(f"--batch: the judge {self.judge} is built in (no API calls); leave it out")
        endpoint = self.client.endpoint
        price = endpoint.price and endpoint.price.times(self.prices.batch)
        return replace(self.client, endpoint=replace(endpoint, price=price))

    def _capped(self, client: JudgeClient, max_cost: str | None, max_calls: int | None) -> JudgeClient:
        endpoint = client.endpoint
        return replace(client, cap=cap_of(self.judge, endpoint.base_url, endpoint.price, max_cost, max_calls))

    def _write(self, found: Mapping[QuestionId, Outcome]) -> None:
        facts: dict[str, Any] = {
            "judge": self.judge,
            "base_url": self.client.endpoint.base_url if self.client else BUILT_IN,
            **self.form.names,
            "questions": count_statuses(found.values()),
            "time": timestamp(),
        }
        if self.client:
            spent = self.client.ledger.spent(self.client.scope)
            models = self.client.ledger.reported_models({outcome.key for outcome in found.values()})
            facts |= {"cost_usd": spent.cost / 1e9, "calls_charged": spent.calls, "reported_models": models}
        self.form.write(found, facts)

    def in_flight(self) -> int:
        """Calls that are in a batch."""
        return in_flight(self.client) if self.client else 0


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
) -> JudgeRun:
    """Read the result and open the ledger; makes no call. Raises what the parts raise, each in one line.

    The template decides the form; pairs need a `baseline` (None: the suite's), the other forms take none.
    `schema` None: the template's JSON schema is sent unless the ledger says that the server refused it.
    """
    price_list = load_prices(prices or PACKAGED)
    questions = load_template(template)
    warmth = _temperature(temperature)
    built_in = judge_name in BUILTIN
    responses = ResultStore(folder).read_responses()
    chosen = Selection(models, samples, limit)
    form = questions.form(FormRequest(folder, responses, built_in, baseline, chosen, again, order_seed))
    if built_in:
        return JudgeRun(folder, judge_name, form, None, price_list)
    url = canonical_url(base_url)
    endpoint = Endpoint(
        url,
        judge_name,
        price_list.find(judge_name, url) or (load_prices().find(judge_name, url) if prices else None),
        temperature=warmth,
        structured=schema is not False,
        top_logprobs=logprobs,
        max_tokens=max_tokens,
        seconds=timeout,
    )
    scope = f"{_name(folder, results)} {judge_name} {url}"
    ledger = Ledger(ledger_path)
    client = JudgeClient(form.subjects, endpoint, form.template.render, form.read, form.parser, ledger, scope)
    client = client.adapted(questions.hash, keep=() if schema is None else (SCHEMA,))
    return JudgeRun(folder, judge_name, form, client, price_list)


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
    """`<suite>/<run>`, so that the account is the same wherever the results folder is."""
    folder, results = folder.resolve(), results.resolve()
    return folder.relative_to(results).as_posix() if folder.is_relative_to(results) else folder.as_posix()


def cap_of(judge: str, url: str, price: Price | None, max_cost: str | None, max_calls: int | None) -> Cap:
    """Raises BadValue where nothing bounds the cost."""
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
    hint = f"; {meant!r} is a built-in judge" if meant else ""
    return f"there is no price for {judge!r} at {url} (`judge run` takes one with --prices{hint})"
