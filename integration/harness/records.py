"""Records put into an etcd by hand, and the moment at which a client has taken them in.

For measurements that must not depend on how instances register.
"""

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from p2plb.discovery import shared
from p2plb.discovery.etcd import records
from p2plb.instance import Instance
from p2plb.observe.events import Event, ViewChanged


@contextmanager
def writer(etcd: str, prefix: str = "/p2plb") -> Iterator["Writer"]:
    """Give something that writes records below a prefix into the etcd at this URL."""
    with httpx.Client(base_url=etcd, trust_env=False, timeout=10) as http:
        yield Writer(http, f"{prefix}/services/")


class Writer:
    """Puts records through etcd's JSON gateway."""

    def __init__(self, http: httpx.Client, root: str) -> None:
        self._http = http
        self._root = root

    def put(self, instance: Instance) -> float:
        """Put a record and return the moment of etcd's answer."""
        pair = {"key": self._key(instance), "value": _base64(records.encode(instance))}
        self._http.post("/v3/kv/put", json=pair).raise_for_status()
        return time.perf_counter()

    def delete(self, instance: Instance) -> None:
        """Delete a record."""
        self._http.post("/v3/kv/deleterange", json={"key": self._key(instance)}).raise_for_status()

    def _key(self, instance: Instance) -> str:
        return _base64(records.key(self._root, instance.service, instance.id))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextmanager
def closing_registries() -> Iterator[None]:
    """Close what the block leaves of registries: stands inside an etcd of its own, whose end nobody is to report."""
    try:
        yield
    finally:
        shared.close_unused()


class Arrivals:
    """An observer that knows when each instance came into the view of a client."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._news = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Take note of a changed view."""
        if isinstance(event, ViewChanged):
            with self._news:
                self._at.update(dict.fromkeys(event.added, time.perf_counter()))
                self._news.notify_all()

    def wait(self, name: str, seconds: float) -> float:
        """Return the moment at which the instance came in; raises `TimeoutError` if it does not come."""
        with self._news:
            if not self._news.wait_for(lambda: name in self._at, seconds):
                raise TimeoutError(f"{name} did not come into the view within {seconds:g} s")
            return self._at[name]
