"""Calls that name the instances that will do, as those to the owners of a key: these are all that such a call sees.

It stands in for the policy's strategy. Nobody outside p2plb chooses it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import View
from p2plb.errors import NoInstances


def among(view: View, ids: Sequence[str]) -> View:
    """Return the view of a call that may go to these instances only: to the first that is not to be avoided.

    `NoInstances` if none of them is in force: nobody else will do.
    """
    nodes = tuple(view.by_id[one] for one in ids if one in view.by_id)
    if not nodes:
        raise NoInstances(f"the call may go to {' or '.join(ids)} only, and nobody of that name is in force")
    return replace(view, nodes=nodes, members=frozenset(nodes), pick=partial(_first, nodes))


def _first(nodes: Sequence[Node], call: Call) -> Node:
    return next((node for node in nodes if node not in call.avoid), nodes[0])
