"""What a service has lost uncleanly of late, and whether it was so much that the registry rather than they must be ill.

An instance that leaves says `draining` first. When more than half of a service vanishes without a word within a short
time (a wiped registry, a deletion by mistake, a storm of expired leases), the lost are kept as ghosts for a while: the
callers find out for themselves who is dead. Pure: the time is passed in; it knows nothing of keys or revisions.
"""

from collections.abc import Collection
from dataclasses import dataclass

from p2plb.instance import Instance


@dataclass(frozen=True, slots=True)
class MassLoss:
    """A mass loss is more than `share` of a service and at least `least`, `within` seconds; it is kept for `keep`."""

    share: float = 0.5
    least: int = 3
    within: float = 30.0
    keep: float = 30.0


@dataclass(slots=True)
class _Lost:
    instance: Instance
    until: float  # it is forgotten then
    ghost: bool = False


class Losses:
    """The unclean losses of one service."""

    def __init__(self, rule: MassLoss) -> None:
        self._rule = rule
        self._lost: dict[str, _Lost] = {}

    @property
    def due(self) -> float | None:
        """When the next ghost is to be laid, None without ghosts."""
        return min((lost.until for lost in self._lost.values() if lost.ghost), default=None)

    def add(self, instance: Instance, now: float) -> None:
        """Note that an instance vanished without having been `draining`."""
        self._lost[instance.id] = _Lost(instance, now + self._rule.within)

    def settle(self, live: Collection[Instance], now: float) -> tuple[Instance, ...]:
        """Return the ghosts, given those who live; whoever is back by id or address, or out of time, is forgotten."""
        if not self._lost:
            return ()
        self._forget(live, now)
        fresh = [lost for lost in self._lost.values() if not lost.ghost]
        if self._is_mass(sum(1 for instance in live if instance.state == "up")):
            for lost in fresh:
                lost.ghost, lost.until = True, now + self._rule.keep
        return tuple(lost.instance for lost in self._lost.values() if lost.ghost)

    def _forget(self, live: Collection[Instance], now: float) -> None:
        ids = {instance.id for instance in live}
        addresses = {(instance.host, instance.port) for instance in live}
        self._lost = {
            id_: lost
            for id_, lost in self._lost.items()
            if lost.until > now and id_ not in ids and (lost.instance.host, lost.instance.port) not in addresses
        }

    def _is_mass(self, up: int) -> bool:
        count = len(self._lost)
        return count >= self._rule.least and count > self._rule.share * (up + count)
