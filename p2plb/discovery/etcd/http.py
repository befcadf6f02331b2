"""The carrier of the JSON gateway: one HTTP/1.1 connection for each request at a time, and one for each watch stream.

It knows paths, headers and lines. Connections are link.py's, what documents mean is said elsewhere.
"""

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.carrier import Feed, NoAnswerInTime, Stale
from p2plb.discovery.etcd.driver import Unavailable
from p2plb.discovery.etcd.frames import Lines
from p2plb.discovery.etcd.link import Link
from p2plb.discovery.etcd.links import Links
from p2plb.discovery.etcd.messages import Json, decode

_STREAM_HEADERS: Final = {
    "Grpc-Metadata-hasleader": "true",  # or a member without quorum would only fall silent
    # etcd's HTTP server throws away what it has not read of a request when the first answer leaves, so as to use the
    # connection again: the last of many watches would never open. If the connection is to close, it reads on.
    "Connection": "close",
}


class HttpCarrier:
    """A `Carrier` over the gateway; `tls` makes the context for a new connection to an https endpoint."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], clock: Callable[[], float]) -> None:
        self._links = Links(lambda origin: tls() if origin.startswith("https:") else None, clock)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._links.closed

    def exchange(self, origin: str, path: str, body: Json, token: str, until: float, *, new: bool = False) -> Json:
        """Send a request and return its answer."""
        content = json.dumps(body).encode()
        with self._links.lend(origin, until, new=new) as link:
            used_before = link.answered
            try:
                status, answer = link.ask(path, content, _authorization(token))
            except NoAnswerInTime:
                raise
            except Unavailable as error:
                raise Stale(str(error), ambiguous=True) if used_before else error from None
        return _document(origin, status, answer)

    @contextmanager
    def feed(self, origin: str, requests: Sequence[Json], token: str, deadline: float) -> Iterator[Feed]:
        """Lend a watch stream on a connection of its own, which connects when it is iterated."""
        content = b"\n".join(json.dumps(request).encode() for request in requests)
        with self._links.lend(origin, deadline, new=True) as link:
            yield _HttpFeed(link, content, {**_authorization(token), **_STREAM_HEADERS})

    def close(self) -> None:
        """Close idle connections and cut busy ones."""
        self._links.close()

    def after_fork(self) -> None:
        """Forget the parent's connections and locks."""
        self._links.after_fork()


class _HttpFeed:
    """A `Feed`: each line of one response is a document."""

    def __init__(self, link: Link, content: bytes, headers: dict[str, str]) -> None:
        self.origin = link.origin
        self._link = link
        self._content = content
        self._headers = headers

    @property
    def deadline(self) -> float:
        """Up to when the next read has to succeed."""
        return self._link.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._link.deadline = deadline

    def __iter__(self) -> Iterator[Json]:
        lines = Lines()
        with self._link.stream("watch", self._content, self._headers) as (status, pieces):
            if status != HTTPStatus.OK:
                raise faults.from_answer(self.origin, status, next(pieces, b""))
            for piece in pieces:
                yield from map(decode, lines.feed(piece))

    def cut(self) -> None:
        """End the iteration in another thread."""
        self._link.cut()


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": token} if token else {}


def _document(origin: str, status: int, content: bytes) -> Json:
    if status != HTTPStatus.OK:
        raise faults.from_answer(origin, status, content)
    try:
        document = decode(content)
    except Unavailable as error:
        raise Unavailable(f"{origin}: {error}", ambiguous=True) from None
    if "error" in document:  # a call that is a stream to etcd tells errors like this, with status 200
        raise faults.from_document(origin, document)
    return document
