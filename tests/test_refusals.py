"""A strategy's own word that none of its nodes may serve a call: its picker raises `NoInstances` or `MissingKey`."""

from collections.abc import Iterator, Sequence

import pytest

import p2plb
from p2plb import Call, ConsistentHash, Node, NoInstances, Picker, Policy, errors
from p2plb.observe.events import CallEnded
from tests.drivers import World, everywhere
from tests.scripted import Refusing, ScriptedServer, answer, serving, static

GONE = "the instance of this session is gone"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def refuses(_nodes: Sequence[Node]) -> Picker:
    def pick(_call: Call) -> Node:
        raise errors.NoInstances(GONE)

    return pick


def only_first(nodes: Sequence[Node]) -> Picker:
    def pick(call: Call) -> Node:
        if nodes[0] in call.avoid:
            raise errors.NoInstances(GONE)
        return nodes[0]

    return pick


@everywhere
async def test_nobody_may(world: World, server: ScriptedServer) -> None:
    """The caller gets the family's error with the strategy's words before the facts; nothing is sent or claimed."""
    async with world.client(server.static(), strategy=refuses) as client:
        for _ in range(2):
            with pytest.raises(NoInstances, match=rf"^{GONE}; no instance of service 'users' in static://") as caught:
                await client.post("http://users/")
        assert caught.value.p2plb.maybe_processed is False  # type: ignore[attr-defined]  # as on an answer's extensions
        assert [node.in_flight for node in client.raw.stats().services["users"].nodes] == [0]
    assert server.requests == []


@everywhere
async def test_the_fallback_may(world: World, server: ScriptedServer) -> None:
    """Whom the strategy sends to nobody, the policy's fallback serves."""
    old = ScriptedServer(answer(200, b"old"))
    with serving(old):
        policy = Policy(strategy=refuses, fallback=old.url)
        async with world.client(server.static(), policy=policy) as client:
            assert (await client.get("http://users/")).text == "old"
    assert server.requests == []


@everywhere
async def test_after_a_real_error(world: World) -> None:
    """If an attempt has failed before, the caller gets that error."""
    ended: list[CallEnded] = []

    def keep(event: object) -> None:
        if isinstance(event, CallEnded):
            ended.append(event)

    async with world.client(static(Refusing(), Refusing()), strategy=only_first, observers=[keep]) as client:
        with pytest.raises(world.httpx.ConnectError) as caught:
            await client.get("http://users/")
    assert not isinstance(caught.value, errors.NoInstances)
    assert len(caught.value.p2plb.attempts) == 1
    assert [event.attempts for event in ended] == [1]


@everywhere
async def test_pick(world: World, server: ScriptedServer) -> None:
    """`client.pick` says the same."""
    async with world.client(server.static(), strategy=refuses) as client:
        with pytest.raises(NoInstances, match=GONE):
            async with client.pick("users"):
                pass


@everywhere
async def test_a_key_that_is_missing(world: World, server: ScriptedServer) -> None:
    """`without_key="error"`: a call without a key is a ValueError that says what to do, and nothing is sent."""
    async with world.client(server.static(), strategy=ConsistentHash(without_key="error")) as client:
        with pytest.raises(ValueError, match=r"a call to 'users' has no key: give it extensions=p2plb.call\(key=…\)"):
            await client.get("http://users/")
        with pytest.raises(ValueError, match="has no key"):
            async with client.pick("users"):
                pass
        assert (await client.get("http://users/", extensions=p2plb.call(key="42"))).status_code == 200
    assert len(server.requests) == 1


def test_the_errors() -> None:
    """A missing key is the caller's mistake: a ValueError, and one of ours."""
    assert issubclass(errors.MissingKey, ValueError)
    assert issubclass(p2plb.NoInstances, errors.NoInstances)
