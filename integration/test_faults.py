"""What instances can do to a call, and what its caller sees: nothing if it may be sent again, else the truth, once."""

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from integration.harness.child import wire
from integration.harness.proxy import FaultProxy
from integration.harness.servers import running
from p2plb import NoInstances, Policy, Retry
from tests.drivers import Caller, World, everywhere
from tests.scripted import (
    Refusing,
    Script,
    ScriptedServer,
    answer,
    drop,
    in_turn,
    ok,
    prefer,
    raw,
    reset,
    serving,
    static,
)

KEY = {"idempotency-key": "1"}


@pytest.fixture
def good() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@pytest.fixture
def bad() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def pair(world: World, bad: Any, good: Any, **policy: Any) -> Caller:
    """Return a client that turns to the bad server first."""
    return world.client(static(bad, good), policy=Policy(strategy=prefer(bad, good), **policy))


def ejected(client: Caller, server: Any) -> str | None:
    """Return why a server is passed over."""
    nodes = client.raw.stats().services["users"].nodes
    because: str | None = next(node.ejected_because for node in nodes if node.url == server.url)
    return because


@everywhere
async def test_refused(world: World, good: ScriptedServer) -> None:
    """F01, F70: a refused connection costs no call, not even a POST, and the node is passed over from then on."""
    dead = Refusing()
    async with pair(world, dead, good) as client:
        first = await client.post("http://users/", content=b"x")
        assert [one.fault for one in first.extensions["p2plb"].attempts] == ["never_sent", None]
        assert "Connect" in (ejected(client, dead) or "")
        second = await client.post("http://users/", content=b"x")
        assert len(second.extensions["p2plb"].attempts) == 1


@everywhere
async def test_killed(world: World) -> None:
    """F01: `kill -9` under a client with warm connections fails no GET."""
    with running(2) as servers:
        async with world.client(static(*servers)) as client:
            for _ in range(10):
                await client.get("http://users/")
            servers[0].kill9()
            answers = [await client.get("http://users/") for _ in range(10)]
            assert {one.json()["instance"] for one in answers} == {servers[1].name}
            servers[0].restart()
            assert client.in_flight() == 0


@everywhere
async def test_all_down(world: World) -> None:
    """F21: with nobody there a call fails at once, with the real error and a note for each node tried."""
    dead = [Refusing() for _ in range(3)]
    async with world.client(static(*dead)) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError) as caught:
                await client.post("http://users/", content=b"x")
            assert not isinstance(caught.value, NoInstances)
            assert len(caught.value.__notes__) == 3
            assert not caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb


@pytest.mark.parametrize("script", [reset, drop, raw(b"HTTP/1.1 200")], ids=["reset", "drop", "half a head"])
@everywhere
async def test_lost_before_the_head(world: World, bad: ScriptedServer, good: ScriptedServer, script: Script) -> None:
    """F05: without an answer a GET moves on and the node is not ejected; a POST raises once and says that it may be."""
    bad.script = script
    async with pair(world, bad, good) as client:
        response = await client.get("http://users/a")
        assert (response.text, len(response.extensions["p2plb"].attempts)) == ("/a", 2)
        with pytest.raises(httpx.TransportError) as caught:
            await client.post("http://users/", content=b"x")
        assert caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb
        assert [one.method for one in bad.requests] == ["GET", "POST"]
        assert (await client.post("http://users/b", content=b"x", headers=KEY)).text == "/b"
        assert ejected(client, bad) is None
        assert client.in_flight() == 0


@everywhere
async def test_reset_on_the_way(world: World, good: ScriptedServer) -> None:
    """F05: a connection that the network resets after the request was swallowed is a GET's second attempt."""
    with FaultProxy(good.port) as proxy:
        proxy.reset_after(0)
        async with pair(world, proxy, good) as client:
            assert len((await client.get("http://users/")).extensions["p2plb"].attempts) == 2
            with pytest.raises(httpx.ReadError):
                await client.post("http://users/", content=b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
    ids=["content-length", "chunked", "bad chunk"],
)
@everywhere
async def test_a_truncated_body(world: World, bad: ScriptedServer, good: ScriptedServer, data: bytes) -> None:
    """F06: a body that ends too early raises, and is never passed on as a short one."""
    bad.script = raw(data)
    async with pair(world, bad, good) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.get("http://users/")
        assert str(caught.value.request.url) == "http://users/"
        assert client.in_flight() == 0


@pytest.mark.parametrize(
    "data", [b"\x00\x16\x03\x01\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000, b"HTTP/9"]
)
@everywhere
async def test_garbage(world: World, bad: ScriptedServer, good: ScriptedServer, data: bytes) -> None:
    """F12: what is not HTTP, and a head without an end, is a `RemoteProtocolError` that a GET survives."""
    bad.script = raw(data)
    async with pair(world, bad, good) as client:
        response = await client.get("http://users/")
        assert response.extensions["p2plb"].attempts[0].reason.startswith("RemoteProtocolError")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("http://users/", content=b"x")


@pytest.mark.parametrize("status", [503, 429])
@everywhere
async def test_asked_to_wait(world: World, bad: ScriptedServer, good: ScriptedServer, status: int) -> None:
    """F10, F11: `Retry-After` keeps calls away from the node; another one answers at once."""
    bad.script = answer(status, b"busy", retry_after="7")
    async with pair(world, bad, good) as client:
        for _ in range(3):
            assert (await client.get("http://users/")).status_code == 200
        assert f"answered {status}" in (ejected(client, bad) or "")
    assert len(bad.requests) == 1


@everywhere
async def test_everybody_is_busy(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """F10: if all say 503 the last 503 is the answer, body included, and a POST is asked once only."""
    bad.script = good.script = answer(503, b"busy")
    async with pair(world, bad, good) as client:
        response = await client.get("http://users/")
        assert (response.status_code, response.text) == (503, "busy")
        assert len(bad.requests) + len(good.requests) == 3
        assert (await client.post("http://users/", content=b"x")).status_code == 503
        assert [one.method for one in (*bad.requests, *good.requests)].count("POST") == 1
        assert client.in_flight() == 0
    assert bad.connections + good.connections == 2, "short answers are read out, so that connections serve again"


@everywhere
async def test_misdirected(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """F15, F70: 421 says that nothing was processed: even a POST moves on."""
    bad.script = answer(421)
    async with pair(world, bad, good) as client:
        assert (await client.post("http://users/", content=b"x")).status_code == 200
    assert good.requests[0].body == b"x"


@everywhere
async def test_a_stale_connection(world: World, bad: ScriptedServer) -> None:
    """F07: closed just as the request leaves: a GET goes out once more on a new connection to the same node."""
    async with world.client(bad.static()) as client:
        bad.script = in_turn(ok, drop, ok)
        await client.get("http://users/")
        response = await client.get("http://users/again")
        first, second = response.extensions["p2plb"].attempts
        assert (first.reused, second.reused, second.instance) == (True, False, first.instance)
        assert ejected(client, bad) is None


@everywhere
async def test_a_stale_connection_under_a_post(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """F07: a POST is not sent again, unless it carries an idempotency key."""
    async with pair(world, bad, good) as client:
        bad.script = in_turn(ok, drop, ok, drop, ok)
        await client.get("http://users/")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("http://users/", content=b"x")
        assert [one.method for one in bad.requests] == ["GET", "POST"]
        await client.get("http://users/")
        assert (await client.post("http://users/", content=b"x", headers=KEY)).status_code == 200
    assert good.requests == []


@everywhere
async def test_closed_while_idle(world: World, bad: ScriptedServer) -> None:
    """F07: what the server closed before is noticed in time: not even a POST rides a dead connection."""
    async with world.client(bad.static()) as client:
        for _ in range(3):
            response = await client.post("http://users/", content=b"x")
            assert not response.extensions["p2plb"].attempts[0].reused
            bad.cut()
    assert bad.connections == 3


class Pulled:
    """Counts how often pieces were taken from it."""

    def __init__(self) -> None:
        self.pulls = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in (b"one", b"two"):
            self.pulls += 1
            yield piece


@everywhere
async def test_bodies_that_can_be_sent_once(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """F67: once a piece was pulled there is no other attempt, and the first, real error is raised."""
    bad.script = drop
    async with pair(world, bad, good) as client:
        pulled = Pulled()
        with pytest.raises(httpx.RemoteProtocolError):
            await client.request("PUT", "http://users/", content=world.pieces(pulled))
        assert (pulled.pulls, len(bad.requests), good.requests) == (2, 1, [])
        with pytest.raises(httpx.RemoteProtocolError):
            await client.request("PUT", "http://users/", files={"f": Unseekable(b"data")})
        assert good.requests == []


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


@everywhere
async def test_bodies_that_were_not_pulled_yet(world: World, good: ScriptedServer) -> None:
    """F67: a refused connection has pulled nothing, so a generator's body goes to the next node whole."""
    async with pair(world, Refusing(), good) as client:
        pulled = Pulled()
        await client.post("http://users/", content=world.pieces(pulled))
    assert (pulled.pulls, good.requests[0].body) == (2, b"onetwo")


@everywhere
async def test_bodies_that_can_be_sent_twice(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """F67: bytes, JSON and files that can be rewound arrive whole at the second attempt too."""
    bad.script = drop
    async with pair(world, bad, good) as client:
        await client.request("PUT", "http://users/", json={"a": 1})
        await client.request("PUT", "http://users/", files={"f": ("f", io.BytesIO(b"data"))})
    json, multipart = (one.body for one in good.requests)
    assert json == b'{"a":1}'
    assert b"data" in multipart


@everywhere
async def test_an_early_answer_to_an_upload(world: World, good: ScriptedServer) -> None:
    """F68: an answer that comes before the upload ended is returned, and its connection never used again."""
    early = EarlyServer(answer(413, b"too large", connection="close"), reads_on=True)
    with serving(early):
        async with pair(world, early, good) as client:
            for number in (1, 2):
                response = await client.post("http://users/", content=world.pieces([b"x" * 100_000] * 100))
                assert (response.status_code, response.text) == (413, "too large")
                assert early.connections == number
            assert client.in_flight() == 0
    assert good.requests == []


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")  # trio's, of httpx's own generator
@everywhere
async def test_an_upload_that_is_cut_off(world: World, good: ScriptedServer) -> None:
    """F68: if the server closes in the middle, nothing goes out twice, and its answer is returned."""
    early = EarlyServer(answer(413, b"too large"), reads_on=False)
    with serving(early):
        async with pair(world, early, good) as client:
            response = await client.post("http://users/", content=b"x" * 10_000_000)
            assert response.status_code == 413
            assert client.in_flight() == 0
    assert (early.connections, good.requests) == (1, [])


class EarlyServer(ScriptedServer):
    """Answers at the head of a request; then it lets the body run into the void, or closes in the middle of it."""

    def __init__(self, script: Script, *, reads_on: bool) -> None:
        super().__init__(script)
        self._reads_on = reads_on

    async def read_request(self, reader: asyncio.StreamReader) -> wire.Request | None:
        if self.connections > len(self.requests):
            return wire.Request(*wire.parse_head(await reader.readuntil(b"\r\n\r\n")), body=b"")
        if self._reads_on:
            await reader.read()
        return None


@everywhere
async def test_a_retry_turned_off(world: World, bad: ScriptedServer, good: ScriptedServer) -> None:
    """`Policy(retry=None)` sends once what was sent; a refused connection, which sent nothing, still moves on."""
    bad.script = drop
    async with pair(world, bad, good, retry=None) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("http://users/")
    async with pair(world, Refusing(), good, retry=None) as client:
        assert (await client.get("http://users/")).status_code == 200


@everywhere
async def test_no_more_than_attempts(world: World, bad: ScriptedServer) -> None:
    """F69: `Retry(attempts=)` counts the first."""
    bad.script = answer(503)
    for attempts in (1, 2, 4):
        bad.requests.clear()
        async with world.client(bad.static(), policy=Policy(retry=Retry(attempts=attempts, backoff=0.001))) as client:
            await client.get("http://users/")
        assert len(bad.requests) == attempts
