"""Calls for which not all nodes will do: those that name instances, and those that want something of their metadata.

The nodes that will do are all that such a call sees, also when it is tried again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.where import Wish, matches, shown, wish
from p2plb.balancing.view import Matched, Picker, View
from p2plb.errors import NoInstances

REMEMBERED: Final = 64
"""For how many different wishes a view remembers who fulfils them, and their picker."""


class Matching:
    """The nodes of one view by metadata, each choice of them with a picker that is made at its first call.

    Any thread may call.
    """

    def __init__(self, strategy: Callable[[Sequence[Node]], Picker], nodes: tuple[Node, ...]) -> None:
        self._strategy = strategy
        self._nodes = nodes
        self._found: dict[Wish, Matched] = {}
        self._lock = threading.Lock()

    def __call__(self, wanted: Wish) -> Matched:
        """Return the nodes that match, perhaps none, in order and as a set, and their picker."""
        found = self._found.get(wanted)
        return self._find(wanted) if found is None else found

    def _find(self, wanted: Wish) -> Matched:
        nodes = tuple(node for node in self._nodes if matches(node.metadata, wanted))
        found = nodes, frozenset(nodes), self._strategy(nodes)
        with self._lock:
            while len(self._found) >= REMEMBERED:
                self._found.pop(next(iter(self._found)))
            self._found[wanted] = found
        return found


def among(view: View, bound: Sequence[str] | Mapping[str, Any]) -> View:
    """Return what a call sees of a view: the instances with these ids, or those whose metadata have all of this.

    Of ids the first that is not to be avoided is picked; by metadata the policy's strategy picks. `NoInstances` says
    that there is nobody.
    """
    if isinstance(bound, Mapping):
        wanted = wish(bound, "call(where=)")
        nodes, members, pick = view.matching(wanted)
        why = f"none has {shown(wanted)} in its metadata, as call(where=) asks"
    else:
        nodes = tuple(view.by_id[one] for one in bound if one in view.by_id)
        members, pick = frozenset(nodes), partial(_first, nodes)
        why = f"the call may go to {' or '.join(bound)} only, and nobody of that name is in force"
    if not nodes:
        raise NoInstances(why)
    return replace(view, nodes=nodes, members=members, pick=pick)


def _first(nodes: Sequence[Node], call: Call) -> Node:
    return next((node for node in nodes if node not in call.avoid), nodes[0])
