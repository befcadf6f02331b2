"""The network backend of a lane: knows the connection from the moment TCP is up, and clips what it does to a deadline.

httpcore lets go of a connection that is interrupted in the TLS handshake, and reads its timeouts only once. Through
its public `network_backend` argument we hold the stream ourselves: its lane can close it at any moment, each connect,
read and write ends at the call's deadline, and another thread can end the call by `abort`.
`core` is httpcore or its successor; both have the same names.
"""

import contextlib
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Iterable
from typing import Any

PIECE = 64 * 1024

SocketOption = tuple[int, int, int] | tuple[int, int, bytes] | tuple[int, int, None, int]


def clip(timeout: float | None, deadline: float | None, expired: type[Exception]) -> float | None:
    """Return the timeout of one operation so that it ends at the deadline; raise `expired` if that has passed."""
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise expired("the call's deadline has passed")
    return left if timeout is None or left < timeout else timeout


def has_input(sock: Any) -> bool:
    """Whether bytes or the end of a connection are waiting on a socket, without reading them."""
    if sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Held:
    """What both kinds of link have in common: the stream, the deadline, abort."""

    __slots__ = ("_connect_by", "core", "deadline", "socket", "stream", "written")

    def __init__(self, core: Any) -> None:
        self.core = core
        self.deadline: float | None = None
        self.stream: Any = None
        self.socket: Any = None
        self.written = False
        """Whether anything of the request under way has been written."""
        self._connect_by: float | None = None

    def connect_timeout(self, timeout: float | None) -> float | None:
        """Return the timeout for TCP; what it leaves is for TLS."""
        timeout = clip(timeout, self.deadline, self.core.ConnectTimeout)
        self._connect_by = None if timeout is None else time.monotonic() + timeout
        return timeout

    def handshake_timeout(self, timeout: float | None) -> float | None:
        """Return the timeout for TLS: what TCP has left of it."""
        return clip(timeout, self._connect_by, self.core.ConnectTimeout)

    def readable(self) -> bool:
        """Whether bytes or the end of the connection are waiting: an idle connection that has either is over."""
        return self.socket is None or has_input(self.socket)

    def abort(self) -> None:
        """End whatever is under way on the connection; from any thread, idempotent, closes nothing."""
        sock = self.socket
        if sock is None:
            return
        with contextlib.suppress(OSError):  # it is down already
            if isinstance(sock, socket.socket):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would touch the TLS state
            else:  # what event loops show of a socket can't always be shut down (uvloop's)
                with socket.socket(fileno=os.dup(sock.fileno())) as twin:
                    twin.shutdown(socket.SHUT_RDWR)


class Link(_Held):
    """The network backend of one sync lane."""

    __slots__ = ("_backend",)

    def __init__(self, core: Any) -> None:
        super().__init__(core)
        self._backend = core.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> "_Stream":
        """Connect and return the stream."""
        timeout = self.connect_timeout(timeout)
        self.stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        self.socket = self.stream.get_extra_info("socket")
        return _Stream(self)

    def start_tls(self, context: ssl.SSLContext, name: str | None, seconds: float | None) -> None:
        """Do the TLS handshake on the stream."""
        timeout = self.handshake_timeout(seconds)
        plain = self.stream.get_extra_info("socket")
        try:  # wrapping fails too, if the server has reset the connection
            self.socket = sock = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
            self.stream = type(self.stream)(sock)  # known before the handshake, so that it can be aborted and closed
            sock.settimeout(timeout)
            sock.do_handshake()
        except TimeoutError as error:
            raise self.core.ConnectTimeout(error) from error
        except OSError as error:
            raise self.core.ConnectError(error) from error

    def close(self) -> None:
        """Close the connection, if there is one; by its owner only."""
        if self.stream is not None:
            self.stream.close()


class _Stream:
    """What httpcore reads from and writes to."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        link = self._link
        data: bytes = link.stream.read(max_bytes, clip(timeout, link.deadline, link.core.ReadTimeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        link = self._link
        link.written = True
        for start in range(0, len(buffer), PIECE):  # the timeout is for each piece that the system takes
            piece = buffer[start : start + PIECE]
            link.stream.write(piece, clip(timeout, link.deadline, link.core.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        self._link.start_tls(ssl_context, server_hostname, timeout)
        return self

    def close(self) -> None:
        self._link.close()

    def get_extra_info(self, info: str) -> Any:
        return self._link.stream.get_extra_info(info)


class AsyncLink(_Held):
    """The network backend of one async lane, on asyncio or trio."""

    __slots__ = ("_backend", "_tcp")

    def __init__(self, core: Any) -> None:
        super().__init__(core)
        self._backend = core.TrioBackend() if running_trio() else core.AnyIOBackend()
        self._tcp: Any = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> "_AsyncStream":
        """Connect and return the stream."""
        timeout = self.connect_timeout(timeout)
        self._tcp = self.stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        self.socket = self._tcp.get_extra_info("socket")
        return _AsyncStream(self)

    async def start_tls(self, context: ssl.SSLContext, name: str | None, seconds: float | None) -> None:
        """Do the TLS handshake on the stream."""
        self.stream = await self._tcp.start_tls(context, name, self.handshake_timeout(seconds))

    async def aclose(self) -> None:
        """Close the connection, if there is one; by its owner only.

        Every backend closes its TCP stream before it first waits, so the connection is closed even if the task is
        cancelled (again) here. The layers above TCP have nothing to say any more.
        """
        if self._tcp is not None:
            self.abort()  # or what was not written yet would keep it open
            await self._tcp.aclose()


class _AsyncStream:
    """What httpcore reads from and writes to."""

    __slots__ = ("_link",)

    def __init__(self, link: AsyncLink) -> None:
        self._link = link

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's signature
        link = self._link
        data: bytes = await link.stream.read(max_bytes, clip(timeout, link.deadline, link.core.ReadTimeout))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  httpcore's signature
        link = self._link
        link.written = True
        await link.stream.write(buffer, clip(timeout, link.deadline, link.core.WriteTimeout))

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
    ) -> "_AsyncStream":
        await self._link.start_tls(ssl_context, server_hostname, timeout)
        return self

    async def aclose(self) -> None:
        await self._link.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._link.stream.get_extra_info(info)


def running_trio() -> bool:
    """Whether the code that runs now runs in trio."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    if hasattr(trio.lowlevel, "in_trio_task"):
        return bool(trio.lowlevel.in_trio_task())
    try:  # before trio 0.23
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
