"""Requests per second over ten instances: plain httpx, plain httpx through an nginx hop, and p2plb, in one run.

    python -m integration.bench.throughput [--rounds 5] [--seconds 2]

Plain httpx stands there twice: with its default limits (100 connections, 20 of them kept idle), and without any; on
asyncio p2plb stands there three times: as it is, with httpx2, and with aiohttp inside. The contenders take turns in
every round, so that what else the machine does hits all of them; medians of the rounds are printed, and the ratios of
p2plb to the others.
"""

import argparse
import asyncio
import itertools
import platform
from collections.abc import Awaitable, Callable, Iterator, Sequence
from statistics import median
from typing import Any, TypeVar

import httpx
from aiohttp import ClientSession, TCPConnector
from httpx_aiohttp import AiohttpTransport

import p2plb.httpx2
from integration.bench.backends import Backends, backends
from integration.bench.rates import Rate, async_rate, thread_rate
from p2plb import AsyncClient, Client, Instance

PLAIN, WIDE, OURS = "plain httpx", "plain httpx, limits off", "p2plb"
SECOND, AIOHTTP = "p2plb, httpx2", "p2plb, aiohttp inside"
HOP, WIDE_HOP = "plain httpx, nginx hop", "plain httpx, nginx hop, limits off"
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
Rates = dict[tuple[str, int], list[Rate]]
Result = TypeVar("Result")
Pair = tuple[Callable[[str], Result], Callable[[str], Result]]
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
    async with (
        httpx.AsyncClient(trust_env=False) as plain,
        httpx.AsyncClient(trust_env=False, limits=NO_LIMITS) as wide,
        httpx.AsyncClient(trust_env=False) as hop,
        httpx.AsyncClient(trust_env=False, limits=NO_LIMITS) as wide_hop,
        AsyncClient(ten.registry, trust_env=False) as ours,
        p2plb.httpx2.AsyncClient(ten.registry, trust_env=False) as second,
        AsyncClient(ten.registry, trust_env=False, inner=aiohttp_transport) as inside,
    ):
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            **contenders(ten, (plain.get, wide.get), (hop.get, wide_hop.get), ours.get),
            SECOND: lambda: second.get("http://bench/"),
            AIOHTTP: lambda: inside.get("http://bench/"),
        }
        for name, level, call in schedule(calls, levels, rounds):
            rates.setdefault((name, level), []).append(await async_rate(call, level, seconds))
    return rates


def threaded(ten: Backends, levels: Sequence[int], rounds: int, seconds: float) -> Rates:
    """Measure the sync clients."""
    rates: Rates = {}
    with (
        httpx.Client(trust_env=False) as plain,
        httpx.Client(trust_env=False, limits=NO_LIMITS) as wide,
        httpx.Client(trust_env=False) as hop,
        httpx.Client(trust_env=False, limits=NO_LIMITS) as wide_hop,
        Client(ten.registry, trust_env=False) as ours,
    ):
        calls = contenders(ten, (plain.get, wide.get), (hop.get, wide_hop.get), ours.get)
        for name, level, call in schedule(calls, levels, rounds):
            rates.setdefault((name, level), []).append(thread_rate(call, level, seconds))
    return rates


def aiohttp_transport(_instance: Instance) -> AiohttpTransport:
    """Return a transport as examples/engines/ shows it."""
    return AiohttpTransport(verify=False, client=lambda: ClientSession(connector=TCPConnector(limit=0)))


def contenders(
    ten: Backends, plain: Pair[Result], hop: Pair[Result], ours: Callable[[str], Result]
) -> dict[str, Callable[[], Result]]:
    """Return one call for each contender; pairs are with default limits and without any."""
    turns = itertools.cycle(ten.origins), itertools.cycle(ten.origins)
    calls = {PLAIN: lambda: plain[0](next(turns[0]) + "/"), WIDE: lambda: plain[1](next(turns[1]) + "/")}
    if ten.hop:
        calls |= {HOP: lambda: hop[0](f"{ten.hop}/"), WIDE_HOP: lambda: hop[1](f"{ten.hop}/")}
    return calls | {OURS: lambda: ours("http://bench/")}


def schedule(calls: dict[str, Call], levels: Sequence[int], rounds: int) -> Iterator[tuple[str, int, Call]]:
    """Say who is measured when: in each round every contender at every level, and nobody always first."""
    for turn, level in itertools.product(range(rounds), levels):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            yield name, level, calls[name]


def table(title: str, levels: Sequence[int], rates: Rates) -> None:
    """Print the medians, the ratios and the failed calls of one kind of client."""
    names = list(dict.fromkeys(name for name, _ in rates))
    medians = {cell: median(rate.per_second for rate in found) for cell, found in rates.items()}
    print(line(f"{title}, in flight", levels, "{}"))
    for name in names:
        print(line(name, [medians[name, level] for level in levels], "{:,.0f}"))
    for name in (name for name in names if name != OURS):
        print(line(f"{OURS} / {name}", [medians[OURS, level] / medians[name, level] for level in levels], "{:.2f}"))
    for name in names:
        failed = [sum(rate.failed for rate in rates[name, level]) for level in levels]
        print(line(f"failed calls, {name}", failed, "{}") + "\n" if any(failed) else "", end="")
    print()


def line(title: str, figures: Sequence[float], form: str) -> str:
    """Return one line of the table."""
    return "".join([f"{title:<36}", *(f"{form.format(figure):>8}" for figure in figures)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each cell is measured (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each time (2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
