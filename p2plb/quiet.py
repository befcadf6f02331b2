"""Logging what repeats at most once a minute: user code that fails at every call must not fill a disk."""

import logging
import sys
import threading
import time
from typing import Any, Final

from cachetools import TTLCache

from p2plb import forks

EVERY: Final = 60.0


class Quiet:
    """A logger's errors, each text at most once a minute; the traceback of the exception that is handled goes along."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said: TTLCache[str, bool] = TTLCache(1024, EVERY, timer=time.monotonic)
        self._lock = threading.RLock()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: a lock that a thread of the parent held is never given back."""
        self._lock = threading.RLock()

    def exception(self, text: str, *args: Any) -> None:
        """Log an error, with the exception that is handled now if there is one."""
        self._say(logging.ERROR, text % args)

    def warning(self, text: str, *args: Any) -> None:
        """Log a warning, likewise."""
        self._say(logging.WARNING, text % args)

    def _say(self, level: int, said: str) -> None:
        with self._lock:
            if said in self._said:
                return
            self._said[said] = True
        self._logger.log(level, "%s (said once a minute)", said, exc_info=sys.exception())
