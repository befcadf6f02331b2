"""The newest map of a service, kept and filled once however many threads ask, and what its changes mean to others.

It knows snapshots, not where they come from.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2plb import forks
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.sharding.shardmap import EMPTY, ShardMap, fill, moved
from p2plb.sharding.slots import slot_of


class Computed:
    """Maps of one service, each filled with the help of the last. Any thread may ask."""

    def __init__(self) -> None:
        self._last = EMPTY
        self._lock = threading.Lock()
        forks.watch(self)

    def known(self, snapshot: Snapshot) -> ShardMap | None:
        """Return the map of a snapshot if it is filled already."""
        found = self._last
        return found if found.snapshot is snapshot else None

    def of(self, snapshot: Snapshot) -> ShardMap:
        """Return the map of a snapshot; the first who asks fills it, which takes milliseconds."""
        with self._lock:
            if self._last.snapshot is not snapshot:
                self._last = fill(snapshot, self._last)
            return self._last

    def after_fork(self) -> None:
        """In a forked child: the map stays; nobody holds this lock there."""
        self._lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Moved:
    """Slots of a service that changed hands: for each who had it and who has it, None for nobody.

    `key in moved` says whether a key's slot is among them.
    """

    service: str
    revision: int
    slots: Mapping[int, tuple[Instance | None, Instance | None]]

    def __contains__(self, key: Any) -> bool:
        return slot_of(key) in self.slots


class Changes:
    """A listener for snapshots that tells which slots have changed hands since the last one; the first is no change."""

    def __init__(self, computed: Computed, tell: Callable[[Moved], object]) -> None:
        self._computed = computed
        self._tell = tell
        self._before: ShardMap | None = None

    def __call__(self, snapshot: Snapshot) -> None:
        """Look at the next snapshot."""
        before, self._before = self._before, self._computed.of(snapshot)
        slots = {} if before is None else moved(before, self._before)
        if slots:
            self._tell(Moved(snapshot.service, snapshot.revision, slots))
