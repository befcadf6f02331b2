"""A registry without threads: it says nothing until a test tells it to."""

from typing import Any

from p2plb.discovery.registry import Announcement, Listener, Registry, RegistryStatus, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance


class FakeWatch:
    """One watch of the fake registry."""

    def __init__(self, watches: list["FakeWatch"], service: str, listener: Listener) -> None:
        self.service = service
        self.listener = listener
        self._watches = watches
        watches.append(self)

    def close(self) -> None:
        if self in self._watches:
            self._watches.remove(self)


class FakeRegistry(Registry):
    """A registry without threads: `tell` is its notifier."""

    url = "fake://"

    def __init__(self) -> None:
        self.watches: list[FakeWatch] = []
        self.closed = False

    @property
    def watched(self) -> list[str]:
        return sorted(watch.service for watch in self.watches)

    def tell(self, told: Snapshot) -> None:
        for watch in list(self.watches):
            if watch.service == told.service:
                watch.listener(told)

    def watch(self, service: str, listener: Listener) -> Watch:
        return FakeWatch(self.watches, service, listener)

    def snapshot(self, service: str) -> Snapshot | None:
        return None

    def list(self, timeout: float = 5.0) -> tuple[Snapshot, ...]:
        return ()

    def announce(self, instance: Instance, **_: Any) -> Announcement:
        raise NotImplementedError

    def status(self) -> RegistryStatus:
        return RegistryStatus(self.url, True, 0.0, None, 0, 0, ())

    def close(self) -> None:
        self.closed = True
