"""Whether an instance may be announced: only an address that answers is worth telling.

Asked on the registry's lease thread, so each look is short. It connects and hangs up, and speaks no HTTP.
"""

import logging
import socket
import time
from collections.abc import Callable
from typing import Final

from p2plb.errors import P2PError
from p2plb.instance import Instance, is_loopback, netloc
from p2plb.serving.address import LOOPBACK, endpoints

logger = logging.getLogger("p2plb.serving")

CONNECT_WITHIN: Final = 0.4
"""Seconds. A machine's own address answers at once or not at all."""
REPEAT_AFTER: Final = 60.0
"""Seconds between two warnings that say the same."""


def answers(host: str, port: int) -> bool:
    """Say whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), CONNECT_WITHIN).close()
    except OSError:
        return False
    return True


class Answering:
    """A readiness check: whether exactly the announced address answers.

    If only loopback does, it says so once a minute, for then it waits for something that will never happen by itself.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        answers: Callable[[str, int], bool] = answers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: P2PError | None = None
        """Why the last answer was no."""
        self._host = host
        self._port = port
        self._answers = answers
        self._warn = Reminder(clock)

    def __call__(self) -> bool:
        """Look once, for about a second at most."""
        self.trouble = None if self._is_up() else self._explained()
        return self.trouble is None

    def _is_up(self) -> bool:
        return self._answers(self._host, self._port)

    def _explained(self) -> P2PError | None:
        """Return what is wrong; None if the server has come up meanwhile."""
        if is_loopback(self._host) or not self._answers(LOOPBACK, self._port):
            return P2PError(f"nobody answers at {netloc(self._host, self._port)} yet")
        if self._is_up():
            return None
        here, there = netloc(LOOPBACK, self._port), netloc(self._host, self._port)
        text = f"listening on {here}, would be announced as {there}: start the server with --host 0.0.0.0"
        self._warn(text)
        return P2PError(text)


class Reminder:
    """Logs a warning at most once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: float | None = None

    def __call__(self, text: str) -> None:
        """Say it, unless that was done less than a minute ago."""
        now = self._clock()
        if self._said is None or now - self._said >= REPEAT_AFTER:
            self._said = now
            logger.warning("%s", text)


def warn_of_loopback(instance: Instance, registry: str) -> None:
    """Say so if an instance is announced on loopback in a registry that others use."""
    if is_loopback(instance.host) and not all(is_loopback(host) for host, _ in endpoints(registry)):
        text = "%s is announced as %s, where only this machine can reach it: give another host, or none"
        logger.warning(text, instance.service, instance.url)
