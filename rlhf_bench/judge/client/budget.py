"""What a call costs, what bounds a run before its first call, when its calls are sent, and when no more are.

Prices come from a dated file; a call has an estimate before it, a bound for it, and a charge after it. Money is in
nano-dollars (1e-9 USD): a price of 2.50 dollars per million tokens is 2,500 of them a token, an integer."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import yaml

from rlhf_bench.errors import BadValue, DataError

NANO = 10**9
PACKAGED = Path(__file__).with_name("prices.yaml")
# Around a message's text a server puts its role and separators: some 3 to 7 tokens where it is known.
_TOKENS_A_MESSAGE = 16
_MOST_WAIT = 60.0  # seconds, of one call after a failure
_MOST_PAUSE = 300.0  # seconds; a server that requests a longer pause ends the run
_FAILURES_IN_A_ROW = 10  # calls given up, with no answer between them: the server is down, or refuses all of them
_UNREACHED = 4  # attempts without a connection, none before them with one: nothing listens there


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars a token."""

    input: int
    output: int
    cached_input: int

    def times(self, share: Decimal) -> Price:
        """A share of each price, rounded up."""
        parts = (self.input, self.output, self.cached_input)
        return Price(*(int((part * share).to_integral_value(ROUND_CEILING)) for part in parts))

    def cost(self, prompt: int, completion: int, cached: int = 0) -> int:
        """`cached` is the part of `prompt` that the server had cached."""
        cached = min(max(cached, 0), prompt)
        return (prompt - cached) * self.input + cached * self.cached_input + completion * self.output


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of one file, and where and when they hold."""

    path: Path
    date: str
    servers: tuple[str, ...]  # base URLs; empty: any
    models: Mapping[str, Price]
    batch: Decimal = Decimal(1)  # the share of these prices that a call in a batch costs

    def find(self, model: str, base_url: str) -> Price | None:
        return self.models.get(model) if not self.servers or base_url in self.servers else None


def load_prices(path: Path = PACKAGED) -> PriceList:
    """Read a price file. Raises DataError naming what is wrong in it."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"--prices: cannot read {path} ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML ({str(error).splitlines()[0]}); {_EXPECTED}") from error
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict) or "date" not in data:
        raise DataError(f"{path} lacks its date or its models; {_EXPECTED}")
    unknown = sorted(set(data) - {"date", "source", "servers", "models", "batch"})
    if unknown:
        raise DataError(f"{path}: unknown key {unknown[0]!r}; {_EXPECTED}")
    servers = data.get("servers") or []
    if not isinstance(servers, list):
        raise DataError(f"{path}: servers is no list of base URLs; {_EXPECTED}")
    models = {str(name): _price(path, str(name), entry) for name, entry in data["models"].items()}
    batch = data.get("batch", 1)
    if isinstance(batch, bool) or not isinstance(batch, int | float) or not 0 < batch <= 1:
        raise DataError(f"{path}: batch is {batch!r}; expected the share of the prices, such as 0.5; {_EXPECTED}")
    urls = tuple(str(url).rstrip("/") for url in servers)
    return PriceList(path, str(data["date"]), urls, models, Decimal(str(batch)))


_EXPECTED = (
    "expected date: YYYY-MM-DD and models: {NAME: {input: 2.50, output: 10.00}}, in US dollars per million tokens"
)


def _price(path: Path, name: str, entry: Any) -> Price:
    if not isinstance(entry, dict) or not {"input", "output"} <= set(entry) <= {"input", "output", "cached_input"}:
        raise DataError(f"{path}: the price of {name} is {entry!r}; {_EXPECTED}")
    numbers = {}
    for key, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise DataError(f"{path}: {key} of {name} is {value!r}; {_EXPECTED}")
        # Rounded up to whole nano-dollars a token: what is charged is never less than the price.
        numbers[key] = int((Decimal(str(value)) * 1000).to_integral_value(ROUND_CEILING))
    return Price(numbers["input"], numbers["output"], numbers.get("cached_input", numbers["input"]))


def nano_dollars(option: str, text: str) -> int:
    """Dollars as they are typed, to nano-dollars, exactly. Raises BadValue."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise BadValue(f"{option}: given {text!r}, expected US dollars such as 2.00, or 0 for no call")
    return int(value * NANO)


def dollars(nano: int) -> str:
    """1234567890 -> "$1.2346"; amounts that four decimals would show as zero are "<$0.0001"."""
    if 0 < nano < NANO // 10_000:
        return "<$0.0001"
    return f"${Decimal(nano) / NANO:,.4f}"


def most_prompt_tokens(texts: Sequence[str], extra: str = "") -> int:
    """No tokenizer makes more tokens of these messages: one a byte, and some around each. `extra`: a schema's text."""
    text_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in [*texts, extra])
    return text_bytes + _TOKENS_A_MESSAGE * (len(texts) + 1)


def estimate_prompt_tokens(texts: Sequence[str], extra: str = "") -> int:
    """What is likely: four bytes a token, as in English text, and four tokens around each message."""
    text_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in [*texts, extra])
    return text_bytes // 4 + 4 * (len(texts) + 1)


def charge(price: Price | None, worst: int, usage: Mapping[str, int | None]) -> int:
    """Nano-dollars of an answer with `usage` (prompt, cached, completion tokens); `worst` where none was reported."""
    if price is None:
        return 0
    prompt, completion = usage.get("prompt"), usage.get("completion")
    if prompt is None or completion is None:
        return worst
    return price.cost(prompt, completion, usage.get("cached") or 0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by retry-after-ms, or by Retry-After in seconds or as a date; None without these headers."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def backoff(failures: int, rng: random.Random, *, first: float) -> float:
    """Seconds to wait after the n-th failure in a row: doubled each time, then cut by a random part of up to a half,
    so that those who failed together do not come back together."""
    return min(_MOST_WAIT, first * 2.0 ** (failures - 1)) * (1 - 0.5 * rng.random())


class Pace:
    """Spaces requests evenly, so that no minute holds more than its share; None is no limit."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._request = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._held = 0.0

    async def wait(self, tokens: int) -> None:
        """Return when a request of `tokens` (its prompt and the most it may answer) may be sent."""
        now = self._clock()
        turn = max(now, self._next)
        # Whoever comes next waits for the longer of the two.
        self._next = turn + max(self._request, tokens * self._token)
        if turn > now:
            await self._sleep(turn - now)
        while (held := self._held - self._clock()) > 0:
            await self._sleep(held)

    def hold(self, seconds: float) -> bool:
        """Send nothing for so long, whichever call the server answered; False where that held already."""
        until = self._clock() + seconds
        longer = until > self._held + 1
        self._held = max(self._held, until)
        return longer


@dataclass
class Availability:
    """What the attempts of one run have shown of their server, and why nothing more is sent to it: a long pause that it
    requests, calls given up in a row, or no connection at all."""

    base_url: str
    fatal: str | None = None  # why no call can succeed
    paused: str | None = None  # why nothing more is sent now
    connected: bool = False  # the server was reached
    unreached: int = 0  # attempts without a connection before the first with one
    given_up: int = 0  # calls in a row

    @property
    def ended(self) -> bool:
        return self.fatal is not None or self.paused is not None

    def note_answer(self) -> None:
        self.connected, self.given_up = True, 0

    def note_failure(self, reason: str, *, connected: bool, wait: float | None, fatal: str | None) -> None:
        """Take note of an attempt without an answer (`http.Reply`).

        A server that was reached once is waited for, since it may only be busy.
        """
        self.connected |= connected
        self.unreached += not self.connected
        if self.unreached >= _UNREACHED and not self.connected:
            self._end(
                f"no connection to {self.base_url} in {self.unreached} attempts; check that the server runs, the "
                "network and --base-url; the same command tries again"
            )
        if fatal:
            self._end(fatal)
        if wait is not None and wait > _MOST_PAUSE:
            self.paused = (
                f"{self.pause_line(wait, reason)}; nothing more is sent, what was answered is kept, and the same "
                "command goes on from there"
            )

    def note_given_up(self, reason: str) -> None:
        """A call that is not sent again; `reason` is that of its last attempt."""
        self.given_up += 1
        if self.given_up >= _FAILURES_IN_A_ROW:
            self._end(
                f"{self.given_up} calls in a row got no answer from {self.base_url}, the last one: {reason}; check the "
                "server and --base-url; what was answered is kept, and the same command goes on from there"
            )

    def pause_line(self, wait: float, reason: str) -> str:
        return f"{self.base_url} requests a pause of {wait:.0f} s ({reason})"

    def _end(self, reason: str) -> None:
        self.fatal = self.fatal or reason  # the first reason
