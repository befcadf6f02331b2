"""Requests to one etcd that may have several endpoints and a password: which endpoint, with what token, how long.

It moves JSON through a carrier and knows nothing of keys, leases or watches. Every request that it carries is
idempotent, so that any may be sent again elsewhere; whatever cannot be answered raises a `DriverError`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, NamedTuple

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.carrier import Carrier, Feed, Stale
from p2plb.discovery.etcd.credentials import Credentials, LastGood
from p2plb.discovery.etcd.driver import Closed, DriverError, Unavailable
from p2plb.discovery.etcd.endpoints import Endpoints
from p2plb.discovery.etcd.messages import Json
from p2plb.discovery.etcd.tokens import Tokens

_TOKEN: Final = re.compile(r"[!-~]{1,8192}")  # what may stand in a header


class Session:
    """Asks the endpoints of one etcd; any thread may."""

    def __init__(
        self,
        origins: Sequence[str],
        carrier: Carrier,
        credentials: Credentials,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self._origins = tuple(origins)
        self._carrier = carrier
        self._user = credentials.user
        self._password = LastGood(credentials.read_password, f"the password file {credentials.password_file}")
        self._clock = clock
        self._rng = rng
        self._endpoints = Endpoints(origins, clock, rng)
        self._tokens = Tokens(self._log_in, clock)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._carrier.closed

    def close(self) -> None:
        """Close connections and end the requests and streams that use them."""
        self._carrier.close()

    def after_fork(self) -> None:
        """Forget the parent's connections and locks, and roll the dice anew, also for the first endpoint."""
        self._carrier.after_fork()
        self._tokens.after_fork()
        self._rng.seed()
        self._endpoints = Endpoints(self._origins, self._clock, self._rng)

    def ask(self, path: str, body: Json, timeout: float) -> Json:
        """Send a request as our user, with a new token if the one we had is refused."""
        if timeout <= 0:
            raise Unavailable("no time left")
        try:
            return self._ask(path, body, self._clock() + timeout)
        except DriverError:
            if self.closed:
                raise Closed("the driver was closed") from None
            raise

    def token(self, deadline: float) -> str:
        """Return the token that says who asks, logging in if need be; "" if nobody does."""
        return "" if self._user is None else self._tokens.get(deadline)

    def renew(self, token: str) -> bool:
        """Drop this token; False if there is no user to log in again."""
        self._tokens.forget(token)
        return self._user is not None

    @contextmanager
    def feed(self, requests: Sequence[Json], token: str, deadline: float) -> Iterator[Feed]:
        """Lend a watch stream from the best endpoint, and ask that one last if it fails."""
        origin = self._endpoints.order()[0]
        try:
            with self._carrier.feed(origin, requests, token, deadline) as feed:
                yield feed
        except (Unavailable, faults.NotEtcd):
            self._endpoints.failed(origin)
            raise

    def _ask(self, path: str, body: Json, deadline: float) -> Json:
        token = self.token(deadline)
        try:
            return self._send(_Request(path, body, token), deadline)
        except faults.TokenRefused:
            if not self.renew(token):
                raise
        return self._send(_Request(path, body, self.token(deadline)), deadline)

    def _send(self, request: "_Request", deadline: float) -> Json:
        """Send a request to one endpoint after the other until one can answer."""
        failures: list[Unavailable | faults.NotEtcd] = []
        origins = self._endpoints.order()
        for origin in origins:
            others_wait = len(failures) + 1 < len(origins)
            try:
                answer = self._try(origin, request, self._share(deadline, others_wait=others_wait))
            except (Unavailable, faults.NotEtcd) as error:
                failures.append(error)
                self._endpoints.failed(origin)
            else:
                self._endpoints.worked(origin)
                return answer
        raise _together(failures)

    def _share(self, deadline: float, *, others_wait: bool) -> float:
        """Return when to give an endpoint up: while there are others, a silent one gets half of what is left."""
        now = self._clock()
        return now + (deadline - now) / 2 if others_wait else deadline

    def _try(self, origin: str, request: "_Request", until: float) -> Json:
        try:
            return self._carrier.exchange(origin, *request, until)
        except Stale:
            pass
        try:
            return self._carrier.exchange(origin, *request, until, new=True)
        except Unavailable as error:
            error.ambiguous = True  # because of the first
            raise

    def _log_in(self, deadline: float) -> str:
        login = {"name": self._user, "password": self._password.get()}
        try:
            answer = self._send(_Request("auth/authenticate", login, ""), deadline)
        except faults.AuthenticationOff:
            return ""
        token = answer.get("token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable("the answer to a login holds no token")
        return token


def _together(failures: Sequence[Unavailable | faults.NotEtcd]) -> DriverError:
    """Return what it means that no endpoint could answer: only if none is an etcd there is nothing to wait for."""
    text = "; ".join(map(str, failures))
    away = [failure for failure in failures if isinstance(failure, Unavailable)]
    return Unavailable(text, ambiguous=any(failure.ambiguous for failure in away)) if away else faults.NotEtcd(text)


class _Request(NamedTuple):
    path: str
    body: Json
    token: str
