"""What must not be sent twice, and what must not be told: errors that are not of the wire, foreign engines, texts."""

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvloop

from p2plb import AsyncClient, Client, Instance, NoInstances, Policy, Transport
from p2plb.discovery.memory import MemoryRegistry
from p2plb.httpx.family import _is_shortage
from tests.drivers import World, everywhere
from tests.scripted import ScriptedServer, hang, in_turn, ok, reset, serving, static

uvloop.new_event_loop().close()  # the first one opens a pipe for the whole process


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    first, second = ScriptedServer(id="a"), ScriptedServer(id="b")
    with serving(first), serving(second):
        yield [first, second]


class Engine(httpx.BaseTransport):
    """A foreign HTTP engine that calls every failure a connection's."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        raise httpx.ConnectTimeout("Server disconnected") from self.cause


@pytest.mark.parametrize(
    ("cause", "sent", "maybe"), [(ConnectionResetError(), 1, True), (ConnectionRefusedError(), 2, False)]
)
def test_foreign_engines_are_not_believed(cause: Exception, sent: int, maybe: bool) -> None:
    """F70: a POST that another engine may have sent stays with one instance, whatever its error is called."""
    engine = Engine(cause)
    with (
        Client("static://users=10.0.0.7:80,10.0.0.8:80", inner=lambda _instance: engine) as client,
        pytest.raises(httpx.ConnectTimeout) as caught,
    ):
        client.post("http://users/")
    assert engine.sent == sent
    assert caught.value.p2plb.maybe_processed is maybe  # type: ignore[attr-defined]  # added by p2plb


def test_an_applications_own_calls_are_its_own() -> None:
    """F70: an application behind `inner=` whose own call is refused has run: it does not run again."""
    runs: list[str] = []

    def application(request: httpx.Request) -> httpx.Response:
        runs.append(request.url.host)
        with httpx.Client(transport=httpx.MockTransport(refuse)) as downstream:
            return downstream.get("http://elsewhere/")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    mock = httpx.MockTransport(application)
    with (
        Client("static://users=10.0.0.7:80,10.0.0.8:80", inner=lambda _instance: mock) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.post("http://users/")
    assert len(runs) == 1


@everywhere
async def test_a_bodys_own_errors_are_its_own(world: World, servers: list[ScriptedServer]) -> None:
    """F67: a body whose own call is refused ends the call: nobody is ejected, and nobody else gets the request."""
    pulled = 0

    def parts() -> Iterator[bytes]:
        nonlocal pulled
        pulled += 1
        yield b"first"
        raise httpx.ConnectError("the body's own call was refused")

    async with world.client(static(*servers)) as client:
        with pytest.raises(httpx.ConnectError, match="the body's own"):
            await client.post("http://users/", content=world.pieces(parts()))
        nodes = client.raw.stats().services["users"].nodes
    assert pulled == 1
    assert [node.ejected_for for node in nodes] == [None, None]


@pytest.mark.parametrize("engine", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_any_event_loop(engine: Any, servers: list[ScriptedServer]) -> None:
    """F05, F63: a reset is retried, a time-out raised and a cancellation heard, on uvloop as on asyncio's own loop."""
    servers[0].script = in_turn(reset, hang, hang, ok)

    async def main() -> None:
        async with AsyncClient(servers[0].static()) as client:
            with pytest.raises(httpx.ReadError):
                await client.post("http://users/")
            with pytest.raises(httpx.ReadTimeout):
                await client.post("http://users/", timeout=0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.post("http://users/", timeout=None), 0.05)
            assert (await client.post("http://users/")).status_code == 200
            assert client.stats().services["users"].nodes[0].in_flight == 0

    with asyncio.Runner(loop_factory=engine) as runner:
        runner.run(main())


def test_what_is_on_its_way_shows_no_secret() -> None:
    """A report of an error that shows the variables of each frame shows no credential of the request."""
    request = httpx.Request("GET", "http://users/", headers={"Authorization": "Bearer s3cret"})
    transport = Transport("static://users=10.0.0.7:80", policy=Policy(fallback="http://old:80"))
    exchange = transport.exchange(request)
    assert exchange is not None
    shown = repr((exchange, exchange.wire(0.0), exchange.outside(), exchange.call))
    assert "s3cret" not in shown
    transport.close()


def test_an_abandoned_answer_tells_no_secret(servers: list[ScriptedServer]) -> None:
    """F66: even with warnings as errors its slot comes back, and the warning names neither user nor query."""
    with Client(servers[0].static(), limits=httpx.Limits(max_connections=1)) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        caught: list[str] = []
        warnings.showwarning = lambda message, *_rest, **_named: caught.append(str(message))
        warnings.simplefilter("always", ResourceWarning)
        request = client.build_request("GET", "http://bob:s3cret@users/?token=t0k")
        client.send(request, stream=True)
        gc.collect()
        assert "the answer to a GET to users was never closed" in caught
        assert not any(secret in text for text in caught for secret in ("s3cret", "t0k"))
        assert client.get("http://users/").status_code == 200


@everywhere
async def test_busy_connections_end_with_their_calls(world: World, servers: list[ScriptedServer]) -> None:
    """F79: an answer that is read after `close` does not leave its connection behind."""
    client = world.client(servers[0].static())
    async with client.stream("GET", "http://users/") as response:
        transport = client.raw._peers
        if world.name == "sync":
            transport.close()
        else:
            await transport.aclose()
        await client.read(response)
    await world.until(lambda: servers[0].open == 0)
    await client.close()


def test_a_shared_inner_transport_stays_while_it_serves() -> None:
    """F81: one transport for several instances is not closed when one of them leaves."""
    closed: list[bool] = []

    class Shared(httpx.MockTransport):
        def close(self) -> None:
            closed.append(True)

    shared = Shared(lambda _request: httpx.Response(200))
    registry = MemoryRegistry()
    for name in ("a", "b"):
        registry.put(Instance(name, "users", f"http://10.0.0.7:80{ord(name)}"))
    with registry, Client(registry, inner=lambda _instance: shared) as client:
        for _ in range(4):
            client.get("http://users/")
        registry.remove("a")
        deadline = time.monotonic() + 10
        while len(client.stats().services["users"].nodes) == 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for _ in range(4):
            client.get("http://users/")
        assert not closed
    assert closed == [True]


def test_a_deadline_covers_a_large_upload() -> None:
    """F09: a server that reads slowly does not hold a call beyond its deadline."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read_slowly() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(32 * 1024) and not over.wait(0.02):
                    pass

        thread = threading.Thread(target=read_slowly)
        thread.start()
        url = f"static://users=127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, policy=Policy(timeout=0.3, retry=None)) as client:
            started = time.monotonic()
            with pytest.raises(httpx.TimeoutException):
                client.post("http://users/", content=b"x" * 32 * 1024 * 1024)
            assert time.monotonic() - started < 5  # all of it would take 20 s
        over.set()
        thread.join()


def test_a_deadline_covers_an_inner_transports_body() -> None:
    """F09: a body that drips out of a foreign transport ends at the deadline as well."""

    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                time.sleep(0.01)
                yield b"x"

    mock = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Dripping()))
    with (
        Client("static://users=10.0.0.7:80", inner=lambda _instance: mock, policy=Policy(timeout=0.1)) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get("http://users/")


def test_a_shortage_is_of_the_attempt_itself() -> None:
    """F87: an error that was being handled when the call was made says nothing of the call."""
    shortage, refusal = OSError(24, "too many open files"), ConnectionRefusedError(111, "refused")
    refusal.__context__ = shortage
    for cause, is_shortage in ((refusal, False), (shortage, True)):
        error = httpx.ConnectError("no")
        error.__cause__ = cause
        assert _is_shortage(error) is is_shortage


def test_a_closed_registry_serves_nobody() -> None:
    """A call over a registry that its maker has closed raises httpx's kind of error, at once, and says so."""
    registry = MemoryRegistry()
    with Client(registry) as client:
        registry.close()
        with pytest.raises(NoInstances, match="closed"):
            client.get("http://users/")


def test_plain_hosts_in_a_second_loop(servers: list[ScriptedServer]) -> None:
    """F60: a client that is used in a second event loop reaches hosts that are no services there too."""
    client = AsyncClient("static://users=10.0.0.7:80", trust_env=False)

    async def main() -> int:
        return (await client.get(servers[0].url)).status_code

    async def last() -> int:
        status = await main()
        await client.aclose()
        return status

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # httpx's own connections of the first loop
        assert [asyncio.run(main()), asyncio.run(last())] == [200, 200]
        gc.collect()


def test_kept_connections_are_younger_where_nothing_is_repeated(servers: list[ScriptedServer]) -> None:
    """F07: what will not be sent again is not sent over a connection that the server may be about to close."""
    with Client(servers[0].static(), policy=Policy(retry=None)) as client:
        client.get("http://users/")
        for lane in client._peers._lanes.idle._by_age:
            lane.idle_since -= 2.0
        client.get("http://users/")
    assert servers[0].connections == 2
