"""Clients made for one call each, one after the other: what that costs etcd, counted by etcd itself."""

import asyncio
import gc
import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from integration.harness.etcd import Etcd
from p2plb import AsyncClient, Client, Instance
from p2plb.discovery.etcd import records
from p2plb.discovery.plan import Timing
from tests.scripted import ScriptedServer, serving

CLIENTS = 1000
STARTED = re.compile(r'grpc_server_started_total\{grpc_method="(Txn|Range|Watch)",.*etcdserverpb.* (\d+)')


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def asked(etcd: Etcd) -> tuple[int, int]:
    """Return how many lists (transactions that read) and how many watches etcd has been asked for so far."""
    text = httpx.get(f"{etcd.url}/metrics", trust_env=False).text
    found = dict(STARTED.findall(text))
    return int(found["Txn"]) + int(found["Range"]), int(found["Watch"])


def one_after_the_other(registry: str) -> None:
    for _ in range(CLIENTS):
        with Client(registry, trust_env=False) as client:
            assert client.get("http://users/").status_code == 200


def one_after_the_other_async(registry: str) -> None:
    async def main() -> None:
        for _ in range(CLIENTS):
            async with AsyncClient(registry, trust_env=False) as client:
                assert (await client.get("http://users/")).status_code == 200

    asyncio.run(main())


@pytest.mark.parametrize("work", [one_after_the_other, one_after_the_other_async])
def test_a_client_for_each_call(etcd: Etcd, prefix: str, server: ScriptedServer, work: Callable[[str], None]) -> None:
    """F80: a thousand clients cost etcd one list and one watch (and its proofs of life), and leave nothing unclosed."""
    key = records.key(records.services_root(prefix), "users", "a")
    etcd.put(key.decode(), records.encode(Instance("a", "users", server.url)).decode())
    lists, watches = asked(etcd)
    started = time.monotonic()
    work(f"{etcd.registry}{prefix}")
    rotations = int((time.monotonic() - started) / Timing().idle[0])
    gc.collect()  # what was not closed would warn here
    lists_now, watches_now = asked(etcd)
    assert lists_now - lists == 1
    assert 1 <= watches_now - watches <= 1 + rotations
    assert len(server.requests) == CLIENTS
