"""What observers are told: frozen dataclasses, made only if somebody listens.

An observer is a plain function, called on the thread or loop on which the event happens; it must not block, and what
it raises is logged and goes no further.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2plb.instance import Instance
from p2plb.quiet import Quiet

complain = Quiet(logging.getLogger("p2plb")).exception


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A call is about to be sent to an instance."""

    service: str
    instance: Instance
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt has its answer's head (`status`), failed, or was cancelled (`error`)."""

    service: str
    instance: Instance
    attempt: int
    seconds: float
    status: int | None
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call has its answer's head (`status`) or raises (`error`) after `attempts` on instances, in `seconds`.

    `via` is "peer", "fallback", or "plain" for a bypassed service without a fallback.
    """

    service: str
    attempts: int
    seconds: float
    status: int | None
    error: BaseException | None
    via: str


@dataclass(frozen=True, slots=True)
class ViewChanged:
    """Another set of instances is in force; `added` and `removed` are ids."""

    service: str
    revision: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    nodes: int


Event = AttemptStarted | AttemptEnded | CallEnded | ViewChanged
Observer = Callable[[Event], object]


def emit(observers: Iterable[Observer], event: Event) -> None:
    """Tell every observer."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            complain("observer %r failed", observer)
