"""How long a new instance takes from etcd's answer to its put until a client can pick it.

    python -m integration.bench.freshness [--count 200]

The moment of arrival is that of `ViewChanged`, which is emitted when the new view is in force: nothing is polled that
could hold up what is measured.
"""

import argparse
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median

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
        delays = sorted(measure(count, load=load))
        how = "while it calls without a pause" if load else "while it is idle"
        late = delays[math.ceil(0.99 * count) - 1]
        print(f"put to picker, client {how}: median {median(delays) * 1000:.1f} ms, p99 {late * 1000:.1f} ms ({count})")


def measure(count: int, *, load: bool) -> list[float]:
    """Return the delays in seconds, with a client that calls meanwhile or does not."""
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


def delay(out: Writer, arrivals: Arrivals, server: Server, number: int) -> float:
    """Return how long one new instance took; it is taken out again."""
    instance = Instance(id=f"new-{number}", service="users", url=server.url)
    answered = out.put(instance)
    arrived = arrivals.wait(instance.id, PATIENCE)
    out.delete(instance)
    return max(arrived - answered, 0.0)


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
