"""Sticky sessions: by key, with a table that outlives views, and by a cookie that names the instance."""

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

import p2plb
from p2plb import Call, LeastRequest, NoInstances, RoundRobin, Sticky, Subset
from p2plb.balancing.balancer import Balancer
from p2plb.discovery.memory import MemoryRegistry
from p2plb.instance import Instance
from tests.drivers import World, everywhere
from tests.fakes import Clock, first_fit, instance, many, snapshot
from tests.scripted import Script, ScriptedServer, answer, serving

SESSIONS = 2000


def balancer_of(strategy: p2plb.Strategy, *ids: str) -> Balancer:
    balancer = Balancer("users", strategy)
    balancer.update(snapshot(*ids))
    return balancer


def served(balancer: Balancer, key: object, avoid: frozenset[str] = frozenset()) -> str:
    """Return who serves a call of a session while some are passed over."""
    assert balancer.view is not None
    call = Call("users", key=key)
    call.avoid = frozenset(node for node in balancer.view.nodes if node.id in avoid)
    return balancer._pick(balancer.view, call).id


def test_sessions_stay() -> None:
    """No session moves while its instance lives, whoever else joins or leaves; new ones are even."""
    balancer = balancer_of(Sticky(), "a", "b", "c", "d")
    homes = {key: served(balancer, key) for key in range(SESSIONS)}
    assert max(Counter(homes.values()).values()) <= 1.05 * SESSIONS / 4
    balancer.update(snapshot("a", "b", "c", "d", "e", "f", revision=2))
    assert {key: served(balancer, key) for key in homes} == homes
    balancer.update(snapshot("a", "c", "d", "f", revision=3))
    assert {key: home for key, home in homes.items() if served(balancer, key) != home}.keys() == {
        key for key, home in homes.items() if home == "b"
    }


def test_after_a_death() -> None:
    """F01: only the sessions of the dead instance move, spread over all others, and stay where they went."""
    balancer = balancer_of(Sticky(), *(node.id for node in many(10)))
    homes = {key: served(balancer, key) for key in range(SESSIONS)}
    rest = [node.id for node in many(10) if node.id != "n0003"]
    balancer.update(snapshot(*rest, revision=2))
    moved = {key: served(balancer, key) for key, home in homes.items() if home == "n0003"}
    heirs = Counter(moved.values())
    assert heirs.keys() == set(rest)
    assert max(heirs.values()) <= 1.3 * len(moved) / 9
    assert {key: served(balancer, key) for key in homes} == {**homes, **moved}
    balancer.update(snapshot(*rest, "n0003", revision=3))
    assert {key: served(balancer, key) for key in homes} == {**homes, **moved}


@pytest.mark.parametrize("inner", [LeastRequest(), RoundRobin()])
def test_while_it_is_passed_over(inner: p2plb.Strategy) -> None:
    """F10: one stands in, always the same, while the session's own is ejected, and takes over if that one leaves."""
    balancer = balancer_of(Sticky(inner=inner), "a", "b", "c", "d")
    home = served(balancer, "s")
    away = frozenset({home})
    (deputy,) = {served(balancer, "s", away) for _ in range(20)}
    assert deputy != home
    assert served(balancer, "s") == home
    assert served(balancer, "s", away) == deputy
    other = {served(balancer, "s", away | {deputy}) for _ in range(20)}
    assert len(other) == 1
    assert not other & {home, deputy}
    balancer.update(snapshot(*{"a", "b", "c", "d"} - away, revision=2))
    assert {served(balancer, "s")} == other


def test_a_drain_moves_sessions() -> None:
    """An instance that drains wants no calls any more: its sessions go to others and stay there."""
    balancer = balancer_of(Sticky(), "a", "b")
    home = served(balancer, "s")
    other = "b" if home == "a" else "a"
    draining = Instance(home, "users", "http://x.example:80", state="draining")
    balancer.update(snapshot(other, draining, revision=2))
    assert served(balancer, "s") == other


def test_a_call_out_of_its_sight_moves_no_session() -> None:
    """What one call asks for by `call(where=)` is another one's to serve; the session's own instance keeps it."""
    others = [instance(one, metadata={"v": "2"}) for one in "bc"]
    balancer = Balancer("users", Sticky(inner=first_fit))
    balancer.update(snapshot("a", *others))
    assert served(balancer, "s") == "a"
    call = Call("users", key="s", among={"v": "2"})
    node = balancer.claim(call, 0.0)
    call.release()
    assert node is not None
    assert node.id == "b"
    assert served(balancer, "s") == "a"
    balancer.update(snapshot(*others, revision=2))
    assert served(balancer, "s") == "b"


def test_all_to_be_avoided() -> None:
    """With nobody left the call is made all the same, and the session stays bound."""
    balancer = balancer_of(Sticky(), "a", "b")
    home = served(balancer, "s")
    assert served(balancer, "s", frozenset("ab")) in {"a", "b"}
    assert served(balancer, "s") == home


def test_sessions_are_forgotten() -> None:
    """A session is remembered for `ttl` seconds after its last call, and at most `size` of them."""
    clock = Clock()
    balancer = balancer_of(Sticky(ttl=10.0, size=3, clock=clock, inner=LeastRequest()), *(n.id for n in many(50)))
    home = served(balancer, "s")
    for _ in range(5):
        clock.now += 9.0
        assert served(balancer, "s") == home
    clock.now += 11.0
    assert served(balancer, "s") != home
    homes = {key: served(balancer, key) for key in range(10)}
    again = [served(balancer, key) == homes[key] for key in (9, 8, 7)]
    assert again == [True] * 3
    assert served(balancer, 0) != homes[0]


def test_one_configuration_for_many() -> None:
    """Services that share a Sticky have sessions of their own; what nobody uses any more is forgotten."""
    sticky = Sticky(inner=lambda nodes: lambda _call: nodes[0])
    one, other = balancer_of(sticky, "a", "b"), Balancer("orders", sticky)
    other.update(snapshot("b", "c", service="orders"))
    assert (served(one, "s"), served(other, "s")) == ("a", "b")
    one.update(snapshot("b", revision=2))
    one.update(snapshot("a", "b", revision=3))
    assert (served(one, "s"), served(other, "s")) == ("a", "b")
    assert len(set(map(id, sticky._tables.values()))) == 2
    del one, other
    gc.collect()
    assert len(sticky._tables) == 0


def test_two_calls_at_once() -> None:
    """When two first calls of a session race, both go where the first of them was bound."""
    racing = iter([True])

    def inner(nodes: Sequence[p2plb.Node]) -> p2plb.Picker:
        def pick(_call: Call) -> p2plb.Node:
            if next(racing, False):
                assert served(balancer, "s") == "b"  # the other call is bound meanwhile
                return nodes[0]
            return nodes[1]

        return pick

    balancer = balancer_of(Sticky(inner=inner), "a", "b")
    assert served(balancer, "s") == "b"


def test_without_a_key() -> None:
    """Calls without a key are no session: `inner` picks."""
    balancer = balancer_of(Sticky(), "a", "b", "c")
    assert len({served(balancer, None) for _ in range(30)}) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "x"}, r"Sticky\(key=\) is a function"),
        ({"inner": LeastRequest}, r"write LeastRequest\(\)"),
        ({"inner": None}, "is a strategy such as"),
        ({"ttl": 0}, r"Sticky\(ttl=\)"),
        ({"size": 0}, r"Sticky\(size=\)"),
        ({"cookie": "a b"}, r"Sticky\(cookie=\) is the name of a cookie"),
        ({"cookie": "a", "key": p2plb.header("x")}, "give one of key= and cookie="),
        ({"strict": True}, "needs cookie="),
    ],
)
def test_wrong_arguments(options: Any, says: str) -> None:
    """What can't be meant is an error that shows what can."""
    with pytest.raises((TypeError, ValueError), match=says):
        Sticky(**options)


# --- by cookie ---------------------------------------------------------------------------------------------------


@pytest.fixture
def servers() -> Iterator[dict[str, ScriptedServer]]:
    servers = {name: ScriptedServer(answer(200, name.encode())) for name in "abc"}
    with serving(*servers.values()):
        yield servers


def registered(servers: dict[str, ScriptedServer]) -> MemoryRegistry:
    registry = MemoryRegistry()
    for name, server in servers.items():
        registry.put(Instance(name, "users", server.url))
    return registry


@everywhere
async def test_the_cookie_of_a_client(world: World, servers: dict[str, ScriptedServer]) -> None:
    """The first answer sets a cookie with the instance's id, the client's jar keeps it, and it is not set again."""
    with registered(servers) as registry:
        async with world.client(registry, strategy=Sticky(cookie="p2plb", inner=RoundRobin())) as client:
            first = await client.get("http://users/")
            assert first.headers["set-cookie"] == f"p2plb={first.text}; Path=/; HttpOnly; SameSite=Lax"
            for _ in range(6):
                again = await client.get("http://users/")
                assert again.text == first.text
                assert "set-cookie" not in again.headers
            registry.remove(first.text)
            await world.until(lambda: len(client.raw.stats().services["users"].nodes) == 2)
            moved = await client.get("http://users/")
            assert moved.text != first.text
            assert {(await client.get("http://users/")).text for _ in range(6)} == {moved.text}


@everywhere
async def test_the_cookie_of_a_gateway(world: World, servers: dict[str, ScriptedServer]) -> None:
    """Who forwards the requests of others passes their cookies through: each keeps its own instance."""
    with registered(servers) as registry:
        async with world.client(registry, strategy=Sticky(cookie="p2plb", inner=RoundRobin())) as client:
            for name in "abcab":
                found = await client.get("http://users/", headers={"cookie": f"x=1; p2plb={name}"})
                assert found.text == name
                assert "set-cookie" not in found.headers
            unknown = await client.get("http://users/", headers={"cookie": "p2plb=http://evil.example"})
            assert unknown.text in "abc"
            assert unknown.headers["set-cookie"].startswith(f"p2plb={unknown.text};")


@everywhere
async def test_the_cookie_within_another_strategy(world: World, servers: dict[str, ScriptedServer]) -> None:
    """The cookie is set whatever strategy stands around, but not by a call that is bound to others."""
    strategy = Subset(Sticky(cookie="p2plb"), 2)
    with registered(servers) as registry:
        async with world.client(registry, strategy=strategy) as client:
            found = await client.get("http://users/", extensions=p2plb.call(where={}))
            assert "set-cookie" not in found.headers
            found = await client.get("http://users/")
            assert found.headers["set-cookie"].startswith(f"p2plb={found.text};")


@pytest.mark.parametrize(("scheme", "ends"), [("http", "SameSite=Lax"), ("https", "; Secure")])
def test_a_cookie_that_came_safely_leaves_safely(scheme: str, ends: str) -> None:
    """Over https the cookie is for https alone."""
    call, response = Call("users", httpx.Request("GET", f"{scheme}://users/")), httpx.Response(200)
    Sticky(cookie="p2plb").sign(call, "a", response)
    assert response.headers["set-cookie"].endswith(ends)


@everywhere
async def test_a_strict_cookie(world: World, servers: dict[str, ScriptedServer]) -> None:
    """With `strict` nobody else serves a session: gone or passed over, the call ends, and its cookie is not shown."""
    with registered(servers) as registry:
        async with world.client(registry, strategy=Sticky(cookie="p2plb", strict=True)) as client:
            assert (await client.get("http://users/")).text in "abc"
            client.raw.cookies.clear()
            with pytest.raises(NoInstances, match="that the request's cookie names is not there") as caught:
                await client.get("http://users/", headers={"cookie": "p2plb=secret"})
            assert "secret" not in str(caught.value)
            assert sum(len(server.requests) for server in servers.values()) == 1


@everywhere
async def test_an_answer_keeps_its_own_cookies(world: World) -> None:
    """The instance's own cookies stay as they are."""
    own: Script = answer(200, b"", set_cookie="mine=1")
    server = ScriptedServer(own)
    with serving(server), registered({"a": server}) as registry:
        async with world.client(registry, strategy=Sticky(cookie="p2plb")) as client:
            found = (await client.get("http://users/")).headers.get_list("set-cookie")
    assert found == ["mine=1", "p2plb=a; Path=/; HttpOnly; SameSite=Lax"]
