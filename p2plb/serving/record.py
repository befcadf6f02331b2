"""This process's record on its way into the registry, and its changes until it is taken out.

Beginning returns at once: what has to wait (for DNS, for the server's port, for etcd) waits on other threads. It knows
no kind of registry, and nothing of signals, drains or of those who wait.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from p2plb import forks
from p2plb.discovery import shared, threads
from p2plb.discovery.registry import Announcement, AnnouncementState, Registry
from p2plb.errors import RegistrationError
from p2plb.instance import Instance
from p2plb.serving import address
from p2plb.serving.health import Health
from p2plb.serving.owning import here
from p2plb.serving.readiness import Answering, Reminder, warn_of_loopback

logger = logging.getLogger("p2plb.serving")

LEAVE_WITHIN: Final = 0.8
"""Seconds to take the record out at the end; what could not be done by then is left to the TTL."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a record is announced: `complete` makes it of the draft, given the host if that is to be guessed.

    `guess` does that from the registry's URL, and is tried each `guess_again` seconds.
    """

    draft: Instance
    complete: Callable[[Instance, str | None], Instance]
    located: bool
    enabled: bool
    registry: Registry | str | None = field(repr=False)  # its URL may hold a password
    ttl: float
    ready: Callable[[], bool] | None
    healthy: Callable[[], object] | None
    interval: float
    guess: Callable[[str], str] = address.guess_host
    guess_again: float = 2.0


class Record:
    """One record of this process. Every method may be called from any thread; `on_change` is called on any."""

    def __init__(self, terms: Terms, on_change: Callable[[], None]) -> None:
        self.instance: Instance | None = None
        """The record as it is announced; None before the start and while the own address is being looked for."""
        self._terms = terms
        self._draft = terms.draft
        self._on_change = on_change
        self._hold: shared.Hold | None = None
        self._announcement: Announcement | None = None
        self._answering: Answering | None = None
        self._health = (
            Health(terms.draft.service, terms.healthy, terms.interval, self._judged) if terms.healthy else None
        )
        self._trouble: Exception | None = None
        self._failed = False
        self._closed = not terms.enabled
        self._make_locks()
        forks.watch(self)

    @property
    def state(self) -> AnnouncementState:
        """Where the record stands."""
        if self._closed:
            return AnnouncementState.GONE
        if self._failed:
            return AnnouncementState.FAILED
        return self._announcement.state if self._announcement else AnnouncementState.WAITING

    @property
    def error(self) -> Exception | None:
        """What is wrong or what it waits for, None if all is well."""
        announced = self._announcement.error if self._announcement else None
        waiting = self._answering.trouble if self._answering else None
        unwell = self._health.trouble if self._health else None
        return self._trouble or announced or waiting or unwell

    @property
    def name(self) -> str:
        """What it is, for texts."""
        who = self.instance
        return f"{who.service}/{who.id} ({who.url})" if who else self._draft.service

    @property
    def service(self) -> str:
        """The service of which it is an instance."""
        return self._draft.service

    @property
    def registry(self) -> Registry | None:
        """Where it is announced; None before the beginning and after the end."""
        return self._hold.registry if self._hold else None

    @property
    def where(self) -> str:
        """The registry's address, for texts."""
        return self._hold.registry.url if self._hold else "the registry"

    def begin(self) -> None:
        """Begin to announce; a second time changes nothing. `RuntimeError` once it was barred.

        Raises `RegistrationError` if the registry takes no registrations, `ValueError` for a wrong URL of one.
        """
        with self._lock:
            if self._barred.is_set():
                raise RuntimeError("a registration runs once: make a new one with p2plb.register")
            if self._hold is None and self._terms.enabled:
                self._hold = shared.hold(self._terms.registry)
                here.add(self)
                self._place(self._hold.registry)
        self._on_change()

    def bar(self) -> None:
        """From now on nothing begins: whoever begins at the same time has begun, or will not."""
        with self._lock:
            self._barred.set()
        if self._health:
            self._health.stop()

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change fields of the record; `RuntimeError` before the beginning.

        `ValueError` or `TypeError` for a wrong value, which changes nothing.
        """
        with self._lock:
            if self._hold is None and not self._closed:
                raise RuntimeError("the registration was not started")
            self._apply(changes)

    def drain(self) -> None:
        """Mark the record as draining, for good; one that is put only later is put so."""
        with self._lock:
            self._apply({"state": "draining"})

    def withdraw(self) -> None:
        """Take the record out, within less than a second."""
        if self._announcement is not None:
            self._announcement.withdraw(LEAVE_WITHIN)

    def close(self) -> None:
        """Let the registry go; idempotent."""
        self._closed = True
        here.remove(self)
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.close()

    def after_fork(self) -> None:
        """In a forked child: if it had begun, it is over there; the parent alone keeps the record."""
        begun = self._hold is not None
        self._make_locks()
        if begun:
            self._barred.set()
            self._closed = True
            self._announcement = self._hold = self._health = None

    def _make_locks(self) -> None:
        self._lock = threading.RLock()
        self._barred = threading.Event()

    def _place(self, registry: Registry) -> None:
        """Announce the record, on a thread of its own if the address is not known at once."""
        if self._terms.located:
            self._announce(registry, None)
        elif not address.needs_dns(registry.url) and (host := self._guess(registry)):
            self._announce(registry, host)
        else:
            threads.start(lambda: self._locate(registry), f"p2plb-locate {registry.url}")

    def _locate(self, registry: Registry) -> None:
        """Find out the own address, however long that takes, then announce the record."""
        warn = Reminder()
        while not self._barred.is_set():
            if host := self._guess(registry):
                self._announce_late(registry, host)
                return
            warn(f"{self._draft.service} is not registered yet: {self._trouble}")
            self._barred.wait(self._terms.guess_again)

    def _guess(self, registry: Registry) -> str | None:
        try:
            host = self._terms.guess(registry.url)
        except RegistrationError as error:
            self._trouble = error
            return None
        self._trouble = None
        return host

    def _announce_late(self, registry: Registry, host: str) -> None:
        try:
            with self._lock:
                if not self._barred.is_set():
                    self._announce(registry, host)
        except Exception as error:  # nobody waits for this thread, so the state has to tell
            logger.exception("%s can't be registered", self._draft.service)
            self._trouble, self._failed = error, True
        self._on_change()

    def _announce(self, registry: Registry, host: str | None) -> None:
        self.instance = instance = self._terms.complete(self._draft, host)
        warn_of_loopback(instance, registry.url)
        if self._terms.ready is None:
            self._answering = Answering(instance.host, instance.port)
        self._announcement = registry.announce(
            instance, ttl=self._terms.ttl, ready=self._is_ready, on_state=lambda _state, _error: self._on_change()
        )
        if self._health:
            self._health.start()

    def _is_ready(self) -> bool:
        """Say whether the record may be put: the server is ready, and what it thinks of itself is known."""
        ready = self._answering or self._terms.ready
        return bool(ready and ready()) and (self._health is None or self._health.known)

    def _judged(self, healthy: bool) -> None:
        """Mark the record up or down, unless it is draining already."""
        with self._lock:
            if self._draft.state != "draining":
                self._apply({"state": "up" if healthy else "down"})

    def _apply(self, changes: Mapping[str, Any]) -> None:
        draft = replace(self._draft, **changes)
        self._terms.complete(draft, None)  # a value that readers would pass over is refused before it changes anything
        self._draft = draft
        if self.instance and self._announcement:
            self.instance = replace(self.instance, **changes)
            self._announcement.update(self.instance)
