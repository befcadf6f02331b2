"""The last good snapshot of every service, and the thread that tells listeners of newer ones.

Whoever publishes is never held up: listeners run on the notifier's own thread, one at a time, and of what piles up each
is told only the newest. It knows nothing of where snapshots come from.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from p2plb.discovery import threads
from p2plb.discovery.registry import Listener
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError

logger = logging.getLogger("p2plb.discovery")

MAX_RESTING: Final = 1024
MAX_LINGERING: Final = 64
_JOIN: Final = 0.2


class Subscription:
    """One listener's interest in one service."""

    def __init__(self, notifier: "Notifier", service: str, listener: Listener) -> None:
        self.service = service
        self._listener = listener
        self._notifier = notifier

    def close(self) -> None:
        """End it; idempotent, from any thread, also from the listener itself."""
        self._notifier.unsubscribe(self)

    def tell(self, snapshot: Snapshot) -> None:
        """Call the listener; whatever it raises is its own affair."""
        try:
            self._listener(snapshot)
        except BaseException:  # `sys.exit()` in it must not end the thread that tells all others
            logger.exception("a listener of service %s failed", self.service)


class Notifier:
    """Keeps snapshots and tells them; every method may be called from any thread and returns at once.

    A service is wanted for `linger` seconds more after its last listener has left: there is often a next one, and a
    client for each call must not cost a list and a watch each time.
    """

    def __init__(self, name: str, *, linger: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._linger = linger
        self._clock = clock
        self._closed = False
        self._resting: LRUCache[str, Snapshot] = LRUCache(MAX_RESTING)  # of services that nobody watches any more
        self._watched: dict[str, Snapshot] = {}
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._lingering: dict[str, float] = {}  # until when services without a listener are still wanted
        self._due: dict[Subscription, Snapshot] = {}
        self._thread: threading.Thread | None = None

    @property
    def services(self) -> frozenset[str]:
        """The services that somebody watches, or has watched a moment ago."""
        with self._changed:
            now = self._clock()
            lingering = {service for service, until in self._lingering.copy().items() if until > now}
            return frozenset(lingering.union(self._subscriptions))

    def populated(self) -> frozenset[str]:
        """Return the services whose last snapshot has instances."""
        with self._changed:
            known = (*self._watched.values(), *self._resting.values())
        return frozenset(snapshot.service for snapshot in known if snapshot.instances)

    def snapshot(self, service: str) -> Snapshot | None:
        """Return the last good snapshot of a service, None if there is none."""
        with self._changed:
            return self._last(service)

    def subscribe(self, service: str, listener: Listener, on_first: Callable[[], None] = lambda: None) -> Subscription:
        """Tell `listener` the last good snapshot, if any, and all newer ones; `on_first` if it was not wanted."""
        subscription = Subscription(self, service, listener)
        with self._changed:
            self._start()
            first = service not in self.services
            self._subscriptions.setdefault(service, set()).add(subscription)
            if (last := self._last(service)) is not None:
                self._resting.pop(service, None)
                self._watched[service] = last
                self._tell(subscription, last)
        if first:
            self._announce_first(subscription, on_first)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Tell a listener nothing more; the last snapshot of its service stays."""
        service = subscription.service
        with self._changed:
            self._due.pop(subscription, None)
            others = self._subscriptions.get(service, set())
            others.discard(subscription)
            if not others:
                self._subscriptions.pop(service, None)
                self._let_linger(service)
                self._rest(service)

    def publish(self, snapshot: Snapshot) -> None:
        """Make this the last good snapshot of its service, and have it told."""
        with self._changed:
            watchers = self._subscriptions.get(snapshot.service)
            kept = self._resting if watchers is None else self._watched
            kept[snapshot.service] = snapshot
            for subscription in tuple(watchers or ()):  # one of them may be collected, and so closed, meanwhile
                self._tell(subscription, snapshot)

    def close(self) -> None:
        """Tell nothing more and end the thread, waiting at most 0.2 s for a slow listener; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        threads.join(self._thread, _JOIN)

    def after_fork(self) -> None:
        """In a forked child: keep the snapshots; locks are new, and who listened in the parent is not told here."""
        kept = threads.survivors(self._resting) | self._watched
        self._resting, self._watched = LRUCache(MAX_RESTING), {}
        self._resting.update(kept)
        self._reset()

    def _last(self, service: str) -> Snapshot | None:
        return self._watched.get(service) or self._resting.get(service)

    def _let_linger(self, service: str) -> None:
        self._lingering.pop(service, None)
        self._lingering[service] = self._clock() + self._linger
        if len(self._lingering) > MAX_LINGERING:
            del self._lingering[next(iter(self._lingering))]

    def _rest(self, service: str) -> None:
        if (last := self._watched.pop(service, None)) is not None:
            self._resting[service] = last

    def _announce_first(self, subscription: Subscription, on_first: Callable[[], None]) -> None:
        try:
            on_first()
        except DiscoveryError:
            subscription.close()
            with self._changed:
                self._lingering.pop(subscription.service, None)
            raise

    def _tell(self, subscription: Subscription, snapshot: Snapshot) -> None:
        self._due[subscription] = snapshot
        self._changed.notify()

    def _start(self) -> None:
        if self._closed:
            raise DiscoveryError(f"the registry {self._name} is closed")
        if self._thread is None:
            self._thread = threads.start(self._run, f"p2plb-notify {self._name}")

    def _run(self) -> None:
        while (told := self._take()) is not None:
            subscription, snapshot = told
            subscription.tell(snapshot)

    def _take(self) -> tuple[Subscription, Snapshot] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closed)
            if self._closed:
                return None
            subscription = next(iter(self._due))
            return subscription, self._due.pop(subscription)
