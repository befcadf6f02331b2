"""What happens in a forked child: whoever holds connections, threads or locks is told to begin anew.

Registered objects have `after_fork()`: it drops references only, and never closes, shuts down or sends on what was
inherited, because the parent still uses it.
"""

import logging
import os
import weakref
from typing import Protocol

logger = logging.getLogger("p2plb")


class Forked(Protocol):
    """Anything that must not go on in a forked child as it was."""

    def after_fork(self) -> None:
        """Begin anew in the child."""


_watched: "weakref.WeakSet[Forked]" = weakref.WeakSet()


def watch(one: Forked) -> None:
    """Have `one.after_fork()` called in each forked child, for as long as it lives."""
    _watched.add(one)


def _in_child() -> None:
    for one in list(_watched):
        try:
            one.after_fork()
        except Exception:  # the others must not go on as they were
            logger.exception("after a fork, %s could not begin anew", type(one).__name__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
