"""One record's way into etcd and out of it: what was learnt, what follows from it, when to look again.

A pure state machine. It is told the outcome of each step (`lease.py` says which step is due) and the time; it has no
thread, no clock and no driver. It decides who owns a key that two processes want, and what waiting can't heal.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from p2plb.discovery.etcd.driver import Rejected
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import P2PError, RegistrationError
from p2plb.instance import Instance

EXPIRY_SLACK: Final = 1.0  # etcd removes the keys of an expired lease up to a second late
UP: Final = "up"  # the state of a record that callers should choose


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things wait, in seconds; tests make it short."""

    ask: float = 0.2  # between two questions whether the instance is ready
    ask_later: float = 1.0  # the same, once it was asked `asks` times
    asks: int = 50
    patience: float = 30.0  # until a look at what only an operator can heal
    first_retry: float = 1.0  # upper bound of the first random pause after a failure; it doubles
    stand_by: float = 0.7  # between two looks at who keeps the record of our address: there is one while it drains
    call: float = 5.0  # upper bound of one call to etcd
    farewell: float = 0.5  # what closing the keeper may spend on leaving politely


class Stage(enum.Enum):
    """What a publication does next."""

    ASKING = enum.auto()  # is the instance ready?
    PUTTING = enum.auto()  # put the record; once it stands, only the repairing look remains
    INSPECTING = enum.auto()  # somebody else holds the key: who?
    BARRED = enum.auto()  # put it, but only after a long pause
    LEAVING = enum.auto()  # take it out
    ENDED = enum.auto()  # nothing any more


@dataclass(frozen=True, slots=True)
class Told:
    """A change of state that the announcement's owner is to hear of."""

    state: AnnouncementState
    error: Exception | None


class Publication:
    """One record that one process wants in etcd.

    A record that was up once is *running*: it is never given up, and never taken from another process that holds its
    key. Before that it is *fresh*: it fails for good if etcd refuses it, or if its key stays in other hands for longer
    than a dead predecessor's lease could live.

    Whoever holds our key with our own address is a predecessor if we are fresh, and is replaced at once. If we are
    running it is a sibling, such as another worker behind our port: one of us keeps the record for all, and the others
    *stand by*, up as well, until it is gone or no longer up.
    """

    def __init__(self, key: bytes, instance: Instance, value: bytes, timing: Timing) -> None:
        self.key = key
        self.instance = instance
        self.value = value
        self.state = AnnouncementState.WAITING
        self.error: Exception | None = None
        self.stage = Stage.ASKING
        self.due = -math.inf
        self.expect = 0  # the lease that may hold the key when we put it; 0: nobody
        self.stands = False  # a put under the lease in force was tried and may have been carried out
        self.doubtful = False  # ... and may still be on its way
        self.news: deque[Told] = deque()
        self._timing = timing
        self._asked = 0
        self._running = False
        self._disputed_until: float | None = None  # another one holds the key: what we think of it is open until then

    @property
    def staying(self) -> bool:
        """Whether the record is wanted in etcd."""
        return self.stage not in (Stage.LEAVING, Stage.ENDED)

    def update(self, instance: Instance, value: bytes, now: float) -> None:
        """Replace the record; a new value is worth a try even after a refusal."""
        self.instance, self.value = instance, value
        if self.stage in (Stage.PUTTING, Stage.BARRED):
            self._go(Stage.PUTTING, now)

    def answered(self, *, ready: bool, now: float) -> None:
        """Take in whether the instance is ready."""
        self._asked += 1
        if ready:
            self._go(Stage.PUTTING, now)
        else:
            self.due = now + (self._timing.ask if self._asked < self._timing.asks else self._timing.ask_later)

    def published(self, holder: int, lease: int, ours: frozenset[int], now: float) -> None:
        """Take in who held the key when we put it; `ours` are the leases this process has used."""
        if holder in (lease, self.expect):
            self._up()
        elif holder == 0 or holder in ours:
            self.expect = holder
            self._go(Stage.PUTTING, now)
        else:
            self._go(Stage.INSPECTING, now)

    def inspected(self, holder: int, found: Instance | None, ttl: float, now: float) -> None:
        """Take in who holds the key: the lease (0: nobody) and its record, if that can be read."""
        url = found.url if found else None
        if holder == 0 or (found and url == self.instance.url and self._succeeds(found)):
            self.expect = holder
            self._go(Stage.PUTTING, now)
        elif url == self.instance.url:
            self._up()
            self._go(Stage.INSPECTING, now + self._timing.stand_by)
        elif self._running:
            self._lost_to(url, ttl, now)
        else:
            self._found_taken(url, ttl, now)

    def lost(self, now: float, error: Exception) -> None:
        """Take in that the lease is gone, and the record with it: put it again."""
        self.stands = self.doubtful = False
        if self.stage is Stage.LEAVING:
            self.end()
        elif self.stage is not Stage.ASKING:
            self.expect = 0
            self._move(AnnouncementState.RETRYING, error)
            if self.stage is not Stage.BARRED:
                self._go(Stage.PUTTING, now)

    def repair(self, now: float) -> None:
        """Look whether the record still stands."""
        if self.stage is Stage.PUTTING:
            self.due = min(self.due, now)

    def unavailable(self, error: Exception, *, presumed_gone: bool) -> None:
        """Take in that etcd did not answer; the record is up as long as its lease may be presumed to live."""
        if self.stage in (Stage.ASKING, Stage.BARRED):
            return
        if self.state is AnnouncementState.UP and not presumed_gone:
            self.error = error
        else:
            self._move(AnnouncementState.RETRYING, error)

    def refused(self, error: Exception, now: float) -> None:
        """Take in that etcd denies us, or will never take this record."""
        if isinstance(error, Rejected):
            error = Rejected(f"{error} (the record has {len(self.value):,} bytes)")
        if self._running:
            self._move(AnnouncementState.RETRYING, error)
            self._go(Stage.BARRED, now + self._timing.patience)
        else:
            self._fail(error, now)

    def leave(self, now: float) -> None:
        """Start to take the record out."""
        if self.stage is not Stage.ENDED:
            self._go(Stage.LEAVING, now)

    def deleted(self, now: float, again: float) -> None:
        """Take in that the key is gone; if a put may still be on its way, look after it in `again` seconds."""
        if self.doubtful:
            self.doubtful = False
            self.due = now + again
            self._gone()
        else:
            self.end()

    def end(self) -> None:
        """Nothing of the record is left in etcd that we could remove."""
        self._go(Stage.ENDED, math.inf)
        self._gone()

    def _gone(self) -> None:
        if self.state is not AnnouncementState.FAILED:
            self._move(AnnouncementState.GONE, None)

    def _up(self) -> None:
        self._running = True
        self._disputed_until = None
        self.expect = 0
        self.doubtful = False
        self._go(Stage.PUTTING, math.inf)
        self._move(AnnouncementState.UP, None)

    def _succeeds(self, found: Instance) -> bool:
        """Say whether we take over from one at our own address: a predecessor, or a sibling that is worse off."""
        return not self._running or (found.state != UP and self.instance.state == UP)

    def _lost_to(self, url: str | None, ttl: float, now: float) -> None:
        """Leave the key to the one who took it; a passing thief is not worth a word, so look again first."""
        if now < (until := self._dispute(now + ttl / 3)):
            self._go(Stage.PUTTING, until)
        else:
            self._move(AnnouncementState.RETRYING, self._taken(url))
            self._go(Stage.BARRED, now + self._timing.patience)

    def _found_taken(self, url: str | None, ttl: float, now: float) -> None:
        """Give the other one as long as the lease of a dead predecessor may live, then fail."""
        if now < (until := self._dispute(now + ttl + EXPIRY_SLACK)):
            self._move(AnnouncementState.RETRYING, P2PError(f"{self._who(url)}; waiting for its lease to expire"))
            self._go(Stage.BARRED, until)
        else:
            self._fail(self._taken(url), now)

    def _dispute(self, until: float) -> float:
        """Return until when the key is disputed: `until` at the first sight of another holder, and then the same."""
        if self._disputed_until is None:
            self._disputed_until = until
        return self._disputed_until

    def _fail(self, error: Exception, now: float) -> None:
        self._move(AnnouncementState.FAILED, error)
        self.leave(now)

    def _taken(self, url: str | None) -> RegistrationError:
        return RegistrationError(f"identity taken: {self._who(url)}; give each process an id of its own")

    def _who(self, url: str | None) -> str:
        instance = self.instance
        return f"{instance.service}/{instance.id} is registered by another process at {url or 'an unknown address'}"

    def _go(self, stage: Stage, due: float) -> None:
        self.stage, self.due = stage, due

    def _move(self, state: AnnouncementState, error: Exception | None) -> None:
        """Change the state; a new text of the same kind of error is no news."""
        news = (state, type(error)) != (self.state, type(self.error))
        self.state, self.error = state, error
        if news:
            self.news.append(Told(state, error))
