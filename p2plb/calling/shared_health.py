"""What the clients of a process know of instances, handed from one client to the next.

It lives as long as the registry does (a minute after its last user), for each service and each way of reaching it:
what a client with other certificates, or with a mock in the network's place, has seen says nothing to others.
"""

import threading
import weakref
from collections.abc import Hashable
from typing import Any, Final

from cachetools import LRUCache

from p2plb import forks
from p2plb.balancing.health import Health
from p2plb.discovery.registry import Registry

REMEMBERED: Final = 1024

Known = dict[tuple[str, str], Health]
"""Health by id and URL."""


class Memory:
    """What is known, by registry. Any thread may call."""

    def __init__(self) -> None:
        self.after_fork()

    def recall(self, registry: Registry, what: Hashable) -> Known:
        """Return what is known of the instances of `what`; what cannot be hashed is known to nobody else."""
        try:
            with self._lock:
                kept = self._kept.setdefault(registry, LRUCache(REMEMBERED))
                known: Known = kept.setdefault(what, {})
        except TypeError:
            return {}
        return known

    def after_fork(self) -> None:
        """In a forked child: begin anew; the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[Registry, LRUCache[Hashable, Known]] = weakref.WeakKeyDictionary()


def way(*parts: Any) -> tuple[Any, ...]:
    """Return what tells one way of reaching instances from another, keeping none of it alive (TLS contexts are big)."""
    return tuple(_weak(part) for part in parts)


def _weak(part: Any) -> Any:
    try:
        return weakref.ref(part)  # equal to another one as long as what they stand for is there and equal
    except TypeError:
        return part


_memory = Memory()
forks.watch(_memory)
recall = _memory.recall
