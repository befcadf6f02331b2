"""aiohttp in a lane's place: its errors have httpx's names and mean what they should, in both families."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import httpx_aiohttp
import httpx_aiohttp.httpx2
import pytest

from p2plb import Policy
from p2plb.balancing.call import Fault
from p2plb.calling.aiohttp_errors import AIOHTTP, understand
from p2plb.httpx import family
from tests.drivers import PATIENCE, Caller, World, on_asyncio
from tests.families import HTTPX
from tests.scripted import Refusing, Script, ScriptedServer, answer, drop, hang, in_turn, prefer, raw, reset, serving
from tests.scripted import static as registry

SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
CONTEXT = httpx.create_ssl_context()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def client(world: World, url: str, **options: Any) -> Caller:
    """Return a client that speaks through aiohttp."""
    made: Any = httpx_aiohttp if world.family is HTTPX else httpx_aiohttp.httpx2
    return world.client(url, inner=lambda _instance: made.AiohttpTransport(verify=CONTEXT), **options)


@on_asyncio
async def test_a_call(world: World, server: ScriptedServer) -> None:
    """The instance sees path, Host, headers and body; connections are kept; the answer is streamed."""
    async with client(world, server.static()) as users:
        response = await users.post("http://users/a%2Fb?x=%20", content=b"hello", headers={"x-one": "1"})
        assert response.text == "/a%2Fb?x=%20"
        async with users.stream("GET", "http://users/part") as response:
            assert users.in_flight() == 1
            assert await users.read(response) == b"/part"
        assert users.in_flight() == 0
    post, get = server.requests
    assert (post.headers["host"], post.headers["x-one"], post.body) == ("users", "1", b"hello")
    assert post.headers["content-length"] == "5"
    assert not {"content-length", "transfer-encoding"} & get.headers.keys(), "what has no body is sent without one"
    assert server.connections == 1


@on_asyncio
async def test_refused(world: World, server: ScriptedServer) -> None:
    """F01: a refused connection was never sent: a POST moves on, and the instance is passed over."""
    gone = Refusing()
    async with client(world, registry(gone, server), strategy=prefer(gone, server)) as users:
        response = await users.post("http://users/", content=b"x")
    attempts = [(one.reason.partition(":")[0], one.fault) for one in response.extensions["p2plb"].attempts]
    assert attempts == [("ConnectError", Fault.NEVER_SENT), ("200", None)]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (drop, "RemoteProtocolError"),
        (reset, "ReadError"),
        (hang, "ReadTimeout"),
        (raw(b"nonsense\r\n\r\n"), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), "RemoteProtocolError"),
    ],
    ids=["dropped", "reset", "silent", "no HTTP", "bad head"],
)
@on_asyncio
async def test_a_post_is_not_sent_twice(world: World, server: ScriptedServer, script: Script, error: str) -> None:
    """F70: what the server has taken may have been processed, whatever httpx-aiohttp calls the failure."""
    server.script = script
    patience = 0.5 if script is hang else PATIENCE
    async with client(world, server.static(), policy=Policy(attempt_timeout=patience)) as users:
        with pytest.raises(getattr(httpx, error)) as caught:
            await users.post("http://users/", content=b"x")
        assert "\n" not in str(caught.value)
        assert "nonsense" not in str(caught.value)
        assert users.in_flight() == 0
    (attempt,) = caught.value.p2plb.attempts
    assert (attempt.fault, len(server.requests)) == (Fault.MAYBE_PROCESSED, 1)


@on_asyncio
async def test_a_get_is_sent_again(world: World, server: ScriptedServer) -> None:
    """F05: what may be repeated is, also after an answer that aiohttp can't read."""
    server.script = in_turn(drop, raw(b"nonsense\r\n\r\n"), answer(200, b"third"))
    async with client(world, server.static()) as users:
        assert (await users.get("http://users/")).text == "third"


@pytest.mark.parametrize(("data", "error"), [(SHORT, "ReadError"), (BAD_CHUNK, "RemoteProtocolError")])
@on_asyncio
async def test_a_broken_body(world: World, server: ScriptedServer, data: bytes, error: str) -> None:
    """F08: a body that breaks off is httpx's error, not aiohttp's."""
    server.script = raw(data)
    async with client(world, server.static()) as users:
        with pytest.raises(getattr(httpx, error)):
            await users.get("http://users/")
        assert users.in_flight() == 0


@on_asyncio
async def test_a_connection_that_does_not_come_about(world: World, server: ScriptedServer) -> None:
    """F02: connecting that takes too long was never sent, and the error keeps the URL, and what is in it, to itself."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):  # what the system lets in before it stops answering
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        silent = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with client(world, f"static://users={silent}", policy=Policy(connect_timeout=0.2)) as users:
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await users.post("http://users/?token=hush", content=b"x")
    (attempt,) = caught.value.p2plb.attempts  # type: ignore[attr-defined]  # set by p2plb
    assert attempt.fault is Fault.NEVER_SENT
    assert "hush" not in f"{caught.value} {caught.value.__notes__}"


def caused_by(cause: Exception) -> httpx.ConnectTimeout:
    error = httpx.ConnectTimeout("as httpx-aiohttp says")
    error.__cause__ = cause
    return error


def test_what_is_not_aiohttps() -> None:
    """Errors of other engines, and bare ones that an application lets through, are none of this table's."""
    assert understand(caused_by(OSError()), mapped=True) is None
    assert understand(httpx.ConnectTimeout("without a cause"), mapped=True) is None
    assert understand(aiohttp.ServerDisconnectedError(), mapped=False) is None
    assert understand(caused_by(aiohttp.ServerDisconnectedError()), mapped=False) is None


def test_the_names_in_the_table() -> None:
    """The table goes by name: each is a class of aiohttp's, and becomes one of httpx's."""
    assert all(issubclass(getattr(aiohttp, name), aiohttp.ClientError) for name in AIOHTTP)
    assert all(issubclass(getattr(httpx, name), httpx.TransportError) for name, _ in AIOHTTP.values())


def test_our_own_shortage() -> None:
    """F87: no file descriptor is our own fault here too."""
    key: Any = type("Key", (), {"host": "10.0.0.7", "port": 80, "ssl": True})()
    error = caused_by(aiohttp.ClientConnectorError(key, OSError(errno.EMFILE, "Too many open files")))
    found = family.understand(error, httpx.Request("GET", "http://users/"))
    assert found is not None
    assert found[1] is Fault.LOCAL


async def cancelled(users: Caller) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(users.get("http://users/"), 0.1)


@on_asyncio
async def test_cancelling(world: World, server: ScriptedServer) -> None:
    """F63: a cancelled call leaves nothing counted."""
    server.script = hang
    async with client(world, server.static()) as users:
        await cancelled(users)
        assert users.in_flight() == 0
