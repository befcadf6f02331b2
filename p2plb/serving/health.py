"""What an instance thinks of itself: its own `healthy()` is asked again and again, and changes are told.

Asked off the thread that keeps the lease, so a check that hangs costs the instance its health and not its record. It
knows nothing of registries or records.
"""

import inspect
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from p2plb.discovery import threads
from p2plb.errors import DiscoveryError, P2PError

logger = logging.getLogger("p2plb.serving")

LEAVE_WITHIN: Final = 0.1  # seconds; whoever is inside `healthy()` is left there


class Health:
    """Asks `healthy` each `interval` seconds; False, an exception, or no answer within the interval means unhealthy.

    `on_change` is told the first verdict and each other one, on the thread of this, which runs from `start` to `stop`.
    Each question has a short-lived thread of its own, at most one at a time.
    """

    def __init__(
        self, service: str, healthy: Callable[[], object], interval: float, on_change: Callable[[bool], None]
    ) -> None:
        self.trouble: Exception | None = None
        """Why the last verdict was bad."""
        self.known = False
        """Whether there is a verdict yet."""
        self._service = service
        self._healthy = healthy
        self._interval = interval
        self._on_change = on_change
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._question: threading.Thread | None = None
        self._found: list[Exception | None] = []  # what is wrong: one entry, once the question is answered

    def start(self) -> None:
        """Begin to ask."""
        self._thread = threads.start(self._run, "p2plb-health")

    def stop(self) -> None:
        """Ask no more; idempotent."""
        self._stopped.set()
        threads.join(self._thread, LEAVE_WITHIN)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._judge(self._ask())
            self._stopped.wait(self._interval)

    def _judge(self, trouble: Exception | None) -> None:
        changed = not self.known or (trouble is None) != (self.trouble is None)
        self.trouble = trouble
        if changed and not self._stopped.is_set():
            if trouble is not None:
                logger.warning("%s is down here: %s", self._service, trouble, exc_info=trouble.__cause__)
            elif self.known:
                logger.info("%s is up again here: healthy() says yes", self._service)
            self._on_change(trouble is None)
        self.known = True

    def _ask(self) -> Exception | None:
        """Return what is wrong, waiting no longer than the interval."""
        if self._question is None or not self._question.is_alive():
            self._found = []
            try:
                self._question = threads.start(partial(self._look, self._found), "p2plb-healthy")
            except DiscoveryError as error:  # who has no thread left for a question has none for callers either
                return error
        self._question.join(self._interval)
        return self._found[0] if self._found else P2PError(f"healthy() gave no answer within {self._interval:g} s")

    def _look(self, found: list[Exception | None]) -> None:
        try:
            found.append(_trouble(self._healthy()))
        except BaseException as error:  # the user's code, `sys.exit()` in it too
            trouble = P2PError(f"healthy() raised {type(error).__name__}")
            trouble.__cause__ = error
            found.append(trouble)


def _trouble(answer: object) -> P2PError | None:
    """Return what is wrong with an answer of `healthy()`: a coroutine is none, though it is true as a bool."""
    if inspect.iscoroutine(answer):
        answer.close()  # or Python warns that nobody awaited it
        return P2PError("healthy() returned a coroutine: it is called on a thread and must answer itself")
    return None if answer else P2PError("healthy() says no")
