"""The scene of the long checks: a real etcd and instances that register themselves in it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from integration.harness.records import closing_registries
from integration.harness.servers import Server, running
from integration.soak.load import SERVICE
from p2plb.discovery import shared
from p2plb.discovery.registry import Registry
from p2plb.testing.etcd import EtcdNode, running_etcd

PATIENCE = 20.0


@contextmanager
def scene(count: int, *, ttl: int = 10) -> Iterator[tuple[EtcdNode, list[Server]]]:
    """Give an etcd and `count` servers that stand in it."""
    with running_etcd() as etcd, running(count, register=etcd.registry, service=SERVICE, ttl=ttl) as servers:
        await_up(etcd, servers)
        with closing_registries():
            yield etcd, servers


def await_up(etcd: EtcdNode, servers: Sequence[Server]) -> None:
    """Wait until each of the servers stands in the registry."""
    await_urls(etcd.registry, {server.url for server in servers})


def await_urls(registry: str, urls: set[str]) -> None:
    """Wait until each of the addresses stands in the registry."""
    hold, deadline = shared.hold(registry), time.monotonic() + PATIENCE
    try:
        while not urls <= _up(hold.registry):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all servers have registered within {PATIENCE:g} s")
            time.sleep(0.05)
    finally:
        hold.close()


def _up(registry: Registry) -> set[str]:
    return {i.url for found in registry.list() for i in found.instances if i.state == "up"}
