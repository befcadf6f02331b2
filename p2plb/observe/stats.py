"""What `client.stats()` returns: frozen dataclasses, ready for `dataclasses.asdict` and JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

from p2plb.balancing.balancer import Balancer
from p2plb.discovery.registry import RegistryStatus


@dataclass(frozen=True, slots=True)
class NodeStats:
    """One node as this client sees it."""

    id: str
    url: str
    state: str
    zone: str
    weight: float
    in_flight: int
    latency: float | None  # mean seconds to the head of an answer
    ejected_for: float | None  # seconds for which it is still passed over
    ejected_because: str | None


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """The view in force for one service; `left_out` are the ids of instances that calls do not go to, with reasons.

    `fallbacks` counts the calls that went to the policy's fallback since the client was made, served or not, and
    `mishaps` how often the strategy failed or picked what is not one of its nodes, and a random node was picked.
    """

    revision: int
    nodes: tuple[NodeStats, ...]
    left_out: Mapping[str, str]
    fallbacks: int = 0
    mishaps: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """How a client and its registry are doing; `bad_reports` counts the load reports that were garbage."""

    registry: RegistryStatus
    services: Mapping[str, ServiceStats]
    bad_reports: int = 0


def service_stats(balancer: Balancer, now: float) -> ServiceStats:
    """Return the statistics of one balancer."""
    view = balancer.view
    if view is None:
        return ServiceStats(0, (), {})
    ejected = balancer.ejections.reasons(now)
    nodes = []
    for node in view.nodes:
        one, ejection = node.instance, ejected.get(node)
        left = None if ejection is None else max(0.0, ejection.until - now)
        because = None if ejection is None else ejection.reason
        seen = (node.in_flight, node.latency, left, because)
        nodes.append(NodeStats(one.id, one.url, one.state, one.zone, one.weight, *seen))
    left_out = {instance.id: reason for instance, reason in view.left_out}
    return ServiceStats(view.snapshot.revision, tuple(nodes), left_out, mishaps=balancer.strategy.mishaps)
