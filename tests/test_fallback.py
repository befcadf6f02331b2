"""The fallback: a dial (`share`), a way back (`P2PLB_BYPASS`) and a net under a service, on the wire."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from p2plb import Policy, Retry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.observe.events import AttemptStarted, CallEnded, Event
from tests.contract_registry import until
from tests.drivers import World, everywhere, on_loops
from tests.scripted import Refusing, Script, ScriptedServer, answer, drip, drop, hang, ok, serving, static

ONE_SLOT = httpx.Limits(max_connections=1)


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    """Return an instance and the old way to the service."""
    servers = [ScriptedServer(), ScriptedServer(answer(200, b"old"))]
    with serving(*servers):
        yield servers


@everywhere
async def test_a_service_that_nobody_registered(world: World, servers: list[ScriptedServer]) -> None:
    """The registry knows nobody: the fallback gets the request as plain httpx would send it there."""
    _, old = servers
    async with world.client("static://others=10.0.0.7:80", policy=Policy(fallback=old.url)) as client:
        response = await client.post("http://users/42?a=b%20c", content=b"body", headers={"x-mine": "1"})
        served = response.extensions["p2plb"]
        assert (response.text, str(response.request.url)) == ("old", "http://users/42?a=b%20c")
        assert (served.service, served.instance, served.via, served.attempts) == ("users", None, "fallback", ())
        assert served.maybe_processed
        assert client.raw.stats().services["users"].fallbacks == 1
    (request,) = old.requests
    assert (request.method, request.target, request.body) == ("POST", "/42?a=b%20c", b"body")
    assert (request.headers["host"], request.headers["x-mine"]) == (f"127.0.0.1:{old.port}", "1")


@pytest.mark.parametrize(
    ("policy", "headers", "host"),
    [
        ({}, {"host": "mine"}, "mine"),
        ({}, {"host": b"m\xfcne"}, "m\xfcne"),
        ({"host": "api.internal"}, {}, "api.internal"),
    ],
    ids=["caller", "caller, not ASCII", "policy"],
)
@everywhere
async def test_whose_host(
    world: World, servers: list[ScriptedServer], policy: dict[str, Any], headers: dict[str, Any], host: str
) -> None:
    """F76: a Host header that somebody has chosen goes to the fallback too, once."""
    async with world.client("static://x=10.0.0.7:80", policy=Policy(fallback=servers[1].url, **policy)) as client:
        await client.get("http://users/", headers=headers)
    assert servers[1].requests[0].headers["host"] == host


@everywhere
async def test_a_path_that_is_stripped(world: World, servers: list[ScriptedServer]) -> None:
    """F76: the fallback stands in an instance's place, so it sees the path that an instance would see."""
    route = p2plb.by_path({"/users": "users"}, host="gateway", strip=True)
    policy = Policy(fallback=servers[1].url)
    async with world.client("static://x=10.0.0.7:80", policy=policy, route=route) as client:
        await client.get("http://gateway/users/42")
    assert servers[1].requests[0].target == "/42"


@everywhere
async def test_a_registry_that_does_not_answer(world: World, servers: list[ScriptedServer]) -> None:
    """F28: who can't learn of any instance within `start_timeout` is served by the fallback."""
    policy = Policy(fallback=servers[1].url)
    async with world.client("etcd://127.0.0.1:1", policy=policy, start_timeout=0.05) as client:
        for _ in range(2):
            assert (await client.get("http://users/")).text == "old"


@everywhere
async def test_instances_that_refuse(world: World, servers: list[ScriptedServer]) -> None:
    """F01: nobody got the request, so even a POST goes on; the history says who refused, nothing stays claimed."""
    policy = Policy(fallback=servers[1].url)
    async with world.client(static(Refusing(), Refusing()), policy=policy, limits=ONE_SLOT) as client:
        for _ in range(2):
            response = await client.post("http://users/", content=b"x")
            served = response.extensions["p2plb"]
            assert (response.text, served.via, len(served.attempts)) == ("old", "fallback", 2)
        assert client.in_flight() == 0
        assert client.raw.stats().services["users"].fallbacks == 2
    assert [request.body for request in servers[1].requests] == [b"x", b"x"]


@everywhere
async def test_a_body_that_can_be_sent_once(world: World, servers: list[ScriptedServer]) -> None:
    """F10: a refused connection has not touched the body, so the fallback gets all of it."""
    async with world.client(static(Refusing()), policy=Policy(fallback=servers[1].url)) as client:
        await client.post("http://users/", content=world.pieces([b"a", b"b"]))
    assert servers[1].requests[0].body == b"ab"


@pytest.mark.parametrize(
    ("method", "options", "goes"),
    [
        ("GET", {}, True),
        ("PUT", {"content": b"x"}, True),
        ("POST", {"headers": {"idempotency-key": "1"}}, True),
        ("POST", {"extensions": p2plb.call(repeatable=True)}, True),
        ("POST", {}, False),
        ("PUT", {"content": "pieces"}, False),
    ],
    ids=str,
)
@everywhere
async def test_what_may_have_been_processed(
    world: World, servers: list[ScriptedServer], method: str, options: dict[str, Any], goes: bool
) -> None:
    """F06: only what may be processed twice goes on to the fallback: never a second POST."""
    instance, old = servers
    instance.script = drop
    if options.get("content") == "pieces":
        options = {"content": world.pieces([b"x"])}
    policy = Policy(fallback=old.url, retry=Retry(attempts=2, backoff=0))
    async with world.client(instance.static(), policy=policy) as client:
        if goes:
            response = await client.request(method, "http://users/", **options)
            assert response.extensions["p2plb"].via == "fallback"
        else:
            with pytest.raises(httpx.RemoteProtocolError) as caught:
                await client.request(method, "http://users/", **options)
            assert caught.value.p2plb.via == "peer"  # type: ignore[attr-defined]  # set by p2plb
    assert len(old.requests) == goes


@pytest.mark.parametrize("status", [421, 503])
@everywhere
async def test_an_answer_is_an_answer(world: World, servers: list[ScriptedServer], status: int) -> None:
    """What an instance says is the answer, whatever its status."""
    servers[0].script = answer(status)
    async with world.client(servers[0].static(), policy=Policy(fallback=servers[1].url)) as client:
        response = await client.get("http://users/")
        assert (response.status_code, response.extensions["p2plb"].via) == (status, "peer")
    assert servers[1].requests == []


@everywhere
async def test_the_dial(world: World, servers: list[ScriptedServer]) -> None:
    """`share` of the calls go to instances, the others to the fallback; at 0 the registry is not even asked."""
    instance, old = servers
    registry = MemoryRegistry()
    registry.put(instance.instance())
    for share, least, most in ((0.0, 0, 0), (0.5, 10, 90), (1.0, 100, 100)):
        instance.requests.clear()
        async with world.client(registry, policy=Policy(fallback=old.url, share=share)) as client:
            for _ in range(100):
                assert (await client.get("http://users/")).status_code == 200
            assert least <= len(instance.requests) <= most
            if share == 0:
                assert not registry._notifier.services
            elif share == 1:
                assert client.raw.stats().services["users"].fallbacks == 0
    registry.close()


@everywhere
async def test_the_way_back(world: World, servers: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """`P2PLB_BYPASS` takes a service to its fallback, and one without out to the name in its URL."""
    instance, old = servers
    events: list[Event] = []
    monkeypatch.setenv("P2PLB_BYPASS", "users,localhost")
    services = {"users": Policy(fallback=old.url), "localhost": Policy(), "orders": Policy(fallback=old.url)}
    registry = f"{instance.static()}&orders={instance.url}&localhost=10.0.0.7:80"
    async with world.client(registry, services=services, observers=[events.append]) as client:
        assert (await client.get("http://users/")).extensions["p2plb"].via == "fallback"
        assert (await client.get("http://orders/")).extensions["p2plb"].via == "peer"
        plain = await client.get(f"http://localhost:{instance.port}/direct", extensions=p2plb.call(timeout=5))
        assert (plain.text, plain.extensions["p2plb"].service, plain.extensions["p2plb"].via) == (
            "/direct",
            "localhost",
            "plain",
        )
        stats = json.loads(json.dumps(dataclasses.asdict(client.raw.stats())))
        assert {name: one["fallbacks"] for name, one in stats["services"].items()} == {"users": 1, "orders": 0}
    assert instance.requests[-1].headers["host"] == f"localhost:{instance.port}"
    ended = [
        (event.service, event.via, event.attempts, event.status) for event in events if isinstance(event, CallEnded)
    ]
    assert ended == [("users", "fallback", 0, 200), ("orders", "peer", 1, 200), ("localhost", "plain", 0, 200)]
    assert sum(isinstance(event, AttemptStarted) for event in events) == 1


@everywhere
async def test_a_fallback_that_is_a_services_name(world: World, servers: list[ScriptedServer]) -> None:
    """A fallback is never routed: not even where its host is the service itself."""
    old = f"http://localhost:{servers[1].port}"
    services = {"localhost": Policy(fallback=old, share=0)}
    async with world.client("static://x=10.0.0.7:80", services=services) as client:
        assert (await client.get("http://localhost/")).text == "old"


@everywhere
async def test_the_drop_in_transport(world: World, servers: list[ScriptedServer]) -> None:
    """A transport in httpx's own client falls back as well."""
    transport = world.transport("static://x=10.0.0.7:80", policy=Policy(fallback=servers[1].url))
    async with world.plain(transport=transport) as client:
        assert (await client.get("http://users/")).extensions["p2plb"].via == "fallback"


@everywhere
async def test_a_proxy_on_the_way(world: World, servers: list[ScriptedServer]) -> None:
    """F75: the client's proxy holds for the fallback, as for any host; instances are called without it."""
    instance, proxy = servers
    policy = Policy(fallback="http://old.example:8000")
    async with world.client(instance.static(), policy=policy, proxy=proxy.url) as client:
        assert (await client.get("http://users/a")).extensions["p2plb"].via == "peer"
        assert (await client.get("http://orders/b")).extensions["p2plb"].via == "fallback"
    assert [(one.target, one.headers["host"]) for one in proxy.requests] == [
        ("http://old.example:8000/b", "old.example:8000")
    ]


@everywhere
async def test_a_mount_on_the_way(world: World) -> None:
    """F75: what the user has mounted for the fallback's URL serves it."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, text="mounted")

    policy, mounts = Policy(fallback="http://old.example:8000"), {"all://old.example": world.mock(handler)}
    async with world.client("static://x=10.0.0.7:80", policy=policy, mounts=mounts) as client:
        assert (await client.get("http://users/a")).text == "mounted"
        assert client.in_flight() == 0
    assert seen == ["http://old.example:8000/a"]


@everywhere
async def test_https_does_not_fall_back_to_http(world: World, servers: list[ScriptedServer]) -> None:
    """F73: who asked for https is never served in clear, and the error says so."""
    policy = Policy(fallback=servers[1].url, share=0)
    async with world.client(servers[0].static(), policy=policy) as client:
        with pytest.raises(p2plb.NoInstances, match=r"its fallback http://.* is passed over: https was asked"):
            await client.get("https://users/")
    assert not servers[0].requests + servers[1].requests


@everywhere
async def test_a_fallback_that_fails(world: World) -> None:
    """Its own error is raised, with what the instances did in its notes; no claim and no slot is left."""
    policy = Policy(fallback=Refusing().url)
    ended: list[Any] = []
    async with world.client(static(Refusing()), policy=policy, limits=ONE_SLOT, observers=[ended.append]) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError) as caught:
                await client.post("http://users/")
            served, notes = caught.value.p2plb, caught.value.__notes__  # type: ignore[attr-defined]  # set by p2plb
            assert (served.via, len(served.attempts), served.maybe_processed) == ("fallback", 1, False)
            assert notes[0].startswith("p2plb attempt 1: users/")
            assert notes[1] == f"p2plb: it is the fallback {policy.fallback} that has failed"
        with pytest.raises(httpx.ConnectError) as caught:
            await client.post("http://orders/")
        assert "has failed: no instance of service 'orders'" in caught.value.__notes__[0]
        assert client.in_flight() == 0
    assert [event.via for event in ended if isinstance(event, CallEnded)] == ["fallback"] * 3


@everywhere
async def test_a_stray_exception(world: World) -> None:
    """F82: a bug in what is mounted goes through as it is; no claim and no slot is left."""

    def broken(_request: httpx.Request) -> httpx.Response:
        raise LookupError("a bug")

    policy, mounts = Policy(fallback="http://old.example"), {"http://old.example": world.mock(broken)}
    async with world.client(static(Refusing()), policy=policy, mounts=mounts, limits=ONE_SLOT) as client:
        for _ in range(2):
            with pytest.raises(LookupError, match="a bug"):
                await client.get("http://users/")
        assert client.in_flight() == 0


@pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")  # httpx leaves its own to trio's collector
@pytest.mark.parametrize(
    "script", [hang, drip(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n", 5000, 0.01)], ids=["head", "body"]
)
@everywhere
async def test_a_deadline(world: World, servers: list[ScriptedServer], script: Script) -> None:
    """F09: the call's deadline bounds its fallback too, body included."""
    _, old = servers
    async with world.client("static://others=10.0.0.7:80", policy=Policy(fallback=old.url)) as client:
        await client.get("http://users/")  # from here on nothing has to be waited for
        old.script = script
        with pytest.raises(httpx.TimeoutException):
            await client.get("http://users/", extensions=p2plb.call(timeout=0.2))
        assert client.raw.stats().services["users"].fallbacks == 2


@everywhere
async def test_a_deadline_that_has_passed(world: World, servers: list[ScriptedServer]) -> None:
    """F09: what the instances have used up is gone for the fallback."""
    instance, old = servers
    async with world.client(instance.static(), policy=Policy(fallback=old.url)) as client:
        await client.get("http://users/")
        instance.script = hang
        with pytest.raises(httpx.TimeoutException):
            await client.get("http://users/", extensions=p2plb.call(timeout=0.1))
    assert old.requests == []


def _asked(server: ScriptedServer) -> bool:
    return bool(server.requests)


@on_loops
async def test_a_cancelled_call(world: World, servers: list[ScriptedServer]) -> None:
    """F63: a call that is cancelled goes to no fallback; cancelled there, it leaves nothing behind."""
    instance, old = servers
    instance.script = old.script = hang
    async with world.client(instance.static(), policy=Policy(fallback=old.url), limits=ONE_SLOT) as client:
        for name, server in (("users", instance), ("orders", old)):
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, f"http://{name}/")
                await world.until(partial(_asked, server))
                group.cancel_scope.cancel()
        assert client.in_flight() == 0
        instance.script = ok
        assert (await client.get("http://users/")).status_code == 200
    assert len(old.requests) == 1


@everywhere
async def test_ways_out(world: World) -> None:
    """F21: without a fallback an unknown service is `NoInstances`, which names the two ways out."""
    async with world.client("static://users=10.0.0.7:80") as client:
        with pytest.raises(p2plb.NoInstances, match=r"Policy\(fallback=…\).* by_host\(only=…\)"):
            await client.get("http://minio/")


@everywhere
async def test_a_block_sees_it_too(world: World, servers: list[ScriptedServer]) -> None:
    """What a `call()` block remembers says by which way each call went, and what is known of the request."""
    _, old = servers
    services = {"users": Policy(fallback=old.url), "orders": Policy(fallback=Refusing().url)}
    async with world.client(static(Refusing()), services=services) as client:
        with p2plb.call() as calls:
            await client.post("http://users/")
            old.script = drop
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("http://users/")
            with pytest.raises(httpx.ConnectError):
                await client.post("http://orders/")
    seen = [(served.via, len(served.attempts), served.maybe_processed) for served in calls.served]
    assert seen == [("fallback", 1, True), ("fallback", 1, True), ("fallback", 0, False)]


@everywhere
async def test_a_stream_from_the_fallback(world: World, servers: list[ScriptedServer]) -> None:
    """While the fallback serves, the call holds no claim and no place under the client's limits."""
    instance, old = servers
    registry = f"{static(Refusing())}&orders={instance.url}"
    async with (
        world.client(registry, policy=Policy(fallback=old.url), limits=ONE_SLOT) as client,
        client.stream("GET", "http://users/") as response,
    ):
        assert client.in_flight() == 0
        assert (await client.get("http://orders/", timeout=5)).extensions["p2plb"].via == "peer"
        assert await client.read(response) == b"old"


def test_a_client_that_is_closed_meanwhile(servers: list[ScriptedServer]) -> None:
    """F79: a call that waits for its first list while another thread closes the client does not go to the fallback."""
    policy = Policy(fallback=servers[1].url)
    client = p2plb.Client("etcd://127.0.0.1:1", policy=policy, start_timeout=30, trust_env=False)
    failed: list[BaseException] = []

    def call() -> None:
        try:
            client.get("http://users/")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: "users" in client.stats().services)
    client.close()
    thread.join()
    assert [str(error) for error in failed] == ["Cannot send a request, as the client has been closed."]
    assert servers[1].requests == []
