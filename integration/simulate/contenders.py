"""Who stands in the tables: each strategy that p2plb exports, by its name, and an oracle with one central queue.

Strategies that are added to p2plb appear by themselves: a class in p2plb.balancing.strategies that is callable.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import p2plb
from integration.simulate.servers import Server
from integration.simulate.world import World
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker, Strategy

HOME = "p2plb.balancing.strategies."
ORACLE = "oracle"
EXTRA: dict[str, dict[str, Any]] = {"Subset": {"size": 20}, "Where": {"where": {}}, "ZoneAware": {"zone": "a"}}
"""What a strategy needs beside an inner one."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "WeightedRoundRobin+reported": ("WeightedRoundRobin", {"reported": True}),
    "ConsistentHash+bounded": ("ConsistentHash", {"bounded_load": 1.25}),
    "Maglev+bounded": ("Maglev", {"bounded_load": 1.25}),
}
"""Contenders that are not as they are by default."""


def names() -> list[str]:
    """Return the names of all strategies that p2plb exports."""
    return [name for name in p2plb.__all__ if is_strategy(getattr(p2plb, name))]


def is_strategy(found: object) -> bool:
    """Say whether an exported name is a strategy's class."""
    return inspect.isclass(found) and found.__module__.startswith(HOME) and inspect.isfunction(found.__call__)


def strategy(name: str, world: World | None = None, **options: Any) -> Strategy:
    """Return a strategy with its defaults and the options that it has, living in the world's time."""
    kind = getattr(p2plb, name)
    fields = inspect.signature(kind).parameters
    given = {**EXTRA.get(name, {}), **options}
    if world is not None:
        given["clock"] = world.clock
    if "inner" in fields and "inner" not in given:
        given["inner"] = strategy("LeastRequest", world)
    made: Strategy = kind(**{option: value for option, value in given.items() if option in fields})
    return made


def oracle(servers: Mapping[str, Server]) -> Strategy:
    """Return a strategy that sees into all instances and sends a call where it will be done first.

    With equal instances that is one central queue from which whoever is free takes the oldest call (joining the least
    work left and first come first served for all are the same process); with unequal ones it is better still.
    """

    def strategy(nodes: Sequence[Node]) -> Picker:
        there = [(servers[node.id], node) for node in nodes]

        def pick(call: Call) -> Node:
            job = call.request
            return min((server.wait(job), server.served, node.id, node) for server, node in there)[-1]

        return pick

    return strategy


def is_keyed(made: Strategy) -> bool:
    """Say whether a strategy sends equal keys to the same node, whoever calls, by trying it for twenty clients."""
    pickers = [made([Node(p2plb.Instance(f"n{n}", "s", f"http://10.0.0.{n}:80")) for n in range(9)]) for _ in range(20)]
    return len({pick(Call("s", key="one")).id for pick in pickers}) == 1


Maker = Callable[[World, Mapping[str, Server], str], Strategy]
"""Makes the strategy of one client, which stands in a zone."""


def makers() -> dict[str, Maker]:
    """Return what makes the strategy of a client for each contender, by name, the oracle first."""
    made: dict[str, Maker] = {ORACLE: lambda _world, servers, _zone: oracle(servers)}
    made |= {name: by_name(name) for name in names()}
    return made | {title: by_name(name, **options) for title, (name, options) in VARIANTS.items()}


def by_name(name: str, **options: Any) -> Maker:
    """Return what makes the strategy of this name."""
    return lambda world, _servers, zone: strategy(
        name, world, zone=zone or "a", client=f"{world.rng.random()}", **options
    )
