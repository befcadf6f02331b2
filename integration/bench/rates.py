"""Calls per second of one kind of client, on asyncio and in threads: the same measurement written for both.

The first half second of a measurement does not count: connections are opened then. What a client fails to do is
counted, not raised: a contender that loses calls under load is not to end the measurement of the others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
import httpx2

WARM = 0.5


class Rate(NamedTuple):
    """Answered calls per second, and how many calls failed."""

    per_second: float
    failed: int


class Window:
    """The time of one measurement, as one worker sees it: it works while `open`, and what it does `counts`."""

    def __init__(self, seconds: float) -> None:
        self.start = time.perf_counter() + WARM
        self.end = self.start + seconds

    @property
    def open(self) -> bool:
        """Say whether to make another call."""
        return time.perf_counter() < self.end

    @property
    def counts(self) -> bool:
        """Say whether what ends now is counted."""
        return time.perf_counter() > self.start

    def rate(self, workers: Sequence["Worker"]) -> Rate:
        """Return what the workers came to, at the moment when the last has ended."""
        seconds = time.perf_counter() - self.start
        return Rate(sum(worker.answered for worker in workers) / seconds, sum(worker.failed for worker in workers))


class Worker:
    """One task or thread that calls as fast as it can."""

    def __init__(self, window: Window) -> None:
        self.answered = self.failed = 0
        self._window = window

    def work(self, call: Callable[[], httpx.Response]) -> None:
        """Call until the window closes."""
        while self._window.open:
            try:
                call().raise_for_status()
                self.answered += self._window.counts
            except (httpx.HTTPError, httpx2.HTTPError):
                self.failed += 1

    async def work_async(self, call: Callable[[], Awaitable[httpx.Response]]) -> None:
        """Call until the window closes."""
        while self._window.open:
            try:
                (await call()).raise_for_status()
                self.answered += self._window.counts
            except (httpx.HTTPError, httpx2.HTTPError):
                self.failed += 1


async def async_rate(call: Callable[[], Awaitable[httpx.Response]], in_flight: int, seconds: float) -> Rate:
    """Measure with so many tasks."""
    window = Window(seconds)
    workers = [Worker(window) for _ in range(in_flight)]
    await asyncio.gather(*(worker.work_async(call) for worker in workers))
    return window.rate(workers)


def thread_rate(call: Callable[[], httpx.Response], in_flight: int, seconds: float) -> Rate:
    """Measure with so many threads."""
    with ThreadPoolExecutor(in_flight) as pool:
        window = Window(seconds)
        workers = [Worker(window) for _ in range(in_flight)]
        list(pool.map(lambda worker: worker.work(call), workers))
        return window.rate(workers)
