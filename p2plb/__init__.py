"""Peer-to-peer, client-side load balancing: calls to a service go straight to one of its instances, no proxy between.

    from p2plb import Client

    with Client("etcd://127.0.0.1:2379") as client:
        client.get("http://users/profile/42")  # "users" is a service, not a host

The names below are loaded when they are first used, so that the import costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from p2plb.version import __version__

if TYPE_CHECKING:
    from p2plb.balancing.call import Call
    from p2plb.balancing.node import Node
    from p2plb.balancing.retry import Retry
    from p2plb.balancing.strategies.consistent_hash import ConsistentHash, Maglev, Rendezvous
    from p2plb.balancing.strategies.keys import Key, body, cookie, header, path, query
    from p2plb.balancing.strategies.least_request import LeastRequest
    from p2plb.balancing.strategies.peak_ewma import PeakEwma
    from p2plb.balancing.strategies.probing import Probing
    from p2plb.balancing.strategies.random_choice import Random
    from p2plb.balancing.strategies.round_robin import RoundRobin, WeightedRoundRobin
    from p2plb.balancing.strategies.slow_start import SlowStart
    from p2plb.balancing.strategies.sticky import Sticky
    from p2plb.balancing.strategies.subset import Subset
    from p2plb.balancing.strategies.where import Where
    from p2plb.balancing.strategies.zone_aware import ZoneAware
    from p2plb.balancing.view import Picker, Strategy
    from p2plb.calling.options import call
    from p2plb.calling.policy import Policy
    from p2plb.calling.routing import Route, by_host, by_path
    from p2plb.calling.shards import AsyncShards, Shards
    from p2plb.discovery.etcd.address import etcd
    from p2plb.discovery.registry import Registry
    from p2plb.discovery.snapshot import Snapshot
    from p2plb.discovery.static import static
    from p2plb.errors import DiscoveryError, P2PError, RegistrationError
    from p2plb.httpx.client import AsyncClient, Client
    from p2plb.httpx.family import NoInstances
    from p2plb.httpx.transport import AsyncTransport, Transport
    from p2plb.instance import Instance
    from p2plb.serving.lifespan import lifespan
    from p2plb.serving.load_report import LoadReportMiddleware
    from p2plb.serving.owning import owns
    from p2plb.serving.registration import register

__all__ = [
    "AsyncClient",
    "AsyncShards",
    "AsyncTransport",
    "Call",
    "Client",
    "ConsistentHash",
    "DiscoveryError",
    "Instance",
    "Key",
    "LeastRequest",
    "LoadReportMiddleware",
    "Maglev",
    "NoInstances",
    "Node",
    "P2PError",
    "PeakEwma",
    "Picker",
    "Policy",
    "Probing",
    "Random",
    "RegistrationError",
    "Registry",
    "Rendezvous",
    "Retry",
    "RoundRobin",
    "Route",
    "Shards",
    "SlowStart",
    "Snapshot",
    "Sticky",
    "Strategy",
    "Subset",
    "Transport",
    "WeightedRoundRobin",
    "Where",
    "ZoneAware",
    "__version__",
    "body",
    "by_host",
    "by_path",
    "call",
    "cookie",
    "etcd",
    "header",
    "lifespan",
    "owns",
    "path",
    "query",
    "register",
    "static",
]

_HOMES = {
    "balancing.call": ("Call",),
    "balancing.node": ("Node",),
    "balancing.retry": ("Retry",),
    "balancing.strategies.consistent_hash": ("ConsistentHash", "Maglev", "Rendezvous"),
    "balancing.strategies.keys": ("Key", "body", "cookie", "header", "path", "query"),
    "balancing.strategies.least_request": ("LeastRequest",),
    "balancing.strategies.peak_ewma": ("PeakEwma",),
    "balancing.strategies.probing": ("Probing",),
    "balancing.strategies.random_choice": ("Random",),
    "balancing.strategies.round_robin": ("RoundRobin", "WeightedRoundRobin"),
    "balancing.strategies.slow_start": ("SlowStart",),
    "balancing.strategies.sticky": ("Sticky",),
    "balancing.strategies.subset": ("Subset",),
    "balancing.strategies.where": ("Where",),
    "balancing.strategies.zone_aware": ("ZoneAware",),
    "balancing.view": ("Picker", "Strategy"),
    "discovery.etcd.address": ("etcd",),
    "discovery.registry": ("Registry",),
    "discovery.snapshot": ("Snapshot",),
    "discovery.static": ("static",),
    "errors": ("DiscoveryError", "P2PError", "RegistrationError"),
    "httpx.client": ("AsyncClient", "Client"),
    "httpx.family": ("NoInstances",),
    "httpx.transport": ("AsyncTransport", "Transport"),
    "instance": ("Instance",),
    "calling.options": ("call",),
    "calling.policy": ("Policy",),
    "calling.routing": ("Route", "by_host", "by_path"),
    "serving.lifespan": ("lifespan",),
    "serving.load_report": ("LoadReportMiddleware",),
    "serving.owning": ("owns",),
    "serving.registration": ("register",),
    "calling.shards": ("AsyncShards", "Shards"),
}
_HOME = {name: f"p2plb.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'p2plb' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
