"""One HTTP/1.1 connection to one etcd endpoint, for one thread at a time, which any other thread may cut.

httpcore's connection with a network backend of ours: that knows the socket from the moment TCP is up, through the TLS
handshake, and clips each operation to the link's deadline. It knows HTTP, nothing of etcd but where its API begins.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpcore

from p2plb.discovery.etcd.carrier import CONNECT_WITHIN, MAX_ANSWER, NoAnswerInTime
from p2plb.discovery.etcd.driver import Unavailable
from p2plb.discovery.etcd.faults import TooLarge

# A cut network shows within 3 + 3 * 1 s, whatever the deadlines are. Names differ between systems.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 3), ("TCP_KEEPALIVE", 3), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3))
_SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _KEEPALIVE if hasattr(socket, name)),
)
_TIMEOUTS: Final = {"timeout": {"connect": CONNECT_WITHIN}}  # for the rest there is the deadline
_HEADERS: Final = {"Accept-Encoding": "identity", "Content-Type": "application/json", "User-Agent": "p2plb"}

_Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Link:
    """A connection that connects at its first request. `deadline` bounds every operation, now and to come."""

    def __init__(self, origin: str, tls: ssl.SSLContext | None, clock: Callable[[], float]) -> None:
        self.origin = origin
        self.deadline = 0.0
        self.opened = clock()
        self.answered = False  # at least once
        self._clock = clock
        self._wire = _Wire(self)
        self._connection = httpcore.HTTPConnection(
            httpcore.URL(origin).origin, tls, network_backend=self._wire, socket_options=_SOCKET_OPTIONS
        )

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._connection.is_idle() and not self._connection.has_expired()

    def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a request and return status and content; raises `Unavailable` or `TooLarge`."""
        with self.stream(path, body, headers) as (status, chunks):
            content = b"".join(_capped(chunks))
        self.answered = True
        return status, content

    @contextmanager
    def stream(self, path: str, body: bytes, headers: Mapping[str, str]) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Send a request and lend its status and the pieces of its content; raises `Unavailable` throughout."""
        fields = [*_HEADERS.items(), *headers.items()]
        with (
            self._mapped(),
            self._connection.stream(
                "POST", f"{self.origin}/v3/{path}", headers=fields, content=body, extensions=_TIMEOUTS
            ) as response,
        ):
            yield response.status, response.iter_stream()

    def cut(self) -> None:
        """End whatever another thread is doing on this link; only the thread that uses it may `close` it."""
        self._wire.cut()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._wire.close()

    def forget(self) -> None:
        """Let go of a connection that belongs to the parent process, so that `cut` can't end it."""
        self._wire.forget()

    def left(self) -> float:
        """Return the seconds up to the deadline."""
        return self.deadline - self._clock()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise Unavailable(f"can't connect to {self.origin}: {_reason(error)}") from None
        except httpcore.TimeoutException:
            raise NoAnswerInTime(f"{self.origin} did not answer in time", ambiguous=True) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable) as error:
            raise Unavailable(f"{self.origin} broke off: {_reason(error)}", ambiguous=True) from None


class _Wire(httpcore.NetworkBackend):
    """Dials, and keeps a second descriptor of the socket: TLS takes the first one away while it shakes hands."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stream: httpcore.NetworkStream | None = None
        self._plug: socket.socket | None = None
        self._is_cut = False
        self._ending = threading.Lock()  # a descriptor that is closed may be another connection's the next moment

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore.NetworkStream:
        within = _clip(timeout, self._link, httpcore.ConnectTimeout)
        stream = httpcore.SyncBackend().connect_tcp(host, port, within, local_address, socket_options)
        self._stream = stream
        with _as_connect_error():
            self._plug = stream.get_extra_info("socket").dup()
        if self._is_cut:
            raise httpcore.ConnectError("cut while it connected")
        return _Clipped(stream, self._link)

    def cut(self) -> None:
        self._is_cut = True
        with self._ending, contextlib.suppress(OSError):
            if self._plug is not None:
                self._plug.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        self._stream = self._plug = None
        self._ending = threading.Lock()

    def close(self) -> None:
        with self._ending:
            for end in (self._stream, self._plug):
                if end is not None:
                    end.close()


class _Clipped(httpcore.NetworkStream):
    """A stream whose operations end at the link's deadline as it stands when they begin."""

    def __init__(self, stream: httpcore.NetworkStream, link: Link) -> None:
        self._stream = stream
        self._link = link

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _clip(timeout, self._link, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _clip(timeout, self._link, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _clip(timeout, self._link, httpcore.ConnectTimeout)
        return _Clipped(self._stream.start_tls(ssl_context, server_hostname, seconds), self._link)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _clip(timeout: float | None, link: Link, error: type[Exception]) -> float:
    left = link.left()
    if left <= 0:
        raise error("no time left")
    return left if timeout is None else min(timeout, left)


def _capped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER:
            raise TooLarge(f"an answer of more than {MAX_ANSWER:,} bytes")
        yield chunk


@contextmanager
def _as_connect_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
