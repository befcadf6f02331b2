"""A node: this client's live handle on one instance, with what the client has seen of it.

A node stays the same object while (service, id, url) does, whatever happens to views. Strategies read it from many
threads; only balancing/ writes to it. It knows nothing of connections.
"""

from collections.abc import Mapping
from typing import Any

from p2plb.balancing.health import Health
from p2plb.instance import Instance


class Node:
    """One instance as this client sees it; read-only for strategies."""

    __slots__ = ("__weakref__", "_claims", "health", "instance", "retired")

    def __init__(self, instance: Instance, health: Health | None = None) -> None:
        self.instance = instance
        self.health = Health() if health is None else health
        self.retired = False
        """True once no view in force holds the node."""
        self._claims: set[object] = set()

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
    def latency(self) -> float | None:
        """Mean seconds to the head of an answer, exponentially weighted in time; None before the first."""
        return self.health.latency

    @property
    def in_flight(self) -> int:
        """How many calls of this client are in flight on the node, bodies included."""
        return len(self._claims)

    def claim(self) -> "Claim":
        """Count one call more in flight until the claim is released."""
        return Claim(self._claims)

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
