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
import time
from collections.abc import Awaitable, Callable
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
    """What both kinds of link have in common: the stream, the deadline, abort. `connect` is a backend's own."""

    __slots__ = ("_connect", "_connect_by", "core", "deadline", "socket", "stream", "written")

    def __init__(self, core: Any, connect: Callable[..., Any]) -> None:
        self.core = core
        self._connect = connect
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

    def get_extra_info(self, info: str) -> Any:
        """Return what the stream knows."""
        return self.stream.get_extra_info(info)

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
    """The network backend of one sync lane, and the stream that httpcore gets of it."""

    __slots__ = ()

    def connect_tcp(self, *, timeout: float | None, **where: Any) -> "Link":
        """Connect; `where` is what httpcore says for it."""
        self.stream = self._connect(timeout=self.connect_timeout(timeout), **where)
        self.socket = self.stream.get_extra_info("socket")
        return self

    def start_tls(self, ssl_context: ssl.SSLContext, *, timeout: float | None = None, **how: Any) -> "Link":
        """Do the TLS handshake on the stream."""
        timeout = self.handshake_timeout(timeout)
        plain = self.stream.get_extra_info("socket")
        try:  # wrapping fails too, if the server has reset the connection
            self.socket = sock = ssl_context.wrap_socket(plain, do_handshake_on_connect=False, **how)
            self.stream = type(self.stream)(sock)  # known before the handshake, so that it can be aborted and closed
            sock.settimeout(timeout)
            sock.do_handshake()
        except TimeoutError as error:
            raise self.core.ConnectTimeout(error) from error
        except OSError as error:
            raise self.core.ConnectError(error) from error
        return self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come."""
        data: bytes = self.stream.read(max_bytes, clip(timeout, self.deadline, self.core.ReadTimeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it; the timeout is for each piece that the system takes."""
        self.written = True
        for start in range(0, len(buffer), PIECE):
            piece = buffer[start : start + PIECE]
            self.stream.write(piece, clip(timeout, self.deadline, self.core.WriteTimeout))

    def close(self) -> None:
        """Close the connection, if there is one; by its owner only."""
        if self.stream is not None:
            self.stream.close()


class AsyncLink(_Held):
    """The same for one async lane."""

    __slots__ = ("_tcp",)

    def __init__(self, core: Any, connect: Callable[..., Awaitable[Any]]) -> None:
        super().__init__(core, connect)
        self._tcp: Any = None

    async def connect_tcp(self, *, timeout: float | None, **where: Any) -> "AsyncLink":  # noqa: ASYNC109  httpcore's
        """Connect; `where` is what httpcore says for it."""
        self._tcp = self.stream = await self._connect(timeout=self.connect_timeout(timeout), **where)
        self.socket = self._tcp.get_extra_info("socket")
        return self

    async def start_tls(self, ssl_context: ssl.SSLContext, *, timeout: float | None = None, **how: Any) -> "AsyncLink":  # noqa: ASYNC109
        """Do the TLS handshake on the stream."""
        self.stream = await self._tcp.start_tls(ssl_context, timeout=self.handshake_timeout(timeout), **how)
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's signature
        """Return what has come."""
        data: bytes = await self.stream.read(max_bytes, clip(timeout, self.deadline, self.core.ReadTimeout))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  httpcore's signature
        """Write all of it."""
        self.written = True
        await self.stream.write(buffer, clip(timeout, self.deadline, self.core.WriteTimeout))

    async def aclose(self) -> None:
        """Close the connection, if there is one; by its owner only.

        Every backend closes its TCP stream before it first waits, so the connection is closed even if the task is
        cancelled (again) here. The layers above TCP have nothing to say any more.
        """
        if self._tcp is not None:
            self.abort()  # or what was not written yet would keep it open
            await self._tcp.aclose()
