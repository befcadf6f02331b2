"""HTTP/2 lanes: one call at a time on a connection, and what the server says of a request is believed."""

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from integration.harness import http2
from integration.harness.http2 import Http2Server, Script2
from p2plb import Policy
from p2plb.httpx.arguments import Context
from tests.certificates import Authority
from tests.drivers import World, everywhere
from tests.scripted import ScriptedServer, prefer, serving, static

PRIOR: Any = {"http1": False, "http2": True}
"""HTTP/2 without asking, over plain TCP."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server() -> Iterator[Http2Server]:
    server = Http2Server()
    with serving(server):
        yield server


@pytest.fixture
def good() -> Iterator[Http2Server]:
    server = Http2Server()
    with serving(server):
        yield server


@everywhere
async def test_a_lane_is_used_again(world: World, server: Http2Server) -> None:
    """Calls one after the other are streams of one connection."""
    async with world.client(static(server), **PRIOR) as client:
        answers = [await client.post("http://users/", content=b"x" * 1000) for _ in range(5)]
        assert client.in_flight() == 0
    assert [one.http_version for one in answers] == ["HTTP/2"] * 5
    assert [one.text for one in answers] == ["1", "3", "5", "7", "9"]
    assert server.connections == 1


@everywhere
async def test_a_body_left_early(world: World, server: Http2Server) -> None:
    """FIN or not: a connection with a body that nobody read never serves again."""
    async with world.client(static(server), **PRIOR) as client:
        server.script = http2.endless
        async with client.stream("GET", "http://users/"):
            pass
        server.script = http2.ok
        assert (await client.get("http://users/")).text == "1"
        assert client.in_flight() == 0
        await world.until(lambda: server.open <= 1)
    assert server.connections == 2


@pytest.mark.parametrize("script", [http2.refuse, http2.go_away], ids=["REFUSED_STREAM", "GOAWAY"])
@everywhere
async def test_never_processed(world: World, server: Http2Server, good: Http2Server, script: Script2) -> None:
    """F70: what the server says it has not processed goes to another node, even a POST, on new and on used lanes."""
    policy = Policy(strategy=prefer(server, good))
    async with world.client(static(server, good), policy=policy, **PRIOR) as client:
        for _ in range(2):
            server.script = script
            response = await client.post("http://users/", content=b"x")
            assert [one.fault for one in response.extensions["p2plb"].attempts] == ["never_processed", None]
            server.script = http2.ok
            await client.get("http://users/")
        assert client.in_flight() == 0


@everywhere
async def test_maybe_processed(world: World, server: Http2Server, good: Http2Server) -> None:
    """A stream that breaks off otherwise may have been processed: a GET moves on, a POST raises."""
    server.script = http2.fail
    policy = Policy(strategy=prefer(server, good))
    async with world.client(static(server, good), policy=policy, **PRIOR) as client:
        assert (await client.get("http://users/")).text == "1"
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.post("http://users/", content=b"x")
        assert caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb
        assert server.methods == ["GET", "POST"]


@everywhere
async def test_agreed_in_the_handshake(world: World, authority: Authority) -> None:
    """With `http2=True` each node gets what it agreed to in TLS; a client without it speaks HTTP/1.1 to both."""
    new = Http2Server(context=authority.server("users", alpn=("h2", "http/1.1")))
    old = ScriptedServer(context=authority.server("users"))
    with serving(new, old):
        policy = Policy(strategy=prefer(new, old))
        async with world.client(static(new, old), policy=policy, http2=True, verify=authority.client()) as client:
            assert [(await client.get("https://users/")).http_version for _ in range(3)] == ["HTTP/2"] * 3
        async with world.client(static(old), http2=True, verify=authority.client()) as client:
            assert (await client.get("https://users/")).http_version == "HTTP/1.1"
        assert new.connections == 1


def test_default_contexts_are_shared_by_protocol() -> None:
    """One default context for each choice of protocols: httpcore writes the protocols on offer into it."""

    def context(http: tuple[bool, bool]) -> ssl.SSLContext:
        return Context(True, None, trust_env=True, http=http)()

    assert context((True, False)) is context((True, False))
    assert context((True, False)) is not context((True, True))
