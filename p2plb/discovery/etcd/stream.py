"""A watch stream, whatever carries it: read by one thread, cut by any other.

Opening and reading both happen in the iteration, so that `close()` can end them. What the documents say is frames.py's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from p2plb.discovery.etcd.carrier import Feed, NoAnswerInTime
from p2plb.discovery.etcd.driver import Closed, Denied, DriverError, Frame, Unavailable, Want
from p2plb.discovery.etcd.frames import Frames
from p2plb.discovery.etcd.messages import Json, watch_requests


class Connector(Protocol):
    """What a stream needs of its driver."""

    @property
    def closed(self) -> bool:
        """Whether the driver was closed."""

    def token(self, deadline: float) -> str:
        """Return the token that says who asks; raises `Denied`."""

    def renew(self, token: str) -> bool:
        """Drop this token; False if there is no user to log in again."""

    def feed(self, requests: Sequence[Json], token: str, deadline: float) -> AbstractContextManager[Feed]:
        """Lend a watch stream from the best endpoint, and remember if it fails."""


class Stream:
    """A `WatchStream` over any carrier."""

    def __init__(
        self, connector: Connector, wants: Sequence[Want], timeout: float, idle: float, clock: Callable[[], float]
    ) -> None:
        self._connector = connector
        self._wants = tuple(wants)
        self._timeout = timeout
        self._idle = idle
        self._clock = clock
        self._feed: Feed | None = None
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
        if self._feed is not None:
            self._feed.cut()

    def _watch(self, deadline: float) -> Iterator[Frame]:
        token = self._connector.token(deadline)
        frames = Frames(self._wants)
        try:
            yield from self._read(frames, token, deadline)
        except Denied:
            # Some versions call a token that is out of date a missing permission: only a new login tells.
            if frames.opened or not self._connector.renew(token):
                raise
            yield from self._read(Frames(self._wants), self._connector.token(deadline), deadline)

    def _read(self, frames: Frames, token: str, deadline: float) -> Iterator[Frame]:
        with self._connector.feed(watch_requests(self._wants), token, deadline) as feed:
            self._attach(feed)
            try:
                yield from self._frames(feed, frames)
            except NoAnswerInTime:
                if not frames.opened:
                    raise

    def _attach(self, feed: Feed) -> None:
        self._feed = feed
        if self._closed:
            raise Closed("the watch was closed")

    def _frames(self, feed: Feed, frames: Frames) -> Iterator[Frame]:
        for document in feed:
            yield from frames.read(document, feed.origin)
            if frames.opened:
                feed.deadline = self._clock() + self._idle
        raise Unavailable(f"{feed.origin} ended the watch")
