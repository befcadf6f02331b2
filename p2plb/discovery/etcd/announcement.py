"""What `EtcdRegistry.announce` hands out: one publication seen from the caller's thread.

It knows the keeper only as somebody who takes commands. The keeper's thread calls `is_ready` and `tell`, anybody the
rest.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

from p2plb.discovery.etcd.publication import Publication, Stage, Told
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import RegistrationError
from p2plb.instance import Instance

logger = logging.getLogger("p2plb.discovery")

REMIND_AFTER: Final = 60.0  # seconds between two warnings of an outage that lasts

OnState = Callable[[AnnouncementState, Exception | None], None]


class Keeper(Protocol):
    """Whoever carries out what an announcement wants."""

    def replace(self, publication: Publication, instance: Instance) -> None:
        """Replace a record soon."""

    def withdraw(self, publication: Publication) -> None:
        """Take a record out soon."""


class EtcdAnnouncement:
    """One record that is kept in etcd until it is withdrawn; see `p2plb.discovery.registry.Announcement`."""

    def __init__(self, keeper: Keeper, publication: Publication, ready: Callable[[], bool], on_state: OnState) -> None:
        self._keeper = keeper
        self._publication = publication
        self._ready = ready
        self._on_state = on_state
        self._ended = threading.Event()
        self._forgotten = False
        self._defect_told = False
        self._troubled: float | None = None  # since when, or when it was last logged

    @property
    def state(self) -> AnnouncementState:
        """Where the record stands now."""
        return AnnouncementState.GONE if self._forgotten else self._publication.state

    @property
    def error(self) -> Exception | None:
        """What went wrong last, or None."""
        return self._publication.error

    def update(self, instance: Instance) -> None:
        """Replace the record as soon as possible; returns at once. `ValueError` if it is another instance's."""
        now = self._publication.instance
        if (instance.service, instance.id) != (now.service, now.id):
            raise ValueError(f"an update keeps service and id: {now.service}/{now.id}")
        if not self._ended.is_set():
            self._keeper.replace(self._publication, instance)

    def withdraw(self, timeout: float) -> None:
        """Take the record out, waiting at most `timeout` seconds; goes on in the background if that is too short."""
        if not self._ended.is_set():
            self._keeper.withdraw(self._publication)
            self._ended.wait(timeout)

    def is_ready(self) -> bool:
        """Ask the instance's side; what that raises is a no."""
        try:
            return bool(self._ready())
        except BaseException:  # the user's code, `sys.exit()` in it too, must not end the thread that keeps the leases
            level = logging.DEBUG if self._defect_told else logging.ERROR
            self._defect_told = True
            logger.log(level, "asking whether %s is ready failed", self._name, exc_info=True)
            return False

    def tell(self, now: float) -> bool:
        """Pass on the news and return whether none will follow."""
        self._remind(now)
        while self._publication.news:
            told = self._publication.news.popleft()
            self._log(told, now)
            try:
                self._on_state(told.state, told.error)
            except BaseException:  # the same
                logger.exception("a listener to the state of %s failed", self._name)
        ended = self._publication.stage is Stage.ENDED
        if ended or self._publication.state is AnnouncementState.GONE:
            self._ended.set()
        return ended

    def forget(self) -> None:
        """Drop the record without a word to etcd, because the registry was closed."""
        self._forgotten = True
        self._ended.set()

    def after_fork(self) -> None:
        """Drop the parent's record; its event may be locked by a thread that is not here."""
        self._ended = threading.Event()
        self.forget()

    def _remind(self, now: float) -> None:
        """Say once more what has been amiss for a minute, unless it was an error: an operator has to heal that."""
        error = self._publication.error
        due = self._troubled is not None and now - self._troubled >= REMIND_AFTER
        if due and error is not None and not isinstance(error, RegistrationError):
            self._log(Told(self._publication.state, error), now)

    def _log(self, told: Told, now: float) -> None:
        """Log trouble and its end; what goes well is for debugging only."""
        level = logging.DEBUG if self._troubled is None else logging.INFO
        if isinstance(told.error, RegistrationError) or told.state is AnnouncementState.FAILED:
            level = logging.ERROR
        elif told.error is not None:
            level = logging.WARNING
        self._troubled = None if told.error is None else now
        logger.log(level, "%s is %s%s", self._name, told.state, f": {told.error}" if told.error else "")

    @property
    def _name(self) -> str:
        instance = self._publication.instance
        return f"{instance.service}/{instance.id} ({instance.url})"
