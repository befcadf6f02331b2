"""Whether an instance may be announced: only an address that answers is worth telling.

Asked on the registry's lease thread, so each look is short. It connects and hangs up, and speaks no HTTP.
"""

import logging
import socket
from collections.abc import Callable
from typing import Final

from p2plb.instance import Instance, is_loopback
from p2plb.serving.address import LOOPBACK, endpoints

logger = logging.getLogger("p2plb.serving")

CONNECT_WITHIN: Final = 0.4
"""Seconds. A machine's own address answers at once or not at all."""


def answers(host: str, port: int) -> bool:
    """Say whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), CONNECT_WITHIN).close()
    except OSError:
        return False
    return True


class Answering:
    """A readiness check: whether exactly the announced address answers.

    If only loopback does, it says so once, for then it waits for something that will never happen by itself.
    """

    def __init__(self, host: str, port: int, *, answers: Callable[[str, int], bool] = answers) -> None:
        self._host = host
        self._port = port
        self._answers = answers
        self._explained = is_loopback(host)

    def __call__(self) -> bool:
        """Look once, for less than a second."""
        if self._answers(self._host, self._port):
            return True
        if not self._explained and self._answers(LOOPBACK, self._port):
            return self._look_again()
        return False

    def _look_again(self) -> bool:
        """Return whether the server has come up between the two looks; if not, it listens on loopback alone."""
        if self._answers(self._host, self._port):
            return True
        self._explained = True
        text = "listening on %s:%d, would be announced as %s:%d: start the server with --host 0.0.0.0"
        logger.warning(text, LOOPBACK, self._port, self._host, self._port)
        return False


def warn_of_loopback(instance: Instance, registry: str) -> None:
    """Say so if an instance is announced on loopback in a registry that others use."""
    if is_loopback(instance.host) and not all(is_loopback(host) for host, _ in endpoints(registry)):
        text = "%s is announced as %s, where only this machine can reach it: give another host, or none"
        logger.warning(text, instance.service, instance.url)
