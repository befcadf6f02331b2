"""What the strategies that go by a key have in common: the key, what happens without one, and bounded loads.

Where a key belongs is a placement's matter; here it is asked, and its answer passed over if the call is to avoid it.
"""

import itertools
import random
from abc import ABC
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, get_args

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.bounded import Bound
from p2plb.balancing.strategies.hashing import hash_key, scramble
from p2plb.balancing.strategies.keys import Key, check_key, key_of, no_key
from p2plb.balancing.strategies.placement import Placement, place
from p2plb.balancing.view import Picker
from p2plb.errors import MissingKey
from p2plb.instance import check_number

JUMPS: Final = 32
"""How many nodes an overflow tries: with a bound of 1.25 at most four of five are full, and all 32 once in 1,000."""

WithoutKey = Literal["random", "error"]
Find = Callable[[int, Collection[Node]], Node]


@dataclass(frozen=True)
class Keyed(ABC):
    """Equal keys to the same node, in proportion to weight: the base of ConsistentHash, Maglev and Rendezvous."""

    key: Key = field(default=no_key)
    without_key: WithoutKey = field(default="random", kw_only=True)
    bounded_load: float | None = field(default=None, kw_only=True)
    slack: int = field(default=8, kw_only=True)

    placement: ClassVar[type[Placement]]

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_key(self.key, name)
        if self.without_key not in get_args(WithoutKey):
            raise ValueError(f'{name}(without_key=) is "random" or "error", not {self.without_key!r}')
        if self.bounded_load is not None:
            check_number(self.bounded_load, f"{name}(bounded_load=)", 1.01, 100)
        if not isinstance(self.slack, int) or self.slack < 0:
            raise ValueError(f"{name}(slack=) is a number of calls, 0 or more, not {self.slack!r}")

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        find: Find = Seats(self.placement, nodes).find
        if self.bounded_load is not None:
            find = _bounded(find, Bound(nodes, self.bounded_load, self.slack))
        missing, from_request = self._missing(nodes), self.key

        def pick(call: Call) -> Node:
            key = key_of(call, from_request)
            return missing(call) if key is None else find(hash_key(key), call.avoid)

        return pick

    def _missing(self, nodes: Sequence[Node]) -> Picker:
        if self.without_key == "random":
            reach = list(itertools.accumulate(node.weight or 1.0 for node in nodes))
            return lambda _call: random.choices(nodes, cum_weights=reach)[0]
        name = type(self).__name__

        def refuse(call: Call) -> Node:
            raise MissingKey(
                f'{name}(without_key="error"): a call to {call.service!r} has no key: give it '
                "extensions=p2plb.call(key=…), or the strategy a key that each request has"
            )

        return refuse


class Seats:
    """The nodes of a view in their places."""

    def __init__(self, kind: type[Placement], nodes: Sequence[Node]) -> None:
        self._placement = place(kind, nodes[0].instance.service, {node.id: node.weight for node in nodes})
        by_id = {node.id: node for node in nodes}
        self._nodes = [by_id.get(name or "", nodes[0]) for name in self._placement.names]

    def find(self, hashed: int, avoid: Collection[Node]) -> Node:
        """Return the owner of a hash, or the next one that is not to be avoided; the owner if all are."""
        owner = self._nodes[self._placement.owner(hashed)]
        if owner not in avoid:
            return owner
        heirs = (self._nodes[number] for number in self._placement.owners(hashed))
        return next((node for node in heirs if node not in avoid), owner)


def _bounded(find: Find, bound: Bound) -> Find:
    """Let a hash whose owner is full jump to others: not to the neighbour, who would be the next to overflow.

    J. Chen, B. Coleman and A. Shrivastava, "Revisiting Consistent Hashing with Bounded Loads" (AAAI 2021). The jumps
    are the hash's own, so a key that overflows does so to the same nodes each time.
    """

    def bounded(hashed: int, avoid: Collection[Node]) -> Node:
        for _ in range(JUMPS):
            node = find(hashed, avoid)
            if not bound.is_full(node, avoid):
                return node
            hashed = scramble(hashed)
        return bound.emptiest(avoid)

    return bounded
