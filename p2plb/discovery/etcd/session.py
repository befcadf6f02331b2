"""Requests to one etcd that may have several endpoints and a password: which endpoint, with what token, how long.

It moves JSON and knows nothing of keys, leases or watches. Every request that it carries is idempotent, so that any may
be sent again elsewhere; whatever cannot be answered raises a `DriverError`.
"""

import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Final, NamedTuple

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.driver import Closed, DriverError, Unavailable
from p2plb.discovery.etcd.endpoints import Endpoints
from p2plb.discovery.etcd.link import Link, NoAnswerInTime
from p2plb.discovery.etcd.links import Links
from p2plb.discovery.etcd.messages import Json, decode
from p2plb.discovery.etcd.tokens import Tokens

_TOKEN: Final = re.compile(r"[!-~]{1,8192}")  # what may stand in a header


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, and whom we trust: a user, and PEM files that are read again for each new connection."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        if self.key and not self.cert:
            raise ValueError("a key is of no use without its certificate: give cert as well")

    def tls(self) -> ssl.SSLContext:
        """Return a context for a new connection; raises `Unavailable` if the files are of no use now."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key, password="")  # never ask at the terminal for one
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            files = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise Unavailable(f"can't use the TLS files {files}: {error}") from None
        return context


class Session:
    """Asks the endpoints of one etcd; any thread may."""

    def __init__(
        self, origins: Sequence[str], credentials: Credentials, clock: Callable[[], float], rng: Random
    ) -> None:
        self._origins = tuple(origins)
        self._credentials = credentials
        self._clock = clock
        self._rng = rng
        self._endpoints = Endpoints(origins, clock, rng)
        self._links = Links(self._tls, clock)
        self._tokens = Tokens(self._log_in, clock)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._links.closed

    def close(self) -> None:
        """Close connections and end the requests and streams that use them."""
        self._links.close()

    def after_fork(self) -> None:
        """Forget the parent's connections and locks, and roll the dice anew, also for the first endpoint."""
        self._links.after_fork()
        self._tokens.after_fork()
        self._rng.seed()
        self._endpoints = Endpoints(self._origins, self._clock, self._rng)

    def ask(self, path: str, body: Json, timeout: float) -> Json:
        """Send a request as our user, with a new token if the one we had is refused."""
        if timeout <= 0:
            raise Unavailable("no time left")
        try:
            return self._ask(path, json.dumps(body).encode(), self._clock() + timeout)
        except DriverError:
            if self.closed:
                raise Closed("the driver was closed") from None
            raise

    def authorization(self, deadline: float) -> dict[str, str]:
        """Return the headers that say who asks, logging in if need be."""
        token = "" if self._credentials.user is None else self._tokens.get(deadline)
        return {"Authorization": token} if token else {}

    def renew(self, headers: Mapping[str, str]) -> bool:
        """Drop the token in these headers; False if there is no user to log in again."""
        self._tokens.forget(headers.get("Authorization", ""))
        return self._credentials.user is not None

    @contextmanager
    def connect(self, deadline: float) -> Iterator[Link]:
        """Lend a new link to the best endpoint, and ask that one last if it fails."""
        origin = self._endpoints.order()[0]
        try:
            with self._links.lend(origin, deadline, new=True) as link:
                yield link
        except Unavailable:
            self._endpoints.failed(origin)
            raise

    def _ask(self, path: str, content: bytes, deadline: float) -> Json:
        headers = self.authorization(deadline)
        try:
            return self._send(_Request(path, content, headers), deadline)
        except faults.TokenRefused:
            if not self.renew(headers):
                raise
        return self._send(_Request(path, content, self.authorization(deadline)), deadline)

    def _send(self, request: "_Request", deadline: float) -> Json:
        """Send a request to one endpoint after the other until one can answer."""
        failures: list[Unavailable] = []
        origins = self._endpoints.order()
        for origin in origins:
            others_wait = len(failures) + 1 < len(origins)
            try:
                answer = self._try(origin, request, self._share(deadline, others_wait=others_wait))
            except Unavailable as error:
                failures.append(error)
                self._endpoints.failed(origin)
            else:
                self._endpoints.worked(origin)
                return answer
        raise Unavailable("; ".join(map(str, failures)), ambiguous=any(failure.ambiguous for failure in failures))

    def _share(self, deadline: float, *, others_wait: bool) -> float:
        """Return when to give an endpoint up: while there are others, a silent one gets half of what is left."""
        now = self._clock()
        return now + (deadline - now) / 2 if others_wait else deadline

    def _try(self, origin: str, request: "_Request", until: float) -> Json:
        try:
            return self._exchange(origin, request, until)
        except _Stale:
            pass
        try:
            return self._exchange(origin, request, until, new=True)
        except Unavailable as error:
            error.ambiguous = True  # because of the first
            raise

    def _exchange(self, origin: str, request: "_Request", until: float, *, new: bool = False) -> Json:
        with self._links.lend(origin, until, new=new) as link:
            used_before = link.used_at is not None
            try:
                status, answer = link.ask(request.path, request.content, request.headers)
            except NoAnswerInTime:
                raise
            except Unavailable as error:
                raise _Stale(str(error), ambiguous=True) if used_before else error from None
        return _document(origin, status, answer)

    def _log_in(self, deadline: float) -> str:
        login = json.dumps({"name": self._credentials.user, "password": self._credentials.password}).encode()
        try:
            answer = self._send(_Request("auth/authenticate", login, {}), deadline)
        except faults.AuthenticationOff:
            return ""
        token = answer.get("token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable("the answer to a login holds no token")
        return token

    def _tls(self, origin: str) -> ssl.SSLContext | None:
        return self._credentials.tls() if origin.startswith("https:") else None


class _Request(NamedTuple):
    path: str
    content: bytes
    headers: Mapping[str, str]


class _Stale(Unavailable):
    """A connection that had been idle broke: the server may have closed it before we sent."""


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
