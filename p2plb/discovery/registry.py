"""What a registry is: the place where instances are recorded, seen from both sides.

Callers `watch` a service, instances `announce` themselves. A registry is blocking code with threads of its own; none
of its methods but `list` and `Announcement.withdraw` waits for the network. It knows nothing of strategies or httpx.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance

MIN_TTL: Final = 2
"""Seconds; etcd grants no less, and no other registry is to be taken for less."""

Listener = Callable[[Snapshot], None]
"""Gets each new snapshot of a service. Called on the registry's notifier thread, one call at a time; of several
snapshots that pile up only the newest is told. It may take milliseconds; what it raises is logged, never passed on."""


class Watch(Protocol):
    """One listener's interest in one service."""

    def close(self) -> None:
        """End it; idempotent, from any thread. The last snapshot of the service stays with the registry."""


class AnnouncementState(enum.StrEnum):
    """Where a record stands on its way into the registry."""

    WAITING = "waiting"  # `ready` has not said yes yet
    RETRYING = "retrying"  # the registry has not taken the record yet, or lost it; it is tried for ever
    UP = "up"  # the record stands in the registry and its lease is kept
    FAILED = "failed"  # what waiting can't heal: denied, identity taken; `error` says what
    GONE = "gone"  # withdrawn


class Announcement(Protocol):
    """One record that is kept in the registry until it is withdrawn."""

    @property
    def state(self) -> AnnouncementState:
        """Where the record stands now."""

    @property
    def error(self) -> Exception | None:
        """What went wrong last, or None."""

    def update(self, instance: Instance) -> None:
        """Replace the record (weight, state, metadata) as soon as possible; returns at once."""

    def withdraw(self, timeout: float) -> None:
        """Take the record out, waiting at most `timeout` seconds; idempotent. If it fails, the TTL cleans up."""


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """How a registry is doing: what texts of errors, stats and the command line say of it."""

    url: str  # redacted
    connected: bool
    age: float | None  # seconds since it was last known to be fresh, None: never
    error: str | None  # why it is not connected
    revision: int
    skipped: int  # records that could not be read
    names: tuple[str, ...]  # services it has heard of


class Registry(ABC):
    """Where instances are recorded. Threads are started at the first `watch` or `announce`, never before."""

    url: str
    """The registry's address for texts, credentials redacted."""

    @abstractmethod
    def watch(self, service: str, listener: Listener) -> Watch:
        """Tell `listener` the last good snapshot of `service`, if any, and each newer one; returns at once."""

    @abstractmethod
    def snapshot(self, service: str) -> Snapshot | None:
        """Return the last good snapshot of a service that is or was watched, None before the first answer."""

    def age(self, service: str) -> float | None:
        """Return for how many seconds the snapshot of a service may have been out of date; None: there is none."""
        return None if self.snapshot(service) is None else self.status().age

    @abstractmethod
    def list(self, timeout: float = 5.0) -> tuple[Snapshot, ...]:
        """Ask the registry now for all services, sorted by name; blocks. Raises `DiscoveryError`."""

    def unreadable(self, timeout: float = 5.0) -> tuple[tuple[str, str], ...]:  # noqa: ARG002  most have no such records
        """Ask the registry now which records can't be read, by key, and why; blocks. Raises `DiscoveryError`."""
        return ()

    @abstractmethod
    def announce(
        self,
        instance: Instance,
        *,
        ttl: float,
        ready: Callable[[], bool] = lambda: True,
        on_state: Callable[[AnnouncementState, Exception | None], None] = lambda _state, _error: None,
    ) -> Announcement:
        """Keep a record in the registry until it is withdrawn; returns at once.

        `ready` is asked on the registry's lease thread before the record is first put, and must not take longer than
        about 0.5 s; `on_state` is told each change of state on that thread.
        """

    @abstractmethod
    def status(self) -> RegistryStatus:
        """Say how the registry is doing, from memory."""

    @abstractmethod
    def close(self) -> None:
        """Stop threads and close connections, within a second; idempotent, from any thread, starts none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
