"""What a call looks like from both ends of the wire: to the caller the logical URL, to the instance a plain request."""

import contextlib
import dataclasses
import gc
from collections.abc import Iterator

import httpx
import pytest

import p2plb
from integration.harness.child import wire
from p2plb import Policy, Retry
from p2plb.balancing.call import Call
from p2plb.observe.events import AttemptEnded, AttemptStarted, CallEnded, Event, ViewChanged
from tests.drivers import World, everywhere, on_loops
from tests.scripted import ScriptedServer, answer, drip, hang, in_turn, ok, prefer, raw, serving, static

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@everywhere
async def test_a_call_and_who_served_it(world: World, server: ScriptedServer) -> None:
    """A call reaches an instance, and the answer says which, by which attempts."""
    async with world.client(server.static()) as client:
        response = await client.get("http://users/42?a=b%20c")
        assert (response.status_code, response.text) == (200, "/42?a=b%20c")
        served = response.extensions["p2plb"]
        assert (served.service, served.instance.url, served.via) == ("users", server.url, "peer")
        (attempt,) = served.attempts
        assert (attempt.reason, attempt.reused, attempt.fault) == ("200", False, None)
        assert attempt.seconds > 0
        assert client.in_flight() == 0


@everywhere
async def test_the_caller_sees_the_logical_url(world: World, server: ScriptedServer) -> None:
    """F76: request, redirects, cookies and `raise_for_status` speak of the service; Host is its name."""
    server.script = in_turn(
        answer(302, location="/next", set_cookie="seen=1"), answer(404, b"no", location="ignored"), ok
    )
    async with world.client(server.static(), follow_redirects=True) as client:
        response = await client.get("http://users/first")
        assert (str(response.request.url), str(response.history[0].url)) == ("http://users/next", "http://users/first")
        with pytest.raises(httpx.HTTPStatusError, match=r"http://users/next"):
            response.raise_for_status()
        assert response.extensions["p2plb"].service == "users"
        assert [cookie.domain for cookie in client.raw.cookies.jar] == ["users.local"]
    assert [one.headers["host"] for one in server.requests] == ["users", "users"]
    assert server.requests[1].headers["cookie"] == "seen=1"


@everywhere
async def test_a_host_of_the_policys(world: World, server: ScriptedServer) -> None:
    """F76: `Policy(host=)` is the Host header, once; all other headers stay as they are, in their case and order."""
    async with world.client(server.static(), policy=Policy(host="shop.example")) as client:
        await client.get("http://users/", headers={"X-One": "1", "x-two": "2"})
    headers = server.requests[0].headers
    assert headers["host"] == "shop.example"
    assert list(headers)[-2:] == ["x-one", "x-two"]


@everywhere
async def test_a_connection_is_used_again(world: World, server: ScriptedServer) -> None:
    """Calls one after the other ride one connection, and the history says so."""
    async with world.client(server.static()) as client:
        answers = [await client.get("http://users/") for _ in range(5)]
    assert server.connections == 1
    assert [one.extensions["p2plb"].attempts[0].reused for one in answers] == [False, True, True, True, True]


@everywhere
async def test_calls_at_a_time_have_a_connection_each(world: World, server: ScriptedServer) -> None:
    """One call a lane: what is under way is never shared, and all connections serve again afterwards."""
    async with world.client(server.static()) as client:

        async def one() -> None:
            async with client.stream("GET", "http://users/") as response:
                await world.until(lambda: server.connections >= 6)
                await client.read(response)

        await world.together(*[one] * 6)
        await client.get("http://users/")
    assert server.connections == 6


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HELLO),
    ],
)
@everywhere
async def test_answers_without_a_body(world: World, server: ScriptedServer, method: str, data: bytes) -> None:
    """HEAD, 204, 304 and early hints end where they end, and the connection serves again."""
    server.script = raw(data, goes_on=True)
    async with world.client(server.static()) as client:
        for _ in range(2):
            await client.request(method, "http://users/")
        assert client.in_flight() == 0
    assert server.connections == 1


@everywhere
async def test_a_stream_counts_until_it_is_closed(world: World, server: ScriptedServer) -> None:
    """The claim is held until the body is closed, and then once and for all."""
    server.script = answer(200, b"x" * 100_000)
    async with world.client(server.static()) as client:
        async with client.stream("GET", "http://users/") as response:
            assert client.in_flight() == 1
            assert len(await client.read(response)) == 100_000
            assert client.in_flight() == 0, "reading to the end closes, as in httpx"
            await client.shut(response)
        assert client.in_flight() == 0
        await client.get("http://users/")
    assert server.connections == 1


@everywhere
async def test_a_stream_that_is_left_early(world: World, server: ScriptedServer) -> None:
    """The rest of a body that nobody read never reaches the next call: its connection is closed."""
    server.script = answer(200, b"x" * 1_000_000)
    async with world.client(server.static()) as client:
        async with client.stream("GET", "http://users/"):
            pass
        assert client.in_flight() == 0
        server.script = ok
        assert (await client.get("http://users/next")).text == "/next"
    assert server.connections == 2


@everywhere
async def test_a_stream_that_is_closed_while_it_is_read(world: World, server: ScriptedServer) -> None:
    """Who reads on after another has closed the answer gets what httpx gives: pieces that have come."""
    server.script = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    async with world.client(server.static()) as client:
        async with client.stream("GET", "http://users/") as response:
            pieces = client.pieces(response)
            assert await anext(pieces) == b"a"
            await client.shut(response)
            assert [piece async for piece in pieces] == [b"b"]
        assert client.in_flight() == 0


@everywhere
async def test_a_deadline_covers_the_body(world: World, server: ScriptedServer) -> None:
    """F09: a body that drips ends at the policy's timeout, though each read is quick."""
    server.script = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", 500, 0.02)
    async with world.client(server.static(), policy=Policy(timeout=0.2, retry=None)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://users/")
        assert client.in_flight() == 0
        server.script = ok
        assert (await client.get("http://users/", extensions=p2plb.call(timeout=30))).is_success


@everywhere
async def test_an_attempt_ends_at_its_timeout(world: World, server: ScriptedServer) -> None:
    """F03: a head that drips ends at `attempt_timeout`, and another instance answers."""
    slow = ScriptedServer(drip(b"HTTP/1.1 200 OK\r\nx: ", 500, 0.02))
    with serving(slow):
        policy = Policy(strategy=prefer(slow, server), attempt_timeout=0.2)
        async with world.client(static(slow, server), policy=policy) as client:
            response = await client.get("http://users/")
    attempts = response.extensions["p2plb"].attempts
    assert [one.reason.partition(":")[0] for one in attempts] == ["ReadTimeout", "200"]
    assert attempts[0].seconds < 5, "the head would have dripped for 10 s"


@everywhere
async def test_the_attempts_timeout_ends_at_the_head(world: World, server: ScriptedServer) -> None:
    """A body may take longer than `attempt_timeout`."""
    server.script = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n", 20, 0.03)
    async with world.client(server.static(), policy=Policy(attempt_timeout=0.4)) as client:
        assert (await client.get("http://users/")).content == b"x" * 20


@everywhere
async def test_httpx_timeouts_hold_for_an_attempt(world: World, server: ScriptedServer) -> None:
    """F03: a read timeout is httpx's own error; a POST is not tried again."""
    server.script = hang
    async with world.client(server.static(), timeout=httpx.Timeout(5, read=0.1)) as client:
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.post("http://users/", content=b"x")
        assert client.in_flight() == 0
    assert len(server.requests) == 1
    assert caught.value.request.url == "http://users/"


@everywhere
async def test_observers_hear_the_story(world: World, server: ScriptedServer) -> None:
    """Observers get frozen events in order; one that raises harms nobody."""
    heard: list[Event] = []
    server.script = in_turn(answer(503), ok)

    def broken(_event: Event) -> None:
        raise RuntimeError("observer")

    async with world.client(server.static(), observers=[broken, heard.append]) as client:
        await client.get("http://users/")
    story = [event for event in heard if not isinstance(event, ViewChanged)]
    kinds = [AttemptStarted, AttemptEnded, AttemptStarted, AttemptEnded, CallEnded]
    assert [type(event) for event in story] == kinds
    assert isinstance(story[1], AttemptEnded)
    assert story[1].status == 503
    assert isinstance(story[-1], CallEnded)
    assert (story[-1].attempts, story[-1].status, story[-1].error) == (2, 200, None)


@everywhere
async def test_an_observer_closes_the_client(world: World, server: ScriptedServer) -> None:
    """F79: an observer may close the client of a call under way; the call ends well, the client opens again."""
    async with world.client(server.static()) as client:

        def close(event: Event) -> None:
            if isinstance(event, AttemptStarted):
                client.raw._peers._core.services.close()

        client.raw._peers._core.observers = (close,)
        assert (await client.get("http://users/")).status_code == 200
        client.raw._peers._core.observers = ()
        assert (await client.get("http://users/")).status_code == 200


@everywhere
async def test_errors_tell_their_story(world: World, server: ScriptedServer) -> None:
    """What is raised is httpx's, belongs to the caller's request and carries the attempts as notes."""
    server.script = raw(b"no http\r\n\r\n")
    async with world.client(server.static(), policy=Policy(retry=Retry(attempts=2))) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.get("http://users/secret?token=hush")
    error = caught.value
    assert str(error.request.url) == "http://users/secret?token=hush"
    assert len(error.__notes__) == 2
    assert server.url in error.__notes__[0]
    assert "hush" not in "".join(error.__notes__), "a query may hold a secret"
    assert error.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb


@everywhere
async def test_a_call_that_failed_is_freed(world: World, server: ScriptedServer) -> None:
    """What is raised leaves no reference cycle: the memory of failing calls does not wait for the collector."""
    server.script = raw(b"no http")
    async with world.client(server.static()) as client:
        gc.collect()
        gc.disable()
        try:
            for url in ("http://users/", "http://unknown/"):
                with contextlib.suppress(httpx.TransportError):
                    await client.get(url)
            left = [one for one in gc.get_objects() if isinstance(one, Call)]
        finally:
            gc.enable()
    assert left == []


@everywhere
async def test_the_drop_in_transport(world: World, server: ScriptedServer) -> None:
    """`httpx.Client(transport=p2plb.Transport(…))` serves services and plain hosts alike."""
    transport = world.transport(server.static())
    async with world.plain(transport=transport) as client:
        assert (await client.get("http://users/a")).text == "/a"
        plain = await client.get(f"{server.url}/b")
        assert (plain.text, plain.extensions["p2plb"].via) == ("/b", "plain")
    assert server.requests[1].headers["host"] == f"127.0.0.1:{server.port}"


@everywhere
async def test_stats_are_ready_for_json(world: World, server: ScriptedServer) -> None:
    """Statistics name each node with its calls and its latency."""
    async with world.client(server.static()) as client:
        await client.get("http://users/")
        (node,) = dataclasses.asdict(client.raw.stats())["services"]["users"]["nodes"]
        assert (node["url"], node["in_flight"], node["ejected_for"]) == (server.url, 0, None)
        assert node["latency"] > 0


@on_loops
async def test_an_async_transport_needs_no_client(world: World, server: ScriptedServer) -> None:
    """A transport may be used by itself, as httpx documents."""
    async with world.transport(server.static()) as transport:
        response = await transport.handle_async_request(httpx.Request("GET", "http://users/x"))
        assert await response.aread() == b"/x"
        assert isinstance(server.requests[0], wire.Request)
