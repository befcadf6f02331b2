"""What the watch thread does next: list, open a stream, sleep or park. Pure: time and chance are passed in.

The rules: resume a stream only after a break that we planned ourselves, list again after every other one and now and
then anyway; come back after a failure at random moments, so that a thousand clients do not come together.
"""

import random
from dataclasses import dataclass, field

from p2plb.discovery.etcd.driver import Compacted, Denied, DriverError
from p2plb.discovery.ghosts import MassLoss


@dataclass(frozen=True, slots=True)
class Timing:
    """Every timer of a registry's reading side, in seconds."""

    read: float = 5.0  # the deadline of a list
    open: float = 5.0  # the deadline of the opening of a stream
    idle: tuple[float, float] = (13.0, 15.0)  # a stream that was silent for so long is opened anew: the proof of life
    resync: float = 300.0  # a full list at least so often, give or take a fifth: nets what events did not tell
    gap: float = 0.05  # streams are opened at most once in this time, so that services that come together share one
    first_retry: float = 1.0  # the longest wait while an outage is young
    last_retry: float = 30.0  # the longest wait at all
    denied: float = 60.0  # only an operator heals a refusal
    names: float = 60.0  # the names of services are looked up at most so often
    linger: float = 60.0  # a service is watched for so long after its last listener has left
    rest: float = 60.0  # without wanted services, the owner is asked so often whether to go on
    loss: MassLoss = field(default_factory=MassLoss)


@dataclass(frozen=True, slots=True)
class List:
    """Read all records of these services."""

    services: frozenset[str]


@dataclass(frozen=True, slots=True)
class Open:
    """Watch these services, and open the stream anew after `idle` seconds of silence."""

    services: frozenset[str]
    idle: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait, unless woken earlier."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Park:
    """Nothing is wanted."""


Action = List | Open | Sleep | Park

_PATIENCE = 40.0  # waits grow to this fraction of the outage: after a minute of it still below two seconds


class Plan:
    """Decides from what has happened so far; used by one thread."""

    def __init__(self, timing: Timing, rng: random.Random) -> None:
        self._timing = timing
        self._rng = rng
        self._listed: frozenset[str] = frozenset()  # services whose stream may be resumed
        self._not_before = float("-inf")
        self._list_again = float("inf")
        self._failing_since: float | None = None

    def next(self, wanted: frozenset[str], now: float, due: float | None = None) -> Action:
        """Return what to do now; `due` is when somebody wants to be asked again at the latest."""
        if not wanted:
            self._listed = frozenset()
            return Park()
        if now < self._not_before:
            return Sleep(self._not_before - now)
        if self.overdue(now):
            self._listed = frozenset()
        if missing := wanted - self._listed:
            return List(missing)
        self._listed = wanted
        self._not_before = now + self._timing.gap
        return Open(wanted, self._idle(now, due))

    def overdue(self, now: float) -> bool:
        """Whether it is time for a full list."""
        return now >= self._list_again

    def listed(self, services: frozenset[str], now: float) -> None:
        """Note that these services have been read."""
        if not self._listed:
            self._list_again = now + self._timing.resync * self._rng.uniform(0.8, 1.2)
        self._listed |= services

    def opened(self) -> None:
        """Note that a stream lives: the outage, if there was one, is over."""
        self._failing_since = None

    def failed(self, error: DriverError, now: float) -> None:
        """Note that a list or a stream broke without our doing; everything is to be listed again."""
        self._listed = frozenset()
        self._not_before = now + self._pause(error, now)
        self._failing_since = now if self._failing_since is None else self._failing_since

    def _pause(self, error: DriverError, now: float) -> float:
        if isinstance(error, Denied):
            return self._timing.denied
        if isinstance(error, Compacted) and self._failing_since is None:
            return 0.0  # etcd is well, only our revision is too old
        outage = 0.0 if self._failing_since is None else now - self._failing_since
        longest = max(self._timing.first_retry, outage / _PATIENCE)
        return self._rng.uniform(0, min(longest, self._timing.last_retry))

    def _idle(self, now: float, due: float | None) -> float:
        idle = self._rng.uniform(*self._timing.idle)
        return idle if due is None else min(idle, max(due - now, self._timing.gap))
