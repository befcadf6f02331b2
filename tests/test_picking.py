"""Picking an instance without sending, waiting until services are there, and what a call does before the first list."""

import time
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from p2plb import ConsistentHash, DiscoveryError, NoInstances, Policy
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.static import StaticRegistry
from tests.drivers import Caller, World, everywhere, on_loops
from tests.fake_registry import FakeRegistry
from tests.fakes import first_fit, instance, snapshot

THREE = {"users": ["10.0.0.7:80", "10.0.0.8:80", "[::1]:8001"]}


def ejected(client: Caller) -> dict[str, str]:
    """Return why which instances are passed over."""
    nodes = client.raw.stats().services["users"].nodes
    return {node.url: node.ejected_because for node in nodes if node.ejected_because is not None}


@everywhere
async def test_where_to_connect_to(world: World) -> None:
    """What is picked says where to connect to, and counts as in flight until the block ends."""
    record = instance("a", url="http://[2001:db8::7]:8001", metadata={"shard": 7})
    registry = MemoryRegistry()
    registry.put(record)
    async with world.client(registry) as client:
        async with client.pick("users") as node:
            assert (node.url, node.host, node.port) == ("http://[2001:db8::7]:8001", "2001:db8::7", 8001)
            assert (node.instance, node.metadata) == (record, {"shard": 7})
            assert client.in_flight() == 1
        assert client.in_flight() == 0
        assert ejected(client) == {}
        with pytest.raises(AttributeError):
            node.instance = None
    registry.close()


@everywhere
async def test_equal_keys_get_the_same(world: World) -> None:
    """The service's policy chooses: a key, given or of the block around, has its owner; `only=` leaves others out."""

    def only(one: p2plb.Instance) -> bool:
        return one.host != "::1"

    policy = Policy(strategy=ConsistentHash(p2plb.header("x-customer")), only=only)
    picked: dict[str, list[str]] = {"by hand": [], "by a block": [], "without": []}
    with StaticRegistry(THREE) as registry:
        async with world.client(registry, policy=policy) as client:
            for number in range(20):
                async with client.pick("users", key=number) as node:
                    picked["by hand"].append(node.host)
                with p2plb.call(key=number):
                    async with client.pick("users") as node:
                        picked["by a block"].append(node.host)
                async with client.pick("users") as node:
                    picked["without"].append(node.host)
    assert picked["by hand"] == picked["by a block"]
    assert set(picked["by hand"]) == {"10.0.0.7", "10.0.0.8"}
    assert set(picked["without"]) <= {"10.0.0.7", "10.0.0.8"}


@everywhere
async def test_leaving_by_an_exception(world: World) -> None:
    """F21: what goes wrong in the block is the node's failure: it is passed over, longer each time, until a success."""
    with StaticRegistry({"users": THREE["users"][:2]}) as registry:
        async with world.client(registry, strategy=first_fit) as client:
            with pytest.raises(ConnectionRefusedError):
                async with client.pick("users") as node:
                    raise ConnectionRefusedError("hush")
            failed = node.url
            assert ejected(client) == {failed: "left by ConnectionRefusedError"}, (
                "no word of the text: it may be secret"
            )
            async with client.pick("users") as node:
                assert node.url != failed
            assert client.in_flight() == 0


@everywhere
async def test_a_success_takes_back(world: World) -> None:
    """A node that was picked for want of others and served is in again."""
    with StaticRegistry({"users": ["10.0.0.7:80"]}) as registry:
        async with world.client(registry) as client:
            with pytest.raises(OSError, match="down"):
                async with client.pick("users"):
                    raise OSError("down")
            assert ejected(client) == {"http://10.0.0.7:80": "left by OSError"}
            async with client.pick("users"):
                pass
            assert ejected(client) == {}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, GeneratorExit])
@everywhere
async def test_an_interrupt_is_no_failure(world: World, interrupt: type[BaseException]) -> None:
    """Ctrl-C and a generator that is closed say nothing of the node."""
    with StaticRegistry(THREE) as registry:
        async with world.client(registry) as client:
            with pytest.raises(interrupt):
                async with client.pick("users"):
                    raise interrupt
            assert (ejected(client), client.in_flight()) == ({}, 0)


@on_loops
async def test_a_cancellation_is_no_failure(world: World) -> None:
    """F63: a task that is cancelled in the block, or while it waits for the list, holds nothing and blames nobody."""
    with StaticRegistry(THREE) as registry:
        async with world.client(registry) as client:
            with anyio.CancelScope() as scope:
                async with client.pick("users"):
                    scope.cancel()
                    await anyio.sleep(30)
            assert (ejected(client), client.in_flight()) == ({}, 0)
    silent = FakeRegistry()
    async with world.client(silent, start_timeout=60) as client:
        with anyio.move_on_after(0.01):
            async with client.pick("users"):
                raise AssertionError
        silent.tell(snapshot("a"))
        assert client.in_flight() == 0


@everywhere
async def test_nobody_to_pick(world: World) -> None:
    """`NoInstances` with the reasons, as a call has it; a wrong name is an error."""
    with StaticRegistry(THREE) as registry:
        async with world.client(registry) as client:
            with pytest.raises(NoInstances, match=r"did you mean 'users'\?"):
                async with client.pick("user"):
                    raise AssertionError
            with pytest.raises(ValueError, match="the service to pick from"):
                async with client.pick("no/service"):
                    raise AssertionError


@everywhere
async def test_a_pick_waits_for_the_first_list(world: World) -> None:
    """F28: before the registry's first answer a pick waits as a call does."""
    registry, picked = FakeRegistry(), list[str]()
    client = world.client(registry, start_timeout=60)

    async def pick() -> None:
        async with client.pick("users") as node:
            picked.append(node.instance.id)

    async def answer() -> None:
        await world.until(lambda: registry.watches != [])
        registry.tell(snapshot("a"))

    await world.together(pick, answer)
    assert picked == ["a"]
    await client.close()


@everywhere
async def test_transports_pick_too(world: World) -> None:
    """A transport by itself has the same methods."""
    with StaticRegistry(THREE) as registry:
        transport = Caller(world.transport(registry))
        async with transport.pick("users") as node:
            assert node.port in {80, 8001}
        await transport.wait_ready("users")
        await transport.close()


# --- ready -------------------------------------------------------------------------------------------------------


@everywhere
async def test_ready_when_all_are_there(world: World) -> None:
    """It returns as soon as each service has an instance, and at once if all have; `services=` names them too."""
    registry, done = FakeRegistry(), list[str]()
    client = world.client(registry, services={"users": Policy(), "orders": Policy()})

    async def wait() -> None:
        await client.wait_ready(timeout=60)
        done.append("ready")

    async def come() -> None:
        await world.until(lambda: registry.watched == ["orders", "users"])
        registry.tell(snapshot("a"))
        registry.tell(snapshot(service="orders"))
        await world.sleep(0.01)
        assert done == []
        registry.tell(snapshot("b", service="orders", revision=2))

    await world.together(wait, come)
    assert done == ["ready"]
    await client.wait_ready("users", "orders", timeout=0)
    await client.close()


@everywhere
async def test_not_ready(world: World) -> None:
    """After the time: who is missing and why, or that the registry has never answered."""
    registry = FakeRegistry()
    async with world.client(registry) as client:
        with pytest.raises(DiscoveryError, match="nothing is known from fake://"):
            await client.wait_ready("users", timeout=0.01)
        registry.tell(snapshot("a"))
        await client.wait_ready("users", timeout=0)
        with pytest.raises(DiscoveryError, match="'orders'"):
            await client.wait_ready("users", "orders", timeout=0)
        registry.tell(snapshot(service="orders"))
        with pytest.raises(NoInstances, match="no instance of service 'orders'"):
            await client.wait_ready("users", "orders", timeout=0.01)


@pytest.mark.parametrize("registry", ["etcd://127.0.0.1:1", "static://others=10.0.0.7:80"])
@everywhere
async def test_ready_past_the_instances(world: World, monkeypatch: pytest.MonkeyPatch, registry: str) -> None:
    """F28: what a fallback or P2PLB_BYPASS would serve anyway does not keep a program from starting."""
    policies = {"netted": Policy(fallback="http://old.example"), "users": Policy(), "orders": Policy()}
    monkeypatch.setenv("P2PLB_BYPASS", "users")
    async with world.client(registry, services=policies) as client:
        await client.wait_ready("netted", "users", timeout=0.01)
        with pytest.raises((DiscoveryError, NoInstances), match="'orders'"):
            await client.wait_ready(timeout=0.01)


@everywhere
async def test_a_net_is_the_last_resort(world: World) -> None:
    """With a fallback it waits for instances all the same, so that calls go to them from the start."""
    registry = FakeRegistry()
    client = world.client(registry, policy=Policy(fallback="http://old.example"))

    async def come() -> None:
        await world.until(lambda: registry.watches != [])
        registry.tell(snapshot("a"))

    async def wait() -> None:
        await client.wait_ready("users", timeout=60)

    await world.together(wait, come)
    assert [node.id for node in client.raw.stats().services["users"].nodes] == ["a"]
    await client.close()


@pytest.mark.parametrize(
    ("services", "options", "error", "says"),
    [
        ((), {}, ValueError, "name the services to wait for, wait_ready('users')"),
        (("a b",), {}, ValueError, "a service to wait for is 1 to 128 of the letters"),
        ((7,), {}, TypeError, "a service to wait for is a string, not 7"),
        (("users",), {"timeout": -1}, ValueError, "wait_ready(timeout=) is from 0 to 3600, not -1"),
        (("users",), {"timeout": None}, TypeError, "wait_ready(timeout=) is a number, not None"),
    ],
)
@everywhere
async def test_wrong_waits(
    world: World, services: tuple[Any, ...], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """A wrong argument says what to write."""
    async with world.client(FakeRegistry()) as client:
        with pytest.raises(error) as caught:
            await client.wait_ready(*services, **options)
        assert says in str(caught.value)


@everywhere
async def test_waiting_and_closing(world: World) -> None:
    """F79: a client that is closed ends the wait; a shared transport's waits go on when another client closes it."""
    registry = FakeRegistry()
    client, failed = world.client(registry), list[Exception]()
    transport = world.transport(registry)
    shared, leaving = Caller(transport), world.plain(transport=transport)
    told = snapshot("a", service="orders", revision=2)

    async def wait() -> None:
        try:
            await client.wait_ready("users", timeout=60)
        except RuntimeError as error:
            failed.append(error)

    async def wait_shared() -> None:
        await shared.wait_ready("orders", timeout=60)

    async def close() -> None:
        await world.until(lambda: registry.watched == ["orders", "users"])
        registry.tell(snapshot(service="orders"))
        await leaving.close()
        await client.close()
        await world.until(lambda: registry.watched == ["orders"])
        registry.tell(told)

    await world.together(wait, wait_shared, close)
    assert [str(error) for error in failed] == ["Cannot send a request, as the client has been closed."]
    await leaving.close()


def test_a_closed_registry() -> None:
    """Whose registry has been closed by its owner does not wait for it."""
    registry = MemoryRegistry()
    with p2plb.Client(registry) as client:
        registry.close()
        with pytest.raises(DiscoveryError, match="it was closed"):
            client.wait_ready("users", timeout=60)


# --- before the first list ---------------------------------------------------------------------------------------


@everywhere
async def test_a_cold_start_is_waited_for_once(world: World) -> None:
    """F28: calls meanwhile share one wait; once it has run out further ones fail at once, until a list comes."""
    registry, failed = FakeRegistry(), list[float]()
    mock = world.mock(lambda _request: httpx.Response(200))
    client = world.client(registry, start_timeout=0.3, inner=lambda _instance: mock)

    async def fail() -> None:
        started = time.monotonic()
        with pytest.raises(NoInstances, match="nothing is known from fake://"):
            await client.get("http://users/")
        failed.append(time.monotonic() - started)

    async def fail_later() -> None:
        await world.sleep(0.1)
        await fail()

    await world.together(fail, fail, fail_later)
    assert max(failed) > 0.25
    started = time.monotonic()
    for _ in range(50):
        await fail()
    assert time.monotonic() - started < 50 * 0.3 / 2, "nobody waits a second time"
    registry.tell(snapshot("a"))
    assert (await client.get("http://users/")).status_code == 200
    await client.close()
