"""What every etcd driver says and how it takes the answers, whoever carries them: gateway.py and grpc.py add a carrier.

What is said stands in messages.py, what refusals mean in faults.py, endpoints and tokens in session.py.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random

from p2plb.discovery.etcd import faults, messages
from p2plb.discovery.etcd.carrier import Carrier
from p2plb.discovery.etcd.credentials import Credentials
from p2plb.discovery.etcd.driver import Closed, LeaseGone, Listing, Want, WatchStream
from p2plb.discovery.etcd.paging import Reading
from p2plb.discovery.etcd.session import Session
from p2plb.discovery.etcd.stream import Stream
from p2plb.instance import is_loopback, netloc, parse_origin


class EtcdDriver(ABC):
    """A `Driver` over a carrier.

    `endpoints` are origins such as `http://10.0.0.1:2379`, all of one etcd. `user` and `password` log in, or what
    `password_file` holds at the time; `ca`, `cert` and `key` are PEM files for https endpoints, read again for each new
    connection. `ValueError` says what is wrong with an argument; nothing is connected before the first call.
    """

    schemes = ("etcd", "etcds")
    """How the URL begins, without and with TLS."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        user: str | None = None,
        password: str | None = None,
        password_file: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("an etcd needs at least one endpoint, such as http://127.0.0.1:2379")
        if any("@" in endpoint for endpoint in endpoints):
            raise ValueError("endpoints carry no credentials: give user and password as arguments of their own")
        self._addresses = [parse_origin(endpoint) for endpoint in endpoints]
        self._clock = clock
        origins = [f"{scheme}://{netloc(host, port)}" for scheme, host, port in self._addresses]
        credentials = Credentials(user, password, password_file, ca, cert, key)
        self._session = Session(origins, self._carrier(credentials), credentials, clock, rng or Random())

    @abstractmethod
    def _carrier(self, credentials: Credentials) -> Carrier:
        """Return what carries the requests; nothing is connected yet."""

    @property
    def url(self) -> str:
        """The endpoints as a registry URL, without credentials."""
        scheme = self.schemes[self._addresses[0][0] == "https"]
        return f"{scheme}://" + ",".join(netloc(host, port) for _, host, port in self._addresses)

    @property
    def loopback(self) -> bool:
        """Whether every endpoint is on this machine's loopback."""
        return all(is_loopback(host) for _, host, _ in self._addresses)

    def read(self, prefixes: Sequence[bytes], *, timeout: float, keys_only: bool = False, limit: int = 0) -> Listing:
        """Return everything below the prefixes, at one revision, in as many requests as it takes."""
        deadline = self._clock() + timeout
        reading = Reading(prefixes, keys_only=keys_only, limit=limit)
        while (request := reading.request()) is not None:
            try:
                reading.take(self._session.ask("kv/txn", request, deadline - self._clock()))
            except faults.TooLarge:
                reading.shrink()
        return reading.listing()

    def watch(self, wants: Sequence[Want], *, timeout: float, idle: float) -> WatchStream:
        """Return a stream that connects when it is iterated."""
        if self._session.closed:
            raise Closed("the driver was closed")
        return Stream(self._session, wants, timeout, idle, self._clock)

    def grant(self, lease: int, ttl: int, *, timeout: float) -> int:
        """Grant a lease and return its TTL, of the one that lives if it does already."""
        deadline = self._clock() + timeout
        try:
            return messages.number(
                self._session.ask("lease/grant", {"ID": str(lease), "TTL": str(ttl)}, timeout), "TTL"
            )
        except faults.LeaseExists:
            return self.keepalive(lease, timeout=deadline - self._clock())

    def keepalive(self, lease: int, *, timeout: float) -> int:
        """Return the TTL that the lease has now; a dead one answers without."""
        answer = self._session.ask("lease/keepalive", {"ID": str(lease)}, timeout)
        return messages.number(messages.part(answer, "result"), "TTL")

    def publish(self, key: bytes, value: bytes, lease: int, *, timeout: float, expect: int | None = None) -> int:
        """Put the key unless it is ours with this value already, and return its previous lease."""
        answer = self._session.ask("kv/txn", messages.publish_txn(key, value, lease, expect), timeout)
        return messages.holder(answer, lease)

    def revoke(self, lease: int, key: bytes | None = None, *, timeout: float) -> None:
        """End a lease, or delete one key if it is under this lease."""
        if key is not None:
            self._session.ask("kv/txn", messages.delete_txn(key, lease), timeout)
            return
        try:
            self._session.ask("lease/revoke", {"ID": str(lease)}, timeout)
        except LeaseGone:
            return  # as we wanted it

    def close(self) -> None:
        """Close connections and end the calls and streams that use them."""
        self._session.close()

    def after_fork(self) -> None:
        """Forget the parent's connections and locks, and take other endpoints than it."""
        self._session.after_fork()
