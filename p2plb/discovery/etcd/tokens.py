"""The token of a user: logged in for once, whoever asks, kept until it is refused, and never more often than needed.

A login costs etcd 50 ms of bcrypt. It knows neither HTTP nor etcd's errors but those of the driver.
"""

import threading
from collections.abc import Callable
from typing import Final

from p2plb.discovery.etcd.driver import Denied, Unavailable

DENIED_FOR: Final = 30.0  # seconds in which a login that was denied is not tried again


class Tokens:
    """Hands out the token, single flight; `login` takes the deadline and returns one, "" where none is needed."""

    def __init__(self, login: Callable[[float], str], clock: Callable[[], float]) -> None:
        self._login = login
        self._clock = clock
        self._token: str | None = None
        self._denied: str | None = None
        self._denied_until = 0.0
        self._lock = threading.Lock()

    def get(self, deadline: float) -> str:
        """Return the token, logging in if there is none; raises `Denied` for a wrong password, without asking twice."""
        token = self._token
        return self._log_in(deadline) if token is None else token

    def forget(self, token: str) -> None:
        """Drop a token that etcd refused, unless another thread has a newer one already."""
        with self._lock:
            if self._token == token:
                self._token = None

    def after_fork(self) -> None:
        """Drop the parent's lock, which a thread that is not in this process may hold."""
        self._lock = threading.Lock()

    def _log_in(self, deadline: float) -> str:
        if not self._lock.acquire(timeout=max(0.0, deadline - self._clock())):
            raise Unavailable("another thread's login took all the time there was")
        try:
            if self._token is None:
                self._token = self._try_login(deadline)
            return self._token
        finally:
            self._lock.release()

    def _try_login(self, deadline: float) -> str:
        if self._denied is not None and self._clock() < self._denied_until:
            raise Denied(self._denied)
        self._denied = None
        try:
            return self._login(deadline)
        except Denied as error:
            self._denied, self._denied_until = str(error), self._clock() + DENIED_FOR
            raise
