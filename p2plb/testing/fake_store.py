"""What an etcd holds, as plain data: keys with revisions, leases with the time they have left, history for watches.

It knows nothing of threads, streams or drivers (fake_etcd.py); whoever changes it gets the events back, to hand on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2plb.discovery.etcd.driver import Compacted, Entry, LeaseGone, Rejected, Want

LARGEST: Final = 1_572_864  # etcd's --max-request-bytes
SHORTEST: Final = 2  # seconds: a real etcd grants no shorter lease

Events = tuple[Entry, ...]


@dataclass(slots=True)
class Lease:
    """A granted lease: its TTL and what is left of it, in seconds, and the keys that die with it."""

    ttl: int
    left: float
    keys: set[bytes] = field(default_factory=set)


class Store:
    """Keys, leases and history at one revision after the other; a fresh store is at revision 1, as a real one is."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.entries: dict[bytes, Entry] = {}
        self.leases: dict[int, Lease] = {}
        self.history: list[Entry] = []

    def below(self, prefix: bytes) -> list[Entry]:
        """Return the entries whose key begins with `prefix`, sorted by key."""
        return [self.entries[key] for key in sorted(self.entries) if key.startswith(prefix)]

    def holder(self, key: bytes) -> int:
        """Return the lease that holds the key, 0 if there is no such key or it has no lease."""
        entry = self.entries.get(key)
        return entry.lease if entry else 0

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Events:
        """Put a key; raises `Rejected` if the value is too large, `LeaseGone` if there is no such lease."""
        if len(value) > LARGEST:
            raise Rejected(f"fake etcd: request is too large ({len(value):,} bytes)")
        if lease and lease not in self.leases:
            raise LeaseGone(f"fake etcd: there is no lease {lease:x}")
        self.revision += 1
        old = self.entries.get(key)
        entry = Entry(key, value, self.revision, old.create_revision if old else self.revision, lease)
        self._bind(key, lease)
        self.entries[key] = entry
        return self._record((entry,))

    def delete(self, keys: Iterable[bytes]) -> Events:
        """Delete those of the keys that exist, all in one revision."""
        doomed = [key for key in keys if key in self.entries]
        if not doomed:
            return ()
        self.revision += 1
        for key in doomed:
            self._bind(key, 0)
            del self.entries[key]
        return self._record(tuple(Entry(key, None, self.revision) for key in doomed))

    def grant(self, lease: int, ttl: int) -> int:
        """Grant the lease unless it lives already, and return its TTL."""
        granted = max(ttl, SHORTEST)
        return self.leases.setdefault(lease, Lease(granted, granted)).ttl

    def keepalive(self, lease: int) -> int:
        """Give the lease its full TTL again and return it; 0 if there is no such lease."""
        kept = self.leases.get(lease)
        if kept is None:
            return 0
        kept.left = kept.ttl
        return kept.ttl

    def end(self, lease: int) -> Events:
        """End a lease, if it lives, and delete its keys."""
        ended = self.leases.get(lease)
        if ended is None:
            return ()
        events = self.delete(sorted(ended.keys))
        del self.leases[lease]
        return events

    def advance(self, seconds: float) -> Events:
        """Let lease time pass; what runs out ends."""
        for lease in self.leases.values():
            lease.left -= seconds
        expired = [key for key, lease in self.leases.items() if lease.left <= 0]
        return tuple(event for lease in expired for event in self.end(lease))

    def since(self, wants: Iterable[Want]) -> Events:
        """Return the history that the wants ask for; raises `Compacted` if it is gone, or not yet written."""
        asked = tuple(wants)
        for want in asked:
            if not self.compacted < want.start <= self.revision + 1:
                raise Compacted(f"fake etcd: revision {want.start} is not in {self.compacted + 1}..{self.revision + 1}")
        return tuple(event for event in self.history if wanted(event, asked))

    def compact(self) -> None:
        """Forget the history up to now."""
        self.compacted = self.revision
        self.history.clear()

    def _bind(self, key: bytes, lease: int) -> None:
        if (bound := self.leases.get(self.holder(key))) is not None:
            bound.keys.discard(key)
        if lease:
            self.leases[lease].keys.add(key)

    def _record(self, events: Events) -> Events:
        self.history.extend(events)
        return events


def wanted(event: Entry, wants: Iterable[Want]) -> bool:
    """Whether a watch on one of `wants` would tell this event."""
    return any(event.key.startswith(want.prefix) and event.mod_revision >= want.start for want in wants)
