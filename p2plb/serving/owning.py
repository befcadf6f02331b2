"""Being called: whether a key belongs to this process, by the shard map that its callers compute too.

It knows which registrations of this process are under way, and watches their service from the first question on.
"""

import threading
import time
from typing import Any, Final, Protocol

from p2plb import forks
from p2plb.discovery.registry import Registry, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance, check_number
from p2plb.sharding.shardmap import EMPTY, ShardMap, fill

FIRST_LIST: Final = 1.0
"""Seconds that a process may take to learn who is there."""


class Record(Protocol):
    """A record of this process, from its beginning until it is closed."""

    instance: Instance | None

    @property
    def service(self) -> str:
        """The service of which it is an instance."""

    @property
    def registry(self) -> Registry | None:
        """Where it is announced; None once it has ended."""


class Ownership:
    """What one record of this process owns. Any thread may ask; the first who does starts the watch."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._map: ShardMap | None = None
        self._answered = threading.Event()
        self._watch: Watch | None = None
        self._closed = False
        self._began = 0.0
        self._lock = threading.Lock()

    def owns(self, key: Any, timeout: float) -> bool:
        """Whether the record owns a key; `DiscoveryError` if the list of instances is not known in time."""
        found, mine = self._map or self._first(timeout), self._record.instance
        return mine is not None and bool(found.owners) and found.owner(key).id == mine.id

    def close(self) -> None:
        """End the watch."""
        with self._lock:
            self._closed = True
            if self._watch is not None:
                self._watch.close()

    def _first(self, timeout: float) -> ShardMap:
        """Wait for the first list until `timeout` seconds after the first question: who asks later fails at once."""
        self._begin()
        self._answered.wait(max(self._began + timeout - time.monotonic(), 0.0))
        if self._map is None:
            status = None if self._record.registry is None else self._record.registry.status()
            why = (
                f"{status.url}: {status.error or 'it has not answered yet'}" if status else "the registration has ended"
            )
            raise DiscoveryError(f"who owns keys of service {self._record.service!r} is not known: {why}")
        return self._map

    def _begin(self) -> None:
        with self._lock:
            registry = self._record.registry
            if self._watch is None and registry is not None and not self._closed:
                self._began = time.monotonic()
                self._watch = registry.watch(self._record.service, self._learn)

    def _learn(self, snapshot: Snapshot) -> None:
        self._map = fill(snapshot, self._map or EMPTY)
        self._answered.set()


class Here:
    """The records of this process that are under way."""

    def __init__(self) -> None:
        self._found: dict[Record, Ownership] = {}
        forks.watch(self)

    def add(self, record: Record) -> None:
        """Count one that begins."""
        self._found[record] = Ownership(record)

    def remove(self, record: Record) -> None:
        """Forget one that has ended, if it is here."""
        if (found := self._found.pop(record, None)) is not None:
            found.close()

    def of(self, service: str | None) -> list[Ownership]:
        """Return those of a service; None is the only one that there is."""
        found = self._found.copy()
        names = sorted({record.service for record in found})
        if service is None and len(names) > 1:
            raise ValueError(f"this process serves {', '.join(names)}: say which, owns(key, service={names[0]!r})")
        mine = [one for record, one in found.items() if service in (None, record.service)]
        if not mine:
            what = "no service" if service is None else f"not service {service!r}"
            raise RuntimeError(f"this process serves {what}: p2plb.register(…) says that it does")
        return mine

    def after_fork(self) -> None:
        """In a forked child: the records are the parent's."""
        self._found = {}


here: Final = Here()


def owns(key: Any, *, service: str | None = None, timeout: float = FIRST_LIST) -> bool:
    """Return whether this process owns a key of the service that it is registered for.

    It is looked up in the newest list that the registry has told. Before the own record stands there, and once it is
    draining, the answer is False. The first call starts a watch and waits up to `timeout` seconds for the list; if that
    does not come, `DiscoveryError`. `service` is needed only by a process that is registered for several.
    `RuntimeError` if it is not registered at all.
    """
    check_number(timeout, "owns(timeout=)", 0, 3600)
    return any(one.owns(key, timeout) for one in here.of(service))
