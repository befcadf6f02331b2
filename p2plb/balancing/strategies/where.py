"""Where: calls go to the nodes whose metadata say what is wanted, such as a version or a model that is loaded.

`Where` around a strategy says it for all calls of a policy; `call(where=…)` says it for one (among.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import Group, check_inner
from p2plb.balancing.view import Picker, Strategy
from p2plb.errors import NoInstances

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
                raise NoInstances(f"none that can serve has {shown(wanted)} in its metadata")
            return node

        return pick


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


def shown(wanted: Wish) -> str:
    """Return what is wanted for people."""
    return ", ".join(f"{name}={value}" for name, value in wanted)
