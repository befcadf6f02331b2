"""The network stream of plain lanes on asyncio: what it gives, waits for and raises, on both loops."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpcore
import pytest
import uvloop

from integration.harness.child import wire
from p2plb import AsyncClient
from p2plb.wire.asyncio_stream import AsyncioStream, connect
from p2plb.wire.network import AsyncLink
from tests.scripted import ScriptedServer, in_turn, ok, serving

uvloop.new_event_loop().close()  # the first one opens a pipe for the whole process

SOON, PATIENCE = 0.02, 10.0
UPLOAD = bytes(range(256)) * 32 * 1024
Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an async function to its end on one of the loops."""

    def run(case: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(case(), PATIENCE))

    return run


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def to(listener: socket.socket, **options: Any) -> dict[str, Any]:
    host, port = listener.getsockname()[:2]
    return {"host": host, "port": port, "timeout": PATIENCE, "local_address": None, "socket_options": None, **options}


@contextlib.asynccontextmanager
async def connected(listener: socket.socket, **options: Any) -> AsyncIterator[tuple[AsyncioStream, socket.socket]]:
    """Give a stream and the server's end of it."""
    stream = await connect(httpcore, **to(listener, **options))
    try:
        with listener.accept()[0] as peer:
            yield stream, peer
    finally:
        await stream.aclose()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_reading(run: Run, listener: socket.socket) -> None:
    """A read gives at most what was asked for, waits for what has not come, and gives b"" at the end."""

    async def case() -> None:
        async with connected(listener) as (stream, peer):
            peer.sendall(b"abc")
            assert await stream.read(2, 1) == b"ab"
            assert await stream.read(2, None) == b"c"
            asyncio.get_running_loop().call_later(SOON, peer.sendall, b"later")
            assert await stream.read(100, PATIENCE) == b"later"
            peer.shutdown(socket.SHUT_WR)
            assert [await stream.read(100, 1), await stream.read(100, 1)] == [b"", b""]

    run(case)


def test_reading_in_vain(run: Run, listener: socket.socket) -> None:
    """F05: nothing in time is a ReadTimeout, a reset a ReadError."""

    async def case() -> None:
        async with connected(listener) as (stream, peer):
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(100, SOON)
            reset(peer)
            with pytest.raises(httpcore.ReadError):
                await stream.read(100, PATIENCE)

    run(case)


def test_an_upload_to_a_slow_reader(run: Run, listener: socket.socket) -> None:
    """A write ends when the system has taken all of it: 8 MiB not before the server has read most of them."""

    async def case() -> None:
        async with connected(listener) as (stream, peer):
            peer.setblocking(False)
            writing = asyncio.ensure_future(stream.write(UPLOAD, PATIENCE))
            await asyncio.sleep(SOON)
            assert not writing.done()
            read = bytearray()
            while len(read) < len(UPLOAD):
                read += await asyncio.get_running_loop().sock_recv(peer, 1 << 18)
            await writing
            assert read == UPLOAD

    run(case)


def test_writing_in_vain(run: Run, listener: socket.socket) -> None:
    """F05: a server that does not read is a WriteTimeout, one that has reset the connection a WriteError."""

    async def case() -> None:
        async with connected(listener) as (stream, _):
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(UPLOAD, SOON)
        async with connected(listener) as (stream, peer):
            reset(peer)
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"x", PATIENCE)

    run(case)


def test_connecting_in_vain(run: Run) -> None:
    """F01: a refusal, and an address that is not ours, are a ConnectError; no answer in time is a ConnectTimeout."""

    async def case() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(httpcore.ConnectTimeout):
                await connect(httpcore, **to(full, timeout=SOON))
            with pytest.raises(httpcore.ConnectError):
                await connect(httpcore, **to(full, local_address="192.0.2.1"))
            refusing = to(full)
        with pytest.raises(httpcore.ConnectError):
            await connect(httpcore, **refusing)

    run(case)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_how_it_is_connected(run: Run, host: str) -> None:
    """IPv4 and IPv6 addresses, the local address, socket options and no delay; httpcore's names for both ends."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    local = host if family is socket.AF_INET6 else "127.0.0.2"

    async def case() -> None:
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        with socket.create_server((host, 0), family=family) as listener:
            async with connected(listener, local_address=local, socket_options=options) as (stream, peer):
                sock = stream.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert stream.get_extra_info("client_addr") == peer.getpeername()
                assert stream.get_extra_info("client_addr")[0] == local
                assert stream.get_extra_info("server_addr") == listener.getsockname()
                assert stream.get_extra_info("ssl_object") is None

    run(case)


@pytest.mark.parametrize("happens", [lambda peer: peer.sendall(b"stray"), lambda peer: peer.close()])
def test_what_comes_while_idle_is_seen(
    run: Run, listener: socket.socket, happens: Callable[[socket.socket], None]
) -> None:
    """F07: bytes that nobody asked for, or the end, show before anything is read, however long the loop has run."""

    async def case() -> None:
        async with connected(listener) as (stream, peer):
            assert not stream.get_extra_info("is_readable")
            happens(peer)
            assert stream.get_extra_info("is_readable")
            await asyncio.sleep(SOON)
            assert stream.get_extra_info("is_readable")

    run(case)


def test_another_thread_ends_a_read(run: Run, listener: socket.socket) -> None:
    """`abort` from another thread ends a read that waits, at once and for ever."""

    async def case() -> None:
        def connecting(**where: Any) -> Awaitable[AsyncioStream]:
            return connect(httpcore, **where)

        link = AsyncLink(httpcore, connecting)
        await link.connect_tcp(**to(listener))
        with listener.accept()[0]:
            reading = asyncio.ensure_future(link.read(100, None))
            await asyncio.to_thread(link.abort)
            assert [await reading, await link.read(100, None)] == [b"", b""]
            await link.aclose()

    run(case)


def test_closing_ends_what_is_under_way(run: Run, listener: socket.socket) -> None:
    """Closed while another task reads and writes, both fail at once, and the socket's number is free for others."""

    async def case() -> None:
        async with connected(listener) as (stream, _):
            reading = asyncio.ensure_future(stream.read(100, None))
            writing = asyncio.ensure_future(stream.write(UPLOAD, None))
            await asyncio.sleep(SOON)
            await stream.aclose()
            for operation, failure in ((reading, httpcore.ReadError), (writing, httpcore.WriteError)):
                with pytest.raises(failure):
                    await operation
            assert stream.get_extra_info("socket").fileno() == -1
        async with connected(listener) as (stream, peer):
            peer.sendall(b"x")
            assert await stream.read(1, PATIENCE) == b"x"

    run(case)


def test_a_number_that_is_free_again_is_not_watched(run: Run, listener: socket.socket) -> None:
    """A connection that is made right after another was closed under its reader has its number, and works."""

    async def case() -> None:
        async with connected(listener) as (stream, _):
            reading = asyncio.ensure_future(stream.read(100, None))
            await asyncio.sleep(SOON)
            await stream.aclose()
            async with connected(listener) as (other, peer):
                asyncio.get_running_loop().call_later(SOON, peer.sendall, b"x")
                assert await other.read(1, PATIENCE) == b"x"
            with pytest.raises(httpcore.ReadError):
                await reading

    run(case)


def test_others_get_their_turn(run: Run, listener: socket.socket) -> None:
    """A body whose pieces are always there, in either direction, does not keep the loop from others."""

    async def case() -> None:
        async with connected(listener) as (stream, peer):
            peer.sendall(b"xx")
            for operation in (lambda: stream.read(1), lambda: stream.write(b"x")):
                turns: list[None] = []
                await operation()
                asyncio.get_running_loop().call_soon(turns.append, None)
                await operation()
                assert turns

    run(case)


@pytest.mark.parametrize(("host", "direct"), [("127.0.0.1", True), ("localhost", False)])
def test_which_lanes_take_it(run: Run, host: str, direct: bool) -> None:
    """An instance recorded by its address is dialled directly; a name may have other addresses that refuse."""
    server = ScriptedServer()

    async def case() -> None:
        async with AsyncClient(f"static://users={host}:{server.port}", trust_env=False) as client:
            stream = (await client.get("http://users/")).extensions["network_stream"].stream
            assert isinstance(stream, AsyncioStream) is direct

    with serving(server):
        run(case)


async def say_more(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
    """Answer, and once that has been read, again."""
    writer.write(wire.response(200, b""))
    asyncio.get_running_loop().call_later(SOON, writer.write, wire.response(200, b"stray"))
    return True


def test_lanes_that_are_over_are_left(run: Run) -> None:
    """F07: a POST goes on a new connection if the idle one was closed, or holds an answer that nobody asked for."""
    server = ScriptedServer()

    async def case() -> None:
        async with AsyncClient(server.static(), trust_env=False) as client:
            await client.post("http://users/")
            await asyncio.to_thread(server.cut)
            server.script = in_turn(say_more, ok)
            stream = (await client.post("http://users/")).extensions["network_stream"]
            while not stream.get_extra_info("is_readable"):  # noqa: ASYNC110  a socket tells nobody
                await asyncio.sleep(0.001)
            assert (await client.post("http://users/mine")).text == "/mine"
            assert server.connections == 3

    with serving(server):
        run(case)
