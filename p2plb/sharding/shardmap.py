"""The computed shard map: who owns each slot, as a pure function of one snapshot.

Every process with the same snapshot has the same map. A map is frozen; the next one is filled with the help of the last
one, so that a join or a leave costs about the same however many instances there are, and the result does not tell.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

from p2plb.balancing.strategies.hashing import Breath
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.sharding.slots import SLOTS, score, scores, slot_of

K = TypeVar("K")
_MANY: Final = SLOTS // 16
"""From so many ownerless slots on, filling all anew is cheaper: a digest then serves eight slots."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardMap:
    """Who owns each slot at one snapshot. Lookups never wait; without members they raise `LookupError`."""

    snapshot: Snapshot | None
    members: Mapping[str, Instance]
    """The instances that own slots, by id."""
    owners: Sequence[str]
    """The id of the owner of each slot; empty without members."""
    scores: Sequence[float]
    """The score by which each slot is owned."""
    _ranked: dict[tuple[int, int], tuple[Instance, ...]] = field(default_factory=dict)

    def owner(self, key: Any) -> Instance:
        """Return the owner of a key."""
        return self.members[self._owners()[slot_of(key)]]

    def replicas(self, key: Any, count: int) -> tuple[Instance, ...]:
        """Return the owner of a key and those who come after it: `count` distinct ones, or all if there are fewer.

        Each is in a zone of its own as far as there are zones.
        """
        if count == 1:
            return (self.owner(key),)
        self._owners()
        asked = (slot_of(key), count)
        if (found := self._ranked.get(asked)) is None:
            found = self._ranked[asked] = tuple(islice(_spread(self._ranking(asked[0])), count))
        return found

    def group(self, keys: Iterable[K]) -> dict[Instance, list[K]]:
        """Return the keys by their owner, in the order given."""
        owners, found = self._owners(), defaultdict[str, list[K]](list)
        for key in keys:
            found[owners[slot_of(key)]].append(key)
        return {self.members[one]: mine for one, mine in found.items()}

    def _owners(self) -> Sequence[str]:
        if not self.owners:
            raise LookupError("nobody owns a slot: no instance can")
        return self.owners

    def _ranking(self, slot: int) -> list[Instance]:
        return sorted(self.members.values(), key=lambda one: (score(one.id, one.weight, slot), one.id), reverse=True)


EMPTY: Final = ShardMap(None, {}, (), ())
"""The map of nobody."""


def fill(snapshot: Snapshot, last: ShardMap = EMPTY) -> ShardMap:
    """Return the map of a snapshot. It lets other threads run each millisecond: a big one must not stall callers."""
    members = {one.id: one for one in serving(snapshot.instances)}
    kept = {one for one in members if one in last.members and members[one].weight == last.members[one].weight}
    lost = [slot for slot, owner in enumerate(last.owners) if owner not in kept]
    if len(lost) >= _MANY:
        last, kept, lost = EMPTY, set(), []
    owners, best = list(last.owners or [""] * SLOTS), list(last.scores or [0.0] * SLOTS)
    breathe = Breath()
    for slot in lost:
        best[slot], owners[slot] = max((score(one, members[one].weight, slot), one) for one in kept)
        breathe()
    for one in members.keys() - kept:
        _claim(one, members[one].weight, owners, best)
        breathe()
    return ShardMap(snapshot, members, tuple(owners) if members else (), array("d", best))


def serving(instances: Iterable[Instance]) -> list[Instance]:
    """Return who owns slots: up before draining before down, weight 0 only if all have it, the lowest priority number.

    So an instance that drains owns nothing any more: its slots go to others at once. Filters of single clients are not
    asked, for all must agree.
    """
    found = list(instances)
    found = [one for one in found if one.state != "down"] or found
    found = [one for one in found if one.state == "up"] or found
    found = [one for one in found if one.weight > 0] or found
    first = min((one.priority for one in found), default=0)
    return [one for one in found if one.priority == first]


def moved(before: ShardMap, after: ShardMap) -> dict[int, tuple[Instance | None, Instance | None]]:
    """Return for each slot that changed hands who had it and who has it; None is nobody."""
    slots = range(SLOTS) if before.owners or after.owners else ()
    pairs = ((slot, _at(before, slot), _at(after, slot)) for slot in slots)
    return {slot: (old, new) for slot, old, new in pairs if (old and old.id) != (new and new.id)}


def _claim(one: str, weight: float, owners: list[str], best: list[float]) -> None:
    """Give an instance the slots for which it has the highest score; equal ones go by id."""
    for slot, mine in enumerate(scores(one, weight)):
        if mine > best[slot] or (mine == best[slot] and one > owners[slot]):
            best[slot], owners[slot] = mine, one


def _spread(ranking: Sequence[Instance]) -> Iterator[Instance]:
    """Yield instances by rank, those of zones that had no turn yet first."""
    leaders: dict[str, Instance] = {}
    for one in ranking:
        leaders.setdefault(one.zone, one)
    yield from leaders.values()
    yield from (one for one in ranking if leaders[one.zone] is not one)


def _at(found: ShardMap, slot: int) -> Instance | None:
    return found.members[found.owners[slot]] if found.owners else None
