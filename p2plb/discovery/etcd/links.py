"""The links of one driver: idle ones to be used again, busy ones to be cut when the driver closes.

No link is ever used by two threads at a time: it is either lent or idle.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from p2plb.discovery.etcd.carrier import USED_FOR
from p2plb.discovery.etcd.driver import Closed
from p2plb.discovery.etcd.link import Link

MAX_IDLE: Final = 4


class Links:
    """Lends links; `tls` makes the context for a new one, so that renewed certificates count."""

    def __init__(self, tls: Callable[[str], ssl.SSLContext | None], clock: Callable[[], float]) -> None:
        self.closed = False
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._lent: set[Link] = set()

    @contextmanager
    def lend(self, origin: str, deadline: float, *, new: bool = False) -> Iterator[Link]:
        """Lend a link to this endpoint, a `new` one if asked; it is kept for others if it is usable afterwards."""
        link = (None if new else self._take(origin)) or Link(origin, self._tls(origin), self._clock)
        link.deadline = deadline
        try:
            self._note(link)
            yield link
        finally:
            self._give_back(link)

    def close(self) -> None:
        """Close idle links and cut busy ones, whose users close them; idempotent."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            lent = tuple(self._lent)
        for link in lent:
            link.cut()
        for link in idle:
            link.close()

    def after_fork(self) -> None:
        """Forget the parent's links and lock; nothing is closed or sent."""
        for link in (*self._idle, *self._lent):
            link.forget()
        self._lock = threading.Lock()
        self._idle = []
        self._lent = set()

    def _take(self, origin: str) -> Link | None:
        """Take the idle link to this endpoint that was used last; those that are of no more use are closed."""
        with self._lock:
            kept = [link for link in self._idle if self._worth_keeping(link)]
            useless = [link for link in self._idle if link not in kept]
            taken = next((link for link in reversed(kept) if link.origin == origin), None)
            self._idle = [link for link in kept if link is not taken]
        for link in useless:
            link.close()
        return taken

    def _worth_keeping(self, link: Link) -> bool:
        return link.reusable and link.answered and self._clock() - link.opened <= USED_FOR

    def _note(self, link: Link) -> None:
        with self._lock:
            if self.closed:
                raise Closed("the driver was closed")
            self._lent.add(link)

    def _give_back(self, link: Link) -> None:
        with self._lock:
            self._lent.discard(link)
            keep = link.reusable and not self.closed and len(self._idle) < MAX_IDLE
            if keep:
                self._idle.append(link)
        if not keep:
            link.close()
