"""Requests per second over ten instances: plain httpx, plain httpx through an nginx hop, and p2plb, in one run.

    python -m integration.bench.throughput [--rounds 5] [--seconds 1]

The contenders take turns in every round, so that what else the machine does hits all of them; medians of the rounds
are printed, and the ratios of p2plb to the others.
"""

import argparse
import asyncio
import itertools
import platform
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

import httpx

from integration.bench.backends import Backends, backends
from p2plb import AsyncClient, Client

PLAIN, HOP, OURS = "plain httpx, one pool", "plain httpx, nginx hop", "p2plb"
Rates = dict[tuple[str, int], list[float]]
Result = TypeVar("Result")
Call = TypeVar("Call")


def main() -> None:
    """Measure and print both tables."""
    options = _options()
    with backends() as ten:
        print(f"ten instances: {ten.kind}; CPython {platform.python_version()}, httpx {httpx.__version__};")
        print(f"requests/s, medians of {options.rounds} rounds of {options.seconds:g} s\n")
        table("asyncio", (1, 16, 128), asyncio.run(asynchronous(ten, (1, 16, 128), options.rounds, options.seconds)))
        table("threads", (1, 16, 64), threaded(ten, (1, 16, 64), options.rounds, options.seconds))


async def asynchronous(ten: Backends, levels: Sequence[int], rounds: int, seconds: float) -> Rates:
    """Measure the asyncio clients."""
    rates: Rates = {}
    async with httpx.AsyncClient(trust_env=False) as plain, AsyncClient(ten.registry, trust_env=False) as ours:
        for name, level, call in schedule(contenders(ten, plain.get, ours.get), levels, rounds):
            rates.setdefault((name, level), []).append(await async_rate(call, level, seconds))
    return rates


def threaded(ten: Backends, levels: Sequence[int], rounds: int, seconds: float) -> Rates:
    """Measure the sync clients."""
    rates: Rates = {}
    with httpx.Client(trust_env=False) as plain, Client(ten.registry, trust_env=False) as ours:
        for name, level, call in schedule(contenders(ten, plain.get, ours.get), levels, rounds):
            rates.setdefault((name, level), []).append(thread_rate(call, level, seconds))
    return rates


def contenders(
    ten: Backends, plain: Callable[[str], Result], ours: Callable[[str], Result]
) -> dict[str, Callable[[], Result]]:
    """Return one call for each contender."""
    turn = itertools.cycle(ten.origins)
    hop = {HOP: lambda: plain(f"{ten.hop}/")} if ten.hop else {}
    return {PLAIN: lambda: plain(next(turn) + "/"), **hop, OURS: lambda: ours("http://bench/")}


def schedule(calls: dict[str, Call], levels: Sequence[int], rounds: int) -> Iterator[tuple[str, int, Call]]:
    """Say who is measured when: in each round every contender at every level, and nobody always first."""
    for turn, level in itertools.product(range(rounds), levels):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            yield name, level, calls[name]


async def async_rate(call: Callable[[], Awaitable[httpx.Response]], workers: int, seconds: float) -> float:
    """Return the calls per second that `workers` tasks make."""

    async def work() -> int:
        count = 0
        while time.perf_counter() < end:
            (await call()).raise_for_status()
            count += 1
        return count

    start = time.perf_counter()
    end = start + seconds
    total = sum(await asyncio.gather(*(work() for _ in range(workers))))
    return total / (time.perf_counter() - start)


def thread_rate(call: Callable[[], httpx.Response], workers: int, seconds: float) -> float:
    """Return the calls per second that `workers` threads make."""

    def work() -> int:
        count = 0
        while time.perf_counter() < end:
            call().raise_for_status()
            count += 1
        return count

    with ThreadPoolExecutor(workers) as pool:
        start = time.perf_counter()
        end = start + seconds
        total = sum(pool.map(lambda _: work(), range(workers)))
        return total / (time.perf_counter() - start)


def table(title: str, levels: Sequence[int], rates: Rates) -> None:
    """Print the medians and the ratios of one kind of client."""
    print("".join([f"{title + ', in flight':<32}", *(f"{level:>8}" for level in levels)]))
    for name in dict.fromkeys(name for name, _ in rates):
        print("".join([f"{name:<32}", *(f"{median(rates[name, level]):>8,.0f}" for level in levels)]))
    for name in (PLAIN, HOP):
        if (name, levels[0]) in rates:
            ratios = (median(rates[OURS, level]) / median(rates[name, level]) for level in levels)
            print("".join([f"{OURS + ' / ' + name:<32}", *(f"{ratio:>8.2f}" for ratio in ratios)]))
    print()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each cell is measured (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each time (1)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
