"""Subsets: how many clients each instance has if each client chooses some for itself, and what a change moves."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from integration.simulate.contenders import strategy
from integration.simulate.placement import SERVICE, nodes, unevenness
from integration.simulate.report import table
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Strategy


@dataclass(frozen=True)
class Spread:
    """Clients of the busiest instance over the mean; the most members of a subset that a leave or a join changed."""

    unevenness: float
    leave: int
    join: int


def spread(*, clients: int = 300, instances: int = 300, size: int = 20) -> Spread:
    """Return how subsets of this size lie, and what changes when the node in the middle leaves and one joins."""
    some = nodes(instances + 1)
    middle, found, left, joined = instances // 2, Counter[str](), 0, 0
    for number in range(clients):
        made = strategy("Subset", inner=strategy("RoundRobin"), size=size, client=f"client {number}")
        before = members(made, some[:instances], size)
        found.update(before)
        left = max(left, len(before - members(made, [*some[:middle], *some[middle + 1 : instances]], size)))
        joined = max(joined, len(before - members(made, some, size)))
    return Spread(unevenness(found, instances), left, joined)


def members(made: Strategy, some: Sequence[Node], size: int) -> set[str]:
    """Return whom a strategy with turns inside picks."""
    pick = made(some)
    return {pick(Call(SERVICE)).id for _ in range(size)}


def theory(*, clients: int = 300, instances: int = 300, size: int = 20) -> float:
    """Return what the busiest of independent binomials has over the mean, as an expectation."""
    chance, below, expected = size / instances, 0.0, 0.0
    for count in range(clients):
        below += math.comb(clients, count) * chance**count * (1.0 - chance) ** (clients - count)
        expected += 1.0 - min(below, 1.0) ** instances
    return expected / (clients * chance)


def report(_makers: object, **_changes: int) -> str:
    """Return the table."""
    found = spread()
    rows = {"Subset": [found.unevenness, theory(), found.leave, found.join]}
    columns = ("max/mean clients", "in theory", "most changed by a leave", "most changed by a join")
    return table("subsets: 300 clients that use 20 of 300 instances each", rows, columns)
