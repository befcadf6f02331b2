"""The way of a call: whether it goes to an instance, to the fallback, or out as plain httpx would send it.

`first_way` decides before a call begins, `falls_back` after its last step. Both are pure; only `Bypass` reads the
environment. It knows nothing of httpx.
"""

import os
from collections.abc import Callable
from typing import Final

from p2plb.balancing.call import Call, Ending, Fault, Via

VARIABLE: Final = "P2PLB_BYPASS"
EVERYTHING: Final = "1"
LOOK: Final = 1.0
"""Seconds for which what the environment said holds: reading it takes as long as picking a node."""


class Bypass:
    """Which services the environment variable P2PLB_BYPASS takes p2plb out of: `1` all, `users,orders` these two.

    A process that sets the variable in `os.environ` while it runs is heard within a second. Any thread may call.
    """

    def __init__(self, read: Callable[[], str] = lambda: os.environ.get(VARIABLE, "")) -> None:
        self._read = read
        self._names: frozenset[str] = frozenset()
        self._look_at = float("-inf")

    def covers(self, service: str, now: float) -> bool:
        """Whether calls to a service go past p2plb."""
        if now >= self._look_at:
            self._names = frozenset(name.strip() for name in self._read().split(",")) - {""}
            self._look_at = now + LOOK
        return service in self._names or EVERYTHING in self._names


def usable(fallback: str | None, *, secure: bool) -> str | None:
    """Return the fallback if a call may go there: who asked for https is never served in clear."""
    return None if secure and fallback is not None and not fallback.startswith("https:") else fallback


def host_of(origin: str) -> str:
    """Return the Host header for an origin: without the port that its scheme has anyway (RFC 9110)."""
    scheme, _, host = origin.lower().partition("://")
    return host.removesuffix(":443" if scheme == "https" else ":80")


def first_way(fallback: str | None, share: float, roll: Callable[[], float], *, bypassed: bool) -> Via:
    """Return how a call sets out; `roll` gives a number from 0 up to, but not including, 1."""
    if bypassed:
        return Via.PLAIN if fallback is None else Via.FALLBACK
    if share < 1 and fallback is not None and roll() >= share:
        return Via.FALLBACK
    return Via.PEER


def falls_back(call: Call, now: float) -> bool:
    """Whether a call that no instance answered may still be served by the fallback.

    What may have been processed goes there only if it may be processed twice. An answer stays, whatever its status,
    and so does what is our own fault or shortage.
    """
    if call.is_over(now):
        return False
    if call.give_up is not None:
        return call.give_up.ending is Ending.NO_INSTANCES
    match call.outcome.fault if call.outcome is not None else None:
        case Fault.NEVER_SENT:
            return True  # nor was the body touched
        case Fault.NEVER_PROCESSED:
            return call.replayable
        case Fault.MAYBE_PROCESSED:
            return call.repeatable and call.replayable
    return False
