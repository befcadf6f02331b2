"""The thread that keeps a registry's snapshots fresh: it carries out what the plan decides, and feeds the reducer.

One daemon thread and one watch stream serve all wanted services of a registry. It publishes what it learns and, when
etcd can't be reached, nothing at all: the last good snapshots stand. Nothing that comes from etcd ends it.
"""

import logging
import random
import threading
from collections.abc import Callable
from functools import partial

from cachetools import LRUCache, TTLCache

from p2plb.discovery import threads
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Changed, Closed, Driver, DriverError, Frame, Unavailable, Want, WatchStream
from p2plb.discovery.plan import List, Open, Park, Plan, Sleep, Timing
from p2plb.discovery.reducer import Reducer
from p2plb.discovery.snapshot import Snapshot

logger = logging.getLogger("p2plb.discovery")

_JOIN = 0.2
_QUIET = 60.0  # what repeats is logged at most so often
_MAX_LINES = 10  # records that are passed over at one time and get a line each
_MAX_NAMES = 1000
_MAX_LEFT = 1024


class Watcher:
    """Watches the services that `wanted()` names; `nudge` tells it that they have become more.

    `publish` gets each new snapshot on the watch thread and must not block; `last` returns the last one of a service.
    `rest` is called there, at once and now and then, while nothing is wanted; it may close the watcher.
    """

    def __init__(
        self,
        driver: Driver,
        root: str,
        *,
        wanted: Callable[[], frozenset[str]],
        publish: Callable[[Snapshot], None],
        last: Callable[[str], Snapshot | None],
        rest: Callable[[], None],
        timing: Timing,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._driver = driver
        self._root = root
        self._wanted = wanted
        self._publish = publish
        self._last = last
        self._rest = rest
        self._timing = timing
        self._clock = clock
        self._rng = rng
        self._closed = False
        self._proof: float | None = None  # when etcd last answered
        self._left: LRUCache[str, float] = LRUCache(_MAX_LEFT)  # when services that are not watched any more were fresh
        self.names: frozenset[str] = frozenset()
        self.error: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._nudged = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: WatchStream | None = None
        self._open: frozenset[str] = frozenset()
        self._plan = Plan(self._timing, self._rng)
        self._said: TTLCache[object, bool] = TTLCache(1024, _QUIET, timer=self._clock)
        self._named_at = float("-inf")
        self.connected = False
        self.revision = self.skipped = 0
        self._reducer = Reducer(
            partial(records.decode, self._root, loopback=self._driver.loopback),
            partial(records.service_of, self._root),
            self._timing.loss,
            self._last,
        )

    def nudge(self) -> None:
        """Have the thread look at what is wanted, starting it if need be; returns at once."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threads.start(self._run, f"p2plb-watch {self._driver.url}")
        self._interrupt()

    def age(self, service: str | None = None) -> float | None:
        """Return for how many seconds nobody has known whether a service (or the registry) is as we believe."""
        fresh = self._proof if service is None or service in self._open else self._left.get(service)
        return None if fresh is None else max(self._clock() - fresh, 0.0)

    def stop(self) -> None:
        """Let the thread end as soon as the driver lets go of it; idempotent, from any thread."""
        with self._lock:
            self._closed = True
        self._interrupt()

    def join(self) -> None:
        """Wait for the end of the thread, at most 0.2 s."""
        threads.join(self._thread, _JOIN)

    def after_fork(self) -> None:
        """In a forked child: start anew at the next `nudge`."""
        left = threads.survivors(self._left)
        if self._proof is not None:
            left |= dict.fromkeys(self._open, self._proof)
        self._left = LRUCache(_MAX_LEFT)
        self._left.update(left)
        self._rng.seed()  # or all children would come back to etcd at the same moments
        self._reset()

    def _interrupt(self) -> None:
        self._nudged.set()
        if (stream := self._stream) is not None:
            stream.close()

    def _run(self) -> None:
        while True:
            self._nudged.clear()
            if self._closed:  # looked at after `clear`, which may have undone the nudge of `stop`
                return
            self._try_step()

    def _try_step(self) -> None:
        try:
            self._step()
        except DriverError as error:
            self._failed(error)
        except Exception as error:  # a driver that breaks its word must not end the watch
            logger.exception("watching %s failed unexpectedly", self._driver.url)
            self._failed(Unavailable(f"{self._driver.url}: {type(error).__name__}"))

    def _step(self) -> None:
        match self._plan.next(self._wanted(), self._clock(), self._reducer.due):
            case List(services):
                self._list(services)
            case Open(services, idle):
                self._follow(services, idle)
            case Sleep(seconds):
                self._nudged.wait(seconds)
            case Park():
                self._park()

    def _park(self) -> None:
        self._leave(frozenset())
        self._rest()
        self._nudged.wait(self._timing.rest)

    def _list(self, services: frozenset[str]) -> None:
        prefixes = [records.service_prefix(self._root, service) for service in sorted(services)]
        listing = self._driver.read(prefixes, timeout=self._timing.read)
        snapshots = self._reducer.listed(services, listing.entries, listing.revision, self._clock())
        self._plan.listed(services, self._clock())
        if not all(snapshot.instances for snapshot in snapshots):
            self._look_up_names()
        self._open |= services
        self._tell(snapshots)

    def _follow(self, services: frozenset[str], idle: float) -> None:
        """Watch until the stream breaks (an error), is silent for too long, or is to be opened otherwise."""
        self._leave(services)
        wants = [Want(records.service_prefix(self._root, name), self._reducer.start(name)) for name in sorted(services)]
        stream = self._driver.watch(wants, timeout=self._timing.open, idle=idle)
        due = self._reducer.due
        self._stream = stream
        try:
            # A nudge that came before the assignment has not closed the stream.
            if not self._nudged.is_set():
                self._iterate(stream, due)
        except Closed:
            if not self._nudged.is_set():
                raise
        finally:
            self._stream = None
            stream.close()

    def _iterate(self, stream: WatchStream, due: float | None) -> None:
        for frame in stream:
            self._take(frame)
            ghosts = self._reducer.due
            if self._plan.overdue(self._clock()) or (ghosts is not None and (due is None or ghosts < due)):
                return

    def _take(self, frame: Frame) -> None:
        now = self._clock()
        if isinstance(frame, Changed):
            self._tell(self._reducer.changed(frame.entries, now))
        else:
            self._opened(now)
        # Ghosts are laid only while etcd is known to live: when it is away, nothing is believed less than before.
        self._tell(self._reducer.tick(now))

    def _opened(self, now: float) -> None:
        if not self.connected and self.error is not None:
            logger.info("%s: watching again", self._driver.url)
        self._plan.opened()
        self._proof = now
        self.connected, self.error = True, None

    def _failed(self, error: DriverError) -> None:
        if self._closed:
            return
        self.connected, self.error = False, str(error)
        self._plan.failed(error, self._clock())
        self._say(type(error), "%s; going on with what is known", error)

    def _leave(self, services: frozenset[str]) -> None:
        """Go on with these services only; of the others the last snapshots stay, and when they were fresh."""
        for service in self._open - services:
            if self._proof is not None:
                self._left[service] = self._proof
        self._open = services
        self._reducer.keep(services)

    def _tell(self, snapshots: list[Snapshot]) -> None:
        self._proof = self._clock()
        self.revision, self.skipped = self._reducer.revision, self._reducer.skipped
        for skipped in self._reducer.news()[:_MAX_LINES]:
            self._say(
                skipped.key, "%s: record %r is passed over: %s", self._driver.url, skipped.key[:200], skipped.reason
            )
        for snapshot in snapshots:
            if snapshot.ghosts:
                text = "%s: %d of %d instances of %s vanished without draining; kept for a while"
                count = len(snapshot.ghosts)
                self._say(snapshot.service, text, self._driver.url, count, len(snapshot.instances), snapshot.service)
            self._publish(snapshot)

    def _look_up_names(self) -> None:
        """Learn which services there are, so that an error can name the nearest; not vital, so failure is none."""
        now = self._clock()
        if now - self._named_at < self._timing.names:
            return
        self._named_at = now
        try:
            root = self._root.encode()
            listing = self._driver.read((root,), timeout=1.0, keys_only=True, limit=_MAX_NAMES)
        except DriverError:
            return
        names = {records.service_of(self._root, entry.key) for entry in listing.entries}
        self.names = frozenset(name for name in names if name)

    def _say(self, about: object, text: str, *args: object) -> None:
        if about not in self._said:
            self._said[about] = True
            logger.warning(text, *args)
