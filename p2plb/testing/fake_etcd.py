"""An etcd in memory whose `driver()` is a full `Driver`, and which breaks on command, for tests without a network.

Lease time passes only by `advance`, there are no threads and no sockets. What a test may script: failing calls, frozen
streams, raw frames, expiry, deletion, compaction, a wipe. Every method may be called from any thread.
"""

from collections import Counter, deque
from math import inf

from p2plb.discovery.etcd.driver import Driver, DriverError, Entry, Frame, Unavailable
from p2plb.testing.fake_driver import Engine, Failure, FakeDriver
from p2plb.testing.fake_store import Store


class FakeEtcd:
    """One store, any number of drivers on it."""

    def __init__(self) -> None:
        self._engine = Engine()

    def driver(self, *, url: str = "fake://etcd", loopback: bool = True) -> Driver:
        """Return a new driver on this etcd."""
        return FakeDriver(self._engine, url, loopback=loopback)

    @property
    def calls(self) -> Counter[str]:
        """How often drivers were asked, by the name of the method."""
        return self._engine.calls

    @property
    def revision(self) -> int:
        """The revision of the store."""
        return self._engine.store.revision

    @property
    def streams(self) -> int:
        """How many watch streams are open."""
        return len(self._engine.streams)

    @property
    def leases(self) -> dict[int, float]:
        """The leases that live, and how many seconds each has left."""
        with self._engine.changed:
            return {lease: kept.left for lease, kept in self._engine.store.leases.items()}

    def entries(self, prefix: bytes = b"") -> tuple[Entry, ...]:
        """Return what is stored below a prefix."""
        with self._engine.changed:
            return tuple(self._engine.store.below(prefix))

    def put(self, key: bytes, value: bytes, lease: int = 0) -> None:
        """Write a key as any other program would."""
        self._engine.change(lambda store: store.put(key, value, lease))

    def delete_prefix(self, prefix: bytes) -> None:
        """Delete everything below a prefix in one revision, as an operator's `etcdctl del --prefix` does."""
        self._engine.change(lambda store: store.delete([entry.key for entry in store.below(prefix)]))

    def advance(self, seconds: float) -> None:
        """Let lease time pass; leases that run out take their keys along."""
        self._engine.change(lambda store: store.advance(seconds))

    def expire(self, lease: int) -> None:
        """End a lease as if its time were up."""
        self._engine.change(lambda store: store.end(lease))

    def compact(self) -> None:
        """Forget the history: a watch that starts at or below this revision gets `Compacted`."""
        with self._engine.changed:
            self._engine.store.compact()

    def wipe(self) -> None:
        """Come back empty at revision 1, all leases gone; open streams break."""
        with self._engine.changed:
            self._engine.store = Store()
            self.emit(Unavailable("fake etcd: was wiped"))

    def fail(self, method: str, error: DriverError, *, times: int | None = 1, carried_out: bool = False) -> None:
        """Let the next `times` calls of a driver's method raise `error`; None: all of them until `heal`.

        With `carried_out` the request takes effect and only its answer is lost. A failing `watch` raises where a real
        one does, when its stream is iterated.
        """
        with self._engine.changed:
            left = inf if times is None else times
            self._engine.failures.setdefault(method, deque()).append(Failure(error, left, carried_out))

    def heal(self) -> None:
        """Take back every `fail`."""
        with self._engine.changed:
            self._engine.failures.clear()

    def hold(self) -> None:
        """Freeze all streams, also those opened from now on: silence, without an end or an error."""
        self._set_held(held=True)

    def release(self) -> None:
        """Let streams go on; what happened meanwhile is told now."""
        self._set_held(held=False)

    def emit(self, *frames: Frame | DriverError) -> None:
        """Feed frames to every open stream as they stand: repeated, backward, invented; an error breaks the stream."""
        with self._engine.changed:
            for stream in self._engine.streams:
                stream.queue.extend(frames)
            self._engine.changed.notify_all()

    def _set_held(self, *, held: bool) -> None:
        with self._engine.changed:
            self._engine.held = held
            self._engine.changed.notify_all()
