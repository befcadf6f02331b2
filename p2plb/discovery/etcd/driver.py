"""The protocol between p2plb and the bytes that reach etcd: seven blocking methods, each with a deadline.

A driver owns encoding, size caps, the choice of the endpoint, the refresh of tokens, socket options and the mapping of
errors. It owns no judgement: when to list again, what to believe, how long to wait stands above it (reducer, watcher,
leases). `tests/contract_driver.py` holds what every driver must do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2plb.errors import P2PError


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as etcd holds it; `value` is None in the event of a deletion (then only key and mod_revision count)."""

    key: bytes
    value: bytes | None
    mod_revision: int
    create_revision: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries below the prefixes of a read, at one revision."""

    revision: int
    entries: tuple[Entry, ...]
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class Want:
    """One prefix to watch, from a revision on (inclusive)."""

    prefix: bytes
    start: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A frame: etcd has confirmed every wanted watch. The proof that the stream lives."""

    revision: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A frame: entries that changed, in etcd's order."""

    entries: tuple[Entry, ...]


Frame = Opened | Changed


class WatchStream(Protocol):
    """Frames of one watch stream, for one thread to iterate.

    Iterating raises a `DriverError` when the stream breaks: `Compacted`, `Denied`, `Unavailable` (which includes: no
    frame for `idle` seconds is *not* an error, see `Driver.watch`), `Closed` after `close()`.
    """

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames; ends without an error when nothing came for `idle` seconds (time to rotate)."""

    def close(self) -> None:
        """Unblock and end the iteration, from any thread, at once; idempotent."""


class Driver(Protocol):
    """How bytes reach etcd. Every method may be called from several threads; each raises only `DriverError`s."""

    @property
    def url(self) -> str:
        """The address for texts, credentials redacted."""

    @property
    def loopback(self) -> bool:
        """Whether every endpoint is on this machine's loopback."""

    def read(self, prefixes: Sequence[bytes], *, timeout: float, keys_only: bool = False, limit: int = 0) -> Listing:
        """Return everything below the prefixes, all at one revision (`limit` bounds the entries of each prefix)."""

    def watch(self, wants: Sequence[Want], *, timeout: float, idle: float) -> WatchStream:
        """Return a stream for all `wants`; `timeout` bounds the opening up to `Opened`, `idle` the silence after.

        Returns at once: the stream connects when it is iterated, and there raises what keeps it from opening. `Opened`
        is its first frame.
        """

    def grant(self, lease: int, ttl: int, *, timeout: float) -> int:
        """Grant a lease with an id chosen by the caller and return its TTL; "already exists" is success."""

    def keepalive(self, lease: int, *, timeout: float) -> int:
        """Return the TTL in seconds that the lease has now, 0 if it is gone."""

    def publish(self, key: bytes, value: bytes, lease: int, *, timeout: float, expect: int | None = None) -> int:
        """Put the key unless it already stands under our lease with this value; return the lease that held it before.

        One transaction, idempotent: 0 if nobody held the key, `lease` if we did. With `expect` it puts only if the key
        is held by that lease (0: by nobody) or by ours; else it changes nothing and returns the holder.
        """

    def revoke(self, lease: int, key: bytes | None = None, *, timeout: float) -> None:
        """End a lease and all its keys; with `key`, delete only that key, and only if it is under this lease."""

    def close(self) -> None:
        """Close connections and unblock what waits on them; idempotent, from any thread."""

    def after_fork(self) -> None:
        """In a forked child: drop references to inherited connections and locks, close nothing."""


class DriverError(P2PError):
    """Why a driver could not do what it was asked; the text names endpoint and cause, never a credential."""


class Unavailable(DriverError):
    """etcd can't be reached or has no quorum. `ambiguous`: the request may have been carried out all the same."""

    def __init__(self, text: str, *, ambiguous: bool = False) -> None:
        super().__init__(text)
        self.ambiguous = ambiguous


class Compacted(DriverError):
    """The start revision of a watch was compacted away, or lies in the future of a store that was reset: list again."""


class LeaseGone(DriverError):
    """The lease that a put named does not exist (any more)."""


class Denied(DriverError):
    """Wrong user or password, or no permission: only an operator can heal it."""


class Rejected(DriverError):
    """etcd will never accept this request (too large, malformed)."""


class Closed(DriverError):
    """The driver or the stream was closed by us."""
