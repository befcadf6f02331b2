"""The strategies that place keys: equal keys go to the same node, and few keys move when nodes come and go."""

from dataclasses import dataclass
from typing import ClassVar

from p2plb.balancing.strategies.keyed import Keyed
from p2plb.balancing.strategies.maglev import Table
from p2plb.balancing.strategies.placement import Placement
from p2plb.balancing.strategies.rendezvous import Scores
from p2plb.balancing.strategies.ring import Ring


@dataclass(frozen=True)
class ConsistentHash(Keyed):
    """Equal keys to the same node, by a ring of 160 points for a node of weight 1.

    The key is `call(key=…)`, else what `key(request)` returns. Nodes own keys by their id, not their address, in
    proportion to their weight. `without_key` is "random" (as gRPC's A42) or "error", a `ValueError`. If the owner is to
    be avoided, the key goes to the node that would own it without the owner.

    With `bounded_load=1.25` a key leaves its node while that one has more than `slack` calls of this client in flight
    and would have more than 1.25 times its part.
    """

    placement: ClassVar[type[Placement]] = Ring


@dataclass(frozen=True)
class Maglev(Keyed):
    """Equal keys to the same node, by a table of 65,537 slots: the most even shares, and a pick is one look-up.

    Arguments as ConsistentHash. When a node comes or goes, about twice as many keys move as with the others. Above
    1,310 nodes it logs a warning, for shares differ by more than 2 % there.
    """

    placement: ClassVar[type[Placement]] = Table


@dataclass(frozen=True)
class Rendezvous(Keyed):
    """Equal keys to the same node, by the highest score: exact shares and the fewest moves, for up to about 50 nodes.

    Arguments as ConsistentHash. Each pick asks all nodes.
    """

    placement: ClassVar[type[Placement]] = Scores
