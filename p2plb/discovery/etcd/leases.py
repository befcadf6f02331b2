"""Keeps records in etcd: one daemon thread carries out what the leases (`lease.py`) ask for, one step at a time.

It decides nothing; it waits for what is due and hands outcomes back. Only that thread touches leases and publications:
what other threads want lies in the inbox until it is between two steps. It knows neither HTTP servers nor callers.
"""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from p2plb.discovery import threads
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.announcement import EtcdAnnouncement, OnState
from p2plb.discovery.etcd.driver import Closed, Driver, DriverError, Unavailable
from p2plb.discovery.etcd.lease import Ask, Delete, Grant, Holder, Inspect, Keepalive, Lease, Publish, Revoke, Step
from p2plb.discovery.etcd.publication import Publication, Timing
from p2plb.discovery.registry import MIN_TTL
from p2plb.errors import DiscoveryError, RegistrationError
from p2plb.instance import Instance

logger = logging.getLogger("p2plb.discovery")


class LeaseKeeper:
    """Announces instances in etcd, one lease for all that want the same TTL.

    `announce` returns at once and starts the thread if none runs; the thread ends when nothing is announced any more.
    `clock` is monotonic seconds; `rng` also makes the lease ids, which nobody may guess (keepalives are not
    authenticated) and which must differ after a fork.
    """

    def __init__(
        self,
        driver: Driver,
        root: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._driver = driver
        self._root = root
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._timing = timing or Timing()
        self._closed = self._defect_told = False
        self._reset()

    def announce(
        self, instance: Instance, *, ttl: float, ready: Callable[[], bool], on_state: OnState
    ) -> EtcdAnnouncement:
        """Keep a record in etcd until it is withdrawn; returns at once.

        Raises `ValueError` or `TypeError` for what can't be announced, `DiscoveryError` after `close()` or if no thread
        can be started (the interpreter is ending).
        """
        if ttl < MIN_TTL:
            raise ValueError(f"ttl is at least {MIN_TTL} seconds, not {ttl:g}")
        key = records.key(self._root, instance.service, instance.id)
        publication = Publication(key, instance, records.encode(instance), self._timing)
        announcement = EtcdAnnouncement(self, publication, ready, on_state)
        with self._changed:
            if self._closed:
                raise DiscoveryError(f"the registry {self._driver.url} is closed")
            self._ensure_thread()
            self._post(lambda now: self._add(announcement, publication, math.ceil(ttl), now))
        return announcement

    def replace(self, publication: Publication, instance: Instance) -> None:
        """Replace a record soon; returns at once."""
        value = records.encode(instance)
        with self._changed:
            self._post(lambda now: publication.update(instance, value, now))

    def withdraw(self, publication: Publication) -> None:
        """Take a record out soon; returns at once."""
        with self._changed:
            self._post(lambda now: self._withdraw(publication, now))

    def close(self) -> None:
        """Withdraw everything, waiting half a second at most, and end the thread; idempotent, starts none."""
        with self._changed:
            self._closed = True
            self._post(self._withdraw_all)
            thread = self._thread
        threads.join(thread, self._timing.farewell)
        self._stop()

    def after_fork(self) -> None:
        """In a forked child: forget everything; the parent alone keeps its records."""
        inherited = self._announcements
        self._reset()
        for announcement in inherited.values():
            announcement.after_fork()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._inbox: deque[Callable[[float], None]] = deque()
        self._leases: dict[int, Lease] = {}
        self._announcements: dict[Publication, EtcdAnnouncement] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def _post(self, command: Callable[[float], None]) -> None:
        self._inbox.append(command)
        self._changed.notify()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threads.start(self._run, f"p2plb-lease {self._driver.url}")

    def _add(self, announcement: EtcdAnnouncement, publication: Publication, ttl: int, now: float) -> None:
        if any(other.staying and other.key == publication.key for other in self._announcements):
            publication.refused(RegistrationError("identity taken: this process has registered it already"), now)
        self._announcements[publication] = announcement
        if ttl not in self._leases:
            self._leases[ttl] = Lease(ttl, rng=self._rng, timing=self._timing)
        self._leases[ttl].add(publication)

    def _withdraw(self, publication: Publication, now: float) -> None:
        for lease in self._leases.values():
            if publication in lease.publications:
                lease.withdraw(publication, now)

    def _withdraw_all(self, now: float) -> None:
        for publication in self._announcements:
            self._withdraw(publication, now)

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        for announcement in list(self._announcements.values()):
            announcement.forget()

    def _run(self) -> None:
        while self._await_work():
            self._work()

    def _work(self) -> None:
        """Take in all commands, carry out one step if one is due, and tell what is new."""
        while self._inbox:
            self._inbox.popleft()(self._clock())
        if (due := self._next()) and due[0] <= self._clock():
            self._carry_out(*due[1:])
        self._tell()

    def _await_work(self) -> bool:
        """Wait for a command or a step that is due; False ends the thread."""
        with self._changed:
            if self._stopped or not (self._leases or self._inbox):
                self._thread = None
                return False
            due = self._next()
            pause = due[0] - self._clock() if due else 0.0
            self._changed.wait_for(lambda: self._inbox or self._stopped, max(0.0, pause))
            return True

    def _next(self) -> tuple[float, Lease, Step] | None:
        now = self._clock()
        steps = [(due[0], lease, due[1]) for lease in self._leases.values() if (due := lease.next(now))]
        return min(steps, key=lambda step: step[0], default=None)

    def _tell(self) -> None:
        """Pass on what is new, and forget what has ended."""
        for publication, announcement in list(self._announcements.items()):
            if announcement.tell(self._clock()):
                del self._announcements[publication]
        self._leases = {ttl: lease for ttl, lease in self._leases.items() if lease.publications}

    def _carry_out(self, lease: Lease, step: Step) -> None:
        lease.begin(step)
        try:
            outcome = self._act(step, lease.call_timeout)
        except Closed:
            self._stop()
        except DriverError as error:
            lease.failed(step, error, self._clock())
        except Exception as error:  # a defect of a driver must not end the thread that keeps the leases
            level = logging.DEBUG if self._defect_told else logging.ERROR
            self._defect_told = True
            logger.log(level, "unexpected error of the driver for %s", self._driver.url, exc_info=True)
            lease.failed(step, Unavailable(repr(error), ambiguous=True), self._clock())
        else:
            lease.done(step, outcome, self._clock())

    def _act(self, step: Step, timeout: float) -> object:
        match step:
            case Ask(publication):
                return self._announcements[publication].is_ready()
            case Grant(lease, ttl):
                return self._driver.grant(lease, ttl, timeout=timeout)
            case Keepalive(lease):
                return self._driver.keepalive(lease, timeout=timeout)
            case Publish(publication, lease):
                key, value, expect = publication.key, publication.value, publication.expect
                return self._driver.publish(key, value, lease, timeout=timeout, expect=expect)
            case Inspect(publication):
                return self._holder(publication.key, timeout)
            case Delete(publication, lease):
                self._driver.revoke(lease, publication.key, timeout=timeout)
            case Revoke(lease):
                self._driver.revoke(lease, timeout=timeout)
        return None

    def _holder(self, key: bytes, timeout: float) -> Holder:
        listing = self._driver.read([key], timeout=timeout, limit=1)
        for entry in listing.entries:
            if entry.key == key and entry.value is not None:
                return Holder(entry.lease, self._decode(key, entry.value))
        return Holder(0, None)

    def _decode(self, key: bytes, value: bytes) -> Instance | None:
        try:
            return records.decode(self._root, key, value, loopback=True)
        except records.BadRecord:
            return None
