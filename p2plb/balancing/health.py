"""What is known of an instance's health: its latency, its refused connections, and until when it is passed over.

Health outlives the node that it belongs to: clients of one registry that reach an instance the same way share it, so a
client that is made for one call begins with what the last one has learned.
"""

import math
from dataclasses import dataclass

from p2plb.balancing.strategies.peak import DECAY, Peak
from p2plb.load import LoadReport


@dataclass(frozen=True, slots=True)
class Ejection:
    """One node passed over until a moment of the monotonic clock, with the reason."""

    until: float
    reason: str


class Health:
    """The health of one instance. Any thread may call."""

    __slots__ = ("__weakref__", "_sampled", "ejection", "latency", "peak", "refusals", "report")

    def __init__(self) -> None:
        self.latency: float | None = None
        """Mean seconds to the head of an answer, exponentially weighted in time; None before the first."""
        self.peak = Peak()
        """What calls have cost lately, failures included."""
        self.report: LoadReport | None = None
        """What the instance last said of its load, None if it says nothing."""
        self.refusals = 0
        """How many ejections in a row ended in another refused connection."""
        self.ejection: Ejection | None = None
        """The last ejection, unless an answer has ended it."""
        self._sampled = 0.0

    def sample(self, seconds: float, now: float) -> None:
        """Take in how long the head of an answer took."""
        self.peak.answered(seconds, now)
        if self.latency is None:
            self.latency = seconds
        else:
            weight = math.exp(-max(0.0, now - self._sampled) / DECAY)
            # An answer straight after the last one still counts a little, or a busy node's mean would never move.
            self.latency += (seconds - self.latency) * max(1.0 - weight, 0.05)
        self._sampled = now

    def sample_at_least(self, seconds: float, now: float) -> None:
        """Take in that an answer had not come after `seconds`: news only if that is above the mean."""
        if self.latency is None or seconds > self.latency:
            self.sample(seconds, now)
        else:
            self.peak.at_least(seconds, now)
