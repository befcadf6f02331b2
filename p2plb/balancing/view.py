"""A view: the nodes in force and their picker, published with one assignment and never changed.

`select` says which instances of a snapshot are in force, and why the others are not.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.quiet import Quiet

complain = Quiet(logging.getLogger("p2plb")).exception

Picker = Callable[[Call], Node]
"""Returns the node for a call. Runs in many threads at once, must not block, and returns one of its nodes."""

Strategy = Callable[[Sequence[Node]], Picker]
"""Returns a picker for the nodes, never empty, in the order of their ids. Runs off the callers' threads, once a view,
and may take milliseconds. Nodes of different priorities, and those that a call asks for by `call(where=…)`, are given
apart."""

Matched = tuple[tuple[Node, ...], frozenset[Node], Picker]
LeftOut = tuple[tuple[Instance, str], ...]


@dataclass(frozen=True, slots=True)
class View:
    """Nodes and picker in force for one service, made from one snapshot."""

    snapshot: Snapshot
    nodes: tuple[Node, ...]
    members: frozenset[Node]
    pick: Picker
    left_out: LeftOut
    by_id: Mapping[str, Node]
    matching: Callable[[tuple[tuple[str, str], ...]], Matched]
    """The nodes whose metadata have these names and values, with their picker."""


def select(
    instances: Sequence[Instance], *, secure: bool = False, only: Callable[[Instance], bool] | None = None
) -> tuple[tuple[Instance, ...], LeftOut]:
    """Return the instances that calls may go to, and those left out, each with the reason.

    Up before draining before down, weight 0 only if all have it; priorities are the picker's matter. With `secure` an
    instance that is recorded as plain http is never dialled.
    """
    left_out: list[tuple[Instance, str]] = []

    def keep(found: list[Instance], test: Callable[[Instance], bool], reason: str) -> list[Instance]:
        left_out.extend((i, reason) for i in found if not test(i))
        return [i for i in found if test(i)]

    found = list(instances)
    if secure:
        found = keep(found, lambda i: i.scheme == "https", "https was asked and its record says http")
    if only is not None:
        found = keep(found, _guarded(only), "only= leaves it out")
    if any(i.state != "down" for i in found):
        found = keep(found, lambda i: i.state != "down", "down")
    if any(i.state == "up" for i in found):
        found = keep(found, lambda i: i.state == "up", "draining")
    if any(i.weight > 0 for i in found):
        found = keep(found, lambda i: i.weight > 0, "weight 0")
    return tuple(found), tuple(left_out)


def _guarded(only: Callable[[Instance], bool]) -> Callable[[Instance], bool]:
    """Leave an instance out if the filter fails on it: records are not what a filter expects them to be."""

    def allows(instance: Instance) -> bool:
        try:
            return bool(only(instance))
        except Exception:
            complain("only= failed on instance %s of %s", instance.id, instance.service)
            return False

    return allows
