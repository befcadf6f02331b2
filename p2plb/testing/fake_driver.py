"""The driver of a fake etcd: what `FakeEtcd.driver()` returns, its watch streams, and the engine that they share.

The engine is the store behind one lock, plus what a test has scripted; the verbs for tests stand in fake_etcd.py.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from p2plb.discovery.etcd.driver import (
    Changed,
    Closed,
    DriverError,
    Entry,
    Frame,
    Listing,
    Opened,
    Unavailable,
    Want,
    WatchStream,
)
from p2plb.testing.fake_store import Store, wanted

T = TypeVar("T")


@dataclass(slots=True)
class Failure:
    """The next `left` calls of a method raise `error`; if `carried_out`, only after they took effect."""

    error: DriverError
    left: float
    carried_out: bool


class Engine:
    """The store, the open streams and the scripted failures, all guarded by the condition `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.store = Store()
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, deque[Failure]] = {}
        self.streams: set[Stream] = set()
        self.held = False

    def change(self, change: Callable[[Store], Iterable[Entry]]) -> None:
        """Change the store and tell the streams."""
        with self.changed:
            events = tuple(change(self.store))
            for stream in self.streams:
                stream.tell(events)
            self.changed.notify_all()

    def call(self, method: str, act: Callable[[], T]) -> T:
        """Carry out a driver's call, unless it was scripted to fail."""
        with self.changed:
            failure = self._next_failure(method)
            if failure is not None and not failure.carried_out:
                raise failure.error.with_traceback(None)
            result = act()
            if failure is not None:
                raise failure.error.with_traceback(None)
            return result

    def _next_failure(self, method: str) -> Failure | None:
        scripted = self.failures.get(method)
        if not scripted:
            return None
        failure = scripted[0]
        failure.left -= 1
        if failure.left <= 0:
            scripted.popleft()
        return failure


class FakeDriver:
    """A `Driver` on a fake etcd. Nothing here takes time, so only a deadline that has passed already runs out."""

    def __init__(self, engine: Engine, url: str, *, loopback: bool) -> None:
        self.url = url
        self.loopback = loopback
        self.closed = False
        self._engine = engine

    def read(self, prefixes: Sequence[bytes], *, timeout: float, keys_only: bool = False, limit: int = 0) -> Listing:
        """Return everything below the prefixes at one revision."""
        return self._call("read", timeout, lambda: self._read(prefixes, keys_only=keys_only, limit=limit))

    def watch(self, wants: Sequence[Want], *, timeout: float, idle: float) -> WatchStream:
        """Return a stream that opens when it is iterated."""
        self._enter("watch", timeout)
        return Stream(self, self._engine, tuple(wants), timeout, idle)

    def grant(self, lease: int, ttl: int, *, timeout: float) -> int:
        """Grant a lease and return its TTL."""
        return self._call("grant", timeout, lambda: self._engine.store.grant(lease, ttl))

    def keepalive(self, lease: int, *, timeout: float) -> int:
        """Return the lease's TTL, 0 if it is gone."""
        return self._call("keepalive", timeout, lambda: self._engine.store.keepalive(lease))

    def publish(self, key: bytes, value: bytes, lease: int, *, timeout: float, expect: int | None = None) -> int:
        """Put the key unless it is ours with this value already, and return its previous lease."""
        return self._call("publish", timeout, lambda: self._publish(key, value, lease, expect))

    def revoke(self, lease: int, key: bytes | None = None, *, timeout: float) -> None:
        """End a lease, or delete one key if it is under this lease."""
        self._call("revoke", timeout, lambda: self._revoke(lease, key))

    def close(self) -> None:
        """End the streams of this driver and refuse whatever comes."""
        with self._engine.changed:
            self.closed = True
            self._engine.changed.notify_all()

    def after_fork(self) -> None:
        """Forget streams and locks of the parent."""
        self._engine.changed = threading.Condition(threading.RLock())
        self._engine.streams = set()

    def _enter(self, method: str, timeout: float) -> None:
        with self._engine.changed:
            if self.closed:
                raise Closed(f"{self.url}: the driver was closed")
            self._engine.calls[method] += 1
        if timeout <= 0:
            raise Unavailable(f"{self.url}: no time left")

    def _call(self, method: str, timeout: float, act: Callable[[], T]) -> T:
        self._enter(method, timeout)
        return self._engine.call(method, act)

    def _read(self, prefixes: Sequence[bytes], *, keys_only: bool, limit: int) -> Listing:
        store = self._engine.store
        found = [entry for prefix in prefixes for entry in store.below(prefix)[: limit or None]]
        return Listing(store.revision, tuple(replace(entry, value=b"") if keys_only else entry for entry in found), 1)

    def _publish(self, key: bytes, value: bytes, lease: int, expect: int | None) -> int:
        store = self._engine.store
        holder = store.holder(key)
        ours = holder == lease
        if not (ours and store.entries[key].value == value) and (ours or expect in (None, holder)):
            self._engine.change(lambda store: store.put(key, value, lease))
        return holder

    def _revoke(self, lease: int, key: bytes | None) -> None:
        if key is None:
            self._engine.change(lambda store: store.end(lease))
        elif self._engine.store.holder(key) == lease:
            self._engine.change(lambda store: store.delete([key]))


class Stream:
    """A `WatchStream`: frames for one thread; the engine feeds `queue` under its lock."""

    def __init__(
        self, driver: FakeDriver, engine: Engine, wants: tuple[Want, ...], timeout: float, idle: float
    ) -> None:
        self.queue: deque[Frame | DriverError] = deque()
        self._driver = driver
        self._engine = engine
        self._wants = wants
        self._timeout = timeout
        self._idle = idle
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        self._engine.call("watch", self._open)
        try:
            if (frame := self._next(self._timeout)) is None:
                raise Unavailable(f"{self._driver.url}: the watch did not open in {self._timeout:g} s")
            while frame is not None:
                yield frame
                frame = self._next(self._idle)
        finally:
            self._leave()

    def close(self) -> None:
        """Unblock and end the iteration."""
        with self._engine.changed:
            self._closed = True
            self._leave()
            self._engine.changed.notify_all()

    def tell(self, events: Iterable[Entry]) -> None:
        """Queue those of the events that are wanted."""
        if told := tuple(event for event in events if wanted(event, self._wants)):
            self.queue.append(Changed(told))

    def _open(self) -> None:
        self._check_open()
        store = self._engine.store
        missed = store.since(self._wants)
        self.queue.append(Opened(store.revision))
        self.tell(missed)
        self._engine.streams.add(self)

    def _next(self, timeout: float) -> Frame | None:
        engine = self._engine
        with engine.changed:
            engine.changed.wait_for(lambda: self._ended or (self.queue and not engine.held), timeout)
            self._check_open()
            if engine.held or not self.queue:
                return None
            frame = self.queue.popleft()
        if isinstance(frame, DriverError):
            raise frame.with_traceback(None)
        return frame

    @property
    def _ended(self) -> bool:
        return self._closed or self._driver.closed

    def _check_open(self) -> None:
        if self._ended:
            raise Closed(f"{self._driver.url}: the stream was closed")

    def _leave(self) -> None:
        with self._engine.changed:
            self._engine.streams.discard(self)
