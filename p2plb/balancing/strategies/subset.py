"""Subset: a client uses some of the nodes only, so that a large service has not a connection from everybody.

By rendezvous (D. Thaler, C. Ravishankar, 1998), as in gRPC's A68: each client ranks the nodes by a hash of its own name
and theirs and uses the first. Clients choose independently of one another.
"""

import heapq
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import Group, check_inner
from p2plb.balancing.strategies.hashing import hash_key
from p2plb.balancing.view import Picker, Strategy

_TOKEN: Final = os.urandom(8).hex()


@dataclass(frozen=True)
class Subset:
    """Of the nodes only `size`, chosen by the client's name; `inner` picks among them.

    A node that joins or leaves changes at most one of them. `client` is what tells this client from others, the process
    by default: with a name that stays, such as the pod's, a restart keeps the subset. The others are called only while
    all of the subset are to be avoided.
    """

    inner: Strategy
    size: int
    client: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_inner(self.inner, "Subset")
        if not isinstance(self.size, int) or isinstance(self.size, bool):
            raise TypeError(f"Subset(size=) is a whole number, not {self.size!r}")
        if self.size < 1:
            raise ValueError(f"Subset(size=) is 1 or more, not {self.size}")
        if self.client is not None and not isinstance(self.client, str):
            raise TypeError(f"Subset(client=) is a name that no other client has, not {self.client!r}")

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        if len(nodes) <= self.size:
            return self.inner(nodes)
        client = (
            f"{_TOKEN}-{os.getpid()}" if self.client is None else self.client
        )  # forked children differ by their pid
        chosen = set(heapq.nsmallest(self.size, nodes, key=lambda node: hash_key(f"{client}/{node.id}")))
        return Group(self.inner, [node for node in nodes if node in chosen]).pick
