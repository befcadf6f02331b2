"""The clients: how they are wired into httpx, what they refuse, how they close."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import p2plb
from integration.harness.child import wire
from p2plb import AsyncClient, AsyncTransport, Client, LeastRequest, NoInstances, Policy, Retry, Transport
from p2plb.balancing.call import Served, Via
from p2plb.discovery.memory import MemoryRegistry
from p2plb.instance import Instance
from tests.drivers import World, everywhere
from tests.families import in_both_families
from tests.scripted import ScriptedServer, serving

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Return a proxy that the environment names for everything."""
    proxy = ScriptedServer()
    with serving(proxy):
        no_proxies(monkeypatch)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        yield proxy


def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the proxies that the environment of whoever runs the tests names."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@everywhere
async def test_the_environments_proxy(world: World, server: ScriptedServer, proxy: ScriptedServer) -> None:
    """F75: the environment's proxy gets what goes to plain hosts, and never what goes to an instance."""
    async with world.client(server.static(), trust_env=True) as client:
        assert (await client.get("http://users/a")).text == "/a"
        assert proxy.requests == []
        await client.get("http://plain.example/b")
    assert [one.target for one in proxy.requests] == ["http://plain.example/b"]


@everywhere
async def test_no_proxy(
    world: World, server: ScriptedServer, proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F75: what NO_PROXY names goes out directly, and a service stays a service."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,users")
    async with world.client(server.static(), trust_env=True) as client:
        assert (await client.get(f"{server.url}/plain")).text == "/plain"
        assert (await client.get("http://users/a")).extensions["p2plb"].via == "peer"
    assert proxy.requests == []


@everywhere
async def test_a_proxy_argument(world: World, server: ScriptedServer, proxy: ScriptedServer) -> None:
    """F75: `proxy=` concerns plain hosts only."""
    async with world.client(server.static(), proxy=proxy.url) as client:
        assert (await client.get("http://users/a")).text == "/a"
        await client.get("http://plain.example/b")
    assert [one.target for one in proxy.requests] == ["http://plain.example/b"]


@pytest.mark.parametrize("url", ["http://users:{port}/x", "http://localhost:{port}/x", "http://127.0.0.1:{port}/x"])
@everywhere
async def test_what_is_no_service(world: World, server: ScriptedServer, url: str) -> None:
    """Hosts with a port, addresses and localhost go out as plain httpx would send them."""
    async with world.client("static://other=127.0.0.1:1") as client:
        with contextlib.suppress(httpx.ConnectError):  # the name does not resolve
            response = await client.get(url.format(port=server.port))
            assert response.extensions["p2plb"] == Served(None, None, Via.PLAIN)
            assert response.text == "/x"


@everywhere
async def test_unknown_services(world: World) -> None:
    """An unknown name fails at once, with the nearest known names; it is also httpx's `ConnectError`."""
    async with world.client("static://users=127.0.0.1:1&orders=127.0.0.1:1") as client:
        with pytest.raises(NoInstances, match=r"service 'user' .*did you mean 'users'") as caught:
            await client.get("http://user/")
        assert isinstance(caught.value, httpx.ConnectError)
        assert str(caught.value.request.url) == "http://user/"


@everywhere
async def test_https_asked_and_http_recorded(world: World, server: ScriptedServer) -> None:
    """F73: who asked for https is never served in clear; the error says who was passed over and why."""
    async with world.client(server.static()) as client:
        with pytest.raises(NoInstances, match="https was asked and its record says http"):
            await client.get("https://users/")
        assert (await client.get("http://users/")).status_code == 200
    assert len(server.requests) == 1


@everywhere
async def test_routes(world: World, server: ScriptedServer) -> None:
    """`route=` decides by path, and strips what only the route needs; the caller's URL stays."""
    route = p2plb.by_path({"/shop": "users"}, host="gateway", strip=True)
    async with world.client(server.static(), route=route) as client:
        response = await client.get("http://gateway/shop/cart?x=1")
        assert (response.text, response.request.url.path) == ("/cart?x=1", "/shop/cart")


@everywhere
async def test_policies_by_service(world: World, server: ScriptedServer) -> None:
    """A policy in `services=` holds for that service alone."""
    services = {"users": Policy(host="special")}
    registry = f"static://users=127.0.0.1:{server.port}&orders=127.0.0.1:{server.port}"
    async with world.client(registry, services=services) as client:
        await client.get("http://users:9/")
        await client.get("http://orders/")
    assert [one.headers["host"] for one in server.requests] == ["special", "orders"]


@in_both_families
def test_they_are_httpx_clients() -> None:
    """SDKs check with isinstance, and use everything that httpx has."""
    with Client("static://users=127.0.0.1:1", base_url="http://users/v1", headers={"x": "y"}) as client:
        assert isinstance(client, httpx.Client)
        assert (str(client.base_url), client.headers["x"]) == ("http://users/v1/", "y")
    assert issubclass(AsyncClient, httpx.AsyncClient)
    assert issubclass(Transport, httpx.BaseTransport)
    assert issubclass(AsyncTransport, httpx.AsyncBaseTransport)


@in_both_families
def test_the_private_names_that_we_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Httpx still keeps its transports where ours take their place."""
    no_proxies(monkeypatch)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "plain.example")
    for kind, made in ((httpx.Client, httpx.HTTPTransport), (httpx.AsyncClient, httpx.AsyncHTTPTransport)):
        client: Any = kind()
        assert isinstance(client._transport, made)
        assert client._transport_for_url(httpx.URL("http://plain.example")) is client._transport
        (proxy,) = (one for one in client._mounts.values() if one is not None)
        assert client._transport_for_url(httpx.URL("http://other.example")) is proxy


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"uds": "/x"}, TypeError, "mounts="),
        ({"retries": 3}, TypeError, r"Retry\(attempts="),
        ({"nonsense": 1}, TypeError, "nonsense"),
        ({"strategy": LeastRequest(), "policy": Policy()}, TypeError, "short form"),
        ({"strategy": LeastRequest}, TypeError, "with brackets"),
        ({"policy": Policy}, TypeError, "policy= is a Policy"),
        ({"services": {"users": LeastRequest()}}, TypeError, "maps names to policies"),
        ({"services": {"no/name": Policy()}}, ValueError, "service name"),
        ({"route": 7}, TypeError, "route="),
        ({"route": ""}, ValueError, "route="),
        ({"observers": [1]}, TypeError, "observers="),
        ({"inner": httpx.HTTPTransport}, None, ""),
        ({"inner": "x"}, TypeError, "inner="),
        ({"start_timeout": -1}, ValueError, "start_timeout="),
        ({"start_timeout": "3"}, TypeError, "start_timeout="),
        ({"http1": False, "http2": False}, ValueError, "http1="),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_arguments(kind: Any, options: dict[str, Any], error: type[Exception] | None, text: str) -> None:
    """Wrong arguments are told at construction, with what to write instead."""
    context: Any = contextlib.nullcontext() if error is None else pytest.raises(error, match=text)
    with context:
        kind("static://users=127.0.0.1:1", **options)
    gc.collect()


@pytest.mark.parametrize(
    "url", ["", "users", "http://127.0.0.1:2379", "static://", "static://users", "etcd://h:99999", "ftp://x"]
)
def test_bad_urls(url: str) -> None:
    """A wrong registry URL is told at construction."""
    with pytest.raises(ValueError):  # noqa: PT011  each has its own text, tested with the URLs
        Client(url)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    """No password reaches the text of an error."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is the subject
        Client("etcd://me:hush@host:99999")
    assert "hush" not in str(caught.value)


@everywhere
async def test_closing_and_opening_again(world: World, server: ScriptedServer) -> None:
    """F79: `close` is idempotent and closes idle connections; the drop-in transport opens again, as httpx's own do."""
    transport = world.transport(server.static())
    client = world.plain(transport=transport)
    for number in (1, 2):
        await client.get("http://users/")
        await _close(transport)
        await _close(transport)
        assert server.connections == number
        await world.until(lambda: not server.open)
    await client.close()


async def _close(transport: Any) -> None:
    if isinstance(transport, AsyncTransport):
        await transport.aclose()
    else:
        transport.close()


@everywhere
async def test_a_body_outlives_its_client(world: World, server: ScriptedServer) -> None:
    """F79: closing lets a busy call end."""
    transport = world.transport(server.static())
    client = world.plain(transport=transport)
    async with client.stream("GET", "http://users/still") as response:
        await _close(transport)
        assert await client.read(response) == b"/still"
    await _close(transport)
    await client.close()


def test_closing_from_another_thread(server: ScriptedServer) -> None:
    """F79: any thread may close, also while calls run; they end well."""
    client, failed = Client(server.static(), trust_env=False), list[Exception]()

    def call() -> None:
        for _ in range(30):
            try:
                client.get("http://users/")
            except RuntimeError:  # httpx's: the client has been closed
                return
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    client.close()
    client.close()
    for thread in threads:
        thread.join()
    assert failed == []
    client._peers.close()


def test_a_client_that_is_dropped(server: ScriptedServer) -> None:
    """A client that nobody closed is collected: its registry does not keep it alive."""
    registry = MemoryRegistry()
    registry.put(server.instance())
    client = Client(registry, trust_env=False)
    client.get("http://users/")
    for lane in client._peers._lanes.idle.make_room(0):
        lane.close()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    registry.put(Instance(id="other", service="users", url=server.url))
    assert not registry._notifier.services
    registry.close()


@everywhere
async def test_a_dropped_answer(world: World, server: ScriptedServer) -> None:
    """F66: an answer that nobody closes warns, releases its claim and its connection."""
    server.script = _endless
    async with world.client(server.static()) as client:
        response = await client.send(client.raw.build_request("GET", "http://users/"), stream=True)
        assert client.in_flight() == 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del response
            gc.collect()
        assert any("never closed" in str(one.message) for one in caught)
        assert client.in_flight() == 0
        await world.until(lambda: not server.open)


async def _endless(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
    writer.write(wire.head(200, 10_000_000) + b"x" * 1000)
    return True


def test_leaving_the_interpreter(server: ScriptedServer) -> None:
    """F78: a program that ends without closing its client ends at once, with nothing on standard error."""
    program = (
        "import sys, asyncio, p2plb\n"
        "client = p2plb.Client(sys.argv[1], trust_env=False)\n"
        "print(client.get('http://users/a').text)\n"
        "other = p2plb.AsyncClient(sys.argv[1], trust_env=False)\n"
        "async def main(): print((await other.get('http://users/b')).text)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, server.static()], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "/a\n/b\n", "")


def test_stats_as_json(server: ScriptedServer) -> None:
    """`stats()` goes through `dataclasses.asdict` into JSON."""
    with Client(server.static(), policy=Policy(retry=Retry(attempts=1)), trust_env=False) as client:
        client.get("http://users/")
        assert json.loads(json.dumps(dataclasses.asdict(client.stats())))["services"]["users"]["nodes"]
