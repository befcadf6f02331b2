"""How long a new instance takes from etcd's answer to its put until a client can pick it.

    python -m integration.bench.freshness [--count 200]

The moment of arrival is that of `ViewChanged`, which is emitted when the new view is in force: nothing is polled that
could hold up what is measured.
"""

import argparse
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import NamedTuple

import httpx

from integration.harness.records import Arrivals, Writer, closing_registries, writer
from integration.harness.servers import Server, running
from p2plb import Client
from p2plb.instance import Instance
from p2plb.testing.etcd import running_etcd

PATIENCE = 10.0


def main() -> None:
    """Measure and print the median and the 99th percentile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many instances are put (200)")
    count = parser.parse_args().count
    for load in (False, True):
        delays = measure(count, load=load)
        print(f"client {'calls without a pause' if load else 'is idle'}, {count} instances:")
        print(f"  from etcd's answer to the picker: {figures([delay.after_answer for delay in delays])}")
        print(f"  from the beginning of the put:    {figures([delay.after_start for delay in delays])}")


class Delay(NamedTuple):
    """How long one instance took, in seconds; 0 if it was in force before the answer to its put had been read."""

    after_answer: float
    after_start: float


def figures(seconds: Sequence[float]) -> str:
    """Return median and 99th percentile."""
    late = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    return f"median {median(seconds) * 1000:.1f} ms, p99 {late * 1000:.1f} ms"


def measure(count: int, *, load: bool) -> list[Delay]:
    """Return the delays, with a client that calls meanwhile or does not."""
    arrivals = Arrivals()
    with (
        running(2) as (first, second),
        running_etcd() as etcd,
        closing_registries(),
        writer(etcd.url) as out,
        Client(etcd.registry, observers=[arrivals], trust_env=False) as client,
    ):
        out.put(first.instance)
        client.get("http://users/").raise_for_status()
        with calling(client) if load else nullcontext():
            return [delay(out, arrivals, second, number) for number in range(count)]


def delay(out: Writer, arrivals: Arrivals, server: Server, number: int) -> Delay:
    """Return how long one new instance took; it is taken out again."""
    instance = Instance(id=f"new-{number}", service="users", url=server.url)
    started = time.perf_counter()
    answered = out.put(instance)
    arrived = arrivals.wait(instance.id, PATIENCE)
    out.delete(instance)
    return Delay(max(arrived - answered, 0.0), arrived - started)


@contextmanager
def calling(client: httpx.Client) -> Iterator[None]:
    """Call the service from one thread for as long as the block runs."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            client.get("http://users/")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
