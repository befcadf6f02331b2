"""What a URL means, on the wire: redirects, websockets, TLS by the record, paths and hosts, as the guide's table says.

Which hosts are services is tested as data in tests/test_routing.py.
"""

import asyncio
import base64
import hashlib
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_ws
import pytest
import uvicorn
from httpx_ws import AsyncWebSocketSession, WebSocketSession
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import p2plb
from integration.harness.child import wire
from p2plb import Policy
from tests.certificates import Authority
from tests.drivers import World, everywhere, with_httpx
from tests.scripted import ScriptedServer, answer, in_turn, ok, serving

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
TEXT, CLOSE = 0x81, 0x88  # the last frame of a text, and of a closing


class Echo(ScriptedServer):
    """Speaks just enough of the websocket protocol to greet and to send short texts back."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(self.upgrade, context=context)

    async def read_request(self, reader: asyncio.StreamReader) -> wire.Request | None:
        self.reader = reader
        return await super().read_request(reader)

    async def upgrade(self, request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        if "sec-websocket-key" not in request.headers:
            return await ok(request, writer)
        digest = hashlib.sha1(request.headers["sec-websocket-key"].encode() + MAGIC).digest()
        lines = ["HTTP/1.1 101 x", "upgrade: websocket", "connection: Upgrade"]
        lines += [f"sec-websocket-accept: {base64.b64encode(digest).decode()}", "", ""]
        writer.write("\r\n".join(lines).encode() + frame(TEXT, b"hello"))  # in one go, as fast servers do
        while (head := await self.reader.read(2)) and head[0] == TEXT:
            mask = await self.reader.readexactly(4)
            data = await self.reader.readexactly(head[1] & 0x7F)
            writer.write(frame(TEXT, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))))
        writer.write(frame(CLOSE, b""))
        return False


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind, len(data)]) + data


def masked(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0x80 | len(data)]) + bytes(4) + data


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("scheme", ["ws", "http"])
@everywhere
async def test_an_upgrade(world: World, scheme: str) -> None:
    """101 hands the connection over: it is the caller's until the answer is closed, and never anybody's afterwards."""
    server = Echo()
    with serving(server):
        async with world.client(server.static()) as client:
            for number in (1, 2):
                async with client.stream("GET", f"{scheme}://users/chat", headers=HANDSHAKE) as response:
                    assert (response.status_code, response.extensions["p2plb"].via) == (101, "peer")
                    stream = response.extensions["network_stream"]
                    assert await _read(client, stream, 7) == frame(TEXT, b"hello")
                    await client._settle(stream.write(masked(TEXT, b"ping")))
                    assert await _read(client, stream, 6) == frame(TEXT, b"ping")
                    assert client.in_flight() == 1
                assert client.in_flight() == 0
                assert server.connections == number
            await client.get(f"{scheme}://users/plain")
            assert server.connections == 3
        await world.until(lambda: not server.open)


@everywhere
async def test_an_upgrade_at_the_fallback(world: World) -> None:
    """The fallback hands the connection over as well."""
    server = Echo()
    with serving(server):
        async with (
            world.client("static://others=10.0.0.7:80", policy=Policy(fallback=server.url)) as client,
            client.stream("GET", "ws://users/chat", headers=HANDSHAKE) as response,
        ):
            assert response.extensions["p2plb"].via == "fallback"
            assert await _read(client, response.extensions["network_stream"], 7) == frame(TEXT, b"hello")


async def _read(client: Any, stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await client._settle(stream.read(size - len(data), 10.0))
    return data


@pytest.mark.parametrize("scheme", ["wss", "ws"])
@everywhere
async def test_an_upgrade_over_tls(world: World, authority: Authority, scheme: str) -> None:
    """F73: wss is for a record that says https; ws goes there over TLS too, as the record wants it."""
    server = Echo(authority.server("users"))
    with serving(server):
        async with (
            world.client(server.static(), verify=authority.client()) as client,
            client.stream("GET", f"{scheme}://users/chat", headers=HANDSHAKE) as response,
        ):
            assert await _read(client, response.extensions["network_stream"], 7) == frame(TEXT, b"hello")


@everywhere
async def test_wss_asked_and_http_recorded(world: World, server: ScriptedServer) -> None:
    """F73: who asked for wss is never served in clear."""
    async with world.client(server.static()) as client:
        with pytest.raises(p2plb.NoInstances, match="https was asked and its record says http"):
            await client.get("wss://users/chat", headers=HANDSHAKE)
    assert server.requests == []


@with_httpx
async def test_httpx_ws(world: World) -> None:
    """Who uses httpx-ws calls a service as any host."""
    server = Echo()
    with serving(server):
        async with world.client(server.static()) as client:
            if world.name == "sync":
                with httpx_ws.connect_ws("ws://users/chat", client.raw, session_class=WebSocketSession) as session:
                    assert session.receive_text() == "hello"
                    session.send_text("ping")
                    assert session.receive_text() == "ping"
            else:
                async with httpx_ws.aconnect_ws(
                    "ws://users/chat", client.raw, session_class=AsyncWebSocketSession
                ) as session:
                    assert await session.receive_text() == "hello"
                    await session.send_text("ping")
                    assert await session.receive_text() == "ping"
            assert client.in_flight() == 0


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/next", ("peer", "users", True)),
        ("http://users/next", ("peer", "users", True)),
        ("http://orders/next", ("peer", "orders", False)),
        ("{own}/next", ("plain", "{own}", False)),
    ],
    ids=["relative", "logical", "another service", "its own address"],
)
@everywhere
async def test_redirects(world: World, server: ScriptedServer, location: str, expected: tuple[str, str, bool]) -> None:
    """F76: a redirect is a new request, which means what its URL says; credentials stay with the first host."""
    server.script = in_turn(answer(302, location=location.format(own=server.url)), ok)
    registry = f"{server.static()}&orders={server.url}"
    async with world.client(registry, follow_redirects=True, auth=("me", "secret")) as client:
        response = await client.get("http://users/first")
        assert response.history[0].extensions["p2plb"].via == "peer"
    second = server.requests[1]
    host = second.headers["host"].replace(server.url.removeprefix("http://"), "{own}")
    assert (response.extensions["p2plb"].via, host, "authorization" in second.headers) == expected
    assert second.target == "/next"


@everywhere
async def test_paths(world: World, server: ScriptedServer) -> None:
    """F76: `by_path` with `strip` sends the rest of the path; Host is the gateway's; what matches nothing goes out."""
    route = p2plb.by_path({"/users": "users"}, host="localhost", strip=True)
    async with world.client(server.static(), route=route) as client:
        gateway = f"http://localhost:{server.port}"
        answers = [await client.get(f"{gateway}{path}") for path in ("/users/42?a=%2F", "/users", "/users2")]
    assert [(one.text, one.extensions["p2plb"].via) for one in answers] == [
        ("/42?a=%2F", "peer"),
        ("/", "peer"),
        ("/users2", "plain"),
    ]
    assert {one.headers["host"] for one in server.requests} == {f"localhost:{server.port}"}


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """Run an application that serves one host name only, and return its origin."""
    application = Starlette(
        routes=[Route("/", lambda _request: PlainTextResponse("served"))],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["api.internal"])],
    )
    server = uvicorn.Server(uvicorn.Config(application, port=0, ws="none", lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(("host", "status"), [(None, 400), ("api.internal", 200)])
@everywhere
async def test_a_strict_application(world: World, strict: str, host: str | None, status: int) -> None:
    """F76: `Policy(host=)` is what Starlette's TrustedHostMiddleware and Django's ALLOWED_HOSTS look at."""
    async with world.client(f"static://users={strict}", policy=Policy(host=host)) as client:
        assert (await client.get("http://users/")).status_code == status


@everywhere
async def test_user_and_password(world: World, server: ScriptedServer) -> None:
    """User and password in a URL are httpx's: a header, and no part of the service's name."""
    async with world.client(server.static()) as client:
        await client.get("http://me:secret@users/")
    assert server.requests[0].headers["authorization"] == httpx.BasicAuth("me", "secret")._auth_header
