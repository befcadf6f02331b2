"""The gateway's watch stream: one response that does not end, read by one thread, cut by any other.

Opening and reading both happen in the iteration, so that `close()` can end them. What the lines say is frames.py's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Final, Protocol

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.driver import Closed, Denied, DriverError, Frame, Unavailable, Want
from p2plb.discovery.etcd.frames import Frames, Lines
from p2plb.discovery.etcd.link import Link, NoAnswerInTime
from p2plb.discovery.etcd.messages import watch_requests

_HEADERS: Final = {
    "Grpc-Metadata-hasleader": "true",  # or a member without quorum would only fall silent
    # etcd's HTTP server throws away what it has not read of a request when the first answer leaves, so as to use the
    # connection again: the last of many watches would never open. If the connection is to close, it reads on.
    "Connection": "close",
}


class Connector(Protocol):
    """What a stream needs of its driver."""

    @property
    def closed(self) -> bool:
        """Whether the driver was closed."""

    def authorization(self, deadline: float) -> dict[str, str]:
        """Return the headers that say who asks; raises `Denied`."""

    def renew(self, headers: dict[str, str]) -> bool:
        """Drop the token in these headers; False if there is no user to log in again."""

    def connect(self, deadline: float) -> AbstractContextManager[Link]:
        """Lend a new link to the best endpoint, and remember if it fails."""


class GatewayStream:
    """A `WatchStream` over the gateway."""

    def __init__(
        self, connector: Connector, wants: Sequence[Want], timeout: float, idle: float, clock: Callable[[], float]
    ) -> None:
        self._connector = connector
        self._wants = tuple(wants)
        self._timeout = timeout
        self._idle = idle
        self._clock = clock
        self._link: Link | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._watch(self._clock() + self._timeout)
        except DriverError:
            if self._closed or self._connector.closed:
                raise Closed("the watch was closed") from None
            raise

    def close(self) -> None:
        """Unblock and end the iteration."""
        self._closed = True
        if self._link is not None:
            self._link.cut()

    def _watch(self, deadline: float) -> Iterator[Frame]:
        headers = self._connector.authorization(deadline)
        frames = Frames(self._wants)
        try:
            yield from self._read(frames, headers, deadline)
        except Denied:
            # Some versions call a token that is out of date a missing permission: only a new login tells.
            if frames.opened or not self._connector.renew(headers):
                raise
            yield from self._read(Frames(self._wants), self._connector.authorization(deadline), deadline)

    def _read(self, frames: Frames, headers: dict[str, str], deadline: float) -> Iterator[Frame]:
        with self._connector.connect(deadline) as link:
            self._attach(link)
            try:
                yield from self._responses(link, frames, {**headers, **_HEADERS})
            except NoAnswerInTime:
                if not frames.opened:
                    raise

    def _attach(self, link: Link) -> None:
        self._link = link
        if self._closed:
            raise Closed("the watch was closed")

    def _responses(self, link: Link, frames: Frames, headers: dict[str, str]) -> Iterator[Frame]:
        lines = Lines()
        with link.stream("watch", watch_requests(self._wants), headers) as (status, pieces):
            if status != HTTPStatus.OK:
                raise faults.from_answer(link.origin, status, next(pieces, b""))
            for piece in pieces:
                for line in lines.feed(piece):
                    yield from frames.read(line, link.origin)
                if frames.opened:
                    link.deadline = self._clock() + self._idle
        raise Unavailable(f"{link.origin} ended the watch")
