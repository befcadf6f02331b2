"""The state of one call: what was asked, which nodes were tried and what came of it.

Everything that belongs to a call lives here, so that configuration can be frozen and shared. A call belongs to one
thread or task at a time. It knows nothing of sockets; `request` is whatever the httpx family calls a request.
"""

import contextlib
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from p2plb.balancing.node import Claim, Node
from p2plb.instance import Instance
from p2plb.load import LoadReport

if TYPE_CHECKING:
    from p2plb.balancing.slots import Slots


class Fault(enum.StrEnum):
    """What a failed attempt says about the request: may the server have processed it."""

    NEVER_SENT = "never_sent"  # no connection came about
    NEVER_PROCESSED = "never_processed"  # the server says that it did not look at it
    MAYBE_PROCESSED = "maybe_processed"  # sent at least in part, no answer
    LOCAL = "local"  # our own fault or shortage: no node is to blame, and trying again is no help


class Attempt(NamedTuple):
    """One attempt of a call, as reported in `response.extensions["p2plb"]`."""

    instance: Instance
    reason: str  # "200", "ConnectError: …", "cancelled"
    seconds: float
    reused: bool  # whether the connection had served before
    fault: Fault | None = None


class Via(enum.StrEnum):
    """By which way a call goes."""

    PEER = "peer"  # straight to an instance
    FALLBACK = "fallback"  # to the policy's fallback
    PLAIN = "plain"  # as plain httpx sends it: it is for no service, or the service is bypassed and has no fallback


@dataclass(frozen=True, slots=True)
class Served:
    """Who served a call: `response.extensions["p2plb"]`, and `error.p2plb` on what is raised."""

    service: str | None  # None: the request was for no service
    instance: Instance | None
    via: Via
    attempts: tuple[Attempt, ...] = ()
    maybe_processed: bool = True
    """Whether somebody may have carried the request out: False says that it certainly was not."""


@dataclass(slots=True)
class Outcome:
    """What an attempt came to: a response (its head) or an error with its meaning."""

    status: int | None = None
    response: Any = None
    error: Exception | None = None
    fault: Fault | None = None
    timed_out: bool = False
    reused: bool = False
    retry_after: float | None = None
    report: LoadReport | None = None

    @property
    def reason(self) -> str:
        """The outcome in a few words."""
        if self.error is None:
            return str(self.status)
        return f"{type(self.error).__name__}: {self.error}" if str(self.error) else type(self.error).__name__


class Ending(enum.Enum):
    """Why a call ends without an outcome of an attempt."""

    NO_INSTANCES = "no_instances"
    NO_CONNECTION = "no_connection"  # limits: all connections are busy


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The end of a call that was never sent; the family turns it into its exception, with `why` before the facts."""

    ending: Ending
    why: str = ""


class Call:
    """One logical request and what became of it. Strategies read `key`, `request`, `avoid` and `attempt`."""

    __slots__ = (
        "_claim",
        "_node",
        "_slot",
        "among",
        "attempt",
        "avoid",
        "deadline",
        "found",
        "give_up",
        "history",
        "key",
        "observers",
        "outcome",
        "pool_timeout",
        "repeatable",
        "replayable",
        "request",
        "sent_at",
        "service",
        "slots",
        "started",
        "tried",
        "via",
    )

    def __init__(
        self,
        service: str,
        request: Any = None,
        *,
        key: Any = None,
        started: float = 0.0,
        timeout: float | None = None,
        repeatable: bool = True,
        replayable: bool = True,
        observers: Iterable[Callable[[Any], object]] = (),
        slots: "Slots | None" = None,
        pool_timeout: float | None = None,
        among: Sequence[str] | Mapping[str, Any] | None = None,
    ) -> None:
        self.service = service
        self.request = request
        self.key = key
        self.avoid: frozenset[Node] = frozenset()
        """Nodes to pass over: those that this call tried and those that are ejected."""
        self.among = among  # what it may go to: ids in the order of preference, or what metadata must have; None: all
        self.attempt = 0
        """Number of the attempt under way: 1 is the first. Attempts that were never sent do not count."""
        self.started = started
        self.deadline = None if timeout is None else started + timeout
        self.repeatable = repeatable  # by its method or key: may be processed twice
        self.replayable = replayable  # by its body: can be sent twice
        self.observers = observers
        self.slots = slots
        self.pool_timeout = pool_timeout
        self.tried: set[Node] = set()
        self.found: dict[int, Any] = {}
        """What functions found in the request, by their `id`: each is asked once, however often a node is picked."""
        self.history: list[Attempt] = []
        self.outcome: Outcome | None = None
        self.give_up: GiveUp | None = None
        self.via = Via.PEER
        self.sent_at = 0.0
        self._claim: Claim | None = None
        self._node: Node | None = None
        self._slot: list[Slots] = []  # one item while a slot is held: `pop` takes it out exactly once

    def left(self, now: float) -> float | None:
        """Return the seconds until the deadline, None without one."""
        return None if self.deadline is None else self.deadline - now

    def is_over(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and now >= self.deadline

    def take_slot(self) -> bool:
        """Take a place under the client's limits; True if the call has one (or needs none)."""
        if self.slots is None or self._slot:
            return True
        if self.slots.take():
            self._slot.append(self.slots)
            return True
        return False

    def hold(self, node: Node, claim: Claim) -> None:
        """Make `claim` the call's own: it is released with the call, or by the next one held."""
        self.let_go()
        self._node, self._claim = node, claim

    def let_go(self) -> None:
        """Release the claim on the node that was tried; idempotent."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()

    def release(self) -> None:
        """Release all that the call holds; idempotent, from any thread, called when the body is closed."""
        self.let_go()
        if self._slot:
            with contextlib.suppress(IndexError):
                self._slot.pop().give_back()

    def abandon(self, now: float) -> Attempt | None:
        """End a call that was cancelled or broke, and return the attempt that was under way, if any.

        That is no failure of the node, but its answer took at least this long.
        """
        cut_off = None
        if self._claim is not None and self._node is not None and self.outcome is None:
            self._node.health.sample_at_least(now - self.sent_at, now)
            cut_off = Attempt(self._node.instance, "cancelled", now - self.sent_at, reused=False)
            self.history.append(cut_off)
        self.release()
        return cut_off

    def served(self) -> Served:
        """Return who served the call, for the caller."""
        peer, outcome = self.via is Via.PEER, self.outcome
        answered = outcome is not None and outcome.error is None
        instance = self._node.instance if answered and peer and self._node is not None else None
        faults = [attempt.fault for attempt in self.history]
        if not peer:
            faults.append(None if outcome is None else outcome.fault)
        maybe = any(fault in (None, Fault.MAYBE_PROCESSED) for fault in faults)
        return Served(self.service, instance, self.via, tuple(self.history), maybe)
