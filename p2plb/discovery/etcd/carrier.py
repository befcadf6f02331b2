"""What carries requests to one endpoint of an etcd: HTTP (http.py) or gRPC (grpc.py), behind one protocol.

Requests and answers are the JSON documents of messages.py whatever the carrier, for the gateway's JSON is nothing but
the standard mapping of etcd's messages. A carrier knows connections; endpoints, tokens and retries are session.py's.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from p2plb.discovery.etcd.driver import Unavailable
from p2plb.discovery.etcd.messages import Json

CONNECT_WITHIN: Final = 2.0  # seconds for TCP, and again for TLS; one SYN may be lost and repeated
USED_FOR: Final = 60.0  # seconds from its first use on; so renewed certificates count at least that soon
MAX_ANSWER: Final = 16 * 1024 * 1024


class NoAnswerInTime(Unavailable):
    """The deadline ran out."""


class Stale(Unavailable):
    """A connection that had been idle broke: the server may have closed it before we sent."""


class Feed(Protocol):
    """The answers of one open watch stream, for one thread to iterate; raises `DriverError`s."""

    origin: str
    deadline: float
    """On the carrier's clock, now and for what is to come; when it runs out, iterating raises `NoAnswerInTime`."""

    def __iter__(self) -> Iterator[Json]:
        """Return the documents; ends when etcd ends the stream."""

    def cut(self) -> None:
        """End the iteration in another thread."""


class Carrier(Protocol):
    """Carries what is asked to one endpoint; any thread may use it."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def exchange(self, origin: str, path: str, body: Json, token: str, until: float, *, new: bool = False) -> Json:
        """Send a request and return its answer, over a `new` connection if asked.

        Raises `Stale` if a connection broke that had been used before, else what etcd's refusal means.
        """

    def feed(self, origin: str, requests: Sequence[Json], token: str, deadline: float) -> AbstractContextManager[Feed]:
        """Lend a watch stream that these requests open; at most one thread iterates it."""

    def close(self) -> None:
        """Close connections and end what waits on them; idempotent, from any thread."""

    def after_fork(self) -> None:
        """In a forked child: drop references to inherited connections and locks, close nothing."""
