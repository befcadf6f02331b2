"""What one client has learned of an instance, the next one knows; who reaches it another way does not."""

import contextlib
import gc
import ssl
import weakref
from typing import Any

import httpx

import p2plb
from p2plb.balancing.health import Health
from p2plb.calling.shared_health import REMEMBERED, Memory, way
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.static import StaticRegistry
from tests.drivers import World, everywhere
from tests.scripted import Refusing, ScriptedServer, prefer, serving


def test_one_for_each_registry_and_way() -> None:
    """The same registry and way share, any other do not, and nothing outlives its registry."""
    memory, registry = Memory(), MemoryRegistry()
    known = memory.recall(registry, "users")
    known["a", "http://a.example"] = Health()
    assert memory.recall(registry, "users") is known
    assert memory.recall(registry, "orders") == {}
    assert memory.recall(MemoryRegistry(), "users") == {}
    del registry
    gc.collect()
    assert len(memory._kept) == 0


def test_what_cannot_be_hashed_is_not_shared() -> None:
    """A certificate given as a list, say: such clients begin anew, each by itself."""
    memory, registry = Memory(), MemoryRegistry()
    memory.recall(registry, ["cert.pem"])["a", "http://a.example"] = Health()  # type: ignore[arg-type]  # as users may
    assert memory.recall(registry, ["cert.pem"]) == {}  # type: ignore[arg-type]  # the same


def test_ways() -> None:
    """What is remembered keeps no TLS context and no mock alive, and never takes a new one for one that is gone."""
    context = ssl.create_default_context()
    first = way(context, True, "ca.pem", None)
    assert first == way(context, True, "ca.pem", None)
    assert hash(first) == hash(way(context, True, "ca.pem", None))
    gone = weakref.ref(context)
    del context
    gc.collect()
    assert gone() is None
    assert first != way(ssl.create_default_context(), True, "ca.pem", None)


def test_bounded() -> None:
    """F80: of ever new services the last 1,024 are remembered."""
    memory, registry = Memory(), MemoryRegistry()
    for number in range(REMEMBERED + 5):
        memory.recall(registry, number)
    assert len(memory._kept[registry]) == REMEMBERED


def test_a_child_begins_anew() -> None:
    """F59: a forked child waits for no lock of its parent's."""
    memory, registry = Memory(), MemoryRegistry()
    memory.recall(registry, "users")["a", "http://a.example"] = Health()
    memory._lock.acquire()
    memory.after_fork()
    assert memory.recall(registry, "users") == {}


@everywhere
async def test_the_next_client_knows(world: World) -> None:
    """A client made for each call passes over who has just refused another, and goes on with its latencies."""
    server, dead = ScriptedServer(), Refusing()
    with serving(server), StaticRegistry({"users": [dead.url, server.url]}) as registry:

        async def attempts(**options: Any) -> int:
            async with world.client(registry, strategy=prefer(dead, server), **options) as client:
                response = await client.get("http://users/")
                nodes = client.raw.stats().services["users"].nodes
                assert [node.in_flight for node in nodes] == [0, 0]
                assert sorted(node.latency is None for node in nodes) == [False, True]
                return len(response.extensions["p2plb"].attempts)

        assert [await attempts(), await attempts(), await attempts()] == [2, 1, 1]
        assert await attempts(policy=None, verify=False) == 2, "another way of reaching it"


def test_a_mock_says_nothing_to_others() -> None:
    """What was seen through one `inner=` is not known through another."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    def refused_for(registry: p2plb.Registry, inner: Any) -> float | None:
        with p2plb.Client(registry, inner=inner) as client:
            with contextlib.suppress(httpx.ConnectError):
                client.get("http://users/")
            return client.stats().services["users"].nodes[0].ejected_for

    with StaticRegistry({"users": ["10.0.0.7:80"]}) as registry:
        assert refused_for(registry, lambda _instance: httpx.MockTransport(refuse))
        assert refused_for(registry, lambda _instance: httpx.MockTransport(lambda _: httpx.Response(200))) is None
