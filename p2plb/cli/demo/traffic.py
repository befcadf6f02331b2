"""Steady traffic: a few threads that call the service through one client and count what they see."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from p2plb import Client
from p2plb.cli.demo.instance import SERVICE
from p2plb.cli.demo.tally import Tally
from p2plb.discovery.registry import Registry
from p2plb.observe.events import AttemptStarted, Event

THREADS = 4
PAUSE = 0.005
"""Seconds between two calls of a thread."""


@contextmanager
def traffic(registry: str | Registry, tally: Tally) -> Iterator[None]:
    """Call the service for as long as the block runs."""
    stop = threading.Event()

    def observe(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            tally.attempted(str(event.instance.metadata["name"]))

    with Client(registry, observers=[observe], trust_env=False) as client:
        threads = [threading.Thread(target=call_until, args=(stop, client, tally)) for _ in range(THREADS)]
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def call_until(stop: threading.Event, client: httpx.Client, tally: Tally) -> None:
    """Call again and again until told to stop."""
    while not stop.wait(PAUSE):
        try:
            response = client.get(f"http://{SERVICE}/").raise_for_status()
        except Exception as error:  # whatever it is, the call has failed
            tally.failed(f"{type(error).__name__}: {error}")
        else:
            served = response.extensions["p2plb"]
            tally.answered(str(served.instance.metadata["name"]), len(served.attempts))
