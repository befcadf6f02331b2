"""What the demo counts: calls, who answered them, how many attempts they took, when each instance was sent something.

Any thread may add; it knows nothing of httpx.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

RECENT = 300
"""How many of the last calls make the shares of the moment."""
PAUSE = 0.5
"""Seconds without an attempt after which an instance counts as left; what comes later is a probe."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts at one moment; `served` and `recent` are by name of the instance."""

    calls: int
    failed: int
    repeated: int
    served: Counter[str]
    recent: Counter[str]


@dataclass
class Tally:
    """The counts as they grow."""

    clock: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: list[str] = field(default_factory=list)
    _repeated: int = 0
    _served: Counter[str] = field(default_factory=Counter)
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    _attempts: dict[str, list[float]] = field(default_factory=dict)

    def answered(self, name: str, attempts: int) -> None:
        """Count a call that `name` answered after so many attempts."""
        with self._lock:
            self._served[name] += 1
            self._recent.append(name)
            self._repeated += attempts > 1

    def failed(self, reason: str) -> None:
        """Count a call that failed."""
        with self._lock:
            self._failures.append(reason)

    def attempted(self, name: str) -> None:
        """Note that a call is about to be sent to `name`."""
        with self._lock:
            self._attempts.setdefault(name, []).append(self.clock())

    def totals(self) -> Totals:
        """Return the counts now."""
        with self._lock:
            served, failed = Counter(self._served), len(self._failures)
            return Totals(served.total() + failed, failed, self._repeated, served, Counter(self._recent))

    def failures(self) -> Counter[str]:
        """Return the reasons of the calls that failed."""
        with self._lock:
            return Counter(self._failures)

    def is_clean(self) -> bool:
        """Say whether there were calls and none has failed."""
        totals = self.totals()
        return totals.calls > 0 and totals.failed == 0

    def left(self, name: str, since: float) -> "Left":
        """Say how the callers let go of an instance that died at `since`."""
        with self._lock:
            return left([at - since for at in self._attempts.get(name, []) if at > since])


@dataclass(frozen=True, slots=True)
class Left:
    """How fast a dead instance was left: so many attempts within so many seconds, and probes later."""

    attempts: int
    seconds: float
    probes: int


def left(after: Sequence[float]) -> Left:
    """Divide the attempts after a death, given as seconds since it, into the first rush and later probes."""
    rush: list[float] = []
    for at in after:
        if at - (rush[-1] if rush else 0.0) > PAUSE:
            break
        rush.append(at)
    return Left(len(rush), rush[-1] if rush else 0.0, len(after) - len(rush))
