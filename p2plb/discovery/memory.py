"""A registry in this process's memory: for tests, for one-process programs, and for trying p2plb without etcd.

It keeps the whole contract of a registry, listeners on a thread of their own included, but nobody else sees what it
holds and nothing ever expires.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from p2plb import forks
from p2plb.discovery import threads
from p2plb.discovery.notifier import Notifier
from p2plb.discovery.registry import Announcement, AnnouncementState, Listener, Registry, RegistryStatus, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance, check_name

logger = logging.getLogger("p2plb.discovery")

ASK_AGAIN: Final = 0.05

OnState = Callable[[AnnouncementState, Exception | None], None]


class MemoryRegistry(Registry):
    """Instances recorded in this process, by `put` and `remove` or by `announce`."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._lock = threading.Lock()
        self._closed = False
        self._revision = 0
        self._instances: dict[tuple[str, str], Instance] = {}
        self._announcements: set[_Announcement] = set()
        self._notifier = Notifier(url)
        forks.watch(self)

    def put(self, instance: Instance) -> None:
        """Record an instance, in place of the one with its service and id."""
        with self._lock:
            self._instances[instance.service, instance.id] = instance
            self._changed(instance.service)

    def remove(self, id: str) -> None:  # noqa: A002  the word of the record
        """Take out the instances with this id; none is fine too."""
        with self._lock:
            for key in [key for key in self._instances if key[1] == id]:
                del self._instances[key]
                self._changed(key[0])

    def take_back(self, instance: Instance) -> None:
        """Take out exactly this instance, not one that was recorded in its place."""
        with self._lock:
            if self._instances.get((instance.service, instance.id)) is instance:
                del self._instances[instance.service, instance.id]
                self._changed(instance.service)

    def watch(self, service: str, listener: Listener) -> Watch:
        """Tell `listener` what is recorded for `service` now and after each change."""
        check_name(service, "a service name")
        with self._lock:
            if self._notifier.snapshot(service) is None:
                self._notifier.publish(self._snapshot(service))
            return self._notifier.subscribe(service, listener)

    def snapshot(self, service: str) -> Snapshot | None:
        """Return the last snapshot of a service that is or was watched."""
        return self._notifier.snapshot(service)

    def list(self, timeout: float = 5.0) -> tuple[Snapshot, ...]:  # noqa: ARG002  nothing here takes time
        """Return what is recorded for all services, sorted by name."""
        with self._lock:
            self._check_open()
            return tuple(self._snapshot(service) for service in self._names())

    def announce(
        self,
        instance: Instance,
        *,
        ttl: float,  # noqa: ARG002  memory forgets nothing
        ready: Callable[[], bool] = lambda: True,
        on_state: OnState = lambda _state, _error: None,
    ) -> Announcement:
        """Record an instance as soon as it is `ready`, until it is withdrawn; nothing expires, so `ttl` is unused."""
        announcement = _Announcement(self, instance, ready, on_state)
        with self._lock:
            self._check_open()
            self._announcements = {other for other in self._announcements if other.lives} | {announcement}
        announcement.start()
        return announcement

    def status(self) -> RegistryStatus:
        """Say that all is well, until it is closed."""
        with self._lock:
            error = "it was closed" if self._closed else None
            return RegistryStatus(self.url, error is None, 0.0, error, self._revision, 0, self._names())

    def close(self) -> None:
        """End the announcements and stop the threads; idempotent."""
        with self._lock:
            self._closed = True
            announcements, self._announcements = self._announcements, set()
        for announcement in announcements:
            announcement.withdraw(0.2)
        self._notifier.close()

    def after_fork(self) -> None:
        """In a forked child: a copy of the records stays; the parent's announcements and listeners are gone."""
        self._lock = threading.Lock()
        self._announcements = set()
        self._notifier.after_fork()

    def _check_open(self) -> None:
        if self._closed:
            raise DiscoveryError(f"the registry {self.url} is closed")

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted({service for service, _ in self._instances}))

    def _snapshot(self, service: str) -> Snapshot:
        instances = (instance for key, instance in self._instances.items() if key[0] == service)
        return Snapshot(service, tuple(sorted(instances, key=lambda instance: instance.id)), self._revision)

    def _changed(self, service: str) -> None:
        self._revision += 1
        self._notifier.publish(self._snapshot(service))


class _Announcement:
    """One record in memory; a thread asks `ready` until it says yes, then ends."""

    def __init__(
        self, registry: MemoryRegistry, instance: Instance, ready: Callable[[], bool], on_state: OnState
    ) -> None:
        self.state = AnnouncementState.WAITING
        self.error: Exception | None = None
        self._registry = registry
        self._instance = instance
        self._ready = ready
        self._on_state = on_state
        self._lock = threading.RLock()
        self._withdrawn = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lives(self) -> bool:
        """Whether it is not withdrawn yet."""
        return not self._withdrawn.is_set()

    def start(self) -> None:
        """Begin to ask whether the instance is ready."""
        self._thread = threads.start(self._run, f"p2plb-lease {self._registry.url}")

    def update(self, instance: Instance) -> None:
        """Replace the record."""
        with self._lock:
            self._instance = instance
            if self.state is AnnouncementState.UP:
                self._registry.put(instance)

    def withdraw(self, timeout: float) -> None:
        """Take the record out."""
        with self._lock:
            self._withdrawn.set()
            if self.state is AnnouncementState.UP:
                self._registry.take_back(self._instance)
            self._turn(AnnouncementState.GONE)
        threads.join(self._thread, timeout)

    def _run(self) -> None:
        while not self._is_ready():
            if self._withdrawn.wait(ASK_AGAIN):
                return
        with self._lock:
            if self.lives:
                self._registry.put(self._instance)
                self._turn(AnnouncementState.UP)

    def _is_ready(self) -> bool:
        try:
            return self._ready()
        except BaseException as error:  # `sys.exit()` in it must not end this thread either
            self.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
            return False

    def _turn(self, state: AnnouncementState) -> None:
        if state is not self.state:
            self.state = state
            try:
                self._on_state(state, self.error)
            except BaseException:  # the same
                logger.exception("a listener of %s failed", self._instance.id)
