"""When the next request may be sent: requests and tokens a minute, and pauses that a server asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["Pace"]


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

    def hold(self, seconds: float) -> None:
        """Nobody sends for so long: a server that is asked too much means everyone."""
        self._held = max(self._held, self._clock() + seconds)
