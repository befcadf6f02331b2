"""Where: calls go to the nodes whose metadata say what is wanted, such as a version or a model that is loaded.

Two ways to say it: `Where` around a strategy, for all calls of a policy, and `call(where=…)` for one call, which the
balancer carries out by `Matching`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import Group, check_inner
from p2plb.balancing.view import Picker, Strategy
from p2plb.errors import NoInstances

REMEMBERED: Final = 64
"""For how many different wishes of calls a view remembers who fulfils them."""

Wish = tuple[tuple[str, str], ...]
"""Names and values of metadata, as text and sorted."""


@dataclass(frozen=True)
class Where:
    """Only nodes whose metadata have each name of `where` with this value; `inner` picks among them.

    Values are compared as text, and where the metadata have a list one of its items is enough. If no such node can
    serve, `otherwise="all"` lets the others serve, and `otherwise="none"` fails the call with `NoInstances`.
    """

    inner: Strategy
    where: Mapping[str, Any] = field(hash=False)
    otherwise: Literal["all", "none"] = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        check_inner(self.inner, "Where")
        wish(self.where, "Where(where=)")
        if self.otherwise not in {"all", "none"}:
            raise ValueError(f"Where(otherwise=) is 'all' or 'none', not {self.otherwise!r}")

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        wanted = wish(self.where, "Where(where=)")
        fitting = [node for node in nodes if matches(node.metadata, wanted)]
        if len(fitting) == len(nodes) or (not fitting and self.otherwise == "all"):
            return self.inner(nodes)
        if self.otherwise == "all":
            return Group(self.inner, fitting).pick
        group = Group(self.inner, fitting) if fitting else None

        def pick(call: Call) -> Node:
            node = None if group is None else group.pick(call)
            if node is None or node in call.avoid:
                raise NoInstances(f"none that can serve has {_text(wanted)} in its metadata")
            return node

        return pick


class Matching:
    """The nodes of one view that fulfil the wishes of calls, each wish with a picker that is made at its first call."""

    def __init__(self, strategy: Callable[[tuple[Node, ...]], Picker], nodes: tuple[Node, ...]) -> None:
        self._strategy = strategy
        self._nodes = nodes
        self._found: dict[Wish, tuple[tuple[Node, ...], Picker]] = {}
        self._lock = threading.Lock()

    def __call__(self, wanted: Wish) -> tuple[tuple[Node, ...], Picker]:
        """Return the nodes that match, perhaps none, and their picker."""
        found = self._found.get(wanted)
        return self._find(wanted) if found is None else found

    def _find(self, wanted: Wish) -> tuple[tuple[Node, ...], Picker]:
        fitting = tuple(node for node in self._nodes if matches(node.metadata, wanted))
        found = fitting, self._strategy(fitting)
        with self._lock:
            while len(self._found) >= REMEMBERED:
                self._found.pop(next(iter(self._found)))
            self._found[wanted] = found
        return found


def wish(where: object, what: str) -> Wish:
    """Return what is wanted as text, sorted; `TypeError` if it is no mapping of names to values."""
    if not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where):
        raise TypeError(f"{what} is a mapping of metadata, such as {{'version': '2'}}, not {where!r}")
    return tuple(sorted((name, str(value)) for name, value in where.items()))


def matches(metadata: Mapping[str, Any], wanted: Wish) -> bool:
    """Say whether metadata have all that is wanted."""
    return all(name in metadata and value in _values(metadata[name]) for name, value in wanted)


def _values(found: object) -> list[str]:
    return [str(one) for one in found] if isinstance(found, list | tuple) else [str(found)]


def _text(wanted: Wish) -> str:
    return ", ".join(f"{name}={value}" for name, value in wanted)
