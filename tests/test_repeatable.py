"""Requests that may be processed twice because their owner says so: retried like a GET until an answer has begun."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import p2plb
from p2plb import Policy, Retry
from tests.drivers import World, everywhere
from tests.scripted import ScriptedServer, drop, in_turn, ok, prefer, raw, reset, serving, static

BEGUN = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nbegun"


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    first, second = ScriptedServer(reset, id="a"), ScriptedServer(id="b")
    with serving(first, second):
        yield [first, second]


def policy(servers: list[ScriptedServer], repeatable: Any = ()) -> Policy:
    return Policy(strategy=prefer(*servers), retry=Retry(repeatable=repeatable))


@pytest.mark.parametrize("repeatable", [{"POST"}, lambda request: request.url.path == "/search"])
@everywhere
async def test_a_repeatable_post(world: World, servers: list[ScriptedServer], repeatable: Any) -> None:
    """F70: a POST that is declared repeatable goes on to the next instance, its body whole."""
    async with world.client(static(*servers), policy=policy(servers, repeatable)) as client:
        response = await client.post("http://users/search", content=b"query")
    assert [one.reason.partition(":")[0] for one in response.extensions["p2plb"].attempts] == ["ReadError", "200"]
    assert [one.body for server in servers for one in server.requests] == [b"query", b"query"]


@everywhere
async def test_one_call_says_otherwise(world: World, servers: list[ScriptedServer]) -> None:
    """F70: `call(repeatable=)` has the last word, for a POST and against a GET."""
    async with world.client(static(*servers), policy=policy(servers)) as client:
        response = await client.post("http://users/", extensions=p2plb.call(repeatable=True))
        assert len(response.extensions["p2plb"].attempts) == 2
        for method, asked in ("POST", {}), ("GET", p2plb.call(repeatable=False)):
            with pytest.raises(httpx.ReadError):
                await client.request(method, "http://users/", extensions=asked)
    assert [len(server.requests) for server in servers] == [3, 1]


@everywhere
async def test_not_once_the_answer_has_begun(world: World, servers: list[ScriptedServer]) -> None:
    """F70: a stream that breaks is the caller's to see: it is never begun anew."""
    servers[0].script = raw(BEGUN)
    async with world.client(static(*servers), policy=policy(servers, {"POST"})) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("http://users/")
    assert [len(server.requests) for server in servers] == [1, 0]


@everywhere
async def test_on_a_connection_that_was_closed(world: World, servers: list[ScriptedServer]) -> None:
    """F07: it meets the close of an idle connection as a GET does: the same instance, on a new connection."""
    servers[0].script = in_turn(ok, drop, ok)
    async with world.client(static(*servers), policy=policy(servers, {"POST"})) as client:
        await client.post("http://users/")
        response = await client.post("http://users/")
    assert [one.reused for one in response.extensions["p2plb"].attempts] == [True, False]
    assert [len(server.requests) for server in servers] == [3, 0]


@everywhere
async def test_a_predicate_that_fails(world: World, servers: list[ScriptedServer]) -> None:
    """A predicate's error is the caller's, as it is; nothing was sent, nothing is held."""
    async with world.client(static(*servers), policy=policy(servers, lambda _request: bool(1 / 0))) as client:
        with pytest.raises(ZeroDivisionError):
            await client.post("http://users/")
        servers[0].script = ok
        await client.get("http://users/")
        assert client.in_flight() == 0
    assert [len(server.requests) for server in servers] == [1, 0]
