"""The registry on etcd: the watcher, the notifier and the lease keeper, put together behind the `Registry` interface.

It holds no judgement of its own and no bytes: any `Driver` will do.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from p2plb import forks
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Driver, DriverError
from p2plb.discovery.etcd.leases import LeaseKeeper
from p2plb.discovery.notifier import Notifier
from p2plb.discovery.plan import Timing
from p2plb.discovery.reducer import Reducer, Skipped
from p2plb.discovery.registry import Announcement, AnnouncementState, Listener, Registry, RegistryStatus, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.discovery.watcher import Watcher
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance, check_name


class EtcdRegistry(Registry):
    """Instances recorded in etcd below `prefix`, reached through `driver`, which `close` closes.

    `note` is appended to the address in texts. `rest` is called on the watch thread, at once and then about once a
    minute, while no service is wanted; it may close the registry.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        prefix: str = records.PREFIX,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        note: str = "",
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = driver.url if prefix == records.PREFIX else f"{driver.url}{prefix}"
        self._driver = driver
        self._root = records.services_root(prefix)
        self._timing = timing or Timing()
        self._clock = clock
        self._note = note
        self._lock = threading.Lock()
        self._closed = False
        self._leases: LeaseKeeper | None = None
        self._notifier = Notifier(self.url, linger=self._timing.linger, clock=clock)
        self._watcher = Watcher(
            driver,
            self._root,
            wanted=lambda: self._notifier.services,
            publish=self._notifier.publish,
            last=self._notifier.snapshot,
            rest=rest,
            timing=self._timing,
            clock=clock,
            rng=rng or random.Random(),
        )
        forks.watch(self)

    def watch(self, service: str, listener: Listener) -> Watch:
        """Tell `listener` the last good snapshot of `service`, if any, and each newer one; returns at once."""
        check_name(service, "a service name")
        return self._notifier.subscribe(service, listener, on_first=self._watcher.nudge)

    def snapshot(self, service: str) -> Snapshot | None:
        """Return the last good snapshot of a service that is or was watched, None before the first answer."""
        return self._notifier.snapshot(service)

    def age(self, service: str) -> float | None:
        """Return for how many seconds the snapshot of a service may have been out of date, None before the first."""
        return self._watcher.age(service)

    def list(self, timeout: float = 5.0) -> tuple[Snapshot, ...]:
        """Ask etcd now for all services, sorted by name; blocks. Raises `DiscoveryError`."""
        snapshots, _ = self._read(timeout)
        return tuple(snapshots)

    def unreadable(self, timeout: float = 5.0) -> tuple[tuple[str, str], ...]:
        """Ask etcd now which records can't be read, by key, and why; blocks. Raises `DiscoveryError`."""
        _, skipped = self._read(timeout)
        return tuple((each.key.decode(errors="replace"), each.reason) for each in skipped)

    def announce(
        self,
        instance: Instance,
        *,
        ttl: float,
        ready: Callable[[], bool] = lambda: True,
        on_state: Callable[[AnnouncementState, Exception | None], None] = lambda _state, _error: None,
    ) -> Announcement:
        """Keep a record in etcd until it is withdrawn; returns at once."""
        return self._keeper().announce(instance, ttl=ttl, ready=ready, on_state=on_state)

    def status(self) -> RegistryStatus:
        """Say how the registry is doing, from memory."""
        watcher = self._watcher
        return RegistryStatus(
            url=self.url + self._note,
            connected=watcher.connected and not self._closed,
            age=watcher.age(),
            error="it was closed" if self._closed else watcher.error,
            revision=watcher.revision,
            skipped=watcher.skipped,
            names=tuple(sorted(watcher.names | self._notifier.populated())),
        )

    def close(self) -> None:
        """Stop threads and close the driver, within a second; idempotent, from any thread, starts none."""
        with self._lock:
            self._closed = True
        self._watcher.stop()
        if self._leases is not None:
            self._leases.close()
        self._driver.close()
        self._watcher.join()
        self._notifier.close()

    def after_fork(self) -> None:
        """In a forked child: keep the snapshots, drop the rest; threads start at the next `watch` or `announce`."""
        self._lock = threading.Lock()
        self._driver.after_fork()
        if self._leases is not None:
            self._leases.after_fork()
        self._notifier.after_fork()
        self._watcher.after_fork()

    def _read(self, timeout: float) -> tuple[Iterable[Snapshot], Iterable[Skipped]]:
        try:
            listing = self._driver.read([self._root.encode()], timeout=timeout)
        except DriverError as error:
            raise DiscoveryError(f"{error}{self._note}") from error
        found = {records.service_of(self._root, entry.key) for entry in listing.entries}
        names = sorted(name for name in found if name)
        decode = partial(records.decode, self._root, loopback=self._driver.loopback)
        reducer = Reducer(decode, partial(records.service_of, self._root))
        return reducer.listed(names, listing.entries, listing.revision, self._clock()), reducer.news()

    def _keeper(self) -> LeaseKeeper:
        with self._lock:
            if self._closed:
                raise DiscoveryError(f"the registry {self.url} is closed")
            if self._leases is None:
                self._leases = LeaseKeeper(self._driver, self._root, clock=self._clock)
            return self._leases
