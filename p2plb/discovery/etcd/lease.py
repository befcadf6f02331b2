"""One lease and the publications under it: which step is due next, and what follows from its outcome.

A pure state machine. `next()` names a step and the time for it, the shell (`leases.py`) carries the step out and hands
the outcome to `done()` or `failed()`. It has no thread, no clock and no driver. An outage of etcd ends nothing here:
steps are repeated for ever, after pauses that are random up to a third of the TTL.
"""

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2plb.discovery.etcd.driver import Denied, LeaseGone, Rejected, Unavailable
from p2plb.discovery.etcd.publication import Publication, Stage, Timing
from p2plb.instance import Instance

REPAIR_EVERY: Final = 3  # keepalives between two looks whether the keys still stand
_REMEMBERED: Final = 16  # leases of ours that a restored etcd might bring back


@dataclass(frozen=True, slots=True)
class Grant:
    """Get the lease from etcd."""

    lease: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Keep the lease alive; the outcome is the TTL it has now, 0 if it is gone."""

    lease: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask whether the instance is ready; the outcome is a bool."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the record; the outcome is the lease that held the key before."""

    publication: Publication
    lease: int


@dataclass(frozen=True, slots=True)
class Inspect:
    """Look who holds the key; the outcome is a `Holder`."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a key: the lease (0: nobody), and the record if it can be read."""

    lease: int
    found: Instance | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the key if it is under our lease."""

    publication: Publication
    lease: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """End the lease and with it all its keys, also those of puts that are still on their way."""

    lease: int


Step = Grant | Keepalive | Ask | Publish | Inspect | Delete | Revoke


class Lease:
    """One lease of this process, for all publications that want the same TTL."""

    def __init__(self, ttl: int, *, rng: random.Random, timing: Timing) -> None:
        self._wanted = ttl
        self.publications: list[Publication] = []
        self._rng = rng
        self._timing = timing
        self._lease = 0  # the lease in force; 0: none
        self._candidate = self._new_id()
        self._ours: deque[int] = deque(maxlen=_REMEMBERED)
        self._ttl = float(ttl)  # as granted
        self._renewed = -math.inf
        self._renew_at = -math.inf
        self._pause_until = -math.inf
        self._failures = 0
        self._ticks = 0

    @property
    def call_timeout(self) -> float:
        """How long one call to etcd may take so that the lease survives a lost one, in seconds."""
        return min(self._timing.call, max(1.0, self._ttl / 3))

    def add(self, publication: Publication) -> None:
        """Keep one more record."""
        self.publications.append(publication)
        self._settle()

    def withdraw(self, publication: Publication, now: float) -> None:
        """Take a record out again."""
        publication.leave(now)
        self._settle()

    def next(self, now: float) -> tuple[float, Step] | None:
        """Return the next step and when it is due; of several that are due the most urgent, None if there is none."""
        return min(self._agenda(), key=lambda item: max(item[0], now), default=None)

    def _agenda(self) -> Iterator[tuple[float, Step]]:
        """Yield the next step of everyone, the most urgent first."""
        staying = [publication for publication in self.publications if publication.staying]
        for leaver in self.publications:
            if leaver.stage is Stage.LEAVING:
                yield leaver.due, Delete(leaver, self._lease) if staying else Revoke(self._lease)
        if staying and self._lease:
            yield max(self._renew_at, self._pause_until), Keepalive(self._lease)
        elif any(publication.stage is not Stage.ASKING for publication in staying):
            yield self._pause_until, Grant(self._candidate, self._wanted)
        for publication in staying:
            yield from self._errand(publication)

    def _errand(self, publication: Publication) -> Iterator[tuple[float, Step]]:
        if publication.stage is Stage.ASKING:
            yield publication.due, Ask(publication)
        elif self._lease:
            inspect = publication.stage is Stage.INSPECTING
            step = Inspect(publication) if inspect else Publish(publication, self._lease)
            yield max(publication.due, self._pause_until), step

    def begin(self, step: Step) -> None:
        """Note that a step is about to be carried out, whatever comes of it."""
        if isinstance(step, Publish):
            step.publication.stands = True

    def done(self, step: Step, outcome: object, now: float) -> None:
        """Take in the outcome of a step."""
        match step, outcome:
            case Grant(), int(ttl):
                self._granted(step.lease, ttl, now)
            case Keepalive(), int(ttl):
                self._kept(ttl, now)
            case Ask(publication), bool(ready):
                publication.answered(ready=ready, now=now)
            case Publish(publication, lease), int(holder):
                self._failures = 0
                publication.published(holder, lease, frozenset(self._ours), now)
            case Inspect(publication), Holder(holder, found):
                publication.inspected(holder, found, self._ttl, now)
            case Delete(publication), _:
                publication.deleted(now, self._ttl / 3)
            case Revoke(), _:
                self._revoked()
        self._settle()

    def failed(self, step: Step, error: Exception, now: float) -> None:
        """Take in that a step failed."""
        match step, error:
            case ((Delete() | Revoke()), LeaseGone()):
                self.done(step, None, now)
            case _, LeaseGone():
                self._gone(error, now)
                self._back_off(now)
            case _, (Denied() | Rejected()):
                self._refused(step, error, now)
            case _:
                self._unavailable(step, error, now)
        self._settle()

    def _granted(self, lease: int, ttl: int, now: float) -> None:
        self._lease = lease
        self._ours.append(lease)
        self._candidate = self._new_id()
        self._renew(ttl, now)

    def _kept(self, ttl: int, now: float) -> None:
        if ttl == 0:
            self._gone(LeaseGone("the lease has expired"), now)
            return
        self._ticks += 1
        if self._failures or self._ticks % REPAIR_EVERY == 0:
            for publication in self.publications:
                publication.repair(now)
        self._failures = 0
        self._renew(ttl, now)

    def _renew(self, ttl: int, now: float) -> None:
        self._ttl = float(ttl)
        self._renewed = now
        self._renew_at = now + self._ttl / 3 * self._rng.uniform(0.75, 1.0)

    def _gone(self, error: Exception, now: float) -> None:
        self._lease = 0
        for publication in self.publications:
            publication.lost(now, error)

    def _revoked(self) -> None:
        self._lease = 0
        for publication in self.publications:
            publication.end()

    def _refused(self, step: Step, error: Exception, now: float) -> None:
        match step:
            case Publish(publication) | Inspect(publication):
                publication.refused(error, now)
            case Delete(publication):
                publication.end()
            case Revoke():
                self._revoked()
            case _:
                self._pause_until = now + self._timing.patience
                for publication in self._published():
                    publication.refused(error, now)

    def _unavailable(self, step: Step, error: Exception, now: float) -> None:
        self._back_off(now)
        if isinstance(step, Publish) and isinstance(error, Unavailable) and error.ambiguous:
            step.publication.doubtful = True
        for leaver in self.publications:
            if leaver.stage is Stage.LEAVING:
                leaver.due = self._pause_until
        presumed_gone = now - self._renewed >= self._ttl
        if isinstance(step, Revoke) and presumed_gone:
            self._revoked()
        for publication in self._published():
            publication.unavailable(error, presumed_gone=presumed_gone)

    def _published(self) -> list[Publication]:
        return [each for each in self.publications if each.staying and each.stage is not Stage.ASKING]

    def _back_off(self, now: float) -> None:
        bound = min(self._ttl / 3, self._timing.first_retry * 2 ** min(self._failures, 16))
        self._failures += 1
        self._pause_until = now + self._rng.uniform(0, bound)

    def _settle(self) -> None:
        """Let go of those who have nothing in etcd (any more)."""
        kept = {publication.key for publication in self.publications if publication.staying}
        for leaver in self.publications:
            if leaver.stage is Stage.LEAVING and not self._needs_removal(leaver, kept):
                leaver.end()
        self.publications = [each for each in self.publications if each.stage is not Stage.ENDED]

    def _needs_removal(self, leaver: Publication, kept: set[bytes]) -> bool:
        """Without a lease nothing is left; the last one takes the lease along; a key may have a new owner here."""
        return bool(self._lease) and (not kept or (leaver.stands and leaver.key not in kept))

    def _new_id(self) -> int:
        return self._rng.randrange(1, 2**63)
