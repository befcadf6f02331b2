"""One registry for each URL in a process, however many clients and registrations use it.

Who needs a registry holds it. When the last one lets go it is kept for a minute with its snapshots, for there is often
a next one; then the next `hold`, the registry's own watch thread or the program's end closes it. No thread is for this.
"""

import atexit
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2plb import forks
from p2plb.discovery import urls
from p2plb.discovery.registry import Registry

LINGER: Final = 60.0


@dataclass(slots=True)
class _Shared:
    registry: Registry
    holders: set["Hold"] = field(default_factory=set)
    unused_since: float = 0.0


class Hold:
    """The right to use a registry until `close`."""

    def __init__(self, registry: Registry, let_go: Callable[["Hold"], None] = lambda _hold: None) -> None:
        self.registry = registry
        self._let_go = let_go

    def close(self) -> None:
        """Let go; idempotent, from any thread."""
        self._let_go(self)


@dataclass(slots=True, weakref_slot=True, eq=False)
class Table:
    """Registries by what their URLs say; `clock` is monotonic seconds."""

    clock: Callable[[], float] = time.monotonic
    linger: float = LINGER
    _lock: "threading.RLock" = field(default_factory=threading.RLock)  # a hold may be let go by the garbage collector
    _shared: dict[urls.RegistryURL, _Shared] = field(default_factory=dict)

    def hold(self, source: Registry | str | None) -> Hold:
        """Hold a registry: the one given, or the process's own for a URL."""
        if isinstance(source, Registry):
            return Hold(source)
        self.evict()
        url = urls.parse(urls.default_url() if source is None else source)
        with self._lock:
            if url not in self._shared:
                self._shared[url] = _Shared(urls.build(source, rest=self.evict))
            shared = self._shared[url]
            hold = Hold(shared.registry, lambda hold: self._let_go(shared, hold))
            shared.holders.add(hold)
        return hold

    def evict(self, linger: float | None = None) -> None:
        """Close the registries that nobody has used for `linger` seconds."""
        before = self.clock() - (self.linger if linger is None else linger)
        with self._lock:
            idle = [key for key, shared in self._shared.items() if not shared.holders and shared.unused_since <= before]
            closing = [self._shared.pop(key).registry for key in idle]
        for registry in closing:
            registry.close()

    def after_fork(self) -> None:
        """In a forked child: the registries stay, each looks after itself."""
        self._lock = threading.RLock()

    def _let_go(self, shared: _Shared, hold: Hold) -> None:
        with self._lock:
            if hold in shared.holders:
                shared.holders.remove(hold)
                shared.unused_since = self.clock()


_table = Table()
forks.watch(_table)


def hold(source: Registry | str | None = None) -> Hold:
    """Hold the registry for a URL, one a process; without one, P2PLB_REGISTRY or etcd on this machine.

    A `Registry` that is given is merely passed on: whoever made it closes it. `ValueError` for a wrong URL.
    """
    return _table.hold(source)


def close_unused() -> None:
    """Close the registries that nobody holds, at once."""
    _table.evict(linger=0.0)


atexit.register(close_unused)  # else their connections are found unclosed when the interpreter ends
