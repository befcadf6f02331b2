"""A node: this client's live handle on one instance, with what the client has seen of it.

A node stays the same object while (service, id, url) does, whatever happens to views. Strategies read it from many
threads; only balancing/ writes to it. It knows nothing of connections.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from p2plb.instance import Instance

DECAY: Final = 10.0
"""Seconds after which a latency sample weighs 1/e: Finagle's and Linkerd's default for their moving averages."""


class Node:
    """One instance as this client sees it; read-only for strategies."""

    __slots__ = ("__weakref__", "_claims", "_sampled", "instance", "latency", "refusals", "retired")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.latency: float | None = None
        """Mean seconds to the head of an answer, exponentially weighted in time; None before the first."""
        self.retired = False
        """True once no view in force holds the node."""
        self.refusals = 0
        """How many ejections in a row ended in another refused connection."""
        self._claims: set[object] = set()
        self._sampled = 0.0

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.instance.id

    @property
    def weight(self) -> float:
        """The instance's weight."""
        return self.instance.weight

    @property
    def zone(self) -> str:
        """The instance's zone, "" if it has none."""
        return self.instance.zone

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the instance says of itself."""
        return self.instance.metadata

    @property
    def in_flight(self) -> int:
        """How many calls of this client are in flight on the node, bodies included."""
        return len(self._claims)

    def claim(self) -> "Claim":
        """Count one call more in flight until the claim is released."""
        return Claim(self._claims)

    def sample(self, seconds: float, now: float) -> None:
        """Take in how long the head of an answer took."""
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

    def __repr__(self) -> str:
        return f"<Node {self.instance.service}/{self.id} {self.instance.url}>"


class Claim:
    """One call in flight on a node, counted from construction until `release`, exactly once.

    Claims are tokens in a set: exact on free-threaded builds, and a release that comes twice does nothing.
    """

    __slots__ = ("_claims", "_token")

    def __init__(self, claims: set[object]) -> None:
        self._claims = claims
        self._token = object()
        claims.add(self._token)

    def release(self) -> None:
        """Count the call as ended; idempotent, from any thread."""
        self._claims.discard(self._token)

    __del__ = release  # an answer that nobody closes must not count for ever
